/** How fast calls are answered over time, from their events; and what the tables of the health view hold. Pure. */

import { readable, shown } from "../shared/words.js";
import { BUDGETS_MS } from "./turns.js";

const STEP_S = 10;
const KEPT_S = 30 * 60;
const RECENT_S = 300; // of the figures on top

export class Latencies {
  constructor() {
    this.steps = []; // {at, calls, first: [ms], reply: [ms], barge: [ms]}, oldest first
  }

  /** @param {object} event of any call  @param {number} time now, by the page's clock */
  take({ type, timing, after_ms: heldAfter }, time) {
    if (type === "prompt_started") {
      const step = this.step(time);
      if (timing.first_utterance_ms !== undefined) step.first.push(timing.first_utterance_ms);
      if (timing.endpoint_to_reply_ms !== undefined) step.reply.push(timing.endpoint_to_reply_ms);
    } else if (type === "prompt_held") this.step(time).barge.push(heldAfter);
  }

  /** So many calls are in progress. */
  count(calls, time) {
    const step = this.step(time);
    step.calls = Math.max(step.calls, calls);
  }

  step(time) {
    const at = Math.floor(time / STEP_S) * STEP_S;
    const last = this.steps.at(-1);
    if (last && last.at >= at) return last;
    const step = { at, calls: 0, first: [], reply: [], barge: [] };
    this.steps.push(step);
    if (this.steps[0].at < at - KEPT_S) this.steps = this.steps.filter((one) => one.at >= at - KEPT_S);
    return step;
  }

  /** What was measured in the last five minutes. */
  recent(name, time) {
    return this.steps.filter(({ at }) => at > time - RECENT_S).flatMap((step) => step[name]);
  }

  /** A line of a chart: a quantile for each step in which something was measured. */
  line(name, quantile) {
    return this.steps.filter((step) => step[name].length > 0).map((step) => ({ at: step.at, value: quantileOf(step[name], quantile) }));
  }
}

/** @returns {number|null} */
export function quantileOf(values, quantile) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(quantile * sorted.length) - 1))];
}

/** The figures on top. @returns {{name, value, note, bad}[]} */
export function tilesOf(latencies, calls, time) {
  const promised = [
    ["First words", "first", BUDGETS_MS.first_utterance_ms],
    ["Reply after the tail", "reply", BUDGETS_MS.endpoint_to_reply_ms],
    ["Barge-in heard", "barge", BUDGETS_MS.barge_in_ms],
  ].map(([name, key, budget]) => {
    const seen = latencies.recent(key, time);
    const [middle, worst] = [quantileOf(seen, 0.5), quantileOf(seen, 0.99)];
    const note = seen.length ? `p50 ${shown(middle)}; ${seen.length} in five minutes` : "none in five minutes";
    return { name: `${name}, p99 of ${budget} ms`, value: shown(worst), note, bad: worst !== null && worst > budget };
  });
  const late = calls.filter((call) => !call.isOver && call.late > 0).length;
  const alerting = calls.filter((call) => !call.isOver && call.urgency > 0).length;
  const live = calls.filter((call) => !call.isOver).length;
  return [
    { name: "Calls in progress", value: String(live), note: `${alerting} to look at, ${late} with a late answer`, bad: false },
    ...promised,
  ];
}

/** @param {import("./prometheus.js").Samples|null} samples  @param {object|null} readiness */
export function tablesOf(samples, readiness, { workers, complete, dropped }) {
  return [partsTable(readiness, workers, complete, dropped), ...(samples ? metricTables(samples) : [])];
}

function partsTable(readiness, workers, complete, dropped) {
  const rows = readiness
    ? [
        ["Redis", readiness.redis],
        ["Models", readiness.inference],
        ["Workers of this gateway", readiness.workers],
      ]
    : [["Control plane", "does not answer"]];
  rows.push(["Workers that share this Redis", complete ? `${workers}, all answer` : `${workers}, not all answer`]);
  if (dropped) rows.push(["Events that this page lost", String(dropped)]);
  return { title: "Parts", columns: ["Part", "State"], rows, empty: "" };
}

