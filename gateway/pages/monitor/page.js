/** The page: which view is shown, the stream of events into what is known, and what is known into the views. */

import { AfterCall } from "./after.js";
import { CallView } from "./call_view.js";
import { Calls } from "./calls.js";
import { steady } from "./clock.js";
import { ControlPlane } from "./control_plane.js";
import { speaks } from "./desk.js";
import { hide, mark, say } from "./elements.js";
import { ListView } from "./list_view.js";
import { Reports } from "./reports.js";
import { EventStream } from "./stream.js";
import { Supervisor } from "./supervisor.js";

const TOKEN = "voicegate.monitor.token";
const READ_EVERY_MS = 5000;
const SURE_FOR_MS = 4000; // a second press within them hangs up

const find = (id) => document.getElementById(id);
const VIEWS = { "#/health": "health", "#/outcomes": "outcomes" };

const control = new ControlPlane();
const calls = new Calls();
const reports = new Reports(find, control, calls);
const list = new ListView({ table: find("table"), rows: find("rows") }, () => draw());
const after = new AfterCall(control, () => {
  callView.afterChanged();
  draw();
});
const callView = new CallView(find, () => control.setup.pause_ms, after);
const supervisor = new Supervisor(control, {
  changed: () => showDesk(),
  handedBack: (id) => calls.byId.get(id)?.handBack(control.setup.who),
  expired: () => expire(),
  sound(sound) {
    const call = calls.byId.get(supervisor.desk.callId);
    if (call && call.id === chosenId) callView.timeline.hear(call, sound, steady());
  },
  buffer(report) {
    buffer = report;
  },
});
const stream = new EventStream(control, { lines: takeLines, state: showStream });

let chosenId = ""; // the call that is shown; "": none
let view = "calls"; // or "health", "outcomes", "door"
let buffer = null; // of the headphones
let sureUntil = 0;
let order = []; // the calls in the list
let listed = -1; // of which version of the calls
let orderedAt = 0;
let due = false;
let streamState = "connecting";
let deskShown = ""; // what of a call its buttons were shown for

// What comes.

function takeLines(lines) {
  const time = steady();
  for (const line of lines) {
    const { call, said } = calls.take(line, time);
    if (!call) continue;
    reports.take(line, time);
    if (said && call.id === chosenId && view === "calls") find("announcer").textContent = said;
  }
  if (lines.some(({ type }) => type === "watching")) calls.settle(time);
  draw();
}

function showStream(state) {
  if (state === "expired") return expire();
  mark(find("stream"), "state", { connecting: "", watching: "good", lost: "bad" }[state]);
  if (state === "lost" || (state === "watching" && streamState === "lost")) {
    say(find("announcer"), state === "lost" ? "Connection lost" : "Connected again");
  }
  streamState = state;
  showCount();
  if (state === "lost") knock();
}

function showCount() {
  const live = calls.live;
  const words = { connecting: "Connecting", watching: live === 1 ? "1 call" : `${live} calls`, lost: "Connection lost" };
  say(find("stream"), words[streamState]);
}

/** Lost, or no longer let in? Browsers do not say why a socket was refused. */
async function knock() {
  try {
    await control.load(control.token);
  } catch {
    return; // it does not answer: the stream tries again
  }
  if (!control.setup.authorized) showDoor("The token has expired, or is known no more.");
}

/** The token is over, as a socket says that it had opened. Another opens all of it again, but for the call's sound. */
function expire() {
  control.forget();
  sessionStorage.removeItem(TOKEN);
  find("token").value = "";
  supervisor.expire();
  showDoor("Your token has expired. Show a new one to go on where you were.");
}

// What is shown: at most once for each picture of the screen.

function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    paint();
  });
}

function paint() {
  if (view === "door") return;
  const time = steady();
  calls.sweep(time, chosenId);
  showCount();
  if (view === "calls") {
    showList(time);
    if (chosenId) showCall(time);
  }
  showNotice();
}

/** Rows change at once; their order is made anew no more than twice a second, so that nothing jumps under the mouse. */
function showList(time) {
  const aged = performance.now() - orderedAt;
  if (listed === -1 || (listed !== calls.version && aged > 500)) {
    listed = calls.version;
    orderedAt = performance.now();
    order = calls.chosen(wanted());
    offerBots();
    say(find("counted"), order.length === calls.byId.size ? `${order.length}` : `${order.length} of ${calls.byId.size}`);
    hide(find("nobody"), order.length > 0);
    hide(find("table"), order.length === 0);
    say(find("nobody-words"), calls.byId.size ? "No call is as you ask for." : "Nobody is on the line. Calls appear here as they come.");
  }
  list.show(order, time, chosenId);
}

