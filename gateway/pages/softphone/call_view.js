/** The telephone's face: what it says of the call, and which of its buttons there are. */

import { isUnderWay, RETRY_MS } from "./call_machine.js";
import { describe } from "./endings.js";

const KEYS = [
  ["1", ""], ["2", "ABC"], ["3", "DEF"],
  ["4", "GHI"], ["5", "JKL"], ["6", "MNO"],
  ["7", "PQRS"], ["8", "TUV"], ["9", "WXYZ"],
  ["*", ""], ["0", "+"], ["#", ""],
]; // prettier-ignore
const KEY_NAMES = { "*": "Star", "#": "Hash" };
const LIT_MS = 160;

export class CallView {
  /** @param {(id: string) => HTMLElement} find  @param {(digit: string) => void} press */
  constructor(find, press) {
    this.find = find;
    this.keys = new Map();
    for (const [digit, letters] of KEYS) {
      const key = document.createElement("button");
      key.type = "button";
      key.setAttribute("aria-label", KEY_NAMES[digit] ?? digit);
      const face = key.appendChild(document.createElement("b"));
      face.textContent = digit;
      key.appendChild(document.createElement("span")).textContent = letters;
      key.onclick = () => press(digit);
      find("pad").append(key);
      this.keys.set(digit, key);
    }
  }

  /** On a phone the dial pad stays away until it is wanted: the conversation needs the room. */
  openPad(open) {
    this.find("keys").setAttribute("aria-expanded", String(open));
    this.find("pad").dataset.open = open;
  }

  light(digit) {
    const key = this.keys.get(digit);
    key.classList.add("pressed");
    setTimeout(() => key.classList.remove("pressed"), LIT_MS);
  }

  /** @param {object} call as the call machine has it  @param {object} more {muted, bot, mediaUrl, obstacle} */
  show(call, { muted, bot, mediaUrl, obstacle }) {
    const { find } = this;
    const underWay = isUnderWay(call);
    const ended = call.phase === "ended" ? describe(call.ending) : null;
    document.body.dataset.phase = call.phase;
    document.body.dataset.underWay = underWay;
    document.body.dataset.muted = muted;

    const [status, detail] = this.words(call, { muted, bot, ended });
    say(find("status"), status);
    say(find("detail"), detail);

    find("dial").dataset.act = underWay ? "hang-up" : "call";
    say(find("dial-word"), underWay ? "Hang up" : call.phase === "ended" ? "Call again" : "Call");
    find("mute").hidden = !underWay;
    find("keys").hidden = call.phase !== "talking";
    find("mute").setAttribute("aria-pressed", String(muted));
    const again = find("again");
    again.hidden = call.phase !== "reconnecting" && !ended?.resumable;
    say(again, call.phase === "reconnecting" ? "Try now" : "Resume");
    find("pad").hidden = find("pad-hint").hidden = !underWay;
    for (const key of this.keys.values()) key.disabled = call.phase !== "talking";
    find("choices").hidden = underWay;
    say(find("call-name"), call.callId ? `Call ${call.callId}` : "");

    const fault = call.phase === "idle" ? obstacle : call.ending?.fault;
    const problem = call.phase === "idle" && obstacle ? describe({ by: "fault", fault }) : ended;
    find("problem").hidden = !problem || problem.good;
    if (problem && !problem.good) this.explain(problem, fault === "certificate" ? mediaUrl : null);
  }

  words(call, { muted, bot, ended }) {
    switch (call.phase) {
      case "preparing":
        return ["Microphone", "The browser may ask whether this page may use it."];
      case "connecting":
        return ["Calling", bot];
      case "talking":
        return [muted ? "Muted" : "In a call", muted ? "The bot hears silence." : `With ${bot}`];
      case "reconnecting":
        return ["Connection lost", `Trying again, ${call.attempt} of ${RETRY_MS.length}.`];
      case "ended":
        return ended.good ? [ended.title, ended.advice] : ["No call", ""];
      default:
        return ["Ready to call", bot];
    }
  }

  explain({ title, advice, commands }, mediaUrl) {
    const { find } = this;
    say(find("problem-title"), title);
    say(find("problem-advice"), advice);
    find("problem-commands").replaceChildren(
      ...commands.map((command) => {
        const item = document.createElement("li");
        item.appendChild(document.createElement("code")).textContent = command.replace("HOST", location.hostname);
        return item;
      }),
    );
    const link = find("problem-link");
    link.hidden = mediaUrl === null;
    if (mediaUrl !== null) link.href = mediaUrl.replace(/^ws/, "http");
  }

  clock(call, now) {
    const seconds = call.startedAt === null ? 0 : Math.floor(((call.endedAt ?? now) - call.startedAt) / 1000);
    say(this.find("clock"), `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
  }
}

/** Only where it changes: a status that is written again is read out again. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
