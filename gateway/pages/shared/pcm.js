/** 16-bit samples as a call carries them, and the floats that browsers work with. */

/** @param {Float32Array} samples  @returns {Int16Array} clipped, not wrapped */
export function toPcm16(samples) {
  return Int16Array.from(samples, (value) => Math.round(Math.min(1, Math.max(-1, value)) * 32767));
}

/** @param {ArrayBuffer} bytes whole samples; half a sample at the end is left out  @returns {Float32Array} */
export function fromPcm16(bytes) {
  return Float32Array.from(new Int16Array(bytes, 0, bytes.byteLength >> 1), (value) => value / 32768);
}

/** @param {ArrayBuffer} bytes pairs of samples  @returns {[Float32Array, Float32Array]} the two sides */
export function deinterleave(bytes) {
  const both = new Int16Array(bytes, 0, (bytes.byteLength >> 2) * 2);
  return [0, 1].map((side) => Float32Array.from({ length: both.length / 2 }, (_, at) => both[2 * at + side] / 32768));
}

/** Cuts a stream into frames of one size; what is left over begins the next one. */
export class Framer {
  /** @param {number} size samples of a frame */
  constructor(size) {
    this.frame = new Float32Array(size);
    this.filled = 0;
  }

  /** @param {Float32Array} samples  @returns {Float32Array[]} the frames that are full now */
  push(samples) {
    const frames = [];
    for (let at = 0; at < samples.length; ) {
      const part = samples.subarray(at, at + this.frame.length - this.filled);
      this.frame.set(part, this.filled);
      this.filled += part.length;
      at += part.length;
      if (this.filled === this.frame.length) {
        frames.push(this.frame.slice());
        this.filled = 0;
      }
    }
    return frames;
  }
}
