// Resampler, jitter buffer, levels, frames: the parts of the softphone that run on the audio thread.

import assert from "node:assert/strict";
import { test } from "node:test";

import { JitterBuffer } from "../../../gateway/pages/shared/jitter_buffer.js";
import { FLOOR_DB, loudness, Needle, share } from "../../../gateway/pages/shared/levels.js";
import { Framer, fromPcm16, toPcm16 } from "../../../gateway/pages/shared/pcm.js";
import { Resampler } from "../../../gateway/pages/shared/resampler.js";

const tone = (hz, rate, samples) => Float32Array.from({ length: samples }, (_, n) => Math.sin((2 * Math.PI * hz * n) / rate));

/** Loudness of the steady middle, in dB of a full-scale sine's. */
function gain(hz, from, to) {
  const out = new Resampler(from, to).push(tone(hz, from, from / 2));
  const middle = out.subarray(out.length >> 2, (3 * out.length) >> 2);
  return 10 * Math.log10((2 * middle.reduce((sum, v) => sum + v * v, 0)) / middle.length);
}

for (const [from, to] of [[48000, 8000], [44100, 8000], [48000, 16000], [44100, 16000], [8000, 48000], [16000, 44100]]) {
  const half = Math.min(from, to) / 2;

  test(`${from} to ${to}: speech passes as it is`, () => {
    for (const hz of [100, half / 4, half / 2, 0.85 * half]) assert.ok(Math.abs(gain(hz, from, to)) < 0.1, `${hz} Hz`);
  });

  if (from > to) {
    test(`${from} to ${to}: what does not fit is gone, not folded back`, () => {
      for (const hz of [1.01 * half, 1.2 * half, 1.9 * half, 3 * half].filter((hz) => hz < from / 2)) {
        assert.ok(gain(hz, from, to) < -75, `${hz} Hz: ${gain(hz, from, to)} dB`);
      }
    });
  } else {
    test(`${from} to ${to}: no images above the call's own band`, () => {
      const out = new Resampler(from, to).push(tone(half / 2, from, from));
      const image = from - half / 2;
      let [re, im] = [0, 0];
      out.forEach((v, n) => {
        re += v * Math.cos((2 * Math.PI * image * n) / to);
        im += v * Math.sin((2 * Math.PI * image * n) / to);
      });
      assert.ok(20 * Math.log10((2 * Math.hypot(re, im)) / out.length) < -60);
    });
  }

  test(`${from} to ${to}: the pieces that audio comes in change nothing`, () => {
    const input = tone(440, from, 12000);
    const whole = new Resampler(from, to).push(input);
    const cut = new Resampler(from, to);
    const pieces = [];
    for (let at = 0, size = 1; at < input.length; at += size, size = (size * 7) % 389) {
      pieces.push(...cut.push(input.subarray(at, at + size)));
    }
    assert.deepEqual(pieces, [...whole]);
    assert.ok(Math.abs(whole.length - (12000 * to) / from) < 50 * (to / Math.min(from, to)), `${whole.length}`);
  });
}

test("the same rate is passed on, and after a reset nothing of before is left", () => {
  assert.deepEqual([...new Resampler(16000, 16000).push(Float32Array.of(0.5, -1))], [0.5, -1]);
  const used = new Resampler(48000, 8000);
  used.push(tone(440, 48000, 5000));
  used.reset();
  const input = tone(300, 48000, 4800);
  assert.deepEqual(used.push(input), new Resampler(48000, 8000).push(input));
});

// The jitter buffer, at 1000 samples a second: a sample is a millisecond.

const ones = (samples) => new Float32Array(samples).fill(1);
const read = (buffer, samples) => {
  const out = new Float32Array(samples);
  const reached = buffer.read(out);
  return { out, reached, played: out.filter((v) => v === 1).length };
};

test("nothing plays until a little is collected, then everything does, in order", () => {
  const buffer = new JitterBuffer(1000);
  buffer.push(ones(20));
  assert.equal(read(buffer, 10).played, 0);
  buffer.push(Float32Array.from({ length: 30 }, (_, n) => n + 2));
  assert.equal(read(buffer, 10).played, 10);
  assert.deepEqual([...read(buffer, 15).out], [...ones(10), 2, 3, 4, 5, 6]);
  assert.equal(buffer.queuedMs, 25);
});

