/** Loudness of audio, in dB below the loudest that a call can carry (dBFS). */

export const FLOOR_DB = -60;

/** @param {Float32Array} samples between -1 and 1  @returns {number} root mean square, FLOOR_DB to 0 */
export function loudness(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return toDb(Math.sqrt(sum / Math.max(1, samples.length)));
}

/** @param {number} amplitude 0 to 1 */
export function toDb(amplitude) {
  return Math.min(0, Math.max(FLOOR_DB, 20 * Math.log10(Math.max(amplitude, 1e-9))));
}

/** @returns {number} 0 for silence, 1 for the loudest */
export function share(db) {
  return 1 - Math.min(0, Math.max(FLOOR_DB, db)) / FLOOR_DB;
}

/** A needle that jumps up and falls slowly: 20 dB in 300 ms, so that words can be seen. */
export class Needle {
  constructor() {
    this.db = FLOOR_DB;
  }

  /** @param {number} db the loudness now  @param {number} ms since the last move  @returns {number} what to show */
  move(db, ms) {
    this.db = Math.max(db, this.db - (20 * ms) / 300, FLOOR_DB);
    return this.db;
  }
}
