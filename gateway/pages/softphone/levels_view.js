/** Both sides' loudness: two needles, and the last seconds of the call as a strip, the caller above, the bot below. */

import { FLOOR_DB, Needle, share } from "../shared/levels.js";

const COLUMN_MS = 60;
const COLUMN_PX = 5;
const BAR_PX = 3;
const TOLD_EVERY_MS = 500; // to screen readers

export class LevelsView {
  /** @param {Record<"caller"|"bot", HTMLElement>} meters  @param {HTMLCanvasElement} strip */
  constructor(meters, strip) {
    this.sides = Object.entries(meters).map(([side, meter]) => ({
      side,
      meter,
      bar: meter.firstElementChild,
      needle: new Needle(),
      loudest: FLOOR_DB, // since the last picture
      column: FLOOR_DB, // since the last column
      columns: [],
    }));
    this.strip = strip;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawnAt = 0;
    this.columnAt = 0;
    this.toldAt = 0;
    this.running = false;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(strip);
  }

  /** @param {number} db the loudness of the last 20 ms */
  level(side, db) {
    const one = this.sides.find((each) => each.side === side);
    one.loudest = Math.max(one.loudest, db);
    one.column = Math.max(one.column, db);
  }

  run(running) {
    if (running && !this.running) {
      this.drawnAt = this.columnAt = performance.now();
      for (const one of this.sides) one.columns = [];
      requestAnimationFrame((now) => this.picture(now));
    }
    this.running = running;
  }

  picture(now) {
    const passed = Math.max(0, now - this.drawnAt);
    this.drawnAt = now;
    for (const one of this.sides) {
      const db = this.running ? one.needle.move(one.loudest, passed) : FLOOR_DB;
      one.loudest = FLOOR_DB;
      one.bar.style.transform = `scaleX(${share(db).toFixed(3)})`;
    }
    if (now - this.toldAt > TOLD_EVERY_MS || !this.running) {
      this.toldAt = now;
      for (const { meter, needle } of this.sides) meter.setAttribute("aria-valuenow", this.running ? Math.round(needle.db) : FLOOR_DB);
    }
    if (now - this.columnAt >= COLUMN_MS) {
      this.columnAt = now;
      for (const one of this.sides) {
        one.columns.push(share(one.column));
        one.column = FLOOR_DB;
      }
      if (!this.still.matches) this.draw();
    }
    if (this.running) requestAnimationFrame((next) => this.picture(next));
  }

  draw() {
    const { strip } = this;
    const scale = devicePixelRatio;
    const [width, height] = [strip.clientWidth, strip.clientHeight];
    strip.width = width * scale;
    strip.height = height * scale;
    const paint = strip.getContext("2d");
    paint.scale(scale, scale);
    const colours = getComputedStyle(document.documentElement);
    const middle = height / 2;
    const kept = Math.floor((width - 16) / COLUMN_PX);
    for (const one of this.sides) {
      one.columns = one.columns.slice(-kept);
      const up = one.side === "caller";
      paint.fillStyle = colours.getPropertyValue(`--${one.side}`);
      one.columns.forEach((loud, at) => {
        const tall = Math.max(1, loud * (middle - 10));
        const left = width - 8 - (one.columns.length - at) * COLUMN_PX;
        paint.globalAlpha = 0.35 + 0.65 * loud;
        paint.beginPath();
        paint.roundRect(left, up ? middle - 1.5 - tall : middle + 1.5, BAR_PX, tall, BAR_PX / 2);
        paint.fill();
      });
    }
    paint.globalAlpha = 1;
    paint.fillStyle = colours.getPropertyValue("--line");
    paint.fillRect(8, middle - 0.5, width - 16, 1);
  }
}
