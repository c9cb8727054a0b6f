"""An inference process whose recogniser is not there: the words it would have given, after the time a GPU would take.

    python -m bench.simulated_asr --settings FILE --parent PID --words FILE --stats FILE --callers PATH... [--learn]

It answers over Redis streams from the seam's own `StreamServer` and `LocalInference`: batching, deadlines, urgencies
and what is shed are the product's, and so is the NLU model. Only `AsrEngine.transcribe` is replaced, in two ways:

    --learn    by the real recogniser, and every utterance's words are noted
    else       by a lock and a sleep for the time of a batch (`GpuTime`), and the words that were noted

How words are found again: callers say recordings, in frames of 20 ms, and an utterance is cut between frames. So its
frames, sample for sample, say which stretch of which recording it is, and the words noted for that stretch are those
that the real recogniser gave for the very same samples. An utterance that begins or ends some frames elsewhere gets the
words of the nearest stretch of that recording; how many did is counted as `guessed`, and what is no known recording's
is heard as nothing and counted as `unknown`. What this cannot show: how a recogniser errs under load (it does not know
of load), and what a GPU does while others use it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import torch
import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from audio.asr import AsrEngine, AsrJob, Transcript
from audio.formats import Pcm16
from dialogue.bots import load_bot
from gateway import background, logs
from gateway.inference.batching import BatcherSettings
from gateway.inference.choice import answer_asks
from gateway.inference.faq_indexing import faq_indexes
from gateway.inference.local import LocalInference
from gateway.inference.model_loading import BotModels
from gateway.inference.worker import load_asr, nlu_batches
from gateway.metrics import InferenceMetrics
from gateway.processes.facts import die_with_parent
from gateway.replay.load import Caller, read_callers
from gateway.settings import Settings

__all__ = [
    "Book",
    "GpuTime",
    "LearningRecogniser",
    "SimulatedRecogniser",
    "Stretch",
    "Stretches",
    "padded_frames",
    "words_not_known",
]

FRAME: Final = 160
_BUCKET: Final = 50
_MIN_TAIL: Final = 8
"""Both in mel frames of 10 ms: how `audio.whisper` pads for the bundled model."""
_SAMPLES_PER_MEL: Final = 80
_NEAR: Final = 15
"""Frames by which a stretch may differ at both ends together and still have the same words."""
_STATS_S: Final = 0.5
_GUESSED: Final = "simulated_guessed"
_UNKNOWN: Final = "simulated_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTime:
    """How long a batch takes. Estimated: no GPU was at hand where this was written, so measure yours and say so.

    `first_ms` is a batch of one short utterance: about what the bundled model takes on one core of a CPU
    (python -m bench.asr_batching), which a GPU should not exceed. `more` is what each further utterance adds, as a
    share of that: faster-whisper's README (v1.1.0, large-v2, fp16, RTX 3070 Ti) has 63 s one by one and 17 s by eights
    for the same 26 windows, so 8 windows cost 2.16 times one: (2.16 - 1) / 7 = 0.166. Longer than `short_s`, time grows
    with the padded length.
    """

    first_ms: float = 30.0
    more: float = 0.166
    short_s: float = 5.0

    def batch_s(self, jobs: int, padded_s: float) -> float:
        """Of a batch of so many, each padded to so many seconds."""
        return self.first_ms / 1000 * max(1.0, padded_s / self.short_s) * (1 + self.more * (jobs - 1))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames of a recording, first and last included."""

    recording: str
    first: int
    last: int


class Stretches:
    """Which stretch of which recording an utterance is."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._places: dict[bytes, tuple[str, int] | None] = {}
        for caller in callers:
            for recording in caller.recordings:
                name = f"{caller.name}/{recording.name}"
                for index, frame in enumerate(_frames(recording.pcm)):
                    # One that occurs twice says nothing.
                    self._places[frame] = None if frame in self._places else (name, index)

    def find(self, pcm: Pcm16) -> Stretch | None:
        """The recording that most of its frames are from; None where none of them is known."""
        found = [place for frame in _frames(pcm) if (place := self._places.get(frame)) is not None]
        if not found:
            return None
        ((name, _),) = Counter(recording for recording, _ in found).most_common(1)
        indices = [index for recording, index in found if recording == name]
        return Stretch(name, min(indices), max(indices))


@dataclass(slots=True)
class Book:
    """What the real recogniser heard in each stretch."""

    heard: dict[Stretch, Transcript] = field(default_factory=dict)
    guessed: int = 0
    unknown: int = 0

    def look_up(self, stretch: Stretch | None) -> Transcript:
        """The words of this stretch, or of the nearest."""
        if stretch is not None and (noted := self.heard.get(stretch)) is not None:
            return noted
        same = [known for known in self.heard if stretch is not None and known.recording == stretch.recording]
        if stretch is None or not same:
            self.unknown += 1
            return Transcript(text="")
        nearest = min(same, key=lambda known: _apart(known, stretch))
        self.guessed += _apart(nearest, stretch) > _NEAR
        return self.heard[nearest]

    def write(self, path: Path) -> None:
        """So that `read` finds it; never half of it."""
        noted = [[*asdict(stretch).values(), asdict(transcript)] for stretch, transcript in self.heard.items()]
        _replace(path, json.dumps(noted))

    @classmethod
    def read(cls, path: Path) -> Book:
        """What `write` wrote. Raises OSError or ValueError where it is not there."""
        return cls({Stretch(*place): Transcript(**words) for *place, words in json.loads(path.read_text())})


def words_not_known(stats: str) -> dict[str, int]:
    """How many utterances got the words of another stretch, and how many none; out of the process's statistics."""
    lines = dict(line.rsplit(" ", 1) for line in stats.splitlines() if line.startswith((_GUESSED, _UNKNOWN)))
    return {name.removeprefix("simulated_"): int(count) for name, count in lines.items()}


