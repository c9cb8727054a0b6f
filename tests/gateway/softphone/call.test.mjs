// The softphone's pure parts: states of a call, the conversation, timings, words for what went wrong.

import assert from "node:assert/strict";
import { test } from "node:test";

import { callUrl, choicesOf, isMixed, newCallId } from "../../../gateway/pages/softphone/address.js";
import { IDLE, isUnderWay, RETRY_MS, step } from "../../../gateway/pages/softphone/call_machine.js";
import { announcement, EMPTY, hear } from "../../../gateway/pages/softphone/conversation.js";
import { CLOSE_CODES, describe, FAULTS, isLost } from "../../../gateway/pages/softphone/endings.js";
import { measure, NOTHING, summary } from "../../../gateway/pages/softphone/latency.js";
import { Phone } from "../../../gateway/pages/softphone/phone.js";
import { lasting, shown } from "../../../gateway/pages/shared/words.js";

/** The state after these events, and the effects of the last one. */
function after(...events) {
  return events.reduce(({ state }, event) => step(state, { now: 0, ...event }), { state: IDLE, effects: [] });
}
const kinds = ({ effects }) => effects.map((effect) => effect.type);

const DIAL = { type: "dial", callId: "c1" };
const SOUND = { type: "soundReady" };
const READY = { type: "ready", callId: "c1", resumed: false, now: 1000 };
const TALKING = [DIAL, SOUND, READY];
const lost = (now = 2000) => ({ type: "closed", code: 1006, now });

test("a call goes from dialling to talking", () => {
  assert.deepEqual(kinds(after(DIAL)), ["openSound"]);
  assert.deepEqual(after(DIAL, SOUND).effects, [{ type: "connect", callId: "c1" }]);
  const { state } = after(...TALKING);
  assert.deepEqual([state.phase, state.startedAt, state.resumed], ["talking", 1000, false]);
});

test("the caller hangs up, in every phase of the call", () => {
  for (const events of [[DIAL], [DIAL, SOUND], TALKING, [...TALKING, lost()]]) {
    const { state, effects } = after(...events, { type: "hangUp", now: 5000 });
    assert.deepEqual([state.phase, state.ending.by, state.endedAt], ["ended", "caller", 5000]);
    assert.deepEqual(effects.map((effect) => effect.type), ["stop", "closeSound"]);
  }
});

test("the bot hangs up or transfers, in its own words", () => {
  const bot = { type: "farewell", farewell: { by: "bot", reason: "promise_to_pay" } };
  const { state } = after(...TALKING, bot, { type: "closed", code: 1000, now: 9000 });
  assert.deepEqual(describe(state.ending).title, "The bot hung up");
  assert.equal(describe(state.ending).advice, "Outcome: promise to pay.");
  const transfer = { type: "farewell", farewell: { by: "transfer", target: "+1555" } };
  assert.match(describe(after(...TALKING, transfer, { type: "closed", code: 1006 }).state.ending).title, /\+1555/);
});

test("a lost call is tried again with its id, waiting longer each time, and goes on", () => {
  let at = after(...TALKING, lost());
  assert.deepEqual(at.effects, [{ type: "silence" }, { type: "retryAfter", ms: RETRY_MS[0] }]);
  at = step(at.state, { type: "retry", now: 2500 });
  assert.deepEqual(at.effects, [{ type: "connect", callId: "c1" }]);
  at = step(at.state, lost(2600));
  assert.equal(at.effects[1].ms, RETRY_MS[1]);
  at = step(at.state, { type: "ready", callId: "c1", resumed: true, now: 4000 });
  assert.deepEqual([at.state.phase, at.state.resumed, at.state.startedAt], ["talking", true, 1000]);
  assert.equal(step(at.state, lost(20000)).effects[1].ms, RETRY_MS[0], "steady again: it begins anew");
});

test("a call that is lost right after each return is given up in the end", () => {
  let { state } = after(...TALKING);
  let tries = 0;
  while (state.phase !== "ended" && tries < 50) {
    tries += 1;
    ({ state } = step(state, lost(1000 + tries)));
    ({ state } = step(state, { type: "ready", callId: "c1", resumed: true, now: 1000 + tries }));
  }
  assert.deepEqual([state.phase, tries], ["ended", RETRY_MS.length + 1]);
  assert.ok(describe(state.ending).resumable);
});

test("what cannot be mended by trying again is not", () => {
  for (const code of [4400, 4401, 4408, 4409, 4415, 4429]) {
    const { state, effects } = after(...TALKING, { type: "closed", code });
    assert.deepEqual([state.phase, effects.map((effect) => effect.type)], ["ended", ["closeSound"]], String(code));
  }
});

test("a call that never began is looked into, and the finding takes the place of the code", () => {
  const at = after(DIAL, SOUND, { type: "closed", code: 1006 });
  assert.deepEqual(kinds(at), ["investigate", "closeSound"]);
  const { state } = step(at.state, { type: "found", fault: "token" });
  assert.match(describe(state.ending).title, /token/);
  assert.deepEqual(kinds(after(DIAL, SOUND, { type: "closed", code: 4415 })), ["closeSound"], "this one says why");
});

