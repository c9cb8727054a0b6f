/**
 * On the audio thread: what the bot says, through the jitter buffer.
 *
 * In: {pcm: ArrayBuffer of 16-bit samples}, {mark: name}, {clear: true}, {stop: true}.
 * Out: {reached: [names]} as marks are played; {db, queuedMs, gaps} every 20 ms or so.
 */

import { JitterBuffer } from "../shared/jitter_buffer.js";
import { loudness } from "../shared/levels.js";
import { Framer, fromPcm16 } from "../shared/pcm.js";
import { Resampler } from "../shared/resampler.js";

const REPORT_MS = 20;

class Loudspeaker extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.resampler = new Resampler(rate, sampleRate);
    this.buffer = new JitterBuffer(sampleRate);
    this.framer = new Framer(Math.round((sampleRate * REPORT_MS) / 1000));
    this.running = true;
    this.port.onmessage = ({ data }) => this.receive(data);
  }

  receive({ pcm, mark, clear, stop }) {
    if (pcm) this.buffer.push(this.resampler.push(fromPcm16(pcm)));
    if (mark !== undefined) this.buffer.mark(mark);
    if (clear) {
      this.buffer.clear();
      this.resampler.reset();
    }
    if (stop) this.running = false;
  }

  process(inputs, [output]) {
    const [first, ...others] = output;
    const reached = this.buffer.read(first);
    for (const channel of others) channel.set(first);
    if (reached.length > 0) this.port.postMessage({ reached });
    for (const frame of this.framer.push(first)) {
      const { queuedMs, gaps } = this.buffer;
      this.port.postMessage({ db: loudness(frame), queuedMs, gaps });
    }
    return this.running;
  }
}

registerProcessor("loudspeaker", Loudspeaker);
