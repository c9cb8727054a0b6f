// The monitor's pure parts: calls from their events, the story, marks, waterfalls, the supervisor's desk, figures.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AfterCall } from "../../../gateway/pages/monitor/after.js";
import { Calls } from "../../../gateway/pages/monitor/calls.js";
import { hears, IDLE, speaks, step } from "../../../gateway/pages/monitor/desk.js";
import { Latencies, quantileOf, tablesOf, tilesOf } from "../../../gateway/pages/monitor/health.js";
import { absence, callIn, callOf, isWhole, soundName } from "../../../gateway/pages/monitor/kept.js";
import * as outcomes from "../../../gateway/pages/monitor/outcomes.js";
import { Samples } from "../../../gateway/pages/monitor/prometheus.js";
import { Reports } from "../../../gateway/pages/monitor/reports.js";
import { EventStream } from "../../../gateway/pages/monitor/stream.js";
import { told, unshown } from "../../../gateway/pages/monitor/told.js";
import { waterfall } from "../../../gateway/pages/monitor/turns.js";
import { Wave } from "../../../gateway/pages/monitor/wave.js";

const FACTS = { bot: "bill", bot_version: "3", protocol: "native", language: "en", caller: "[phone]", models: { asr: "a1" }, recorded: false };
const WATCHING = { type: "watching", v: 1, calls: 0, workers: 1, complete: true };

/** Calls after these events, numbered and a second apart. Each is [call id, type, its own keys]. */
function after(...events) {
  const calls = new Calls();
  const seqs = {};
  events.forEach(([id, type, keys = {}], at) => {
    seqs[id] = (seqs[id] ?? 0) + 1;
    calls.take({ v: 1, type, call_id: id, seq: seqs[id], at_ms: at * 1000, time: 1000 + at, ...keys });
  });
  return calls;
}
const started = (id, keys = {}) => [id, "call_started", { ...FACTS, resumed: false, ...keys }];
const heard = (id, round, text, supersedes = null) => [id, "turn_heard", { round_id: round, text, supersedes }];
const meant = (id, round, intent, score = 0.9) => [id, "turn_understood", { round_id: round, intent, score, slots: [["day", "friday"]], model: "m2" }];
const said = (id, round, text, timing = {}) => [id, "prompt_started", { round_id: round, node: "ask", text, timing, source: null }];
const ids = (calls, wanted) => calls.chosen({ query: "", bot: "", alerting: false, sort: "longest", ...wanted }).map(({ id }) => id);
const lines = (call) => call.story.lines.map(({ side, text, state }) => `${side} ${state}: ${text}`);

test("a call's row is what its events say", () => {
  const call = after(started("a"), heard("a", 1, "on friday"), meant("a", 1, "promise", 0.8), said("a", 1, "Good.")).byId.get("a");
  assert.deepEqual([call.caller, call.bot, call.turns, call.intent, call.score], ["[phone]", "bill", 1, "promise", 0.8]);
  assert.deepEqual([call.words.side, call.words.text, call.facts.models], ["bot", "Good.", { asr: "a1", nlu: "m2" }]);
  assert.equal(call.lasts(1030), 30);
  assert.deepEqual(call.alerts, []);
});

test("what somebody should look at", () => {
  const oos = (round) => [heard("a", round, "er"), meant("a", round, "oos")];
  const call = after(started("a"), ...oos(1), ...oos(2), ["a", "budget_missed", { budget: "endpoint_to_reply_ms", took_ms: 300, limit_ms: 200 }],
    ["a", "fault_told", { code: "bad", message: "no" }], ["a", "supervised", { act: "listen", by: "ann" }]).byId.get("a");
  assert.deepEqual(call.alerts.map(({ text }) => text), ["1 fault", "2× no match", "1 late", "ann listens"]);
  call.take({ type: "supervised", act: "take_over", by: "bo", seq: 9, at_ms: 0, time: 1 });
  assert.equal(call.alerts.at(-1).text, "bo speaks");
  call.take({ type: "turn_understood", intent: "yes", score: 1, round_id: 3, slots: [], model: "", seq: 10, at_ms: 0, time: 1 });
  assert.equal(call.notUnderstood, 0, "a streak ends with a turn that is understood");
});

