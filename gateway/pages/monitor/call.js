/**
 * One call as its events tell it: who and where, what to look at, and its story, marks and timings. Pure.
 *
 * The `time` of an event is by the clock of its connection, which no other call need share; all that is told here, and
 * each `time` that is asked with, is by the page's.
 */

import { Marks } from "./marks.js";
import { Story } from "./story.js";
import { Turns } from "./turns.js";

const MOST_EVENTS = 300;
const OUT_OF_SCOPE = "oos";
const UNKNOWN = "unknown"; // how it ended
const STREAK = 2; // turns in a row that were not understood, or silences: somebody should look

export class Call {
  /**
   * @param {string} id
   * @param {number} since seconds since the epoch by its own clock, until its start is known
   * @param {{whole: boolean}} options  whole: all of it is kept, as long as it may be
   */
  constructor(id, since, { whole = false } = {}) {
    this.most = whole ? Infinity : MOST_EVENTS;
    this.id = id;
    this.skews = new Map(); // epoch of a connection -> seconds that the page's clock is ahead, with its fastest event's way
    this.start = { time: since, epoch: undefined }; // by which connection's clock
    this.caller = "";
    this.bot = "";
    this.facts = {}; // bot_version, protocol, language, models, recorded
    this.node = "";
    this.slots = new Map(); // name -> {value, seq}
    this.turns = 0;
    this.words = { side: "", text: "", partial: false };
    this.intent = "";
    this.score = 0;
    this.speaking = false;
    this.late = 0;
    this.faults = 0;
    this.notUnderstood = 0; // in a row
    this.silences = 0; // in a row
    this.takenOverBy = "";
    this.listeners = new Map(); // who -> how many of their connections
    this.endedBy = "";
    this.disposition = "";
    this.endedAt = 0;
    this.seq = 0;
    this.lost = 0; // events that did not come
    this.events = []; // the last ones, oldest first
    this.story = new Story(whole ? { most: Infinity } : {});
    this.marks = new Marks(whole ? { keptMs: Infinity } : {});
    this.latency = new Turns(whole ? { most: Infinity } : {});
    this.clock = { atMs: 0, ...this.start }; // a place in the caller's audio, and when it was spoken
    this.recalled = false; // the turns before were asked for
    this.version = 0; // changes with everything above
  }

  /**
   * @param {object} told one of this call's events
   * @param {number} seen when it came here; a recording's events come by the one clock that it has
   * @returns {string} what a screen reader says of it
   */
  take(told, seen = told.time) {
    this.version += 1;
    const event = this.timed(told, seen);
    if (this.endedBy === UNKNOWN) [this.endedBy, this.endedAt] = ["", 0]; // it had only not been told of
    if (this.seq > 0 && event.seq > this.seq + 1) this.lost += event.seq - this.seq - 1;
    this.seq = event.seq;
    this.clock = { atMs: event.at_ms, time: event.time, epoch: event.epoch };
    this.events.push(event);
    if (this.events.length > 1.2 * this.most) this.events = this.events.slice(-this.most);
    HANDLERS[event.type]?.call(this, event);
    this.marks.take(event);
    this.latency.take(event);
    return this.story.take(event);
  }

  /** Learn from an event how far its clock is off. A lost call's end is told by who missed it, not by the call's clock. */
  timed(event, seen) {
    const known = this.skews.get(event.epoch);
    if (known !== undefined && event.type === "call_ended" && event.ended_by === "lost") {
      return { ...event, time: seen - known, duration_s: this.lasts(seen) };
    }
    this.start.epoch ??= event.epoch;
    this.skews.set(event.epoch, Math.min(seen - event.time, known ?? Infinity));
    return event;
  }

  /** When that was by the page's clock. @param {{time: number, epoch: number}} moment  an event, say */
  when({ time, epoch }) {
    return time + (this.skews.get(epoch) ?? 0);
  }

  get startedAt() {
    return this.when(this.start);
  }

  /** The turns before the watcher came, as far as the gateway has them. */
  recall(present) {
    this.version += 1;
    this.story.recall(present);
    this.recalled = true;
  }

  /** Who had taken it over has given it back: the event that tells so is on its way. */
  handBack(by) {
    if (this.takenOverBy !== by) return;
    this.version += 1;
    this.takenOverBy = "";
  }

  /** It went while nobody looked. */
  vanish(time) {
    this.version += 1;
    this.endedBy = UNKNOWN;
    this.endedAt = time;
    this.speaking = false;
  }

