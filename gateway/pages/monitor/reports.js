/** Health and outcomes: what events told of them, what the gateway is asked for, and both shown. */

import { drawChart } from "./chart_view.js";
import { say, showTables, showTiles } from "./elements.js";
import { EndedView } from "./ended_view.js";
import * as health from "./health.js";
import * as outcomes from "./outcomes.js";
import { Samples } from "./prometheus.js";
import { BUDGETS_MS } from "./turns.js";

const ALL_HERE =
  "From the records of all gateways that share this Redis. Completed: the call reached an outcome of its flow. No match: of all turns; no input: of all times that the caller was to speak.";

export class Reports {
  /**
   * @param {(id: string) => HTMLElement} find
   * @param {import("./control_plane.js").ControlPlane} control
   * @param {import("./calls.js").Calls} calls
   */
  constructor(find, control, calls) {
    this.find = find;
    this.control = control;
    this.calls = calls;
    this.latencies = new health.Latencies();
    this.samples = null; // of /metrics
    this.readiness = null;
    this.records = []; // of the calls that ended
    this.ended = new EndedView(find, () => control.setup.recording);
  }

  /** @param {object} event of any call  @param {number} time when it came */
  take(event, time) {
    this.latencies.take(event, time);
  }

  /** Ask for what no event tells, and show it. @param {string} view  @param {number} time now, by the page's clock */
  async read(view, time) {
    this.latencies.count(this.calls.live, time);
    if (view === "health") await this.readHealth();
    if (view === "outcomes") await this.readOutcomes();
    this.show(view, time);
  }

  async readHealth() {
    const metrics = this.control.metrics().then((text) => new Samples(text));
    [this.readiness, this.samples] = await Promise.all([this.control.readiness(), metrics.catch(() => null)]);
  }

  async readOutcomes() {
    try {
      this.records = (await this.control.outcomes()).outcomes;
      say(this.find("outcome-hint"), ALL_HERE);
    } catch (error) {
      say(this.find("outcome-hint"), `The records cannot be read: ${error.message}`);
    }
  }

  show(view, time) {
    if (view === "health") this.showHealth(time);
    if (view === "outcomes") this.showOutcomes();
  }

  showHealth(time) {
    const { find, latencies, calls } = this;
    showTiles(find("health-tiles"), health.tilesOf(latencies, [...calls.byId.values()], time));
    for (const [id, name, budget] of [
      ["chart-reply", "reply", BUDGETS_MS.endpoint_to_reply_ms],
      ["chart-first", "first", BUDGETS_MS.first_utterance_ms],
    ]) {
      const lines = [
        { name: "p50", colour: "bot", points: latencies.line(name, 0.5) },
        { name: "p99", colour: "caller", points: latencies.line(name, 0.99) },
      ];
      drawChart(find(id), { lines, budget }, time);
    }
    const counted = latencies.steps.map(({ at, calls: value }) => ({ at, value }));
    drawChart(find("chart-calls"), { lines: [{ name: "calls", colour: "bot", points: counted }], whole: true }, time);
    showTables(find("panels"), health.tablesOf(this.samples, this.readiness, calls));
  }

  showOutcomes() {
    const { find, records } = this;
    showTiles(find("outcome-tiles"), outcomes.tilesOf(records));
    showTables(find("outcome-panels"), outcomes.tablesOf(records, find("group").value));
    this.ended.show(records, Date.now() / 1000);
  }
}
