/** What is kept of a call that is over: its record, its recording, and words for why there is none. Pure. */

import { Call } from "./call.js";

const DAY_S = 86_400;

/** A call of which the record alone is known. @param {object} record one of `GET /v1/outcomes` */
export function callOf(record) {
  const call = new Call(record.call_id, record.started_at ?? record.ended_at);
  call.bot = record.bot;
  call.facts = { botVersion: record.bot_version, models: { nlu: record.model }, recorded: record.recorded ?? undefined };
  call.node = record.node;
  call.turns = record.turns;
  call.endedBy = record.ended_by;
  call.disposition = record.disposition ?? "";
  call.endedAt = record.ended_at;
  return call;
}

/**
 * A recorded call. All positions in it are places in the sound.
 *
 * @param {{recording: object, events: object[]}} timeline of `GET /v1/recordings/NAME/timeline`
 */
export function callIn({ recording, events }) {
  const call = new Call(recording.call_id, recording.started_at, { whole: true });
  call.bot = recording.bot;
  call.facts = { botVersion: recording.bot_version, language: recording.language, recorded: true };
  for (const event of events) call.take(placed(event, recording.started_at));
  call.start.time = recording.started_at; // the sound's; the first event comes a moment later
  if (!call.isOver) call.vanish(recording.started_at + recording.duration_s); // its worker died
  return call;
}

/** Its end was written down: nothing of it is still on its way to the disk. */
export const isWhole = ({ events }) => events.some(({ type }) => type === "call_ended");

/** An event where it lies in the sound, which has gaps where the caller's audio had none. */
function placed(event, startedAt) {
  const at = (event.time - startedAt) * 1000;
  const moved = { ...event, at_ms: at };
  if (event.speech_ms !== undefined) moved.speech_ms = Math.max(0, event.speech_ms + at - event.at_ms);
  return moved;
}

/** The name of a file with a call's sound: its id, of whose characters Windows takes all but the colon. */
export function soundName(callId) {
  return `${callId.replaceAll(":", "_")}.wav`;
}

/**
 * Why a call has no recording, for people.
 *
 * @param {object|null} record of the call; null: none is kept
 * @param {{bots: string[], consent: string, keep_days: number}|null} recording what this gateway records; null: nothing
 * @param {number} time now, in seconds since the epoch
 */
export function absence(record, recording, time) {
  if (record === null) return "Nothing is kept of this call.";
  if (record.recorded && recording && time - record.ended_at > recording.keep_days * DAY_S) {
    return `It was recorded. Recordings are kept for ${days(recording.keep_days)}, and this one’s time is over.`;
  }
  if (record.recorded) return "It was recorded, but not here: the recording was erased, or another host of the gateway has it.";
  if (record.recorded === null) return "There is no recording of it.";
  if (!recording?.bots.includes(record.bot)) return `Not recorded: recording is off for ${record.bot}.`;
  if (recording.consent === "metadata") return "Not recorded: the caller had not agreed to it.";
  return `Not recorded: recording was off for ${record.bot} then.`;
}

/** "30 days". */
export function days(number) {
  return number === 1 ? "1 day" : `${number} days`;
}