  get isOver() {
    return this.endedAt > 0;
  }

  /** Seconds, at `time`. */
  lasts(time) {
    return Math.max(0, (this.endedAt || time) - this.startedAt);
  }

  /** Where in the caller's audio `time` is. */
  position(time) {
    return this.clock.atMs + (time - this.when(this.clock)) * 1000;
  }

  /** What somebody should look at, the worst first. @returns {{level: "bad"|"warn"|"info", text: string}[]} */
  get alerts() {
    const found = [];
    const add = (level, text) => found.push({ level, text });
    if (this.faults) add("bad", this.faults === 1 ? "1 fault" : `${this.faults} faults`);
    if (this.notUnderstood >= STREAK) add("bad", `${this.notUnderstood}× no match`);
    if (this.silences >= STREAK) add("bad", `${this.silences}× silent`);
    if (this.late) add("warn", `${this.late} late`);
    if (this.takenOverBy) add("info", `${this.takenOverBy} speaks`);
    else if (this.listeners.size) add("info", `${[...this.listeners.keys()].join(", ")} listens`);
    return found;
  }

  /** For sorting: 0 where nothing is wrong. */
  get urgency() {
    return 4 * this.faults + 3 * (this.notUnderstood >= STREAK) + 3 * (this.silences >= STREAK) + Math.min(2, this.late);
  }

  learn({ bot, caller, ...facts }) {
    this.bot = bot;
    this.caller = caller ?? "";
    const { bot_version: botVersion, protocol, language, models, recorded } = facts;
    this.facts = { botVersion, protocol, language, models, recorded };
    this.endedAt = 0;
    this.endedBy = "";
  }

  fill(slots, seq) {
    for (const [name, value] of Object.entries(slots)) this.slots.set(name, { value, seq });
  }
}

const HANDLERS = {
  call_started(event) {
    this.learn(event);
    if (!event.resumed) this.start = { time: event.time, epoch: event.epoch };
  },

  call_present(event) {
    this.learn(event);
    if (event.started_at) this.start.time = event.started_at; // by the clock of the first connection
    else this.start = { time: event.time, epoch: event.epoch };
    this.node = event.node;
    this.turns = event.turns;
    this.takenOverBy = event.taken_over_by ?? "";
    this.fill(event.slots, 0);
    const last = event.history.at(-1);
    if (!last) {
      if (event.opening) this.words = { side: "bot", text: event.opening };
      return;
    }
    [this.intent, this.score] = [last.intent, last.score];
    this.words = last.reply ? { side: "bot", text: last.reply } : { side: "caller", text: last.said };
  },

  call_ended(event) {
    this.endedBy = event.ended_by;
    this.disposition = event.disposition ?? "";
    this.endedAt = this.when(event);
    this.turns = event.turns;
    this.speaking = false;
    this.takenOverBy = "";
    this.listeners.clear();
  },

  speech_started() {
    this.speaking = true;
  },

  speech_ended() {
    this.speaking = false;
  },

  partial_heard({ text }) {
    this.words = { side: "caller", text, partial: true };
  },

  turn_heard({ text, supersedes }) {
    this.words = { side: "caller", text, partial: false };
    this.turns += supersedes === null ? 1 : 0;
    this.silences = 0;
  },

  turn_understood({ intent, score, model }) {
    [this.intent, this.score] = [intent, score];
    this.notUnderstood = intent === OUT_OF_SCOPE ? this.notUnderstood + 1 : 0;
    if (model) this.facts = { ...this.facts, models: { ...this.facts.models, nlu: model } };
  },

  prompt_started({ text }) {
    this.words = { side: "bot", text, partial: false };
  },

  node_entered({ node }) {
    this.node = node;
  },

  slots_filled({ slots, seq }) {
    this.fill(slots, seq);
  },

  caller_silent() {
    this.silences += 1;
  },

  keys_pressed() {
    this.silences = 0;
  },

  budget_missed() {
    this.late += 1;
  },

  fault_told() {
    this.faults += 1;
  },

  supervised({ act, by }) {
    if (act === "take_over") this.takenOverBy = by;
    if (act === "hand_back") this.takenOverBy = "";
    const ears = (this.listeners.get(by) ?? 0) + (act === "listen" ? 1 : act === "unlisten" ? -1 : 0);
    if (ears > 0) this.listeners.set(by, ears);
    else this.listeners.delete(by);
  },
};