test("calls are searched, filtered and sorted; those that ended come last and go", () => {
  const calls = after(started("a"), started("b", { bot: "shop", caller: "desk 7" }), heard("b", 1, "two apples"), started("c"),
    ["c", "fault_told", { code: "x", message: "y" }], ["a", "call_ended", { ended_by: "bot", disposition: "paid", duration_s: 4, turns: 1 }]);
  assert.deepEqual(ids(calls), ["b", "c", "a"]);
  assert.deepEqual(ids(calls, { sort: "newest" }), ["c", "b", "a"]);
  assert.deepEqual(ids(calls, { sort: "alerts" }), ["c", "b", "a"]);
  assert.deepEqual(ids(calls, { query: "DESK apples" }), ["b"]);
  assert.deepEqual(ids(calls, { bot: "shop" }), ["b"]);
  assert.deepEqual(ids(calls, { alerting: true }), ["c"]);
  assert.equal(calls.live, 2);
  calls.sweep(1100, "a");
  assert.deepEqual(ids(calls), ["b", "c", "a"], "somebody looks at it");
  calls.sweep(1100, "");
  assert.deepEqual(ids(calls), ["b", "c"]);
});

test("a stream that begins anew keeps what is known, and ends what is there no more", () => {
  const calls = after(started("a"), heard("a", 1, "yes"), started("b"));
  calls.take(WATCHING);
  const present = { ...FACTS, started_at: 900, node: "ask", slots: { day: "fri" }, turns: 1, history: [{ round_id: 1, node: "ask", said: "yes", intent: "affirm", score: 1, reply: "Good." }], taken_over_by: null };
  calls.take({ v: 1, type: "call_present", call_id: "a", seq: 6, at_ms: 9000, time: 1010, ...present });
  calls.settle(1011);
  assert.deepEqual([calls.byId.get("a").isOver, calls.byId.get("b").endedBy], [false, "unknown"]);
  assert.equal(calls.byId.get("a").lost, 3);
  calls.take({ v: 1, type: "speech_started", call_id: "b", seq: 2, at_ms: 9000, time: 1012, speech_ms: 8800 });
  assert.equal(calls.byId.get("b").isOver, false, "it is there after all");
  assert.deepEqual(lines(calls.byId.get("a")), ["caller said: yes"], "a turn that is here is not told again");
});

/** Events of hosts whose clocks are so many seconds ahead of the page's: [page time, ahead, call id, type, its own keys]. */
function hosts(...events) {
  const calls = new Calls();
  events.forEach(([seen, ahead, id, type, keys = {}], at) =>
    calls.take({ v: 1, type, call_id: id, seq: at + 1, at_ms: 0, epoch: 1, time: seen + ahead, ...keys }, seen));
  return calls;
}
const present = (startedAt, keys = {}) => ({ ...FACTS, started_at: startedAt, node: "ask", slots: {}, turns: 0, history: [], taken_over_by: null, ...keys });
const HOUR = 3600;
const lengths = (calls, time) => Object.fromEntries([...calls.byId].map(([id, call]) => [id, Math.round(call.lasts(time))]));

test("a call whose host's clock is an hour ahead is as long as it is, and so is one beside it", () => {
  const calls = hosts([1000, 0, ...started("right")], [1002, HOUR, ...started("ahead")], [1010, -5, "behind", "call_present", present(985)],
    [1012, HOUR, "ahead", "speech_started", { speech_ms: 9500, at_ms: 9800 }], [1013, 0, "right", "speech_started", { speech_ms: 12_500, at_ms: 13_000 }]);
  assert.deepEqual(lengths(calls, 1030), { right: 30, ahead: 28, behind: 40 });
  assert.deepEqual(ids(calls), ["behind", "right", "ahead"], "the longest first");
  assert.deepEqual([calls.byId.get("ahead").position(1014), calls.byId.get("right").position(1014)], [11_800, 14_000], "where the strip is");
  const end = { ended_by: "bot", disposition: null, duration_s: 30, turns: 0 };
  calls.take({ type: "call_ended", call_id: "ahead", seq: 9, at_ms: 30_000, epoch: 1, time: 1032 + HOUR, ...end }, 1032);
  calls.take({ type: "call_ended", call_id: "behind", seq: 9, at_ms: 30_000, epoch: 1, time: 1027, ...end }, 1032);
  calls.sweep(1046, "");
  assert.deepEqual(lengths(calls, 1046), { right: 46, ahead: 30, behind: 42 }, "calls that ended stay for a while");
  calls.sweep(1048, "");
  assert.deepEqual(ids(calls), ["right"]);
});

