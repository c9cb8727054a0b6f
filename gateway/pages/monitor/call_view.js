/** One call: its head, its strip, what is said, what it has learnt, how fast it answers, and what may be done to it. */

import { ConversationView } from "../shared/conversation_view.js";
import { lasting, meant, readable } from "../shared/words.js";
import { hears, speaks } from "./desk.js";
import { hide, made, mark, say, showAlerts, showFacts } from "./elements.js";
import { ReplayView } from "./replay_view.js";
import { TimelineView } from "./timeline_view.js";
import { ended, told, unshown } from "./told.js";
import { TurnsView } from "./turns_view.js";

const MOST_EVENTS = 120;
const FRESH_TURNS = 20; // events: a slot filled among the last of them is lit up

const DESK_WORDS = {
  connecting: "Connecting to the call’s sound …",
  listening: "You hear both sides, the caller at the left. They do not hear you.",
  asking: "Asking the browser for the microphone …",
  taking: "Taking the call over …",
  speaking: "You speak to the caller. The bot is silent until you hand back.",
  handing: "Handing back …",
};

export class CallView {
  /**
   * @param {(id: string) => HTMLElement} find
   * @param {() => number} pauseMs when the gateway begins to work
   * @param {import("./after.js").AfterCall} after
   */
  constructor(find, pauseMs, after) {
    this.find = find;
    this.timeline = new TimelineView(find("timeline"));
    this.turns = new TurnsView(find("turns"), pauseMs);
    this.story = new ConversationView(find("story"), { bot: "Bot", caller: "Caller" });
    this.replay = new ReplayView(find, after, this.story);
    this.seek = (ms) => this.replay.seek(ms);
    this.call = null;
    this.version = -1;
    this.newest = null; // event in the list
    this.most = MOST_EVENTS; // events in the list
    find("all-events").onclick = () => {
      this.most = Infinity;
      this.refresh();
      this.showEvents(this.call);
      find("events").focus(); // the button is there no more
    };
  }

  /** @param {import("./call.js").Call|null} call  null: no such call  @param {string} id  @param {number} time now */
  show(call, id, time) {
    const { find } = this;
    if (call !== this.call) this.turnTo(call);
    mark(find("call"), "known", call !== null);
    if (call === null) {
      say(find("who"), this.replay.isLooking ? "Looking for the call" : "No such call");
      say(find("where"), `Nobody is on the line as ${id}.`);
      say(find("lasted"), "");
      this.replay.show(true);
      return;
    }
    say(find("lasted"), lasting(call.lasts(time)));
    if (call.version !== this.version) this.showCall(call);
    if (this.replay.isOpen) this.replay.draw(call);
    else this.timeline.draw(call, time);
  }

  showCall(call) {
    const { find } = this;
    this.version = call.version;
    say(find("who"), call.caller || (call.isOver && call.events.length === 0 ? call.id : "Unknown caller"));
    say(find("where"), call.isOver ? over(call) : [call.bot, call.node && `at ${readable(call.node)}`].filter(Boolean).join(" · "));
    mark(find("call"), "over", call.isOver);
    mark(find("call"), "told", call.story.lines.length > 0);
    if (call.isOver && find("acts").contains(document.activeElement)) find("who").focus(); // they are there no more
    showAlerts(find("call-alerts"), call.alerts);
    this.replay.show(call.isOver);
    this.story.show(call.story, this.replay.isOpen ? this.seek : null);
    const gap = unshown(call.story, call.facts.recorded);
    hide(find("missing"), gap === "");
    say(find("missing"), gap);
    hide(find("hearing"), !call.speaking);
    this.turns.show(call.latency);
    hide(find("no-turns"), call.latency.answered.length > 0);
    this.showSlots(call);
    this.showAbout(call);
    this.showEvents(call);
  }

  /** What is kept of the call has been found, or opened. */
  afterChanged() {
    this.version = -1;
    this.replay.follow();
  }

  turnTo(call) {
    this.call = call;
    this.version = -1;
    this.newest = null;
    this.most = MOST_EVENTS;
    this.timeline.forget();
    this.find("events").replaceChildren();
    if (call !== null) return;
    this.story.show({ lines: [] });
    showAlerts(this.find("call-alerts"), []);
    showFacts(this.find("slots"), []);
    showFacts(this.find("facts"), []);
  }

  showSlots(call) {
    const slots = [...call.slots].map(([name, { value, seq }]) => [readable(name), value, seq > 0 && seq > call.seq - FRESH_TURNS]);
    showFacts(this.find("slots"), slots);
    hide(this.find("no-slots"), slots.length > 0);
  }

