"""Which frames are speech, and what does knowing it cost? The detectors on labelled turns, clean and in noise.

    python -m bench.detectors --data DIR [--turns 60] [--json FILE]

Frames of 20 ms against labels from energy on the clean clips (`bench/labelled_turns.py`): precision (of frames called
speech, those that are), recall (of speech, what was found) and specificity (of silence and noise, what was left alone).

    webrtc 1-3    WebRTC's detector at that aggressiveness
    silero        the network on every chunk; a frame has the verdict of the chunk that holds its last sample, known up
                  to 32 ms later: its best case
    cascade 1-3   `audio.cascade.CascadeDetector` over WebRTC's at that aggressiveness, as the endpointer gets it
    auto 2        the same, asked on noisy lines only: what calls get by default

Labels end with the sound; WebRTC's hang-over of 60 ms and Silero's 20-52 ms are counted as errors, as they should be by
whoever cuts exactly there; the endpointer keeps padding and does not.

CPU is this process's, of the fastest pass, in ms per second of audio, for 1 to 128 calls that are fed in turns, frame
by frame, so that the cascade's batches form as in a worker. One ms per second is 20 us a frame. Every call is a turn at
20 dB in a loop, so somebody speaks a good third of the time: more than a caller who also listens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audio.cascade import KEEP, NOISY_DBFS, START, CascadeDetector, SileroPool
from audio.detection import FRAME_MS, VoiceDetector, WebRtcDetector
from audio.formats import Pcm16
from audio.silero import CHUNK_MS, Floats, SileroModel
from bench.labelled_turns import SAMPLE_RATE_HZ, Noises, build_turns
from gateway.machine import describe_machine

SNRS_DB: tuple[float | None, ...] = (None, 20.0, 10.0, 5.0)
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
BATCHES = (1, 8, 32, 128)
PASSES = 3

Verdicts = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One detector in one noise, over all frames."""

    detector: str
    snr_db: float | None
    precision: float
    recall: float
    specificity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU per second of audio, `calls` at once; per frame in µs is 20 times that."""

    detector: str
    calls: int
    ms_per_s: float


class ChunkCounter(SileroModel):
    """The network, counting the chunks that it was asked about."""

    def __init__(self) -> None:
        super().__init__(SAMPLE_RATE_HZ)
        self.chunks = 0
        self.batches = 0

    def probabilities(self, states: Floats, chunks: Floats) -> tuple[Floats, Floats]:
        self.chunks += len(chunks)
        self.batches += 1
        return super().probabilities(states, chunks)


def frames(pcm: Pcm16) -> list[bytes]:
    wire, step = pcm.tobytes(), FRAME_SAMPLES * 2
    return [wire[at : at + step] for at in range(0, len(wire) - step + 1, step)]


def silero_alone(model: SileroModel, calls: Sequence[Pcm16]) -> list[Verdicts]:
    """The network on every chunk of calls of one length, in one batch."""
    size, context = model.chunk_samples, model.context_samples
    samples = np.stack(calls).astype(np.float32) / np.float32(32768)
    samples = np.pad(samples, ((0, 0), (context, size)))
    states = model.initial_states(len(calls))
    speaking = np.zeros(len(calls), bool)
    judged = []
    for at in range(0, samples.shape[1] - context - size + 1, size):
        found, states = model.probabilities(states, samples[:, at : at + context + size])
        speaking = found >= np.where(speaking, KEEP, START)
        judged.append(speaking)
    by_chunk = np.stack(judged, axis=1)
    ends = np.arange(FRAME_SAMPLES - 1, len(calls[0]), FRAME_SAMPLES)
    return [one[ends // size] for one in by_chunk]


def streaming(make: Callable[[], VoiceDetector]) -> Callable[[Sequence[Pcm16]], list[Verdicts]]:
    """Detectors of the seam, one a call, fed frame by frame in turns."""

    def judge(calls: Sequence[Pcm16]) -> list[Verdicts]:
        judges = [make().is_speech for _ in calls]
        turns = zip(*map(frames, calls), strict=True)
        rows = [[is_speech(frame) for is_speech, frame in zip(judges, row, strict=True)] for row in turns]
        return list(np.array(rows, bool).T)

    return judge


def detectors(model: SileroModel) -> dict[str, Callable[[Sequence[Pcm16]], list[Verdicts]]]:
    """By name: calls of one length to their frames' verdicts."""
    pool = SileroPool(model)
    levels = (1, 2, 3)
    return {
        **{f"webrtc {a}": streaming(partial(WebRtcDetector, SAMPLE_RATE_HZ, a)) for a in levels},
        "silero": partial(silero_alone, model),
        **{f"cascade {a}": streaming(partial(CascadeDetector, SAMPLE_RATE_HZ, pool, a)) for a in levels},
        "auto 2": streaming(partial(CascadeDetector, SAMPLE_RATE_HZ, pool, 2, noisy_from_dbfs=NOISY_DBFS)),
    }


