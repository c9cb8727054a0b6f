/**
 * On the audio thread: the microphone in frames of the call.
 *
 * Out: {pcm: ArrayBuffer of 16-bit samples, db} every 20 ms, silence where no microphone is connected: the gateway counts
 * time in samples. In: "stop".
 */

import { loudness } from "./levels.js";
import { Framer, toPcm16 } from "./pcm.js";
import { Resampler } from "./resampler.js";

const FRAME_MS = 20;
const BLOCK = 128; // what browsers call `process` with

class Microphone extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.resampler = new Resampler(sampleRate, rate);
    this.framer = new Framer((rate * FRAME_MS) / 1000);
    this.silence = new Float32Array(BLOCK);
    this.running = true;
    this.port.onmessage = () => (this.running = false);
  }

  process([input]) {
    for (const frame of this.framer.push(this.resampler.push(input[0] ?? this.silence))) {
      const pcm = toPcm16(frame).buffer;
      this.port.postMessage({ pcm, db: loudness(frame) }, [pcm]);
    }
    return this.running;
  }
}

registerProcessor("microphone", Microphone);
