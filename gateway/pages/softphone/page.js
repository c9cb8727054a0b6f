/** The page: its fields, buttons and keys, joined to the telephone and to what shows it. */

import { ConversationView } from "../shared/conversation_view.js";
import { choicesOf, newCallId } from "./address.js";
import { isUnderWay } from "./call_machine.js";
import { CallView } from "./call_view.js";
import { Gateway } from "./gateway.js";
import { LatencyView } from "./latency_view.js";
import { LevelsView } from "./levels_view.js";
import { Phone } from "./phone.js";

const READINESS_EVERY_MS = 5000;
const TOKEN = "voicegate.token";

const find = (id) => document.getElementById(id);
const meter = (side) => document.querySelector(`.meter[data-side="${side}"]`);
const asked = choicesOf(location.search);

const gateway = new Gateway();
const callView = new CallView(find, press);
const conversationView = new ConversationView(find("lines"), { bot: "Bot", caller: "You" });
const latencyView = new LatencyView(
  Object.fromEntries(["first", "reply", "median", "worst", "felt", "stages"].map((id) => [id, find(id)])),
);
const levelsView = new LevelsView({ caller: meter("caller"), bot: meter("bot") }, find("strip"));
const phone = new Phone(gateway, {
  changed: (what) => SHOW[what](),
  announce: (text) => (find("announcer").textContent = text),
  level: (side, db) => levelsView.level(side, db),
  buffer: ({ queuedMs, gaps }) => {
    find("buffer").hidden = false;
    find("buffer").textContent = `Buffer ${Math.round(queuedMs)} ms, ${gaps === 1 ? "1 gap" : `${gaps} gaps`}`;
  },
});

const SHOW = {
  call: showCall,
  muted: showCall,
  conversation() {
    conversationView.show(phone.conversation);
    find("empty").hidden = phone.conversation.lines.length > 0;
    find("hearing").hidden = !phone.conversation.callerSpeaks || !isUnderWay(phone.call);
  },
  latency: () => latencyView.show(phone.latency),
};

function showCall() {
  const bot = find("bot").value || gateway.bots[0]?.name || "";
  callView.show(phone.call, { muted: phone.muted, bot, mediaUrl: gateway.mediaUrl, obstacle: phone.obstacle() });
  callView.clock(phone.call, performance.now());
  levelsView.run(isUnderWay(phone.call));
  SHOW.conversation();
}

// What a person does.

function choices() {
  return {
    bot: find("bot").value,
    language: find("language").value,
    rate: Number(find("rate").value),
    token: find("token").value.trim(),
  };
}

function press(digit) {
  if (phone.call.phase !== "talking") return;
  callView.light(digit);
  phone.press(digit);
}

find("dial").onclick = () => {
  if (isUnderWay(phone.call)) return phone.hangUp();
  if (!find("choices").reportValidity()) return;
  phone.dial(choices(), find("call-id").value || newCallId());
};
find("again").onclick = () => {
  if (phone.call.phase === "reconnecting") return phone.retryNow();
  phone.dial(choices(), phone.call.callId);
  find("dial").focus(); // this button is gone
};
find("keys").onclick = () => callView.openPad(find("keys").getAttribute("aria-expanded") === "false");
find("mute").onclick = () => phone.mute(!phone.muted);
find("choices").onsubmit = (event) => {
  event.preventDefault();
  find("dial").click();
};
find("phone").onkeydown = (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[0-9*#]$/.test(event.key)) press(event.key);
};
find("bot").onchange = showCall;
find("token").onchange = () => {
  sessionStorage.setItem(TOKEN, find("token").value.trim());
  loadSetup();
};
window.addEventListener("online", () => phone.retryNow());
window.addEventListener("beforeunload", (event) => {
  if (isUnderWay(phone.call)) event.preventDefault();
});

// What the gateway tells.

async function loadSetup() {
  try {
    await gateway.load(find("token").value.trim());
  } catch {
    return;
  }
  showToken(find("token").value.trim() !== "");
  offer(find("bot"), gateway.bots.map(({ name }) => name), asked.bot);
  offer(find("language"), gateway.bots.map(({ language }) => language), asked.language, languageName);
  showCall();
}

function showToken(given) {
  find("token-field").hidden = !gateway.needsToken;
  find("token").setAttribute("aria-invalid", String(given && !gateway.authorized));
  find("token-known").hidden = !given;
  find("token-known").textContent = gateway.authorized
    ? "This token opens the gateway."
    : "The gateway does not know this token, or it is not for calls.";
}

/** Fill a choice, and keep what was chosen; what the page's address asks for is there even if nobody knows it. */
function offer(select, values, wanted, nameOf = (value) => value) {
  const chosen = select.value || wanted;
  const options = [...new Set([...values, chosen])].filter(Boolean).map((value) => new Option(nameOf(value), value));
  select.replaceChildren(select.options[0], ...options);
  select.value = chosen;
}

function languageName(code) {
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(code);
  } catch {
    return code; // no code of a language: the gateway will say so
  }
}

async function showReadiness() {
  const readiness = await gateway.readiness();
  const chip = find("gateway");
  chip.dataset.state = readiness?.ready ? "good" : "bad";
  if (readiness === null) chip.textContent = "Gateway does not answer";
  else if (!readiness.ready) chip.textContent = "Gateway is not ready";
  else chip.textContent = readiness.calls === 1 ? "Ready, 1 call" : `Ready, ${readiness.calls} calls`;
}

find("token").value = sessionStorage.getItem(TOKEN) ?? "";
find("rate").value = String(asked.rate);
find("call-id").value = asked.callId;
SHOW.latency();
showCall();
loadSetup();
showReadiness();
setInterval(() => callView.clock(phone.call, performance.now()), 250);
setInterval(showReadiness, READINESS_EVERY_MS);
