/**
 * What came of calls: from the records of those that ended, and from what this page saw of the others. Pure.
 *
 * Rates of no match and no input are of the turns that the page itself saw: records do not count them.
 */

import { lasting, readable } from "../shared/words.js";
import { percent } from "./health.js";

const OUT_OF_SCOPE = "oos";

/** Turns, and what went wrong in them, by what they are grouped by. */
export class TurnCounts {
  constructor() {
    this.by = { bot: new Map(), model: new Map(), node: new Map() };
  }

  /** @param {object} event  @param {import("./call.js").Call} call whose it is */
  take(event, call) {
    if (event.type === "turn_understood") this.add(call, "turns", event.intent === OUT_OF_SCOPE);
    else if (event.type === "caller_silent") this.add(call, "silences", true);
  }

  add({ bot, node, facts }, kind, wrong) {
    for (const [name, key] of [["bot", bot], ["model", facts.models?.nlu], ["node", node]]) {
      const counts = this.by[name].get(key || "–") ?? { turns: 0, unmatched: 0, silences: 0 };
      if (kind === "turns") {
        counts.turns += 1;
        counts.unmatched += wrong ? 1 : 0;
      } else counts.silences += 1;
      this.by[name].set(key || "–", counts);
    }
  }
}

const KEYS = {
  bot: (record) => record.bot,
  model: (record) => record.model || "–",
  node: (record) => record.node || "–",
  disposition: (record) => (record.disposition ? readable(record.disposition) : `none: ended by ${record.ended_by}`),
};

const TITLES = { bot: "Bot", model: "Intent model", node: "Node", disposition: "Disposition" };

/** A call did what it was for: the bot ended it, or handed it over, with a word for how it went. */
const isComplete = (record) => record.ended_by === "bot" && Boolean(record.disposition);

/** @param {object[]} records of `GET /v1/outcomes`  @returns {{name, value, note}[]} */
export function tilesOf(records) {
  const count = (holds) => records.filter(holds).length;
  const share = (holds) => percent(count(holds), records.length);
  const timed = records.filter((record) => record.duration_s !== null);
  const mean = timed.length ? timed.reduce((sum, { duration_s: s }) => sum + s, 0) / timed.length : null;
  return [
    { name: "Calls that ended", value: String(records.length), note: "the newest that are kept" },
    { name: "Completed by the bot", value: share(isComplete), note: `${count(isComplete)} calls` },
    { name: "Transferred", value: share((one) => one.ended_by === "transfer"), note: `${count((one) => one.ended_by === "transfer")} calls` },
    { name: "Caller hung up", value: share((one) => one.ended_by === "caller"), note: `${count((one) => one.ended_by === "caller")} calls` },
    { name: "Mean length", value: mean === null ? "–" : lasting(mean), note: "of those whose start is known" },
  ];
}

/** @param {"bot"|"model"|"node"|"disposition"} group */
export function tablesOf(records, turnCounts, group) {
  const groups = new Map();
  for (const record of records) {
    const key = KEYS[group](record);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(record);
  }
  const rows = [...groups].sort(([, a], [, b]) => b.length - a.length).map(([key, some]) => {
    const share = (holds) => percent(some.filter(holds).length, some.length);
    const turns = some.reduce((sum, record) => sum + record.turns, 0) / some.length;
    return [
      key,
      some.length,
      share(isComplete),
      share((one) => one.ended_by === "transfer"),
      share((one) => one.ended_by === "caller"),
      share((one) => one.ended_by === "lost" || one.ended_by === "error"),
      turns.toFixed(1),
    ];
  });
  const tables = [
    {
      title: `How calls ended, by ${TITLES[group].toLowerCase()}`,
      columns: [TITLES[group], "Calls", "Completed", "Transferred", "Caller left", "Lost", "Turns"],
      rows,
      empty: "No call has ended yet.",
    },
  ];
  if (group === "disposition") return tables;
  tables.push({
    title: `Turns that this page saw, by ${TITLES[group].toLowerCase()}`,
    columns: [TITLES[group], "Turns", "No match", "No input"],
    rows: [...turnCounts.by[group]].map(([key, { turns, unmatched, silences }]) => [
      key,
      turns,
      percent(unmatched, turns),
      percent(silences, turns + silences),
    ]),
    empty: "No turn has been taken while you watched.",
  });
  return tables;
}