function wanted() {
  return {
    query: find("query").value,
    bot: find("bots").value,
    alerting: find("alerting").ariaPressed === "true",
    sort: find("sort").value,
  };
}

function offerBots() {
  const select = find("bots");
  const bots = [...new Set([...calls.bots, select.value])].filter(Boolean);
  if (bots.join() === [...select.options].slice(1).map(({ value }) => value).join()) return;
  const { value } = select;
  select.replaceChildren(select.options[0], ...bots.map((bot) => new Option(bot, bot)));
  select.value = value;
}

function showCall(time) {
  const live = calls.byId.get(chosenId);
  if (live && !live.isOver) after.leave();
  else if (streamState === "watching") after.look(chosenId, live?.endedAt ?? 0, time);
  const call = (after.sound ? after.call : (live ?? after.call)) ?? null;
  callView.show(call, chosenId, time);
  if (call?.story.missing && !call.recalled && !call.isOver) recall(call);
  const state = `${call?.isOver} ${call?.takenOverBy} ${supervisor.desk.phase} ${Math.floor(time)}`;
  if (state !== deskShown) showDesk();
  deskShown = state;
}

async function recall(call) {
  call.recalled = true;
  try {
    call.recall(await control.call(call.id, find("raw").ariaPressed === "true"));
    draw();
  } catch {
    // It is over, or nobody answers: what is here stands.
  }
}

/** Who has taken the shown call over; "": nobody. */
const whoHas = () => calls.byId.get(chosenId)?.takenOverBy ?? "";

function showDesk() {
  const call = calls.byId.get(chosenId);
  const { desk } = supervisor;
  if (desk.phase === "idle") buffer = null;
  callView.showDesk(desk, {
    mayAct: control.may("supervise"),
    isOver: call === undefined || call.isOver,
    takenBy: whoHas(),
    buffer,
    sure: performance.now() < sureUntil,
  });
}

function showNotice() {
  const words = [];
  if (!calls.complete && streamState === "watching") words.push("Not all workers answered: some calls may be missing. Reload the page to ask again.");
  if (calls.dropped) words.push(`${calls.dropped} events were lost on the way here: this browser or its network is too slow for all of them.`);
  hide(find("notice"), words.length === 0);
  say(find("notice"), words.join(" "));
}

// Where one is: the address after the #.