test("what the gateway said last is what the person reads", () => {
  const error = { type: "error", code: "unknown_bot", message: "no bot 'x'; there are load" };
  const { state } = after(DIAL, SOUND, error, { type: "closed", code: 4415 });
  assert.equal(describe(state.ending).advice, "No bot 'x'; there are load.");
});

test("events that come too late change nothing", () => {
  const { state } = after(...TALKING, { type: "hangUp" });
  for (const event of [SOUND, READY, lost(), { type: "retry" }, { type: "hangUp" }, { type: "found", fault: "away" }]) {
    assert.equal(step(state, { now: 1, ...event }).state, state, event.type);
  }
  assert.equal(step(after(...TALKING).state, { now: 1, ...DIAL }).state.phase, "talking");
  assert.equal(step(IDLE, { type: "unheard of" }).state, IDLE);
  assert.ok(!isUnderWay(state) && !isUnderWay(IDLE));
});

test("a microphone that is refused ends the call with the browser's reason", () => {
  const { state } = after(DIAL, { type: "soundFailed", fault: "NotAllowedError" });
  assert.match(describe(state.ending).title, /does not let this page/);
});

test("every code and every fault has words and a way out", () => {
  for (const [code, [title, , resumable]] of Object.entries(CLOSE_CODES)) {
    assert.ok(title.endsWith(".") && typeof resumable === "boolean", code);
    if (isLost(Number(code))) assert.ok(resumable, code);
  }
  for (const [name, [title, advice]] of Object.entries(FAULTS)) assert.ok(title && advice, name);
  assert.equal(describe({ by: "fault", code: 4999 }).advice, "Code 4999.");
});

// The conversation.

const talk = (...messages) => messages.reduce(hear, EMPTY);
const states = ({ lines }) => lines.map((line) => `${line.side} ${line.state} ${line.text}`);
const prompt = (round_id, text) => ({ type: "prompt", round_id, text, node: "n", timing: {} });
const words = (round_id, text, { final = true, supersedes = null } = {}) => ({
  type: "transcript", round_id, text, final, supersedes,
});

test("words so far become the final ones in the same line", () => {
  const partial = talk(prompt(0, "Hello"), words(1, "yes sp", { final: false }));
  assert.deepEqual(states(partial), ["bot saying Hello", "caller hearing yes sp"]);
  const final = hear(partial, words(1, "yes speaking"));
  assert.deepEqual(states(final), ["bot saying Hello", "caller said yes speaking"]);
  assert.equal(final.lines[1].id, partial.lines[1].id);
});

test("a meaning is shown with the words it is of", () => {
  const { lines } = talk(words(1, "yes"), words(2, "four"), { type: "intent", round_id: 1, intent: "affirm", score: 0.9, slots: [] });
  assert.deepEqual([lines[0].intent, lines[1].intent], ["affirm", undefined]);
});

test("a joined turn takes the place of the one before, whose reply is withdrawn", () => {
  const said = talk(words(1, "I can pay"), prompt(1, "When?"), words(2, "I can pay on Friday", { supersedes: 1 }));
  assert.deepEqual(states(said), ["caller joined I can pay", "bot withdrawn When?", "caller said I can pay on Friday"]);
});

test("a prompt that is stopped goes on, or was interrupted: words decide", () => {
  const held = talk(prompt(0, "Hello"), { type: "clear" });
  assert.deepEqual(states(held), ["bot held Hello"]);
  assert.deepEqual(states(hear(held, { type: "played" })), ["bot said Hello"]);
  assert.deepEqual(states(hear(held, words(1, "wait"))), ["bot cut Hello", "caller said wait"]);
  assert.deepEqual(states(hear(held, prompt(1, "Next")))[0], "bot cut Hello", "a key stopped it");
});

test("of two prompts in one reply, the first one is the first to have been played", () => {
  const { lines } = talk(prompt(1, "Thank you."), prompt(1, "What next?"), { type: "played" });
  assert.deepEqual(lines.map((line) => line.state), ["said", "saying"]);
});

test("keys are one line until something else is said", () => {
  const pressed = ["4", "1", "#"].map((digit) => ({ type: "key", digit }));
  assert.deepEqual(states(talk(...pressed, prompt(1, "Thanks"), { type: "key", digit: "2" })), [
    "note said You pressed 41#", "bot saying Thanks", "note said You pressed 2",
  ]);
});

test("only a resumed call says that it goes on", () => {
  assert.deepEqual(talk({ type: "ready", resumed: false }), EMPTY);
  assert.deepEqual(states(talk(prompt(0, "Hello"), { type: "ready", resumed: true })), [
    "bot cut Hello", "note said The call goes on where it was.",
  ]);
});