test("events that were slow on their way do not count, and this computer's clock may be anything", () => {
  const calls = hosts([50, 1000, ...started("a")], [58, 1002, "a", "speech_started", { speech_ms: 9000 }], [61, 1000.5, "a", "speech_ended", { speech_ms: 10_000 }]);
  assert.equal(calls.byId.get("a").lasts(65), 17);
});

test("a call that goes on at another host is as long as it was, and its events stand where they were", () => {
  const calls = hosts([1000, 0, ...started("a")], [1005, 0, "a", "caller_silent"], [1010, HOUR, "a", "call_started", { ...FACTS, resumed: true, epoch: 2 }]);
  const call = calls.byId.get("a");
  assert.deepEqual([call.lasts(1020), call.events.map((event) => call.when(event) - call.startedAt)], [20, [0, 5, 10]]);
  calls.take(WATCHING);
  calls.take({ type: "call_present", call_id: "a", seq: 2, at_ms: 0, epoch: 2, time: 1021 + HOUR, ...present(1000) }, 1021);
  assert.equal(call.lasts(1025), 25, "it began by the first host's clock");
});

test("a lost call, whose end the control process tells, ends when it is told", () => {
  const lost = { ended_by: "lost", disposition: null, duration_s: 0, turns: 0 };
  const calls = hosts([1000, HOUR, ...started("a")], [1030, 0, "a", "call_ended", lost]);
  const call = calls.byId.get("a");
  assert.deepEqual([call.lasts(1040), lines(call)], [30, ["note said: Over after 0:30, lost."]]);
  calls.sweep(1044, "");
  assert.deepEqual(ids(calls), ["a"]);
});

test("the charts of health go by the page's clock", () => {
  const reports = new Reports(null, null, null);
  const answer = (time, ms) => ({ type: "prompt_started", time, timing: { endpoint_to_reply_ms: ms } });
  reports.take(answer(1001 + HOUR, 5), 1001);
  reports.take(answer(1015, 9), 1015);
  assert.deepEqual(reports.latencies.line("reply", 0.5), [{ at: 1000, value: 5 }, { at: 1010, value: 9 }]);
});

test("what is kept of a call is asked for again while it may still be on its way", async () => {
  let asked = 0;
  const control = { may: () => false, setup: { recording: null }, outcomesOf: async () => ((asked += 1), []) };
  const after = new AfterCall(control, () => {});
  const calls = hosts([1000, HOUR, ...started("a")], [1030, HOUR, "a", "call_ended", { ended_by: "bot", disposition: null, duration_s: 30, turns: 0 }]);
  for (const time of [1030, 1031, 1033, 1049, 1051, 1060]) {
    after.look("a", calls.byId.get("a").endedAt, time);
    await new Promise(setImmediate);
  }
  assert.deepEqual([asked, after.phase], [3, "none"], "at 1030, 1033 and 1049");
});

test("one who comes later sees the turns before", () => {
  const history = [{ round_id: 3, node: "ask", said: "yes", intent: "affirm", score: 1, reply: "Good." }];
  const call = after(["a", "call_present", { ...FACTS, started_at: 900, node: "ask", slots: {}, turns: 3, history, taken_over_by: "bo" }]).byId.get("a");
  assert.deepEqual([lines(call), call.story.missing], [["caller said: yes", "bot said: Good."], 2]);
  call.recall({ turns: 3, history: [{ ...history[0], round_id: 2, said: "who?" }, ...history] });
  assert.deepEqual(lines(call), ["caller said: who?", "bot said: Good.", "caller said: yes", "bot said: Good."]);
  assert.deepEqual([call.story.missing, call.recalled], [1, true]);
  assert.equal(call.takenOverBy, "bo");
});

test("one who comes late has the bot's first words before all turns, once", () => {
  const turn = (round) => ({ round_id: round, node: "ask", said: `words ${round}`, intent: "affirm", score: 1, reply: "" });
  const present = (turns, history) => ({ ...FACTS, started_at: 900, node: "ask", slots: {}, turns, opening: "Hello.", history, taken_over_by: null });
  const late = after(["a", "call_present", present(3, [turn(3)])]).byId.get("a");
  assert.deepEqual([lines(late), late.story.missing], [["bot said: Hello.", "caller said: words 3"], 2]);
  late.recall(present(3, [turn(1), turn(2), turn(3)]));
  assert.deepEqual(lines(late), ["bot said: Hello.", "caller said: words 1", "caller said: words 2", "caller said: words 3"]);
  assert.equal(late.story.missing, 0);
  const early = after(["a", "call_present", present(0, [])], ["a", "call_present", present(0, [])]).byId.get("a");
  assert.deepEqual([lines(early), early.words.text], [["bot said: Hello."], "Hello."]);
  assert.deepEqual(lines(after(started("a"), said("a", 0, "Hello."), ["a", "call_present", present(0, [])]).byId.get("a")), ["bot saying: Hello."]);
});