function metricTables(samples) {
  const seconds = (value) => (value === null ? "–" : shown(value * 1000));
  const stages = [
    ["First words", "voicegate_first_utterance_seconds", {}],
    ["Reply after the tail", "voicegate_endpoint_to_reply_seconds", {}],
    ["Barge-in", "voicegate_barge_in_seconds", {}],
    ...[...samples.by("stage", "voicegate_stage_seconds_count").keys()].map((stage) => [
      `Stage: ${readable(stage)}`,
      "voicegate_stage_seconds",
      { stage },
    ]),
    ["Frames’ delay", "voicegate_frame_delay_seconds", {}],
  ].filter(([, name, labels]) => samples.sum(`${name}_count`, labels) > 0);
  const engines = [...samples.by("engine", "voicegate_inference_jobs_total").keys()].sort();
  const models = samples.of("voicegate_model_seconds_count").map(({ labels: { bot, version } }) => ({ bot, version }));
  const counted = (title, name, label, empty) => ({
    title,
    columns: ["What", "Count"],
    rows: [...samples.by(label, name)].filter(([, count]) => count > 0).map(([key, count]) => [readable(key), count]),
    empty,
  });
  const shed = [
    ...[...samples.by("engine", "voicegate_inference_shed_total")].map(([engine, count]) => [`${engine}: jobs refused`, count]),
    ...[...samples.by("kind", "voicegate_dropped_total")].map(([kind, count]) => [`${readable(kind)}: dropped`, count]),
    ...[...samples.by("reason", "voicegate_refused_total")].map(([reason, count]) => [`calls refused: ${readable(reason)}`, count]),
  ].filter(([, count]) => count > 0);
  return [
    {
      title: "Latency since the start",
      columns: ["Measure", "p50", "p99", "Count"],
      rows: stages.map(([title, name, labels]) => [
        title,
        seconds(samples.quantile(0.5, name, labels)),
        seconds(samples.quantile(0.99, name, labels)),
        samples.sum(`${name}_count`, labels),
      ]),
      empty: "No call has been answered yet.",
    },
    speculationTable(samples),
    {
      title: "Engines",
      columns: ["Engine", "Jobs", "Waiting", "Batch", "Queue p99", "Compute p99"],
      rows: engines.map((engine) => [
        engine,
        samples.sum("voicegate_inference_jobs_total", { engine }),
        samples.sum("voicegate_inference_queue_depth", { engine }),
        (samples.mean("voicegate_inference_batch_size", { engine }) ?? 0).toFixed(1),
        seconds(samples.quantile(0.99, "voicegate_inference_queue_seconds", { engine })),
        seconds(samples.quantile(0.99, "voicegate_inference_compute_seconds", { engine })),
      ]),
      empty: "No engine has had work yet.",
    },
    {
      title: "Intent models",
      columns: ["Bot", "Version", "Texts", "Out of scope", "Failed", "Score"],
      rows: models.map((model) => {
        const outcome = (name) => samples.sum("voicegate_model_requests_total", { ...model, outcome: name });
        const texts = outcome("intent") + outcome("oos");
        const score = samples.mean("voicegate_model_score", model);
        return [model.bot, model.version, texts, percent(outcome("oos"), texts), outcome("failed"), score === null ? "–" : score.toFixed(2)];
      }),
      empty: "No model has been asked yet.",
    },
    { title: "Shed, dropped, refused", columns: ["What", "Count"], rows: shed, empty: "Nothing: all work was done." },
    counted("Turns", "voicegate_turns_total", "outcome", "No turn yet."),
    counted("Speech over prompts", "voicegate_overlaps_total", "verdict", "Nobody has spoken over a prompt."),
  ];
}

function speculationTable(samples) {
  const count = (outcome) => samples.sum("voicegate_speculation_total", { outcome });
  const started = count("started");
  return {
    title: "Work begun in the tail",
    columns: ["Outcome", "Count", "Share"],
    rows: started ? ["used", "wasted", "failed"].map((outcome) => [outcome, count(outcome), percent(count(outcome), started)]) : [],
    empty: "None was begun yet.",
  };
}

/** "12 %"; "–" of nothing. */
export function percent(part, whole) {
  return whole > 0 ? `${Math.round((100 * part) / whole)} %` : "–";
}
