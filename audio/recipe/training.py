"""A training: prepared once, run on several processes, stopped and gone on with at will.

One process a core; each makes its own speech and trains on it, and all average their weights every ten
seconds (gloo). Rank 0 is the process that was started: stopping it (SIGSTOP) holds the others when they next
meet, and SIGTERM or Ctrl-C ends the run after a checkpoint. Time counts as training time only while steps
are being made, so a paused run neither loses its place in the learn rate's schedule nor hurries.

    OUT/tokenizer.json   OUT/speech/N/   OUT/checkpoint.pt   OUT/progress.jsonl
"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from random import Random
from types import FrameType

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer

from audio.recipe.export import read_never_heard
from audio.recipe.network import build_tokenizer
from audio.recipe.plan import TrainingError, TrainingSettings
from audio.recipe.recordings import Recordings
from audio.recipe.speech import Clip, ClipStore, SpeechMaker, VoiceSet, to_pcm16
from audio.recipe.texts import Texts, TextSource
from audio.recipe.trainer import Trainer, load_checkpoint

__all__ = ["Progress", "prepare", "train"]

LONGEST_STEP_S = 30.0
"""A step that took longer was paused, not slow."""
REPORT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; losses are means of rank 0 since the last report."""

    minutes: float
    of_minutes: float
    step: int
    presentations: int
    per_second: float
    token_loss: float
    character_loss: float
    phone_loss: float
    learn_rate: float