test("lines that make room for others are counted, and what is not here is said", () => {
  const keys = Array.from({ length: 304 }, () => ["a", "keys_pressed", { count: 1 }]);
  const { story } = after(started("a"), heard("a", 1, "yes"), ...keys).byId.get("a");
  assert.deepEqual([story.lines.length, story.cut, story.lines.some(({ text }) => text === "yes")], [300, 5, false]);
  assert.equal(unshown(story, false), "5 earlier lines are not shown: the page keeps the newest 300.");
  assert.equal(unshown({ missing: 1, cut: 1, most: 300 }, true),
    "One earlier turn is not shown. One earlier line is not shown: the page keeps the newest 300. After the call its recording has all of it.");
  assert.equal(unshown(after(started("b"), heard("b", 1, "yes")).byId.get("b").story, true), "");
});

test("words on the way become a turn, and a turn that goes on is joined", () => {
  const partial = (text) => ["a", "partial_heard", { round_id: 1, text }];
  const first = after(started("a"), partial("call"), partial("call me")).byId.get("a");
  assert.deepEqual(lines(first), ["caller hearing: call me"]);
  const joined = after(started("a"), partial("call"), heard("a", 1, "call me"), said("a", 1, "When?"), heard("a", 2, "call me later", 1)).byId.get("a");
  assert.deepEqual(lines(joined), ["caller joined: call me", "bot withdrawn: When?", "caller said: call me later"]);
  assert.equal(joined.turns, 1);
});

test("a prompt that is spoken over waits, and is cut or goes on", () => {
  const over = (verdict) => after(started("a"), said("a", 0, "Hello"), ["a", "prompt_held", { after_ms: 210 }], ["a", "barged_in", { verdict }]).byId.get("a");
  assert.deepEqual(lines(over("interruption")), ["bot cut: Hello"]);
  assert.deepEqual(lines(over("backchannel")), ["bot saying: Hello"]);
  assert.deepEqual(over("backchannel").marks.spans.map(({ kind, from, to }) => [kind, from, to]), [["prompt", 1000, null], ["held", 2000, 3000]]);
});

test("speech, tails and prompts lie where they were heard", () => {
  const call = after(started("a"), ["a", "speech_started", { speech_ms: 700 }], ["a", "speech_ended", { speech_ms: 1200 }], said("a", 1, "Good."),
    ["a", "prompt_ended", { heard: "Go" }], ["a", "supervised", { act: "take_over", by: "bo" }]).byId.get("a");
  assert.deepEqual(call.marks.spans, [
    { kind: "speech", from: 700, to: 1200 },
    { kind: "tail", from: 1200, to: 2000 },
    { kind: "prompt", from: 3000, to: 4000, round: 1, cut: true },
    { kind: "taken", from: 5000, to: null },
  ]);
  assert.equal(call.position(1007), 7000);
});

test("a turn's waterfall begins at the caller's last sound", () => {
  const timing = { tail_ms: 800, asr_ms: 100, asr_queue_ms: 20, nlu_ms: 10, nlu_queue_ms: 0.2, dialogue_ms: 3, tts_ms: 1, speculated: 1, endpoint_to_reply_ms: 6 };
  const ahead = waterfall(timing, 250);
  assert.deepEqual(ahead.stages.map(({ key, from, to }) => [key, from, to]), [
    ["tail", 0, 800], ["asr_queue", 250, 270], ["asr", 270, 350], ["nlu", 350.2, 360], ["dialogue", 800, 803], ["tts", 803, 804], ["first_audio", 804, 806],
  ]);
  assert.deepEqual([ahead.end, ahead.late, ahead.stages[1].during], [806, false, true]);
  const later = waterfall({ ...timing, speculated: 0, endpoint_to_reply_ms: 240 }, 250);
  assert.deepEqual([later.stages[1].from, later.end, later.late], [800, 1040, true]);
});

