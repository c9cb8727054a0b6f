/** The timings: four figures, and the last turn's stages as bars. */

import { shown } from "../shared/words.js";
import { BUDGET_MS, summary } from "./latency.js";

const AWAITED = "tail_ms"; // the silence is so much longer than the work that it would leave no bar to see

export class LatencyView {
  /** @param {Record<"first"|"reply"|"median"|"worst"|"felt"|"stages", HTMLElement>} parts */
  constructor(parts) {
    this.parts = parts;
  }

  show(latency) {
    const { last, median, worst } = summary(latency);
    this.figure("first", latency.first);
    this.figure("reply", last);
    this.figure("median", median);
    this.figure("worst", worst);
    this.parts.felt.textContent = shown(latency.felt);
    const longest = Math.max(1, ...latency.stages.filter((stage) => stage.key !== AWAITED).map(({ ms }) => ms));
    this.parts.stages.replaceChildren(...latency.stages.map((stage) => row(stage, longest)));
    this.parts.stages.parentElement.hidden = latency.stages.length === 0;
  }

  figure(name, ms) {
    const element = this.parts[name];
    element.textContent = shown(ms);
    element.dataset.late = ms !== null && ms > BUDGET_MS;
  }
}

function row({ key, name, ms, waitedMs, during }, longest) {
  const line = document.createElement("tr");
  line.dataset.key = key;
  line.dataset.during = during;
  const head = document.createElement("th");
  head.scope = "row";
  head.append(name);
  const remarks = [during && "during the silence", waitedMs >= 1 && `waited ${shown(waitedMs)}`].filter(Boolean);
  if (remarks.length > 0) {
    const small = document.createElement("small");
    small.textContent = remarks.join(", ");
    head.append(small);
  }
  const share = line.insertCell();
  share.className = "share";
  share.setAttribute("aria-hidden", "true");
  const bar = share.appendChild(document.createElement("i"));
  bar.style.width = `${Math.min(100, Math.max(1, (ms / longest) * 100))}%`;
  const time = line.insertCell();
  time.className = "figure";
  time.textContent = shown(ms);
  line.prepend(head);
  return line;
}
