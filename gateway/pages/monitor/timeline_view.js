/**
 * The last half minute of a call as a strip: the caller above, the bot below, what happened marked, and while somebody
 * listens the loudness of both sides. The present is at the right.
 */

import { FLOOR_DB, loudness, share } from "../shared/levels.js";
import { deinterleave } from "../shared/pcm.js";
import { readable } from "../shared/words.js";

const SHOWN_MS = 30_000;
const COLUMN_MS = 100;
const DELAY_MS = 60; // the gateway sends sound so far behind the present
const EDGE = 10;

export class TimelineView {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawnAt = 0;
    this.colours = null;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (this.colours = null));
    this.forget();
  }

  /** Another call. */
  forget() {
    this.levels = []; // {at: position in ms, caller: dB, bot: dB}, one for each column
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

  /** @param {import("./call.js").Call} call  @param {number} time now, in seconds since the epoch */
  draw(call, time) {
    const now = performance.now();
    if (now - this.drawnAt < (this.still.matches ? 1000 : 33)) return;
    this.drawnAt = now;
    const { canvas } = this;
    const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
    if (width === 0) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    this.colours ??= coloursOf(canvas);
    const paint = canvas.getContext("2d");
    paint.setTransform(scale, 0, 0, scale, 0, 0);
    paint.clearRect(0, 0, width, height);
    const until = call.position(call.endedAt || time);
    const perMs = (width - 2 * EDGE) / SHOWN_MS;
    const place = {
      x: (at) => width - EDGE - (until - at) * perMs,
      from: until - SHOWN_MS,
      until,
      middle: height / 2,
      lane: height / 2 - 16,
      width,
      height,
      perMs,
    };
    paint.save();
    paint.beginPath();
    paint.rect(EDGE, 0, width - 2 * EDGE, height);
    paint.clip();
    this.drawSeconds(paint, place);
    for (const span of call.marks.spans) this.drawSpan(paint, place, span);
    for (const level of this.levels) this.drawLevel(paint, place, level);
    for (const moment of call.marks.moments) this.drawMoment(paint, place, moment);
    paint.restore();
    paint.fillStyle = this.colours.line;
    paint.fillRect(EDGE, place.middle - 0.5, width - 2 * EDGE, 1);
  }

  drawSeconds(paint, { x, until, from, height }) {
    paint.fillStyle = this.colours.line;
    for (let at = Math.ceil(from / 5000) * 5000; at < until; at += 5000) paint.fillRect(Math.round(x(at)), 8, 1, height - 16);
  }

  drawSpan(paint, { x, from, until, middle, lane, height }, { kind, from: begin, to, cut }) {
    const end = to ?? until;
    if (end < from) return;
    const [left, right] = [x(Math.max(begin, from)), x(end)];
    const wide = Math.max(2, right - left);
    const { caller, bot, soft, warn, go } = this.colours;
    paint.globalAlpha = 1;
    switch (kind) {
      case "speech":
        return block(paint, caller, left, middle - 3 - lane, wide, lane, 0.3);
      case "tail":
        return stripes(paint, soft, left, middle - 3 - lane * 0.42, wide, lane * 0.42);
      case "prompt":
        block(paint, bot, left, middle + 3, wide, lane, 0.28);
        if (cut) block(paint, warn, right - 2, middle + 3, 3, lane, 1);
        return undefined;
      case "held":
        return stripes(paint, warn, left, middle + 3, wide, lane);
      case "taken":
        return block(paint, go, left, height - 7, wide, 4, 1);
    }
  }

  drawLevel(paint, { x, from, middle, lane, perMs }, { at, ms, caller, bot }) {
    if (at < from) return;
    const wide = Math.max(1.5, ms * perMs - 1);
    for (const [db, colour, up] of [[caller, this.colours.caller, true], [bot, this.colours.bot, false]]) {
      if (db <= FLOOR_DB + 6) continue;
      const tall = Math.max(1, share(db) * lane);
      paint.globalAlpha = 0.9;
      paint.fillStyle = colour;
      paint.fillRect(x(at), up ? middle - 3 - tall : middle + 3, wide, tall);
    }
    paint.globalAlpha = 1;
  }

  drawMoment(paint, { x, from, middle, lane, width }, { kind, at, text }) {
    if (at < from) return;
    const left = x(at);
    const bad = kind === "late";
    paint.fillStyle = bad ? this.colours.stop : this.colours.warn;
    paint.fillRect(left - 1, middle - 3 - lane, 2, 2 * lane + 6);
    paint.font = `600 11px ${this.colours.sans}`;
    const words = readable(text);
    const size = paint.measureText(words).width;
    paint.fillText(words, Math.min(left + 5, width - EDGE - size - 2), middle - 3 - lane + 9);
  }
}

function coloursOf(canvas) {
  const style = getComputedStyle(canvas);
  const names = ["caller", "bot", "soft", "warn", "go", "stop", "line", "sans"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function block(paint, colour, left, top, wide, tall, alpha) {
  paint.globalAlpha = alpha;
  paint.fillStyle = colour;
  paint.beginPath();
  paint.roundRect(left, top, wide, tall, Math.min(5, wide / 2));
  paint.fill();
  paint.globalAlpha = 1;
}

/** A hatched block: time in which something is waited for. */
function stripes(paint, colour, left, top, wide, tall) {
  paint.save();
  paint.beginPath();
  paint.roundRect(left, top, wide, tall, Math.min(4, wide / 2));
  paint.clip();
  paint.globalAlpha = 0.55;
  paint.strokeStyle = colour;
  paint.lineWidth = 1.5;
  paint.beginPath();
  for (let at = left - tall - (left % 6); at < left + wide; at += 6) {
    paint.moveTo(at, top + tall);
    paint.lineTo(at + tall, top);
  }
  paint.stroke();
  paint.restore();
}
