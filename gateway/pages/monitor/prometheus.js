/** What a page needs of the text format of /metrics (Prometheus exposition format 0.0.4). Pure. */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

export class Samples {
  /** @param {string} text of /metrics */
  constructor(text) {
    this.byName = new Map();
    for (const line of text.split("\n")) {
      const found = line.startsWith("#") ? null : SAMPLE.exec(line);
      if (!found) continue;
      const [, name, inside = "", value] = found;
      const labels = Object.fromEntries(
        [...inside.matchAll(LABEL)].map(([, label, quoted]) => [label, quoted.replace(/\\[n"\\]/g, (each) => ESCAPES[each])]),
      );
      if (!this.byName.has(name)) this.byName.set(name, []);
      this.byName.get(name).push({ labels, value: Number(value.replace("Inf", "Infinity")) });
    }
  }

  /** All samples of a name that have these labels. */
  of(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.byName.get(name) ?? []).filter((one) => wanted.every(([label, value]) => one.labels[label] === value));
  }

  sum(name, labels) {
    return this.of(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  /** Sums by one label's values. @returns {Map<string, number>} */
  by(label, name, labels) {
    const sums = new Map();
    for (const one of this.of(name, labels)) {
      const key = one.labels[label] ?? "";
      sums.set(key, (sums.get(key) ?? 0) + one.value);
    }
    return sums;
  }

  /** The mean of what a histogram or summary has seen; null before it has seen anything. */
  mean(name, labels) {
    const count = this.sum(`${name}_count`, labels);
    return count > 0 ? this.sum(`${name}_sum`, labels) / count : null;
  }

  /**
   * A quantile of a histogram, on the line between a bucket's bounds, as Prometheus' histogram_quantile has it.
   *
   * @param {number} quantile 0 to 1  @returns {number|null} null before it has seen anything
   */
  quantile(quantile, name, labels) {
    const buckets = [...this.by("le", `${name}_bucket`, labels)].map(([le, count]) => [Number(le.replace("+Inf", "Infinity")), count]);
    buckets.sort(([a], [b]) => a - b);
    const total = buckets.at(-1)?.[1] ?? 0;
    if (total === 0) return null;
    let [low, below] = [0, 0];
    for (const [high, count] of buckets) {
      if (count >= quantile * total) {
        if (high === Infinity) return low;
        return low + ((high - low) * (quantile * total - below)) / Math.max(1, count - below);
      }
      [low, below] = [high, count];
    }
    return low;
  }
}
