/**
 * On the audio thread: both sides of a call, through a jitter buffer each.
 *
 * In: {pcm: ArrayBuffer of 16-bit pairs, caller then bot}, {mute: whether the bot's side is silent}, {stop: true}.
 * Out: {queuedMs, gaps} ten times a second.
 *
 * The caller is a little to the left and the bot a little to the right, so that a listener tells who interrupts whom.
 */

import { JitterBuffer } from "../shared/jitter_buffer.js";
import { deinterleave } from "../shared/pcm.js";
import { Resampler } from "../shared/resampler.js";

const REPORT_S = 0.1;
const MOST_QUEUED_MS = 500; // a page that was frozen, or a clock that drifts: go to the present
const LEAST_QUEUED_MS = 90; // the gateway sends 60 ms at a time
const NEAR = 0.85;
const FAR = 0.45;

class Listener extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.sides = [0, 1].map(() => ({
      resampler: new Resampler(rate, sampleRate),
      buffer: new JitterBuffer(sampleRate, { minMs: LEAST_QUEUED_MS }),
      block: new Float32Array(128),
    }));
    this.muted = false;
    this.running = true;
    this.unreported = 0;
    this.port.onmessage = ({ data }) => this.receive(data);
  }

  receive({ pcm, mute, stop }) {
    if (mute !== undefined) this.muted = mute;
    if (stop) this.running = false;
    if (!pcm) return;
    if (this.sides[0].buffer.queuedMs > MOST_QUEUED_MS) for (const { buffer } of this.sides) buffer.clear();
    deinterleave(pcm).forEach((samples, at) => {
      const { buffer, resampler } = this.sides[at];
      buffer.push(resampler.push(samples));
    });
  }

  process(inputs, [output]) {
    const length = output[0].length;
    for (const side of this.sides) {
      if (side.block.length !== length) side.block = new Float32Array(length);
      side.buffer.read(side.block);
    }
    const [caller, bot] = this.sides.map(({ block }) => block);
    const heard = this.muted ? 0 : 1;
    const [left, right] = [output[0], output[1] ?? output[0]];
    for (let at = 0; at < length; at++) {
      left[at] = NEAR * caller[at] + heard * FAR * bot[at];
      right[at] = FAR * caller[at] + heard * NEAR * bot[at];
    }
    this.unreported += length / sampleRate;
    if (this.unreported >= REPORT_S) {
      this.unreported = 0;
      const { queuedMs, gaps } = this.sides[0].buffer;
      this.port.postMessage({ queuedMs, gaps });
    }
    return this.running;
  }
}

registerProcessor("listener", Listener);
