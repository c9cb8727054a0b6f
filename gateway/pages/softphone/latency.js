/** How fast the call goes: what the gateway measured (`timing` of its prompts), and what the caller felt. In ms. Pure. */

export const BUDGET_MS = 200; // for the first words, and for a reply after the silence that ended the turn

export const NOTHING = Object.freeze({ first: null, felt: null, replies: Object.freeze([]), stages: Object.freeze([]) });

const STAGES = [
  // [key, name, what of it was waiting]
  ["tail_ms", "Silence awaited", null],
  ["asr_ms", "Recognition", "asr_queue_ms"],
  ["nlu_ms", "Understanding", "nlu_queue_ms"],
  ["dialogue_ms", "Dialogue", null],
  ["tts_ms", "Voice", null],
];

/**
 * Take in a prompt's timing. Prompts that follow in the same turn have none of their own.
 *
 * @param {number} quietMs since the caller was last loud, here. Shorter than the silence that the gateway heard, it was
 *     noise, and tells nothing; nor is there a silence where keys were the answer.
 */
export function measure(latency, timing, quietMs) {
  const first = timing.first_utterance_ms ?? latency.first;
  const reply = timing.endpoint_to_reply_ms;
  if (reply === undefined) return Object.freeze({ ...latency, first });
  const felt = timing.tail_ms !== undefined && quietMs >= timing.tail_ms ? quietMs : null;
  return Object.freeze({ first, felt, replies: [...latency.replies, reply], stages: stagesOf(timing) });
}

/** @returns {{last, median, worst, count}} of the replies; nulls before the first */
export function summary({ replies }) {
  if (replies.length === 0) return { last: null, median: null, worst: null, count: 0 };
  const sorted = [...replies].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { last: replies.at(-1), median, worst: sorted.at(-1), count: replies.length };
}

/** The stages of one turn: {key, name, ms, waitedMs, during: it was done in the silence already}. */
function stagesOf(timing) {
  const ahead = (timing.speculated ?? 0) >= 0.5;
  return STAGES.filter(([key]) => timing[key] !== undefined).map(([key, name, waiting]) => ({
    key,
    name,
    ms: timing[key],
    waitedMs: (waiting && timing[waiting]) ?? 0,
    during: ahead && (key === "asr_ms" || key === "nlu_ms"),
  }));
}