def padded_frames(job: AsrJob) -> int:
    """Mel frames of a job as the bundled model pads them."""
    frames = len(job.pcm) * 8000 // job.sample_rate_hz // _SAMPLES_PER_MEL
    return -(-(frames + _MIN_TAIL) // _BUCKET) * _BUCKET


class SimulatedRecogniser:
    """Satisfies `AsrEngine`: one GPU, which works on one batch at a time."""

    def __init__(self, book: Book, stretches: Stretches, gpu: GpuTime) -> None:
        self._book = book
        self._stretches = stretches
        self._gpu = gpu
        self._busy = threading.Lock()

    @property
    def name(self) -> str:
        return f"simulated ({self._gpu.first_ms:g} ms, {self._gpu.more:g} of it for each more)"

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        longest = max(map(padded_frames, jobs))
        with self._busy:
            time.sleep(self._gpu.batch_s(len(jobs), longest / 100))
        return [self._book.look_up(self._stretches.find(job.pcm)) for job in jobs]

    def padded_frames(self, job: AsrJob) -> int:
        return padded_frames(job)


class LearningRecogniser:
    """Satisfies `AsrEngine`: the real one, whose words are noted."""

    def __init__(self, real: AsrEngine, book: Book, stretches: Stretches) -> None:
        self._real = real
        self._book = book
        self._stretches = stretches

    @property
    def name(self) -> str:
        return self._real.name

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        heard = self._real.transcribe(jobs)
        for job, transcript in zip(jobs, heard, strict=True):
            if (stretch := self._stretches.find(job.pcm)) is not None:
                self._book.heard[stretch] = transcript
        return heard

    def padded_frames(self, job: AsrJob) -> int:
        return self._real.padded_frames(job)


def _frames(pcm: Pcm16) -> list[bytes]:
    data = pcm.astype("<i2", copy=False).tobytes()
    return [data[at : at + 2 * FRAME] for at in range(0, len(data) - 2 * FRAME + 1, 2 * FRAME)]


def _apart(one: Stretch, other: Stretch) -> int:
    return abs(one.first - other.first) + abs(one.last - other.last)


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(text)
    beside.replace(path)


async def _keep_stats(registry: CollectorRegistry, book: Book, path: Path) -> None:
    """The engines' metrics, twice a second, for the bench."""
    while True:
        counts = f"{_GUESSED} {book.guessed}\n{_UNKNOWN} {book.unknown}\n"
        _replace(path, generate_latest(registry).decode() + counts)
        await asyncio.sleep(_STATS_S)


async def _serve(args: argparse.Namespace, settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stretches = Stretches(read_callers(args.callers))
    book = Book() if args.learn else Book.read(args.words)
    asr: AsrEngine
    if args.learn:
        asr = LearningRecogniser(load_asr(settings.asr), book, stretches)
    else:
        asr = SimulatedRecogniser(book, stretches, GpuTime(first_ms=args.first_ms, more=args.more))
    batches = BatcherSettings(
        max_batch=1 if args.learn else settings.asr.max_batch or 16,
        max_wait_ms=settings.asr.max_wait_ms,
        max_padding=0.0,
    )
    texts = nlu_batches(settings.nlu, cuda=False)
    registry = CollectorRegistry()
    bots = [load_bot(name) for name in settings.all_bots]
    async with LocalInference(
        asr,
        BotModels(bots, settings.nlu).first(),
        faqs=faq_indexes(bots, device=settings.nlu.device),
        asr_settings=batches,
        nlu_settings=texts,
        metrics=InferenceMetrics(registry),
    ) as inference:
        server = await answer_asks(
            settings, Path(), inference, asr_batch=batches.max_batch, nlu_batch=texts.max_batch * texts.engines
        )
        keeping = asyncio.create_task(_keep_stats(registry, book, args.stats))
        await stop.wait()
        await background.stop([keeping])
        await server.stop()
    if args.learn:
        book.write(args.words)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the process; `bench.conversations` starts it."""
    gpu = GpuTime()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, required=True, help="as JSON; with the seam `streams` and a Redis")
    parser.add_argument("--parent", type=int, required=True, help="die with it")
    parser.add_argument("--words", type=Path, required=True)
    parser.add_argument("--stats", type=Path, required=True)
    parser.add_argument("--callers", type=Path, nargs="+", required=True)
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--first-ms", type=float, default=gpu.first_ms)
    parser.add_argument("--more", type=float, default=gpu.more)
    args = parser.parse_args(argv)
    die_with_parent(args.parent)
    settings = Settings.model_validate_json(args.settings.read_text())
    logs.configure(settings.log_level, settings.log_format, process="simulated inference")
    torch.set_num_threads(settings.asr.threads)
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(args, settings))


if __name__ == "__main__":
    main()
