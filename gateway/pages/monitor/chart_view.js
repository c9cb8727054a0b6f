/** Lines over time on a canvas: the last half hour, at most. */

import { shown } from "../shared/words.js";

const LEAST_S = 120; // what a young chart spans
const LEFT = 52;
const BOTTOM = 22;
const TOP = 12;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{lines: {name, colour, points: {at, value}[]}[], budget?: number, whole?: boolean}} chart  whole: of counts;
 *     all others in ms
 * @param {number} time the right edge, in seconds by the clock of the points
 */
export function drawChart(canvas, { lines, budget, whole = false }, time) {
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
  if (width === 0) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const paint = canvas.getContext("2d");
  paint.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const points = lines.flatMap((line) => line.points);
  const begin = Math.min(time - LEAST_S, ...points.map(({ at }) => at));
  const most = Math.max(whole ? 4 : 20, budget ? 1.15 * budget : 0, ...points.map(({ value }) => 1.1 * value));
  const x = (at) => LEFT + ((at - begin) / (time - begin)) * (width - LEFT - 10);
  const y = (value) => height - BOTTOM - (value / most) * (height - BOTTOM - TOP);
  const text = (value) => (whole ? String(value) : shown(value));
  paint.font = `11px ${colour("sans")}`;
  paint.textBaseline = "middle";

  for (const value of steps(most, whole)) {
    paint.fillStyle = colour("line");
    paint.fillRect(LEFT, Math.round(y(value)), width - LEFT - 10, 1);
    paint.fillStyle = colour("soft");
    paint.textAlign = "right";
    paint.fillText(text(value), LEFT - 8, y(value));
  }
  paint.textAlign = "left";
  paint.fillStyle = colour("soft");
  paint.fillText(`${Math.max(1, Math.round((time - begin) / 60))} min ago`, LEFT, height - 8);
  paint.textAlign = "right";
  paint.fillText("now", width - 10, height - 8);

  if (budget !== undefined) {
    paint.strokeStyle = colour("stop");
    paint.setLineDash([5, 4]);
    paint.beginPath();
    paint.moveTo(LEFT, y(budget));
    paint.lineTo(width - 10, y(budget));
    paint.stroke();
    paint.setLineDash([]);
  }
  lines.forEach((line, at) => {
    paint.strokeStyle = paint.fillStyle = colour(line.colour);
    paint.lineWidth = 2;
    paint.lineJoin = "round";
    paint.beginPath();
    for (const { at: when, value } of line.points) paint.lineTo(x(when), y(value));
    paint.stroke();
    const last = line.points.at(-1);
    if (last) {
      paint.beginPath();
      paint.arc(x(last.at), y(last.value), 3, 0, 7);
      paint.fill();
    }
    paint.textAlign = "left";
    paint.fillText(line.name, LEFT + 8 + 44 * at, TOP - 2);
  });
  if (budget !== undefined) {
    const words = `promised ${text(budget)}`;
    const wide = paint.measureText(words).width + 8;
    paint.fillStyle = colour("surface");
    paint.fillRect(LEFT + 4, y(budget) + 2, wide, 14); // on top of all lines: it is to be read
    paint.fillStyle = colour("stop");
    paint.textAlign = "left";
    paint.fillText(words, LEFT + 8, y(budget) + 9);
  }
  const said = lines.map(({ name, points: all }) => `${name} ${all.length ? text(all.at(-1).value) : "not measured yet"}`);
  canvas.setAttribute("aria-label", `${said.join(", ")}${budget ? `; promised ${text(budget)}` : ""}`);
}

/** Where the lines of a scale lie: three to five round values. */
function steps(most, whole) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(whole ? 1 : 0, [1, 2, 5, 10].find((one) => one * power >= rough) * power);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step);
}