test("every type of event has words", () => {
  const call = after(started("a"), meant("a", 1, "promise"), said("a", 1, "Good."), ["a", "keys_pressed", { count: 4 }]).byId.get("a");
  assert.deepEqual(call.events.map((event) => told(event).words), ["started with bill", "promise 90 %, day: friday", "“Good.”", "4 keys"]);
  assert.deepEqual(told({ type: "budget_missed", budget: "barge_in_ms", took_ms: 400, limit_ms: 300 }), { name: "budget missed", words: "barge in ms: 400 ms, promised 300 ms", bad: true });
});

/** The desk after these events, and the effects of the last. */
function desk(...events) {
  return events.reduce(({ state }, event) => step(state, event), { state: IDLE, effects: [] });
}
const LISTEN = { type: "listen", callId: "a" };
const HEARING = [LISTEN, { type: "listening" }];
const SPEAKING = [...HEARING, { type: "takeOver" }, { type: "microphone" }, { type: "taken_over" }];
const kinds = ({ effects }) => effects.map(({ type, message }) => message?.type ?? type);

test("a supervisor listens, takes over, hands back and leaves", () => {
  assert.deepEqual(kinds(desk(LISTEN)), ["connect"]);
  assert.equal(hears(desk(...HEARING).state), true);
  assert.deepEqual(kinds(desk(...HEARING, { type: "takeOver" })), ["askMicrophone"]);
  assert.deepEqual(kinds(desk(...HEARING, { type: "takeOver" }, { type: "microphone" })), ["take_over"]);
  assert.equal(speaks(desk(...SPEAKING).state), true);
  assert.deepEqual(kinds(desk(...SPEAKING, { type: "handBack" })), ["hand_back"]);
  assert.deepEqual(kinds(desk(...SPEAKING, { type: "handBack" }, { type: "handed_back" })), ["dropMicrophone"]);
  assert.deepEqual(kinds(desk(...SPEAKING, { type: "stop" })), ["dropMicrophone", "disconnect"]);
  assert.deepEqual(kinds(desk({ ...LISTEN, then: "takeOver" }, { type: "listening" })), ["askMicrophone"]);
});

test("what goes wrong at the desk is said in words, and leaves it where it can go on", () => {
  const refused = desk(...HEARING, { type: "takeOver" }, { type: "noMicrophone", name: "NotFoundError" }).state;
  assert.deepEqual([refused.phase, /no microphone/.test(refused.problem)], ["listening", true]);
  const taken = desk(...HEARING, { type: "takeOver" }, { type: "microphone" }, { type: "error", message: "bo has it" });
  assert.deepEqual([taken.state.phase, taken.state.problem, kinds(taken)], ["listening", "bo has it", ["dropMicrophone"]]);
  const lost = desk(...SPEAKING, { type: "closed" });
  assert.deepEqual([lost.state.phase, kinds(lost)], ["idle", ["dropMicrophone", "disconnect"]]);
  assert.match(lost.state.problem, /was lost/);
  assert.deepEqual([desk(...SPEAKING, { type: "over" }).state.phase, desk(...SPEAKING, { type: "over" }).state.problem], ["idle", ""]);
  assert.match(desk(LISTEN, { type: "noSound" }).state.problem, /localhost or a page over TLS/);
  assert.match(desk(...SPEAKING, { type: "handed_back" }).state.problem, /no longer have the call: the bot has it/);
  assert.match(desk(...SPEAKING, { type: "handed_back", message: "bo has the call now" }).state.problem, /bo has the call now\.$/);
  assert.equal(desk(LISTEN, { type: "error", message: "no call" }, { type: "closed" }).state.problem, "no call");
  assert.equal(desk({ type: "closed" }).state, IDLE);
  assert.equal(desk(LISTEN, { type: "closed" }, { type: "stop" }).state.problem, "", "what one call's sound ended with is not said of the next");
});

test("a call that another has is taken from them by name", () => {
  const sent = (...events) => desk(...events, { type: "microphone" }).effects.at(-1).message;
  assert.deepEqual(sent(...HEARING, { type: "takeOver", from: "bo" }), { type: "take_over", from: "bo" });
  assert.deepEqual(sent({ ...LISTEN, then: "takeOver", from: "bo" }, { type: "listening" }), { type: "take_over", from: "bo" });
  assert.deepEqual(sent(...HEARING, { type: "takeOver", from: "bo" }, { type: "noMicrophone", name: "x" }, { type: "takeOver" }), { type: "take_over" });
  const refused = desk(...HEARING, { type: "takeOver" }, { type: "microphone" }, { type: "error", code: "taken_over", message: "bo has the call" });
  assert.deepEqual([refused.state.phase, kinds(refused)], ["listening", ["dropMicrophone"]]);
  assert.match(refused.state.problem, /press it again to take the call from them/);
});

