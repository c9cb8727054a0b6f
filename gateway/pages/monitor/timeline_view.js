/** The last half minute of a call as a strip, with the loudness of both sides while somebody listens: the present is at the right. */

import { loudness } from "../shared/levels.js";
import { deinterleave } from "../shared/pcm.js";
import { drawStrip } from "./strip.js";

export const SHOWN_MS = 30_000;
const COLUMN_MS = 100;
const DELAY_MS = 60; // the gateway sends sound so far behind the present

export class TimelineView {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawnAt = 0;
    this.forget();
  }

  /** Another call. */
  forget() {
    this.levels = []; // {at: position in ms, ms, caller: dB, bot: dB}, one for each column
    this.from = null; // position of the first sample heard
  }

  /** @param {import("./call.js").Call} call  @param {{first, pairs, rate}} sound that has just come  @param {number} time now */
  hear(call, { first, pairs, rate }, time) {
    const samples = pairs.byteLength / 4;
    const startMs = (first / rate) * 1000;
    this.from ??= call.position(time) - DELAY_MS - (samples / rate) * 1000 - startMs;
    const sides = deinterleave(pairs);
    const size = Math.round((COLUMN_MS * rate) / 1000);
    for (let at = 0; at < samples; at += size) {
      const [caller, bot] = sides.map((side) => loudness(side.subarray(at, at + size)));
      this.levels.push({ at: this.from + startMs + (at / rate) * 1000, ms: (Math.min(size, samples - at) / rate) * 1000, caller, bot });
    }
    const oldest = this.levels.at(-1).at - 1.2 * SHOWN_MS;
    if (this.levels[0].at < oldest - SHOWN_MS) this.levels = this.levels.filter(({ at }) => at >= oldest);
  }

  /** @param {import("./call.js").Call} call  @param {number} time now */
  draw(call, time) {
    const now = performance.now();
    if (now - this.drawnAt < (this.still.matches ? 1000 : 33)) return;
    this.drawnAt = now;
    const until = call.position(call.endedAt || time);
    drawStrip(this.canvas, { from: until - SHOWN_MS, until, marks: call.marks, levels: this.levels });
  }
}
