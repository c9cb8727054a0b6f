/**
 * A call that is over: looks for what is kept of it, and opens its recording. Knows nothing of the page.
 *
 *     idle --look--> asking --> none (no recording) | refused (no scope) | kept --open--> opening --> open
 *                      any failure: asking --> failed, opening --> kept, with the problem in words
 *
 * A recording is opened when somebody asks for it, not before: who hears it is noted in the audit.
 */

import { steady } from "./clock.js";
import { absence, callIn, callOf, isWhole, soundName } from "./kept.js";
import { Wave } from "./wave.js";

const SOON_S = 20; // after a call's end its record and the last of its recording may still be on their way
const AGAIN_S = 2;

/** As far as one knows it before its recording is opened. */
function callKept(record, [recording]) {
  if (record) return callOf(record);
  return recording ? callIn({ recording, events: [] }) : null;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class AfterCall {
  /**
   * @param {import("./control_plane.js").ControlPlane} control
   * @param {() => void} changed
   */
  constructor(control, changed) {
    this.control = control;
    this.changed = changed;
    this.forget();
  }

  /** Nobody looks at it any more: what was fetched is let go. */
  leave() {
    if (this.callId === "") return;
    this.fetching?.abort();
    if (this.sound) URL.revokeObjectURL(this.sound.url);
    this.forget();
    this.changed();
  }

  forget() {
    this.callId = "";
    this.phase = "idle";
    this.problem = "";
    this.askedAt = 0;
    this.endedAt = 0; // where somebody saw it end
    this.record = null;
    this.recordings = []; // the call's, newest first: more than one where it was resumed
    this.chosen = 0;
    this.call = null; // as far as its record or its recording tells it
    this.sound = null; // {url, name, levels, durationMs}
    this.fetched = { done: 0, all: 0 }; // bytes
    this.fetching = null;
  }

  /**
   * Ask for what is kept, once; again while it may still be on its way.
   *
   * @param {number} endedAt when it was seen to end; 0: it was not  @param {number} time now, by the same clock: the page's
   */
  look(callId, endedAt, time) {
    if (callId !== this.callId) this.leave();
    this.callId = callId;
    this.endedAt = endedAt;
    const isEarly = time - endedAt < SOON_S && time - this.askedAt > AGAIN_S;
    if (this.phase === "idle" || ((this.phase === "none" || this.phase === "failed") && isEarly)) this.ask(time);
  }

  async ask(time) {
    const { callId, control } = this;
    this.askedAt = time;
    if (this.phase === "idle") this.turn("asking");
    const maySee = control.may("recordings") && control.setup.recording !== null;
    try {
      const [records, recordings] = await Promise.all([control.outcomesOf(callId), maySee ? control.recordings(callId) : []]);
      if (callId !== this.callId) return;
      this.record = records.at(0) ?? null;
      this.recordings = recordings;
      this.call = callKept(this.record, recordings);
      const known = this.record === null || this.record.recorded === false || control.setup.recording === null;
      if (recordings.length > 0) this.turn("kept");
      else this.turn(control.may("recordings") || known ? "none" : "refused");
    } catch (error) {
      if (callId === this.callId) this.turn("failed", error.message);
    }
  }

  /** Why there is no recording. */
  absence() {
    return absence(this.record, this.control.setup.recording, Date.now() / 1000);
  }

  /** Another part of a call that was resumed. */
  choose(at) {
    this.chosen = at;
    this.open();
  }

  async open() {
    const recording = this.recordings[this.chosen];
    this.fetching?.abort();
    const fetching = (this.fetching = new AbortController());
    this.fetched = { done: 0, all: 0 };
    this.turn("opening");
    try {
      const timeline = await this.timeline(recording.name);
      const bytes = await this.control.sound(recording.name, (done, all) => this.count(fetching, done, all), fetching.signal);
      if (fetching.signal.aborted) return;
      const wave = new Wave(bytes);
      if (this.sound) URL.revokeObjectURL(this.sound.url);
      this.sound = {
        url: URL.createObjectURL(new Blob([bytes], { type: "audio/wav" })),
        name: soundName(this.callId),
        levels: wave.levels(),
        durationMs: wave.durationMs,
      };
      this.call = callIn(timeline);
      this.turn("open");
    } catch (error) {
      if (!fetching.signal.aborted) this.turn("kept", error.message);
    }
  }

  /** Of a call that ended a moment ago the last second may not be on the disk yet. */
  async timeline(name) {
    const timeline = await this.control.timeline(name);
    if (isWhole(timeline) || steady() - this.endedAt > SOON_S) return timeline;
    await pause(1000 * AGAIN_S);
    return this.control.timeline(name);
  }

  count(fetching, done, all) {
    if (fetching.signal.aborted) return;
    this.fetched = { done, all };
    this.changed();
  }

  turn(phase, problem = "") {
    this.phase = phase;
    this.problem = problem;
    this.changed();
  }
}