test("a screen reader hears final words and prompts, not every word on the way", () => {
  assert.equal(announcement(prompt(1, "Hi")), "Bot: Hi");
  assert.equal(announcement(words(1, "yes")), "You: yes");
  assert.equal(announcement(words(1, "ye", { final: false })), "");
  assert.equal(announcement({ type: "clear" }), "");
});

test("a message of a newer gateway changes nothing", () => {
  assert.equal(hear(EMPTY, { type: "mood", value: 3 }), EMPTY);
});

// Timings.

test("timings: the first words, the replies, and the stages of the last turn", () => {
  const greeting = measure(NOTHING, { first_utterance_ms: 12 }, Infinity);
  assert.deepEqual([greeting.first, summary(greeting).last], [12, null]);
  const turn = { endpoint_to_reply_ms: 9, tail_ms: 800, asr_ms: 60, asr_queue_ms: 20, nlu_ms: 5, dialogue_ms: 2, speculated: 1 };
  const one = measure(greeting, turn, 1010);
  assert.deepEqual(one.stages.map(({ key, during }) => [key, during]), [
    ["tail_ms", false], ["asr_ms", true], ["nlu_ms", true], ["dialogue_ms", false],
  ]);
  assert.equal(one.stages[1].waitedMs, 20);
  const three = [300, 20].reduce((latency, ms) => measure(latency, { endpoint_to_reply_ms: ms }, 50), one);
  assert.deepEqual(summary(three), { last: 20, median: 20, worst: 300, count: 3 });
  assert.deepEqual(measure(three, { tts_ms: 4 }, 50).stages, three.stages, "the second prompt of a turn has none");
});

test("what the caller feels counts from the last sound, where silence followed it", () => {
  const felt = (timing, quietMs) => measure(NOTHING, { endpoint_to_reply_ms: 9, ...timing }, quietMs).felt;
  assert.equal(felt({ tail_ms: 800 }, 1010), 1010);
  assert.equal(felt({ tail_ms: 800 }, 300), null, "noise");
  assert.equal(felt({}, 5000), null, "keys");
});

test("times are shown as people read them", () => {
  assert.deepEqual([null, 0, 0.44, 9.96, 83.6, 1240].map(shown), ["–", "0 ms", "0.4 ms", "10 ms", "84 ms", "1.24 s"]);
  assert.deepEqual([-1, 7.9, 750, 3723].map(lasting), ["0:00", "0:07", "12:30", "1:02:03"]);
});

// Addresses.

test("a call's address says what the call is, and leaves out what was not chosen", () => {
  const url = new URL(callUrl("wss://h:1", { callId: "a b", bot: "", language: "zh-CN", rate: 8000, token: "t&t" }));
  assert.equal(url.pathname, "/v1/call");
  assert.deepEqual(Object.fromEntries(url.searchParams), {
    call_id: "a b", encoding: "pcm_s16le", sample_rate: "8000", language: "zh-CN", token: "t&t",
  });
});

test("a link chooses, but brings no token and no strange rate", () => {
  assert.deepEqual(choicesOf("?bot=load&rate=8000&token=x"), { bot: "load", language: "", callId: "", rate: 8000 });
  assert.equal(choicesOf("?rate=7999").rate, 16000);
});

test("a page over TLS calls over TLS, or its own machine", () => {
  assert.ok(isMixed("https:", "ws://10.0.0.1:8765"));
  for (const [page, media] of [["http:", "ws://10.0.0.1:1"], ["https:", "wss://h:1"], ["https:", "ws://localhost:1"], ["https:", ""]]) {
    assert.ok(!isMixed(page, media), media);
  }
});

test("call ids are ones that the gateway takes, and differ", () => {
  assert.match(newCallId(), /^[0-9a-f]{32}$/);
  assert.notEqual(newCallId(), newCallId());
});

test("what a call says after it was hung up is not the next one's", () => {
  const sockets = [];
  globalThis.WebSocket = class {
    static OPEN = 1;
    readyState = 1;
    constructor() {
      sockets.push(this);
    }
    send() {}
    close() {}
  };
  const phone = new Phone({ mediaUrl: "ws://127.0.0.1:9000" }, { changed() {}, announce() {}, level() {}, buffer() {} });
  const says = (message) => sockets[0].onmessage({ data: JSON.stringify(message) });
  phone.choices = { bot: "", language: "", rate: 8000, token: "" };
  phone.call = { ...IDLE, phase: "connecting", callId: "a" };
  phone.connect({ callId: "a" });
  says({ type: "ready", call_id: "a", resumed: false });
  assert.equal(phone.call.phase, "talking");
  phone.hangUp();
  const { conversation } = phone;
  says({ type: "hangup", reason: "done" });
  says({ type: "prompt", round_id: 1, text: "Good bye", node: "bye", timing: {} });
  assert.equal(phone.call.farewell, null);
  assert.equal(phone.conversation, conversation);
});
