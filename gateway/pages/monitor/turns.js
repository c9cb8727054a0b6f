/** How long each turn's answer took, stage by stage: the `timing` of prompts as a waterfall. In ms. Pure. */

export const BUDGETS_MS = { first_utterance_ms: 200, endpoint_to_reply_ms: 200, barge_in_ms: 300 };

const MOST_TURNS = 50;

export class Turns {
  /** @param {{most: number}} options  how many are kept */
  constructor({ most = MOST_TURNS } = {}) {
    this.most = most;
    this.first = null; // the call's first words
    this.answered = []; // {round, timing}, oldest first
  }

  take({ type, round_id: round, timing }) {
    if (type !== "prompt_started") return;
    this.first = timing.first_utterance_ms ?? this.first;
    if (timing.endpoint_to_reply_ms === undefined) return; // another prompt of the same answer
    this.answered = [...this.answered.slice(-(this.most - 1)), { round, timing }];
  }
}

/**
 * The stages of one turn on one line of time, 0 where the caller's speech ended.
 *
 * Work that was begun in the tail (`speculated`) lies there: it begins at the pause that starts it, and what follows the
 * tail is what the caller waits for.
 *
 * @param {object} timing of the answer's first prompt
 * @param {number} pauseMs of silence, after which the gateway begins to work
 * @returns {{stages: {key, name, from, to, during}[], tail: number, end: number, reply: number, late: boolean}}
 */
export function waterfall(timing, pauseMs) {
  const stages = [];
  const put = (key, name, from, ms, during = false) => {
    if (ms !== undefined) stages.push({ key, name, from, to: from + Math.max(0, ms), during });
    return from + Math.max(0, ms ?? 0);
  };
  const tail = timing.tail_ms ?? 0;
  const reply = timing.endpoint_to_reply_ms;
  const ahead = (timing.speculated ?? 0) > 0 && tail > pauseMs;
  put("tail", "Silence awaited", 0, timing.tail_ms);
  let at = ahead ? pauseMs : tail;
  for (const [key, name] of [["asr", "Recognition"], ["nlu", "Understanding"]]) {
    const whole = timing[`${key}_ms`];
    const waited = Math.min(timing[`${key}_queue_ms`] ?? 0, whole ?? 0);
    if (waited >= 1) put(`${key}_queue`, `${name}: queue`, at, waited, ahead);
    at = put(key, name, at + waited, whole === undefined ? undefined : whole - waited, ahead);
  }
  at = put("dialogue", "Dialogue", Math.max(at, tail), timing.dialogue_ms);
  at = put("tts", "Voice", at, timing.tts_ms);
  const end = tail + reply;
  put("first_audio", "First audio", Math.min(at, end), Math.max(0, end - at));
  return { stages, tail, end: Math.max(end, at), reply, late: reply > BUDGETS_MS.endpoint_to_reply_ms };
}