test("what becomes of a whisper or a hang-up leaves the desk where it is", () => {
  const asking = [...HEARING, { type: "takeOver" }];
  const taking = [...asking, { type: "microphone" }];
  for (const before of [[], [LISTEN], HEARING, asking, taking, SPEAKING, [...SPEAKING, { type: "handBack" }]]) {
    const acted = desk(...before, { type: "acted", problem: "too much is waiting" });
    assert.deepEqual([acted.state.phase, acted.state.problem, acted.effects], [desk(...before).state.phase, "too much is waiting", []]);
  }
  assert.equal(desk(...taking, { type: "acted", problem: "" }, { type: "taken_over" }).state.phase, "speaking");
});

test("a token that is over takes the call's sound with it, and says so", () => {
  const heard = desk(...HEARING, { type: "expired" });
  assert.deepEqual([heard.state.phase, kinds(heard)], ["idle", ["dropMicrophone", "disconnect"]]);
  assert.match(heard.state.problem, /expired, so you no longer hear the call\. Listen again/);
  assert.match(desk(...SPEAKING, { type: "expired" }).state.problem, /expired, so the bot has the call again/);
  assert.equal(desk({ type: "expired" }).state, IDLE);
});

/** A stream of events over sockets that the test opens and closes. */
function stream() {
  const [sockets, states, lines] = [[], [], []];
  const control = { socket: () => sockets[sockets.push({ close() {} }) - 1] };
  const made = new EventStream(control, { state: (state) => states.push(state), lines: (some) => lines.push(...some) });
  made.open({ raw: false });
  return { made, sockets, states, lines };
}

test("a stream that is lost is opened again, one whose token is over is not", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { made, sockets, states, lines } = stream();
  sockets[0].onmessage({ data: `${JSON.stringify(WATCHING)}\n${JSON.stringify(WATCHING)}` });
  sockets[0].onclose({ code: 1013 });
  t.mock.timers.tick(60_000);
  assert.deepEqual([states, sockets.length, lines.length], [["connecting", "watching", "lost", "lost"], 2, 2]);
  sockets[1].onclose({ code: 4401 });
  t.mock.timers.tick(60_000);
  made.retryNow();
  assert.deepEqual([states.at(-1), sockets.length], ["expired", 2]);
  made.open({ raw: false });
  assert.deepEqual([states.at(-1), sockets.length], ["connecting", 3], "with another token");
});

test("calls that a stream names anew, in its midst, stay; those that it does not are over", () => {
  const calls = after(started("a"), started("b"));
  const present = { ...FACTS, started_at: 900, node: "ask", slots: {}, turns: 0, history: [], taken_over_by: "bo" };
  for (const times of [1, 2]) {
    calls.take(WATCHING);
    calls.take({ v: 1, type: "call_present", call_id: "a", seq: 1 + times, at_ms: 0, time: 1010, ...present });
    calls.settle(1011);
  }
  assert.deepEqual(ids(calls), ["a", "b"]);
  assert.deepEqual([calls.byId.get("b").endedBy, calls.live, calls.byId.get("a").takenOverBy], ["unknown", 1, "bo"]);
  calls.byId.get("a").handBack("ann");
  assert.equal(calls.byId.get("a").takenOverBy, "bo", "who takes it now is not who gave it back");
  calls.byId.get("a").handBack("bo");
  assert.equal(calls.byId.get("a").takenOverBy, "");
});

const METRICS = `# HELP voicegate_speculation_total Work
voicegate_speculation_total{outcome="started"} 10.0
voicegate_speculation_total{outcome="used"} 7.0
voicegate_endpoint_to_reply_seconds_bucket{le="0.01"} 8.0
voicegate_endpoint_to_reply_seconds_bucket{le="0.02"} 10.0
voicegate_endpoint_to_reply_seconds_bucket{le="+Inf"} 10.0
voicegate_endpoint_to_reply_seconds_count 10.0
voicegate_endpoint_to_reply_seconds_sum 0.07
voicegate_refused_total{reason="a \\"b\\" c"} 2.0`;

