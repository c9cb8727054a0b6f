/** The waterfalls of a call's turns, the newest first: the last one open, the others a bar each that opens. */

import { shown } from "../shared/words.js";
import { made, say } from "./elements.js";
import { BUDGETS_MS, waterfall } from "./turns.js";

export class TurnsView {
  /** @param {HTMLElement} box  @param {() => number} pauseMs when the gateway begins to work */
  constructor(box, pauseMs) {
    this.box = box;
    this.pauseMs = pauseMs;
    this.latency = null;
    this.answered = null;
  }

  /** @param {import("./turns.js").Turns} latency */
  show(latency) {
    if (latency === this.latency && latency.answered === this.answered) return;
    const another = latency !== this.latency;
    const before = new Set(another ? [] : this.answered);
    this.latency = latency;
    this.answered = latency.answered;
    if (another) this.box.replaceChildren();
    for (const turn of latency.answered) {
      if (before.has(turn)) continue;
      const opened = this.box.firstElementChild;
      if (opened?.dataset.auto === "true") opened.open = false;
      this.box.prepend(this.turn(turn));
      const first = this.box.firstElementChild;
      first.open = true;
      first.dataset.auto = "true"; // until somebody touches it
      first.firstElementChild.addEventListener("click", () => delete first.dataset.auto);
    }
    while (this.box.children.length > latency.answered.length) this.box.lastElementChild.remove();
  }

  turn({ round, timing }) {
    const fall = waterfall(timing, this.pauseMs());
    const details = made("details", "turn");
    details.dataset.late = fall.late;
    details.dataset.round = round;
    const summary = details.appendChild(made("summary"));
    summary.append(made("span", "", `Turn ${round}`), bar(fall), made("b", "figure", shown(fall.reply)));
    const table = details.appendChild(made("table", "waterfall"));
    const caption = table.createCaption();
    say(caption, `From the caller’s last sound; reply ${shown(fall.reply)} after the tail, promised ${shown(BUDGETS_MS.endpoint_to_reply_ms)}`);
    const body = table.createTBody();
    for (const stage of fall.stages) body.append(row(stage, fall.end));
    return details;
  }
}

/** All stages in one bar. */
function bar({ stages, end }) {
  const box = made("span", "whole");
  box.setAttribute("aria-hidden", "true");
  box.append(...stages.map((stage) => piece(stage, end)));
  return box;
}

function row(stage, end) {
  const line = made("tr");
  const name = line.appendChild(made("th", "", stage.name));
  name.scope = "row";
  if (stage.during) name.append(made("small", "", "during the silence"));
  const track = line.insertCell();
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  track.append(piece(stage, end));
  const time = line.insertCell();
  time.className = "figure";
  say(time, shown(stage.to - stage.from));
  return line;
}

function piece({ key, from, to, during }, end) {
  const whole = Math.max(1, end);
  const element = made("i");
  element.dataset.key = key;
  element.dataset.during = during;
  element.style.left = `${Math.min(99, (100 * from) / whole)}%`;
  element.style.width = `${Math.max(0.8, (100 * (to - from)) / whole)}%`;
  return element;
}
