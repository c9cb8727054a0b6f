/** All calls of the stream of events, and which of them are asked for, in which order. Pure. */

import { Call } from "./call.js";

const ENDED_KEPT_S = 15;

export class Calls {
  constructor() {
    this.byId = new Map();
    this.dropped = 0; // events that the stream lost
    this.complete = true; // all workers told their calls
    this.workers = 0;
    this.awaited = null; // ids that a new stream has not named yet
    this.version = 0;
  }

  /**
   * @param {object} line of the stream  @param {number} seen when it came, by the page's clock
   * @returns {{call: Call|null, said: string}} whose it is, and what a screen reader says of it
   */
  take(line, seen) {
    this.version += 1;
    if (line.type === "watching") return this.beginAnew(line);
    if (line.type === "dropped") {
      this.dropped += line.count;
      return { call: null, said: "" };
    }
    if (this.awaited && line.type === "call_present") this.awaited.delete(line.call_id);
    const call = this.byId.get(line.call_id) ?? new Call(line.call_id, line.time);
    this.byId.set(call.id, call);
    return { call, said: call.take(line, seen) };
  }

  /** Forget everything: who watches may see other words than before. */
  clear() {
    this.byId.clear();
    this.version += 1;
  }

  /** A stream begins with all that is there. Calls that were here stay until it is known whether they still are. */
  beginAnew({ workers, complete }) {
    this.workers = workers;
    this.complete = complete;
    this.awaited = new Set([...this.byId.values()].filter((call) => !call.isOver).map((call) => call.id));
    return { call: null, said: "" };
  }

  /** The calls that the stream began with have all been told. @param {number} time now */
  settle(time) {
    for (const id of this.awaited ?? []) this.byId.get(id)?.vanish(time);
    if (this.awaited?.size) this.version += 1;
    this.awaited = null;
  }

  /** Forget those that ended a while ago, but for the one that somebody looks at. */
  sweep(time, kept) {
    for (const [id, call] of this.byId) {
      if (call.isOver && time - call.endedAt > ENDED_KEPT_S && id !== kept) {
        this.byId.delete(id);
        this.version += 1;
      }
    }
  }

  get live() {
    let count = 0;
    for (const call of this.byId.values()) if (!call.isOver) count += 1;
    return count;
  }

  get bots() {
    return [...new Set([...this.byId.values()].map((call) => call.bot))].filter(Boolean).sort();
  }

  /**
   * @param {{query: string, bot: string, alerting: boolean, sort: string}} wanted
   * @returns {Call[]}
   */
  chosen({ query, bot, alerting, sort }) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...this.byId.values()].filter(
      (call) => (!bot || call.bot === bot) && (!alerting || call.alerts.length > 0) && holds(call, words),
    );
    return found.sort((a, b) => a.isOver - b.isOver || ORDERS[sort](a, b) || compare(a.id, b.id));
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const oldest = (a, b) => a.startedAt - b.startedAt;

const ORDERS = {
  longest: oldest,
  newest: (a, b) => oldest(b, a),
  alerts: (a, b) => b.urgency - a.urgency || b.alerts.length - a.alerts.length || oldest(a, b),
  caller: (a, b) => compare(a.caller, b.caller) || oldest(a, b),
  bot: (a, b) => compare(a.bot, b.bot) || compare(a.node, b.node) || oldest(a, b),
  score: (a, b) => (a.intent ? a.score : 2) - (b.intent ? b.score : 2) || oldest(a, b),
};

function holds(call, words) {
  if (words.length === 0) return true;
  const text = `${call.id} ${call.caller} ${call.bot} ${call.node} ${call.intent} ${call.words.text}`.toLowerCase();
  return words.every((word) => text.includes(word));
}
