/** A recording's WAV: both sides of a call, 16-bit samples, the caller left. Pure. */

import { toDb } from "../shared/levels.js";

const RIFF = 0x52494646;
const WAVE = 0x57415645;
const DATA = 0x64617461;
const PCM = 1;
const MOST_COLUMNS = 40_000; // of an hour or more, so that drawing stays quick
const COLUMN_MS = 100;

export class Wave {
  /**
   * @param {ArrayBuffer} bytes of a RIFF WAVE file
   * @throws {Error} it is something else
   */
  constructor(bytes) {
    const view = new DataView(bytes);
    const isWave = view.byteLength >= 44 && view.getUint32(0) === RIFF && view.getUint32(8) === WAVE;
    if (!isWave || view.getUint16(20, true) !== PCM || view.getUint16(22, true) !== 2 || view.getUint32(36) !== DATA) {
      throw new Error("What came is no 16-bit stereo WAV.");
    }
    this.rate = view.getUint32(24, true);
    const size = Math.min(view.getUint32(40, true), view.byteLength - 44);
    this.pairs = new Int16Array(bytes, 44, (size >> 2) * 2);
  }

  get durationMs() {
    return (this.pairs.length / 2 / this.rate) * 1000;
  }

  /** Loudness of both sides over time. @returns {{at, ms, caller, bot}[]} positions in ms, loudness in dB */
  levels() {
    const { pairs, rate } = this;
    const samples = pairs.length / 2;
    const size = Math.max(Math.round((COLUMN_MS * rate) / 1000), Math.ceil(samples / MOST_COLUMNS));
    const columns = [];
    for (let at = 0; at < samples; at += size) {
      const end = Math.min(samples, at + size);
      let [caller, bot] = [0, 0];
      for (let k = at; k < end; k++) {
        caller += pairs[2 * k] ** 2;
        bot += pairs[2 * k + 1] ** 2;
      }
      const loud = (sum) => toDb(Math.sqrt(sum / (end - at)) / 32768);
      columns.push({ at: (at / rate) * 1000, ms: ((end - at) / rate) * 1000, caller: loud(caller), bot: loud(bot) });
    }
    return columns;
  }
}