def qualities(data: Path, turns: int) -> list[Quality]:
    """Every detector in every noise."""
    corpus, noises = build_turns(data, turns), Noises(data)
    rows = []
    for name, judge in detectors(SileroModel(SAMPLE_RATE_HZ)).items():
        for snr_db in SNRS_DB:
            counts = np.zeros((2, 2), int)  # [labelled speech][called speech]
            for seed, turn in enumerate(corpus):
                labels = turn.labels(FRAME_SAMPLES)
                (called,) = judge([noises.mix(turn, snr_db, seed)])
                np.add.at(counts, (labels.astype(int), called[: len(labels)].astype(int)), 1)
            (quiet, wrong), (lost, right) = counts.tolist()
            rows.append(
                Quality(
                    detector=name,
                    snr_db=snr_db,
                    precision=right / max(1, right + wrong),
                    recall=right / max(1, right + lost),
                    specificity=quiet / max(1, quiet + wrong),
                )
            )
    return rows


def costs(data: Path, seconds: int = 6) -> tuple[list[Cost], str]:
    """CPU of each detector for 1 to 128 calls at once, and how much of the audio the cascade asked Silero about."""
    corpus, noises = build_turns(data, 32), Noises(data)
    length = seconds * SAMPLE_RATE_HZ
    pieces = [np.resize(noises.mix(turn, 20.0, seed), length) for seed, turn in enumerate(corpus)]
    model = ChunkCounter()
    rows, asked = [], ""
    for name, judge in detectors(model).items():
        for calls in BATCHES:
            # Calls do not begin at once: shifted, so that their chunks complete in different frames.
            audio = [np.roll(pieces[call % len(pieces)], 997 * call) for call in range(calls)]
            best = float("inf")
            for _ in range(PASSES):
                model.chunks = model.batches = 0
                begun = time.process_time()
                judge(audio)
                best = min(best, time.process_time() - begun)
            rows.append(Cost(detector=name, calls=calls, ms_per_s=best * 1000 / (calls * seconds)))
        if name == "cascade 2":
            share = model.chunks * CHUNK_MS / (BATCHES[-1] * seconds * 10)
            per_batch = model.chunks / model.batches
            asked = f"cascade 2, {BATCHES[-1]} calls: Silero heard {share:.0f} % of it, {per_batch:.0f} chunks a batch"
    return rows, asked


def table(rows: Sequence[Quality], cpu: Sequence[Cost]) -> str:
    """The figures as text."""
    lines = [
        f"{'':<11}" + "".join(f"{'clean' if snr is None else f'{snr:g} dB':>21}" for snr in SNRS_DB),
        f"{'detector':<11}" + f"{'prec.':>9}{'rec.':>6}{'spec.':>6}" * len(SNRS_DB),
    ]
    for name in dict.fromkeys(row.detector for row in rows):
        own = [row for row in rows if row.detector == name]
        cells = "".join(f"{row.precision:>9.2f}{row.recall:>6.2f}{row.specificity:>6.2f}" for row in own)
        lines.append(f"{name:<11}{cells}")
    lines += [
        "",
        "CPU, ms per second of audio (20 dB)",
        f"{'detector':<11}" + "".join(f"{n:>8}" for n in BATCHES) + " calls",
    ]
    for name in dict.fromkeys(cost.detector for cost in cpu):
        lines.append(f"{name:<11}" + "".join(f"{cost.ms_per_s:>8.2f}" for cost in cpu if cost.detector == name))
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fsdd/ and speech/")
    parser.add_argument("--turns", type=int, default=60, help="how many (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()
    rows = qualities(args.data, args.turns)
    cpu, asked = costs(args.data)
    print(table(rows, cpu), asked, sep="\n")
    if args.json:
        document = {**describe_machine(), "quality": [asdict(row) for row in rows], "cpu": [asdict(row) for row in cpu]}
        args.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
