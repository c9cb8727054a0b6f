/**
 * Audio between the network and the loudspeaker: a little is collected before it plays, so that the network's small
 * delays are not heard; `clear` empties it at once.
 *
 *     filling --enough | its end is here | waited as long as enough takes--> playing --empty--> filling
 *     any --clear--> filling
 *
 * Running empty in the middle of a prompt makes it collect more the next time, up to a limit; a prompt without gaps makes
 * it collect less again. Marks are reached when the last sample before them has been played. Time is counted in samples.
 */

const MIN_MS = 40;
const MAX_MS = 200;
const GROW_MS = 30;
const SHRINK_MS = 10;
const FADE_SAMPLES = 64; // where sound is cut off, it goes to zero over these: a jump is heard as a click

export class JitterBuffer {
  /**
   * @param {number} rate samples a second, of what goes in and what comes out
   * @param {{minMs: number}} options the least that is collected
   */
  constructor(rate, { minMs = MIN_MS } = {}) {
    this.rate = rate;
    this.minMs = minMs;
    this.targetMs = minMs;
    this.gaps = 0; // times that it ran empty in the middle of a prompt
    this.written = 0;
    this.played = 0;
    this.fade = new Float32Array(0);
    this.last = 0;
    this.empty();
  }

  get queuedMs() {
    return ((this.written - this.played) / this.rate) * 1000;
  }

  /** @param {Float32Array} samples played after all that came before */
  push(samples) {
    if (samples.length === 0) return;
    this.chunks.push(samples);
    this.written += samples.length;
  }

  /** @param {string} name reached when all that was pushed before has been played: the end of a prompt */
  mark(name) {
    this.marks.push({ name, at: this.written });
    this.promptEnd = this.written;
  }

  /** Drop everything that has not been played, marks too. */
  clear() {
    const from = this.playing ? this.last : 0;
    this.fade = Float32Array.from({ length: FADE_SAMPLES }, (_, k) => from * (1 - (k + 1) / FADE_SAMPLES));
    this.written = this.played;
    this.empty();
  }

  /**
   * Fill a block for the loudspeaker, with silence where there is nothing to play.
   * @param {Float32Array} out
   * @returns {string[]} names of the marks that are reached with this block
   */
  read(out) {
    out.fill(0);
    out.set(this.fade.subarray(0, out.length));
    this.fade = this.fade.subarray(out.length);
    if (!this.playing && this.written > this.played) {
      this.waited += out.length;
      const enough = (this.targetMs * this.rate) / 1000;
      this.playing = this.written - this.played >= enough || this.waited >= enough || this.marks.length > 0;
    }
    if (this.playing) this.play(out);
    return this.reached();
  }

  play(out) {
    let at = 0;
    while (at < out.length && this.chunks.length > 0) {
      const chunk = this.chunks[0];
      const part = chunk.subarray(0, out.length - at);
      out.set(part, at);
      at += part.length;
      if (part.length === chunk.length) this.chunks.shift();
      else this.chunks[0] = chunk.subarray(part.length);
    }
    this.played += at;
    this.last = out[out.length - 1];
    if (at < out.length) this.ranEmpty();
  }

  ranEmpty() {
    const ended = this.promptEnd === this.written;
    if (!ended) this.gaps += 1;
    this.targetMs = ended ? Math.max(this.minMs, this.targetMs - SHRINK_MS) : Math.min(MAX_MS, this.targetMs + GROW_MS);
    this.playing = false;
    this.waited = 0;
  }

  reached() {
    const names = this.marks.filter((mark) => mark.at <= this.played).map((mark) => mark.name);
    this.marks = this.marks.filter((mark) => mark.at > this.played);
    return names;
  }

  empty() {
    this.chunks = [];
    this.marks = [];
    this.promptEnd = -1;
    this.playing = false;
    this.waited = 0; // samples since something came to be played
  }
}
