/** A stretch of a call on a canvas: the caller above, the bot below, what happened marked, the loudness of both. */

import { FLOOR_DB, share } from "../shared/levels.js";
import { readable } from "../shared/words.js";

const EDGE = 10;
const LEAST_STEP_PX = 34; // between two lines of the scale
const STEPS_S = [1, 5, 10, 30, 60, 300, 600];

/**
 * @param {HTMLCanvasElement} canvas
 * @param {object} stretch
 * @param {number} stretch.from  where it begins, in ms
 * @param {number} stretch.until  where it ends
 * @param {import("./marks.js").Marks} stretch.marks
 * @param {{at, ms, caller, bot}[]} stretch.levels  loudness in dB, column by column; positions in ms
 * @param {number|null} [stretch.head]  the place that is being played
 * @param {boolean} [stretch.small]  no words
 */
export function drawStrip(canvas, { from, until, marks, levels, head = null, small = false }) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
  if (width === 0) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const paint = canvas.getContext("2d");
  paint.setTransform(scale, 0, 0, scale, 0, 0);
  paint.clearRect(0, 0, width, height);
  const perMs = (width - 2 * EDGE) / (until - from);
  const place = {
    x: (at) => EDGE + (at - from) * perMs,
    from,
    until,
    middle: height / 2,
    lane: height / 2 - (small ? 7 : 16),
    width,
    height,
    perMs,
    colours: coloursOf(canvas),
  };
  paint.save();
  paint.beginPath();
  paint.rect(EDGE, 0, width - 2 * EDGE, height);
  paint.clip();
  drawScale(paint, place);
  for (const span of marks.spans) drawSpan(paint, place, span);
  for (const level of levels) drawLevel(paint, place, level);
  for (const moment of marks.moments) drawMoment(paint, place, moment, small);
  if (head !== null) block(paint, place.colours.ink, place.x(head) - 1, 4, 2, height - 8, 1);
  paint.restore();
  paint.fillStyle = place.colours.line;
  paint.fillRect(EDGE, place.middle - 0.5, width - 2 * EDGE, 1);
}

/** What lies at a place of the canvas. @param {number} x from its left, in CSS pixels  @returns {number} ms */
export function positionAt(canvas, x, { from, until }) {
  const share = (x - EDGE) / (canvas.clientWidth - 2 * EDGE);
  return from + Math.min(1, Math.max(0, share)) * (until - from);
}

/** Where on the canvas a position lies, in CSS pixels from its left. */
export function placeOf(canvas, at, { from, until }) {
  return EDGE + ((at - from) / (until - from)) * (canvas.clientWidth - 2 * EDGE);
}

function drawScale(paint, { x, from, until, perMs, height, colours }) {
  const step = 1000 * (STEPS_S.find((seconds) => seconds * 1000 * perMs >= LEAST_STEP_PX) ?? STEPS_S.at(-1));
  paint.fillStyle = colours.line;
  for (let at = Math.ceil(from / step) * step; at < until; at += step) paint.fillRect(Math.round(x(at)), 8, 1, height - 16);
}

function drawSpan(paint, { x, from, until, middle, lane, height, colours }, { kind, from: begin, to, cut }) {
  const end = Math.min(to ?? until, until);
  if (end < from || begin > until) return undefined;
  const [left, right] = [x(Math.max(begin, from)), x(end)];
  const wide = Math.max(2, right - left);
  const { caller, bot, soft, warn, go } = colours;
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

function drawLevel(paint, { x, from, until, middle, lane, perMs, colours }, { at, ms, caller, bot }) {
  if (at < from || at > until) return;
  const wide = Math.max(1, Math.min(ms * perMs, Math.max(1.5, ms * perMs - 1)));
  for (const [db, colour, up] of [[caller, colours.caller, true], [bot, colours.bot, false]]) {
    if (db <= FLOOR_DB + 6) continue;
    const tall = Math.max(1, share(db) * lane);
    paint.globalAlpha = 0.9;
    paint.fillStyle = colour;
    paint.fillRect(x(at), up ? middle - 3 - tall : middle + 3, wide, tall);
  }
  paint.globalAlpha = 1;
}

function drawMoment(paint, { x, from, until, middle, lane, width, colours }, { kind, at, text }, small) {
  if (at < from || at > until) return;
  const left = x(at);
  paint.fillStyle = kind === "late" ? colours.stop : colours.warn;
  paint.fillRect(left - 1, middle - 3 - lane, 2, 2 * lane + 6);
  if (small) return;
  paint.font = `600 11px ${colours.sans}`;
  const words = readable(text);
  const size = paint.measureText(words).width;
  paint.fillText(words, Math.min(left + 5, width - EDGE - size - 2), middle - 3 - lane + 9);
}

const NAMES = ["caller", "bot", "soft", "warn", "go", "stop", "line", "ink", "sans"];
const isDark = matchMedia("(prefers-color-scheme: dark)");
let known = { dark: null, colours: {} };

/** The page's colours, read anew when it turns dark or light: asking for a style is slow. */
function coloursOf(canvas) {
  if (known.dark !== isDark.matches) {
    const style = getComputedStyle(canvas);
    const colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    known = { dark: isDark.matches, colours };
  }
  return known.colours;
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
