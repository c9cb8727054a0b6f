/**
 * What was said in a call, from its events, line by line. Lines are never changed but replaced, so that a view sees by
 * their identity what is new. Pure.
 *
 * A line: {id, side: "caller"|"bot"|"note", round, text, state, at, ...}, `at` being where in the caller's audio it begins
 * (ms; null: before the watcher came), with the states
 *
 *     caller   hearing (partials) -> said | ignored -> joined (its words begin a later turn, its reply is withdrawn)
 *     bot      saying -> said | held (the caller speaks over it) -> saying | cut; withdrawn
 *     note     what else happened: keys, silence, a transfer, what supervisors do, the end
 */

import { lasting, readable } from "../shared/words.js";
import { ended } from "./told.js";

const MOST_LINES = 300;

export class Story {
  /** @param {{most: number}} options  how many lines are kept */
  constructor({ most = MOST_LINES } = {}) {
    this.most = most;
    this.lines = [];
    this.at = null; // of the event that is taken
    this.spokeAt = null; // the caller's next line begins there
    this.next = 1;
    this.rounds = new Set(); // whose words are here
    this.opening = null; // the line of the bot's first words, where they were said before the watcher came
    this.missing = 0; // turns from before the watcher came that are not here
    this.cut = 0; // lines that were here, and made room
  }

  /** @param {object} event of this call  @returns {string} what a screen reader says of it; mostly nothing */
  take(event) {
    this.at = event.at_ms;
    return HANDLERS[event.type]?.call(this, event) ?? "";
  }

  add(line) {
    const at = line.side === "caller" ? (this.spokeAt ?? this.at) : this.at;
    const kept = this.lines.slice(-(this.most - 1));
    this.cut += this.lines.length - kept.length;
    this.lines = [...kept, { round: null, state: "said", at, ...line, id: this.next++ }];
  }

  /** The turns of a `call_present` that are not here yet go before all others. */
  recall({ opening, history, turns }) {
    const fresh = history.filter(({ round_id: round }) => !this.rounds.has(round));
    const here = this.lines.filter((line) => line !== this.opening);
    this.lines = [];
    this.opening = null;
    if (opening && !here.some((line) => line.side === "bot" && line.round === 0)) {
      this.add({ side: "bot", round: 0, text: opening, at: null });
      [this.opening] = this.lines;
    }
    for (const { round_id: round, said, intent, score, reply } of fresh) {
      this.rounds.add(round);
      if (said) this.add({ side: "caller", round, text: said, intent, score, at: null });
      if (reply) this.add({ side: "bot", round, text: reply, at: null });
    }
    this.lines = [...this.lines, ...here];
    this.missing = Math.max(0, turns - this.rounds.size);
  }

  note(text) {
    this.add({ side: "note", text });
    return text;
  }

  change(isMeant, changed) {
    this.lines = this.lines.map((line) => (isMeant(line) ? { ...line, ...changed } : line));
  }

  changeLast(isMeant, changed) {
    const at = this.lines.findLastIndex(isMeant);
    if (at >= 0) this.lines = this.lines.with(at, { ...this.lines[at], ...changed });
    return at >= 0;
  }
}

const isHeard = (line) => line.side === "caller" && line.state === "hearing";
const isSaid = (line) => line.state === "saying" || line.state === "held";

const HANDLERS = {
  call_started({ resumed }) {
    if (resumed) this.note("The call goes on where it was.");
  },

  call_present(event) {
    if (this.rounds.size === 0) this.recall(event);
  },

  speech_started({ speech_ms: from }) {
    this.spokeAt ??= from; // a pause within a turn begins no other line
  },

  partial_heard({ round_id: round, text }) {
    const words = { side: "caller", round, text, state: "hearing" };
    if (!this.changeLast(isHeard, words)) this.add(words);
  },

  turn_heard({ round_id: round, text, supersedes }) {
    this.rounds.add(round);
    if (supersedes !== null) {
      this.change((line) => line.round === supersedes && line.side === "caller", { state: "joined" });
      this.change((line) => line.round === supersedes && line.side === "bot", { state: "withdrawn" });
    }
    const words = { side: "caller", round, text, state: "said" };
    if (!this.changeLast(isHeard, words)) this.add(words);
    this.spokeAt = null;
    return `Caller: ${text}`;
  },

  turn_understood({ round_id: round, intent, score, slots }) {
    const meaning = { intent, score, slots: slots.map(([name, value]) => ({ name, value })) };
    this.changeLast((line) => line.side === "caller" && line.round === round, meaning);
  },

  turn_ignored({ why }) {
    this.changeLast(isHeard, { state: "ignored", why });
    this.spokeAt = null;
  },

  prompt_started({ round_id: round, text, source }) {
    this.add({ side: "bot", round, text, source, state: "saying" });
    return `Bot: ${text}`;
  },

  prompt_held() {
    this.change((line) => line.state === "saying", { state: "held" });
  },

  barged_in({ verdict }) {
    this.change((line) => line.state === "held", { state: verdict === "interruption" ? "cut" : "saying" });
  },

  prompt_ended({ heard }) {
    this.change(isSaid, { state: heard === null ? "said" : "cut" });
  },

  keys_pressed({ count }) {
    this.note(count === 1 ? "The caller pressed a key." : `The caller pressed ${count} keys.`);
  },

  caller_silent() {
    this.note("The caller says nothing.");
  },

  transfer_started({ target }) {
    return this.note(`Transferred to ${target}.`);
  },

  fault_told({ message }) {
    return this.note(`Fault: ${message}`);
  },

  supervised({ act, by }) {
    if (ACTS[act]) return this.note(`${by} ${ACTS[act]}.`);
  },

  call_ended({ ended_by: by, disposition, duration_s: seconds }) {
    this.change(isSaid, { state: "cut" });
    return this.note(`Over after ${lasting(seconds)}, ${ended(by)}${disposition ? `: ${readable(disposition)}` : ""}.`);
  },
};

const ACTS = {
  whisper: "whispered to the bot",
  take_over: "took the call over; the bot is silent",
  hand_back: "handed the call back to the bot",
  hang_up: "ended the call",
};
