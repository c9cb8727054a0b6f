/** What came of the calls that ended, from their records. Pure. */

import { lasting, readable } from "../shared/words.js";
import { percent } from "./health.js";
import { ended } from "./told.js";

const KEYS = {
  bot: (record) => record.bot,
  model: (record) => record.model || "–",
  node: (record) => record.node || "–",
  disposition: (record) => (record.disposition ? readable(record.disposition) : `none: ${ended(record.ended_by)}`),
};

const TITLES = { bot: "bot", model: "intent model", node: "node where they ended", disposition: "disposition" };
const COLUMNS = ["Calls", "Completed", "Transferred", "Caller left", "Lost", "No match", "No input", "Turns"];

/** Those that tell what is counted: an older gateway's do not. */
const counting = (records) => records.filter(({ no_match: noMatch }) => noMatch !== null);
const isTransferred = (record) => record.ended_by === "transfer";
const isLeft = (record) => record.ended_by === "caller";
const isLost = (record) => record.ended_by === "lost" || record.ended_by === "error";

/**
 * How often these calls did what they were for. A bot whose flow names no outcome promises none, so its calls are left
 * out; so are those whose record is an older gateway's.
 *
 * @param {object[]} records of `GET /v1/outcomes`  @param {Set<string>} aiming the bots that name outcomes
 */
function completed(records, aiming) {
  const aimed = counting(records).filter(({ bot }) => aiming.has(bot));
  const reached = aimed.filter(({ outcome }) => outcome !== null).length;
  return { reached, share: percent(reached, aimed.length) };
}

/** The bots of which a call has ever reached an outcome. */
const aimingOf = (records) => new Set(records.filter(({ outcome }) => outcome !== null).map(({ bot }) => bot));

/** How often a caller was not understood, and said nothing when it was their turn. */
function failures(records) {
  const counted = counting(records);
  const sum = (name) => counted.reduce((whole, record) => whole + record[name], 0);
  const [turns, unmatched, silences] = [sum("turns"), sum("no_match"), sum("no_input")];
  return { turns, unmatched, silences, noMatch: percent(unmatched, turns), noInput: percent(silences, turns + silences) };
}

/** @param {object[]} records  @returns {{name, value, note}[]} */
export function tilesOf(records) {
  const count = (holds) => records.filter(holds).length;
  const tile = (name, holds) => ({ name, value: percent(count(holds), records.length), note: calls(count(holds)) });
  const timed = records.filter((record) => record.duration_s !== null);
  const mean = timed.length ? timed.reduce((sum, { duration_s: s }) => sum + s, 0) / timed.length : null;
  const { reached, share } = completed(records, aimingOf(records));
  const { turns, unmatched, silences, noMatch, noInput } = failures(records);
  return [
    { name: "Calls that ended", value: String(records.length), note: "the newest that are kept" },
    { name: "Task completed", value: share, note: `${calls(reached)} reached an outcome` },
    tile("Transferred to a person", isTransferred),
    tile("Caller hung up", isLeft),
    { name: "No match", value: noMatch, note: `${unmatched} of ${turns} turns` },
    { name: "No input", value: noInput, note: silences === 1 ? "1 silence" : `${silences} silences` },
    { name: "Mean length", value: mean === null ? "–" : lasting(mean), note: "of those whose start is known" },
  ];
}

const calls = (count) => (count === 1 ? "1 call" : `${count} calls`);

/** @param {object[]} records  @param {"bot"|"model"|"node"|"disposition"} group */
export function tablesOf(records, group) {
  const aiming = aimingOf(records);
  const rows = [...grouped(records, KEYS[group])].sort(([, a], [, b]) => b.length - a.length).map(([key, some]) => {
    const share = (holds) => percent(some.filter(holds).length, some.length);
    const { noMatch, noInput } = failures(some);
    const turns = some.reduce((sum, record) => sum + record.turns, 0) / some.length;
    const { share: done } = completed(some, aiming);
    return [key, some.length, done, share(isTransferred), share(isLeft), share(isLost), noMatch, noInput, turns.toFixed(1)];
  });
  const title = TITLES[group];
  return [
    {
      title: `How calls ended, by ${title}`,
      columns: [title.charAt(0).toUpperCase() + title.slice(1), ...COLUMNS],
      rows,
      empty: "No call has ended yet.",
    },
  ];
}

function grouped(records, keyOf) {
  const groups = new Map();
  for (const record of records) {
    const key = keyOf(record);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(record);
  }
  return groups;
}

/**
 * The calls that ended, as they are asked for.
 *
 * @param {object[]} records newest first  @param {{query: string, recorded: boolean}} wanted
 * @param {(record: object) => boolean} isKept  its recording is there
 */
export function chosen(records, { query, recorded }, isKept) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return records.filter((record) => {
    if (recorded && !isKept(record)) return false;
    const text = [record.call_id, record.bot, record.node, readable(record.disposition ?? ""), ended(record.ended_by)].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** A recording was made of the call and its time is not over. @param {{keep_days: number}|null} recording setup */
export const isKept = (record, recording, time) =>
  Boolean(record.recorded) && (recording === null || time - record.ended_at < recording.keep_days * 86_400);