  showAbout(call) {
    const { botVersion, protocol, language, models = {}, recorded } = call.facts;
    showFacts(
      this.find("facts"),
      [
        ["Call", call.id],
        ["Bot", [call.bot, botVersion && `version ${botVersion}`].filter(Boolean).join(", ")],
        ["Language", language],
        ["Connected by", protocol],
        ["Turns", String(call.turns)],
        ["Last intent", call.intent && `${meant(call.intent)} ${Math.round(call.score * 100)} %`],
        ["Recogniser", models.asr],
        ["Intent model", models.nlu],
        ["Recorded", recorded === undefined ? "" : recorded ? "yes" : "no"],
        ["Events lost", call.lost ? String(call.lost) : ""],
      ].filter(([, value]) => value),
    );
  }

  showEvents(call) {
    say(this.find("event-count"), String(call.seq));
    const list = this.find("events");
    if (!list.closest("details").open) return;
    const kept = call.events.length;
    const most = Math.min(this.most, kept);
    const fresh = call.events.slice(call.events.lastIndexOf(this.newest) + 1).slice(-most);
    for (const event of fresh) list.prepend(item(event, call));
    this.newest = call.events.at(-1);
    while (list.children.length > most) list.lastElementChild.remove();
    hide(this.find("events-hint"), most >= call.seq);
    say(this.find("events-shown"), `The newest ${most} of ${call.seq}.`);
    hide(this.find("all-events"), most === kept);
    say(this.find("all-events"), kept < call.seq ? `Show the ${kept} that are kept` : "Show all");
  }

  /** The list was opened: it has not been kept while it was closed. */
  refresh() {
    this.version = -1;
    this.newest = null;
    this.find("events").replaceChildren();
  }

  /**
   * What may be done, and what is being done.
   *
   * @param {object} desk  @param {{mayAct: boolean, isOver: boolean, takenBy: string, buffer: object|null, sure: boolean}} now
   */
  showDesk(desk, { mayAct, isOver, takenBy, buffer, sure }) {
    const { find } = this;
    const [hearing, speaking] = [hears(desk), speaks(desk)];
    const byOther = takenBy !== "" && !speaking && desk.phase !== "handing";
    mark(find("call"), "desk", desk.phase);
    button(find("listen"), "Listen in", { pressed: hearing, disabled: isOver || desk.phase === "connecting" || speaking });
    mark(find("take"), "speaking", speaking);
    button(find("take"), speaking ? "Hand back" : byOther ? `Take over from ${takenBy}` : "Take over", {
      disabled: isOver || !mayAct || !["idle", "listening", "speaking"].includes(desk.phase),
    });
    const mayGiveBack = byOther && mayAct && !isOver;
    if (!mayGiveBack && document.activeElement === find("give-back")) find("take").focus();
    hide(find("give-back"), !mayGiveBack);
    button(find("give-back"), `Hand back for ${takenBy}`, {});
    button(find("hang-up"), sure ? "Really hang up?" : "Hang up", { disabled: isOver || !mayAct });
    mark(find("hang-up"), "sure", sure);
    find("whisper-text").disabled = find("whisper-send").disabled = isOver || !mayAct || Boolean(takenBy);
    say(find("desk"), deskWords(desk, { mayAct, isOver, byOther: byOther ? takenBy : "" }));
    say(find("buffer"), isOver ? "" : bufferWords(desk, buffer)); // beside what is read out: it changes all the time
    hide(find("desk-problem"), desk.problem === "");
    say(find("desk-problem"), desk.problem);
  }
}

function bufferWords({ phase }, buffer) {
  if (!buffer || (phase !== "listening" && phase !== "speaking")) return "";
  const gaps = buffer.gaps === 1 ? ", 1 gap" : `, ${buffer.gaps} gaps`;
  return `Buffer ${Math.round(buffer.queuedMs / 20) * 20} ms${buffer.gaps ? gaps : ""}.`;
}

function deskWords({ phase }, { mayAct, isOver, byOther }) {
  if (isOver) return "The call is over.";
  const parts = [];
  if (phase !== "idle") parts.push(DESK_WORDS[phase]);
  if (byOther) parts.push(`${byOther} speaks to the caller; the bot hears no whisper until it has the call again.`);
  if (!mayAct) parts.push("Your token may watch and listen. To whisper, take over or hang up it needs the scope supervise.");
  return parts.join(" ");
}

function over({ bot, endedBy, disposition }) {
  return [bot, ended(endedBy), disposition && readable(disposition)].filter(Boolean).join(" · ");
}

function button(element, words, { pressed, disabled }) {
  say(element, words);
  if (pressed !== undefined && element.ariaPressed !== String(pressed)) element.ariaPressed = String(pressed);
  element.disabled = Boolean(disabled);
}

function item(event, call) {
  const { name, words, bad } = told(event);
  const line = made("li");
  line.dataset.bad = bad;
  line.append(made("time", "figure", lasting(call.when(event) - call.startedAt)), made("b", "", name), made("span", "", words));
  return line;
}