function route() {
  if (find("floor").hidden && find("health").hidden && find("outcomes").hidden) return; // at the door
  const before = chosenId;
  view = VIEWS[location.hash] ?? "calls";
  chosenId = view === "calls" ? decoded(location.hash.slice(1)) : "";
  if (before !== chosenId) {
    supervisor.stop();
    after.leave();
  }
  document.body.dataset.view = view;
  document.body.dataset.chosen = String(chosenId !== "");
  hide(find("floor"), view !== "calls");
  hide(find("health"), view !== "health");
  hide(find("outcomes"), view !== "outcomes");
  hide(find("call"), chosenId === "");
  for (const [id, name] of [["to-calls", "calls"], ["to-health", "health"], ["to-outcomes", "outcomes"]]) {
    find(id).ariaCurrent = view === name ? "page" : "false";
  }
  document.title = `${chosenId || { calls: "Monitor", health: "Health", outcomes: "Outcomes" }[view]} · voicegate`;
  sureUntil = 0;
  deskShown = "";
  listed = -1;
  reports.show(view, steady());
  reports.read(view, steady());
  draw();
  if (chosenId && before !== chosenId) find("who").focus({ preventScroll: true });
  else if (before && view === "calls") list.focus(before);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Who watches.

function showDoor(problem = "") {
  stream.close();
  if (supervisor.desk.phase !== "idle") supervisor.stop(); // what it says of its end stays
  after.leave();
  view = "door";
  for (const id of ["floor", "health", "outcomes", "notice"]) hide(find(id), true);
  hide(find("door"), false);
  hide(find("door-form"), !control.setup.needs_token);
  say(find("door-words"), doorWords());
  say(find("token-known"), problem);
  find("token").ariaInvalid = String(problem !== "");
  mark(find("stream"), "state", "");
  say(find("stream"), "Not watching");
  if (control.setup.needs_token) find("token").focus();
}

function doorWords() {
  return control.setup.needs_token
    ? "Calls are private: show a token with the scope monitor."
    : "Without authentication only the gateway’s own machine may watch. Open this page there as localhost, or set auth.secret and bring a token.";
}

async function enter(token) {
  try {
    await control.load(token);
  } catch (error) {
    mark(find("stream"), "state", "bad");
    say(find("stream"), "Gateway does not answer");
    setTimeout(() => enter(token), READ_EVERY_MS);
    return;
  }
  if (!control.setup.authorized) {
    showDoor(token ? "The gateway does not know this token, or it lacks the scope monitor." : "");
    return;
  }
  hide(find("door"), true);
  hide(find("floor"), false);
  hide(find("raw"), !control.may("monitor:raw"));
  find("raw").ariaPressed = "false";
  calls.clear(); // the token before may have shown what this one must not
  after.leave();
  stream.open({ raw: false });
  route();
}

// What a person does.

find("door-form").onsubmit = (event) => {
  event.preventDefault();
  const token = find("token").value.trim();
  sessionStorage.setItem(TOKEN, token);
  enter(token);
};
for (const id of ["query", "bots", "sort"]) {
  find(id).oninput = () => {
    listed = -1;
    list.rearrange();
  };
}
const toggle = (button) => (button.ariaPressed = String(button.ariaPressed !== "true")) === "true";
find("alerting").onclick = () => {
  toggle(find("alerting"));
  listed = -1;
  draw();
};
find("raw").onclick = () => {
  calls.clear();
  stream.open({ raw: toggle(find("raw")) });
};
find("listen").onclick = () => (supervisor.desk.phase === "idle" ? supervisor.listen(chosenId) : supervisor.stop());
find("take").onclick = () => (speaks(supervisor.desk) ? supervisor.handBack() : supervisor.takeOver(chosenId, whoHas()));
find("give-back").onclick = () => act(() => control.handBack(chosenId, whoHas()));
find("hang-up").onclick = () => {
  if (performance.now() < sureUntil) {
    sureUntil = 0;
    showDesk();
    act(() => control.hangUp(chosenId));
    return;
  }
  sureUntil = performance.now() + SURE_FOR_MS;
  showDesk();
  setTimeout(showDesk, SURE_FOR_MS + 50);
};
find("whisper").onsubmit = (event) => {
  event.preventDefault();
  const text = find("whisper-text").value.trim();
  if (text) act(() => control.whisper(chosenId, text), () => (find("whisper-text").value = ""));
};

/** Do something to the call, and say what went wrong. */
async function act(doing, done = () => {}) {
  try {
    await doing();
    supervisor.acted("");
    done();
  } catch (error) {
    supervisor.acted(error.message);
  }
}

find("events").closest("details").ontoggle = () => {
  callView.refresh();
  draw();
};
find("group").onchange = find("ended-query").oninput = () => reports.show(view, steady());
find("ended-recorded").onclick = () => {
  toggle(find("ended-recorded"));
  reports.show(view, steady());
};
find("skip").onclick = (event) => {
  event.preventDefault();
  (document.querySelector(".rows a") ?? find("query")).focus();
};
find("call").onkeydown = (event) => {
  if (event.key === "Escape" && !event.target.matches("input")) location.hash = "";
};
document.onkeydown = (event) => {
  if (event.key !== "/" || event.target.matches("input, select") || view !== "calls") return;
  event.preventDefault();
  find("query").focus();
};
window.addEventListener("hashchange", route);
window.addEventListener("online", () => stream.retryNow());
window.addEventListener("resize", () => reports.show(view, steady()));
window.addEventListener("beforeunload", (event) => {
  if (speaks(supervisor.desk)) event.preventDefault();
});

/** The strip of an open call moves though nothing happens; all else changes with events, and clocks once a second. */
function move() {
  if (view === "calls" && chosenId && !document.hidden) draw();
  requestAnimationFrame(move);
}

const kept = sessionStorage.getItem(TOKEN) ?? "";
find("token").value = kept;
enter(kept);
requestAnimationFrame(move);
setInterval(draw, 500);
setInterval(() => reports.read(view, steady()), READ_EVERY_MS);