def prepare(settings: TrainingSettings, voices: VoiceSet, say: Callable[[str], None]) -> None:
    """Make what a training needs before its first step and is not there yet: tokenizer, cached speech.

    Raises:
        TrainingDataError: no recordings, or no examples of the bot.
        TrainingError: `init_from` is no model folder, or what the training goes on from has heard, or may have heard, a
            speaker that is to be held out.
    """
    Recordings.check(settings.data)
    _check_held_out(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    text = TextSource(Random(settings.seed), Texts.load(settings.data, settings.bot))
    tokenizer_file = settings.out / "tokenizer.json"
    if not tokenizer_file.exists():
        if settings.init_from:
            if not (settings.init_from / "model.safetensors").exists():
                raise TrainingError(
                    f"{settings.init_from} holds no model.safetensors; name a Hugging Face folder that an "
                    "earlier training exported (OUT/model)"
                )
            tokenizer = Tokenizer.from_file(str(settings.init_from / "tokenizer.json"))
        else:
            say("tokenizer: learning word pieces")
            texts = (text.draw(12) for _ in range(30_000))
            tokenizer = build_tokenizer(texts, settings.vocabulary_tokens)
        tokenizer.save(str(tokenizer_file))
    for index, maker in enumerate(voices.slow):
        folder = settings.out / "speech" / str(index)
        if not ClipStore.exists(folder) and settings.cached_sentences:
            rng = Random(f"{settings.seed} {maker.name}")
            ClipStore.write(folder, _speak_many(maker, text, rng, settings.cached_sentences, say))


def _check_held_out(settings: TrainingSettings) -> None:
    """A figure for people who were never heard is a lie where the weights come from somebody who heard them."""
    if (settings.out / "checkpoint.pt").exists():
        source, never_heard = settings.out / "checkpoint.pt", load_checkpoint(settings.out).never_heard
        mend = "name another --out"
    elif settings.init_from:
        source, never_heard = settings.init_from, read_never_heard(settings.init_from)
        mend = "start from a training that held them out too, or from nothing"
    else:
        return
    heard = [speaker for speaker in settings.held_out if speaker not in never_heard]
    if heard:
        raise TrainingError(
            f"{', '.join(heard)} cannot be held out: nobody says that {source} never heard them; {mend}"
        )


def _speak_many(
    maker: SpeechMaker, text: TextSource, rng: Random, count: int, say: Callable[[str], None]
) -> Iterator[Clip]:
    for done in range(count):
        if done % 250 == 0:
            say(f"{maker.name}: {done} of {count} sentences")
        sentence = text.draw(12)
        speech = maker.speak(sentence, rng)
        yield Clip(text=sentence, speaker=maker.name, pcm=to_pcm16(speech.samples, peak=0.9))


def train(settings: TrainingSettings, live: Callable[[], SpeechMaker], report: Callable[[Progress], None]) -> bool:
    """Train until `minutes` are used up, from the checkpoint in `out` if there is one.

    `prepare` first. `live` builds the synthesiser of each process; `report` is called in this process
    about every half minute.

    Returns:
        Whether they are used up; False after SIGINT or SIGTERM.

    Raises:
        TrainingDataError: the data folder lacks recordings.
        TrainingError: the checkpoint or `init_from` does not fit, or another process of the training died;
            run again to go on from the last checkpoint.
    """
    port = _free_port()
    context = mp.get_context("spawn")
    others = [
        context.Process(target=_run_rank, args=(rank, port, settings, live, None), daemon=True)
        for rank in range(1, settings.ranks)
    ]
    for process in others:
        process.start()
    try:
        finished = _run_rank(0, port, settings, live, report)
    except RuntimeError as error:
        dead = [process for process in others if process.exitcode]
        if dead:
            raise TrainingError(
                f"a training process ended with status {dead[0].exitcode}; its own message is above. Run the "
                "command again to go on from the last checkpoint"
            ) from error
        raise
    for process in others:
        process.join(timeout=60)
    return finished


def _run_rank(
    rank: int,
    port: int,
    settings: TrainingSettings,
    live: Callable[[], SpeechMaker],
    report: Callable[[Progress], None] | None,
) -> bool:
    """One process's whole part; False if it was asked to stop."""
    threads = torch.get_num_threads()
    if settings.device == "cpu":
        torch.set_num_threads(1)  # the processes are the parallelism
    torch.set_flush_denormal(True)
    if settings.ranks > 1:
        wait = timedelta(minutes=5)
        store = dist.TCPStore("127.0.0.1", port, settings.ranks, rank == 0, wait)  # type: ignore[attr-defined]
        dist.init_process_group(
            "gloo",  # on GPUs too: weights travel every ten seconds only, and ranks may share a GPU
            store=store,
            rank=rank,
            world_size=settings.ranks,
            timeout=timedelta(days=2),  # a paused training is no failure
        )
    try:
        with _stop_requests(ignore=rank > 0) as stop:
            trainer = Trainer(rank, settings, live())
            _loop(trainer, stop, report)
            return trainer.progress >= 1
    finally:
        # Both are the whole process's: who runs this in a program of their own gets them back as they were.
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
        if dist.is_initialized():
            dist.destroy_process_group()


def _loop(trainer: Trainer, stop: list[int], report: Callable[[Progress], None] | None) -> None:
    """Steps, meetings, checkpoints. Rank 0 keeps the clock, reports and saves."""
    settings = trainer.settings
    losses: list[tuple[float, float, float]] = []
    before = trainer.presentations
    reported = saved = now = time.monotonic()
    while trainer.progress < 1:
        meeting = now + settings.meet_every_s
        while True:
            losses.append(trainer.learn())
            last, now = now, time.monotonic()
            trainer.spent_s += min(now - last, LONGEST_STEP_S)
            if now >= meeting or stop or trainer.progress >= 1:
                break
        stopping = trainer.meet(stop=bool(stop))
        # Those who waited here for the slowest begin the next stretch with him. Reckoned from before, each would
        # be as much too early again, and wait as long, every time.
        now = time.monotonic()
        ending = stopping or trainer.progress >= 1
        if trainer.rank == 0 and (ending or now - reported > REPORT_EVERY_S):
            heard_per_s = (trainer.presentations - before) / max(1e-3, now - reported)
            _report(trainer, losses, heard_per_s, report)
            losses, before, reported = [], trainer.presentations, now
        if trainer.rank == 0 and (ending or now - saved > settings.save_every_s):
            trainer.save()
            saved = now
        if stopping:
            return


def _report(
    trainer: Trainer,
    losses: list[tuple[float, float, float]],
    heard_per_s: float,
    report: Callable[[Progress], None] | None,
) -> None:
    tokens, characters, phones = (sum(kind) / len(losses) for kind in zip(*losses, strict=True))
    progress = Progress(
        minutes=round(trainer.spent_s / 60, 2),
        of_minutes=trainer.settings.minutes,
        step=trainer.step,
        presentations=trainer.presentations,
        per_second=round(heard_per_s, 1),
        token_loss=round(tokens, 4),
        character_loss=round(characters, 4),
        phone_loss=round(phones, 4),
        learn_rate=trainer.learn_rate,
    )
    with (trainer.settings.out / "progress.jsonl").open("a") as file:
        file.write(json.dumps(asdict(progress)) + "\n")
    if report:
        report(progress)


@contextmanager
def _stop_requests(*, ignore: bool) -> Iterator[list[int]]:
    """Signals that ask for an end, noted instead of obeyed at once; ignored where rank 0 decides."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not ignore:
            noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