test("a prompt shorter than that plays too: its end is known, or the wait is over", () => {
  const marked = new JitterBuffer(1000);
  marked.push(ones(20));
  marked.mark("p1");
  assert.deepEqual(read(marked, 20), { out: ones(20), reached: ["p1"], played: 20 });
  const unmarked = new JitterBuffer(1000);
  unmarked.push(ones(20));
  read(unmarked, 30);
  assert.equal(read(unmarked, 20).played, 20);
});

test("marks are reached when the last sample before them is played, each once", () => {
  const buffer = new JitterBuffer(1000);
  buffer.push(ones(50));
  buffer.mark("p1");
  buffer.push(ones(50));
  buffer.mark("p2");
  assert.deepEqual(read(buffer, 49).reached, []);
  assert.deepEqual(read(buffer, 1).reached, ["p1"]);
  assert.deepEqual(read(buffer, 128).reached, ["p2"]);
  assert.deepEqual(read(buffer, 128).reached, []);
});

test("clear empties it at once, marks too, and without a jump", () => {
  const buffer = new JitterBuffer(1000);
  buffer.push(ones(500));
  buffer.mark("p1");
  read(buffer, 100);
  buffer.clear();
  assert.equal(buffer.queuedMs, 0);
  const { out, reached } = read(buffer, 128);
  assert.deepEqual(reached, []);
  assert.ok(out[0] > 0.9 && out[0] < 1 && out[63] === 0 && out.slice(0, 63).every((v, n) => v > out[n + 1]));
  assert.ok(read(buffer, 128).out.every((v) => v === 0));
  buffer.push(ones(100));
  assert.equal(read(buffer, 128).played, 100);
});

test("clear in silence is silence", () => {
  const buffer = new JitterBuffer(1000);
  buffer.clear();
  assert.ok(read(buffer, 128).out.every((v) => v === 0));
});

test("a gap in the middle of a prompt makes it collect more, a prompt's end does not", () => {
  const buffer = new JitterBuffer(1000);
  buffer.push(ones(50));
  read(buffer, 128);
  assert.deepEqual([buffer.gaps, buffer.targetMs], [1, 70]);
  buffer.push(ones(60));
  assert.equal(read(buffer, 10).played, 0);
  buffer.push(ones(10));
  buffer.mark("p1");
  assert.equal(read(buffer, 70).played, 70);
  read(buffer, 128);
  assert.deepEqual([buffer.gaps, buffer.targetMs], [1, 60]);
});

test("however often it runs empty, it does not collect without bound", () => {
  const buffer = new JitterBuffer(1000);
  for (let n = 0; n < 50; n++) {
    buffer.push(ones(300));
    read(buffer, 500);
  }
  assert.equal(buffer.targetMs, 200);
});

// Samples, frames, levels.

test("samples go to 16 bits and back, too loud ones are clipped", () => {
  assert.deepEqual([...toPcm16(Float32Array.of(0, 1, -1, 2, -3, 0.5))], [0, 32767, -32767, 32767, -32767, 16384]);
  assert.deepEqual([...fromPcm16(Int16Array.of(0, -32768, 16384).buffer)], [0, -1, 0.5]);
  assert.deepEqual([...fromPcm16(new Uint8Array([0, 64, 7]).buffer)], [0.5]);
});

test("frames have one size, whatever size comes in", () => {
  const framer = new Framer(160);
  const frames = [];
  const all = Float32Array.from({ length: 1000 }, (_, n) => n);
  for (let at = 0; at < 1000; at += 128) frames.push(...framer.push(all.subarray(at, at + 128)));
  assert.equal(frames.length, 6);
  assert.deepEqual([...frames[5]], [...all.subarray(800, 960)]);
});

test("loudness is in dB of full scale, with a floor", () => {
  assert.equal(loudness(ones(100)), 0);
  assert.ok(Math.abs(loudness(ones(100).fill(0.1)) + 20) < 1e-4);
  assert.equal(loudness(new Float32Array(100)), FLOOR_DB);
  assert.equal(loudness(new Float32Array(0)), FLOOR_DB);
  assert.deepEqual([share(0), share(-30), share(-Infinity)], [1, 0.5, 0]);
});

test("the needle jumps up and falls slowly", () => {
  const needle = new Needle();
  assert.equal(needle.move(-10, 20), -10);
  assert.equal(needle.move(FLOOR_DB, 300), -30);
  assert.equal(needle.move(FLOOR_DB, 10000), FLOOR_DB);
});