test("metrics are read as Prometheus reads them", () => {
  const samples = new Samples(METRICS);
  assert.equal(samples.sum("voicegate_speculation_total", { outcome: "used" }), 7);
  assert.deepEqual([...samples.by("reason", "voicegate_refused_total")], [['a "b" c', 2]]);
  assert.equal(samples.quantile(0.9, "voicegate_endpoint_to_reply_seconds"), 0.015);
  assert.equal(samples.quantile(0.5, "voicegate_barge_in_seconds"), null);
  assert.equal(samples.mean("voicegate_endpoint_to_reply_seconds").toFixed(4), "0.0070");
  const tables = Object.fromEntries(tablesOf(samples, null, { workers: 2, complete: true, dropped: 0 }).map((table) => [table.title, table.rows]));
  assert.deepEqual(tables["Work begun in the tail"], [["used", 7, "70 %"], ["wasted", 0, "0 %"], ["failed", 0, "0 %"]]);
  assert.deepEqual(tables["Latency since the start"], [["Reply after the tail", "6.3 ms", "20 ms", 10]]);
});

test("latencies over time, against what was promised", () => {
  const latencies = new Latencies();
  for (const [at, ms] of [[1000, 5], [1001, 300], [1015, 9]]) latencies.take({ type: "prompt_started", timing: { endpoint_to_reply_ms: ms } }, at);
  assert.deepEqual(latencies.line("reply", 0.99), [{ at: 1000, value: 300 }, { at: 1010, value: 9 }]);
  const reply = tilesOf(latencies, [], 1020)[2];
  assert.deepEqual([reply.value, reply.note, reply.bad], ["300 ms", "p50 9 ms; 3 in five minutes", true]);
  assert.deepEqual([quantileOf([], 0.5), quantileOf([3, 1, 2], 0.5)], [null, 2]);
});

const RECORD = { call_id: "r", bot: "bill", model: "m1", node: "bye", ended_by: "bot", disposition: "paid", outcome: "paid", turns: 4, no_match: 1, no_input: 0,
  recorded: true, started_at: 940, ended_at: 1000, duration_s: 60 };
const record = (keys) => ({ ...RECORD, ...keys });
const RECORDS = [
  record(),
  record({ call_id: "s", ended_by: "transfer", disposition: null, outcome: null, turns: 2, no_match: 2, no_input: 2 }),
  record({ call_id: "t", bot: "shop", ended_by: "caller", disposition: null, outcome: null, recorded: false }),
  record({ call_id: "u", outcome: null, no_match: null, no_input: null, recorded: null }), // an older gateway's
];

test("outcomes, from the records", () => {
  const tiles = Object.fromEntries(outcomes.tilesOf(RECORDS).map(({ name, value }) => [name, value]));
  assert.deepEqual(tiles, { "Calls that ended": "4", "Task completed": "50 %", "Transferred to a person": "25 %", "Caller hung up": "25 %",
    "No match": "40 %", "No input": "17 %", "Mean length": "1:00" });
  assert.deepEqual(outcomes.tilesOf([]).map(({ value }) => value), ["0", "–", "–", "–", "–", "–", "–"]);
});

test("outcomes, by what they are grouped by", () => {
  const rows = (group) => outcomes.tablesOf(RECORDS, group)[0].rows;
  assert.deepEqual(rows("bot"), [
    ["bill", 3, "50 %", "33 %", "0 %", "0 %", "50 %", "25 %", "3.3"],
    ["shop", 1, "–", "0 %", "100 %", "0 %", "25 %", "0 %", "4.0"],
  ]);
  assert.deepEqual(rows("disposition").map(([name, count]) => [name, count]), [["paid", 2], ["none: transferred", 1], ["none: caller hung up", 1]]);
  assert.deepEqual([rows("node")[0][0], rows("model")[0][0]], ["bye", "m1"]);
});

test("calls that ended are searched, and those with a recording are found", () => {
  const setup = { bots: ["bill"], consent: "metadata", keep_days: 1 };
  const kept = (time) => (one) => outcomes.isKept(one, setup, time);
  const ids = (wanted, time = 1001) => outcomes.chosen(RECORDS, { query: "", recorded: false, ...wanted }, kept(time)).map(({ call_id: id }) => id);
  assert.deepEqual(ids({}), ["r", "s", "t", "u"]);
  assert.deepEqual(ids({ query: "SHOP hung" }), ["t"]);
  assert.deepEqual(ids({ recorded: true }), ["r", "s"]);
  assert.deepEqual(ids({ recorded: true }, 1000 + 86_401), [], "their time is over");
});

