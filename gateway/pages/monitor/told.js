/** Events as people read them, and how much each matters. Pure; the terminal's words are in gateway/monitoring/board.py. */

import { lasting, meant, readable, shown } from "../shared/words.js";

const ENDED = {
  bot: "ended by the bot",
  caller: "caller hung up",
  transfer: "transferred",
  lost: "lost",
  error: "failed",
  unknown: "gone",
};

/** How a call ended. */
export const ended = (by) => ENDED[by] ?? `ended by ${by}`;

const WORDS = {
  call_started: ({ bot, resumed }) => `${resumed ? "resumed" : "started"} with ${bot}`,
  call_present: ({ node, turns }) => `in progress at ${node}, ${turns} turns so far`,
  call_ended: ({ ended_by: by, duration_s: s, disposition }) =>
    `${ended(by)} after ${lasting(s)}${disposition ? `: ${readable(disposition)}` : ""}`,
  speech_started: () => "the caller speaks",
  speech_ended: ({ speech_ms: said, at_ms: at }) => `the caller has spoken; tail ${shown(at - said)}`,
  partial_heard: ({ text }) => `“${text} …”`,
  turn_heard: ({ text }) => `“${text}”`,
  turn_superseded: ({ round_id: round, by_round_id: by }) => `round ${round} is withdrawn, ${by} holds all of it`,
  turn_ignored: ({ why }) => `speech without a turn: ${readable(why)}`,
  turn_understood: ({ intent, score, slots }) =>
    [`${meant(intent)} ${Math.round(score * 100)} %`, ...slots.map(([name, value]) => `${readable(name)}: ${value}`)].join(", "),
  node_entered: ({ node, before }) => (before ? `${before} → ${node}` : `at ${node}`),
  slots_filled: ({ slots }) => Object.entries(slots).map(([name, value]) => `${readable(name)} = ${value}`).join(", "),
  keys_pressed: ({ count }) => (count === 1 ? "a key" : `${count} keys`),
  caller_silent: () => "the caller says nothing",
  prompt_started: ({ text, source }) => (source ? `“${text}” (${source})` : `“${text}”`),
  prompt_held: ({ after_ms: ms }) => `the prompt waits after ${shown(ms)} of speech`,
  barged_in: ({ verdict }) => `spoken over: ${readable(verdict)}`,
  prompt_ended: ({ heard }) => (heard === null ? "heard to its end" : `interrupted after “${heard}”`),
  budget_missed: ({ budget, took_ms: took, limit_ms: limit }) => `${readable(budget)}: ${shown(took)}, promised ${shown(limit)}`,
  transfer_started: ({ target }) => `to ${target}`,
  fault_told: ({ code, message }) => `${code}: ${message}`,
  supervised: ({ act, by }) => `${readable(act)} by ${by}`,
};

/** What of a call's story is not here; "" where all of it is. @param {boolean} recorded  whether a recording has it */
export function unshown({ missing, cut, most }, recorded) {
  const parts = [];
  if (missing) parts.push(missing === 1 ? "One earlier turn is not shown." : `${missing} earlier turns are not shown.`);
  if (cut) parts.push(`${cut === 1 ? "One earlier line is" : `${cut} earlier lines are`} not shown: the page keeps the newest ${most}.`);
  if (parts.length && recorded) parts.push("After the call its recording has all of it.");
  return parts.join(" ");
}

/** @returns {{name: string, words: string, bad: boolean}} */
export function told(event) {
  return {
    name: readable(event.type),
    words: WORDS[event.type]?.(event) ?? "",
    bad: event.type === "budget_missed" || event.type === "fault_told",
  };
}
