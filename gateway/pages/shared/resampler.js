/**
 * Streaming conversion between two sample rates: a windowed-sinc low-pass, evaluated only where a sample is wanted.
 *
 * For rates in the ratio M:L (48000 to 8000 is 6:1, 44100 to 16000 is 441:160) there are L sets of coefficients, one for
 * each place that an output sample can have between two input samples. How the input is cut into blocks never matters.
 *
 * Stop band below -80 dB from the lower rate's half upwards; pass band flat to 88 % of it. Delay: ZERO_CROSSINGS samples
 * of the lower rate (3 ms at 16 kHz).
 */

const ZERO_CROSSINGS = 48; // of the sinc, to each side
const KAISER_BETA = 8.5; // side lobes below -85 dB
const CUTOFF = 0.94; // of the lower rate's half: the middle of the slope

export class Resampler {
  /** @param {number} from input rate in Hz  @param {number} to output rate in Hz */
  constructor(from, to) {
    const shared = greatestDivisor(from, to);
    this.step = from / shared;
    this.phases = to / shared;
    this.half = Math.ceil(ZERO_CROSSINGS * Math.max(1, from / to));
    this.filters = from === to ? null : makeFilters(this.phases, this.half, Math.min(1, to / from) * CUTOFF);
    this.reset();
  }

  /** Forget what came before, as after a silence. */
  reset() {
    this.pending = new Float32Array(this.half - 1); // what the next outputs still reach back to
    this.at = 0; // input sample at the left of the next output, counted from the first one in reach
    this.phase = 0; // and how far right of it, in steps of 1/phases
  }

  /**
   * @param {Float32Array} input any number of samples
   * @returns {Float32Array} the output samples that are complete now
   */
  push(input) {
    if (!this.filters) return input.slice();
    const samples = new Float32Array(this.pending.length + input.length);
    samples.set(this.pending);
    samples.set(input, this.pending.length);
    const width = 2 * this.half;
    const output = [];
    while (this.at + width <= samples.length) {
      const filter = this.filters[this.phase];
      let sum = 0;
      for (let k = 0; k < width; k++) sum += samples[this.at + k] * filter[k];
      output.push(sum);
      this.phase += this.step;
      this.at += Math.floor(this.phase / this.phases);
      this.phase %= this.phases;
    }
    const done = Math.min(this.at, samples.length); // a step may be longer than what there is
    this.pending = samples.slice(done);
    this.at -= done;
    return Float32Array.from(output);
  }
}

/** One filter of 2*half coefficients for each phase, each with a sum of 1. */
function makeFilters(phases, half, cutoff) {
  const filters = [];
  for (let phase = 0; phase < phases; phase++) {
    const filter = new Float64Array(2 * half);
    let sum = 0;
    for (let k = 0; k < 2 * half; k++) {
      const distance = k - (half - 1) - phase / phases; // from the output sample, in input samples
      filter[k] = sinc(distance * cutoff) * kaiser(distance / half);
      sum += filter[k];
    }
    filters.push(Float32Array.from(filter, (value) => value / sum));
  }
  return filters;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The Kaiser window at x, from -1 to 1. */
function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel(KAISER_BETA);
}

/** The modified Bessel function of the first kind, order 0, by its series. */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestDivisor(a, b) {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