test("why a call has no recording is said in words", () => {
  const setup = { bots: ["bill"], consent: "metadata", keep_days: 30 };
  const why = (keys, recording = setup, time = 1001) => absence(record({ recorded: false, ...keys }), recording, time);
  assert.equal(absence(null, setup, 1), "Nothing is kept of this call.");
  assert.match(why({ bot: "shop" }), /recording is off for shop/);
  assert.match(why({}, null), /recording is off for bill/);
  assert.match(why({}), /had not agreed/);
  assert.match(why({}, { ...setup, consent: "announced" }), /was off for bill then/);
  assert.match(why({ recorded: true }, setup, 1000 + 31 * 86_400), /kept for 30 days, and this one’s time is over/);
  assert.match(why({ recorded: true }), /was erased, or another host/);
  assert.match(why({ recorded: null }), /There is no recording/);
});

test("a recorded call lies in its sound, whatever the caller's audio had lost", () => {
  const recording = { call_id: "a", bot: "bill", bot_version: "3", language: "en", started_at: 1000.5, duration_s: 9 };
  const calls = after(started("a"), ["a", "speech_started", { speech_ms: 700 }], heard("a", 1, "yes"), said("a", 1, "Good."));
  const events = calls.byId.get("a").events.map((event) => ({ ...event, time: event.time + 2 })); // two seconds were lost
  const call = callIn({ recording, events });
  assert.deepEqual(call.story.lines.map(({ text, at }) => [text, at]), [["yes", 2200], ["Good.", 4500]]);
  assert.deepEqual(call.marks.spans.map(({ kind, from }) => [kind, from]), [["speech", 2200], ["prompt", 4500]]);
  assert.deepEqual([call.isOver, call.lasts(0), isWhole({ events })], [true, 9, false], "its worker died");
  const over = [...events, { type: "call_ended", call_id: "a", seq: 9, at_ms: 7000, time: 1008, ended_by: "bot", disposition: "paid", duration_s: 8, turns: 1 }];
  assert.deepEqual([callIn({ recording, events: over }).disposition, isWhole({ events: over })], ["paid", true]);
});

test("all of a recorded call is kept, however long it is", () => {
  const events = Array.from({ length: 900 }, (_, at) => ({ type: at % 2 ? "speech_ended" : "speech_started", call_id: "a", seq: at, at_ms: at * 1000, speech_ms: at * 1000, time: at }));
  const call = callIn({ recording: { call_id: "a", started_at: 0, duration_s: 900 }, events });
  assert.deepEqual([call.events.length, call.marks.spans.length], [900, 900]);
});

test("what is known of a call from its record alone", () => {
  const call = callOf(record({ bot_version: "3" }));
  assert.deepEqual([call.isOver, call.lasts(5000), call.disposition, call.facts.models.nlu], [true, 60, "paid", "m1"]);
  assert.equal(soundName("bill@desk:1"), "bill@desk_1.wav");
});

/** A WAV of both sides, as `gateway.monitoring.recording` writes it. */
function wav(rate, pairs) {
  const view = new DataView(new ArrayBuffer(44 + 2 * pairs.length));
  const text = (at, word) => [...word].forEach((char, k) => view.setUint8(at + k, char.charCodeAt(0)));
  [[0, "RIFF"], [8, "WAVE"], [12, "fmt "], [36, "data"]].forEach(([at, word]) => text(at, word));
  [[16, 16], [24, rate], [28, 4 * rate], [40, 2 * pairs.length]].forEach(([at, value]) => view.setUint32(at, value, true));
  [[20, 1], [22, 2], [32, 4], [34, 16]].forEach(([at, value]) => view.setUint16(at, value, true));
  pairs.forEach((value, at) => view.setInt16(44 + 2 * at, value, true));
  return view.buffer;
}

test("a recording's loudness, side by side", () => {
  const pairs = Array.from({ length: 2 * 1200 }, (_, at) => (at % 2 ? 0 : at < 1600 ? 16_384 : 0));
  const wave = new Wave(wav(8000, pairs));
  assert.deepEqual([wave.rate, wave.durationMs], [8000, 150]);
  assert.deepEqual(wave.levels().map(({ at, ms, caller, bot }) => [at, ms, Math.round(caller), bot]), [[0, 100, -6, -60], [100, 50, -60, -60]]);
  assert.throws(() => new Wave(new ArrayBuffer(50)), /no 16-bit stereo WAV/);
});
