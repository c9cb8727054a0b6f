"""The training loop: warm or cold start, several processes, checkpoints that a later run goes on from.

One process a core. Each makes its own speech and trains on it; gradients are averaged every step (gloo on
CPUs, nccl on GPUs). Rank 0 is the process that was started: stopping it (SIGSTOP) holds the others at the
next step, and SIGTERM or Ctrl-C ends the run after a checkpoint. Time counts as training time only while
steps are being made, so a paused run neither loses its place in the learn rate's schedule nor hurries.

    OUT/tokenizer.json   OUT/speech/N/   OUT/checkpoint.pt   OUT/progress.jsonl
"""

from __future__ import annotations

import json
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer
from torch import Tensor

from audio.formats import AudioError
from audio.recipe.examples import Example, ExampleStream
from audio.recipe.network import Batch, Shape, SpeechNetwork, build_tokenizer, collate
from audio.recipe.recordings import Recordings
from audio.recipe.speech import Clip, ClipStore, SpeechMaker, VoiceSet, to_pcm16
from audio.recipe.texts import Texts, TextSource

__all__ = [
    "Checkpoint",
    "Progress",
    "TrainingError",
    "TrainingSettings",
    "load_checkpoint",
    "prepare",
    "train",
]

log = logging.getLogger(__name__)

LONGEST_STEP_S = 30.0
"""A step that took longer was paused, not slow."""
HEAD_WARM_UP_STEPS = 150
WEIGHT_AVERAGE_EVERY = 10


class TrainingError(AudioError):
    """Training cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """One training. `minutes` counts training time over all runs; `frame_budget` is padded mel frames in a
    batch of one process; `cached_sentences` are spoken once by each slow engine."""

    out: Path
    data: Path
    minutes: float = 180.0
    seed: int = 1
    ranks: int = 1
    device: str = "cpu"
    init_from: Path | None = None
    bot: Path | None = None
    """Folder of a bot whose `examples.jsonl` is taught as well."""
    shape: Shape = Shape()
    vocabulary_tokens: int = 1000
    frame_budget: int = 4000
    learn_rate: float | None = None
    """Peak; None: 3e-4 after a warm start (6e-4 undid more than it taught), 1.5e-3 else."""
    save_every_s: float = 120.0
    cached_sentences: int = 3000

    @property
    def peak_learn_rate(self) -> float:
        """The learn rate after warm-up."""
        return self.learn_rate or (3e-4 if self.init_from else 1.5e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; losses are means since the last report."""

    minutes: float
    of_minutes: float
    step: int
    presentations: int
    per_second: float
    token_loss: float
    character_loss: float
    phone_loss: float
    learn_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network as a run left it, with averaged weights (`averaged=True`) or the last ones."""

    network: SpeechNetwork
    tokenizer: Tokenizer
    presentations: int
    step: int
    minutes: float
    settings: dict[str, Any]


def prepare(settings: TrainingSettings, voices: VoiceSet, say: Callable[[str], None]) -> None:
    """Make what a training needs before its first step and is not there yet: tokenizer, cached speech.

    Raises:
        TrainingDataError: the data folder lacks recordings.
        TrainingError: `init_from` is no model folder.
    """
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


def _speak_many(
    maker: SpeechMaker, text: TextSource, rng: Random, count: int, say: Callable[[str], None]
) -> Iterator[Clip]:
    for done in range(count):
        if done % 250 == 0:
            say(f"{maker.name}: {done} of {count} sentences")
        sentence = text.draw(12)
        speech = maker.speak(sentence, rng)
        yield Clip(text=sentence, speaker=maker.name, pcm=to_pcm16(speech.samples, peak=0.9))


def train(settings: TrainingSettings, live: Callable[[], SpeechMaker], report: Callable[[Progress], None]) -> None:
    """Train until `minutes` are used up, from the checkpoint in `out` if there is one.

    `prepare` first. `live` builds the synthesiser of each process; `report` is called in this process
    about every half minute.

    Raises:
        TrainingError: another process of the training died; run again to go on from the last checkpoint.
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


def load_checkpoint(out: Path, *, averaged: bool = True) -> Checkpoint:
    """Read `out/checkpoint.pt`; by default the exponentially averaged weights, which are better.

    Raises:
        TrainingError: there is none yet.
    """
    if not (out / "checkpoint.pt").exists():
        raise TrainingError(f"no checkpoint.pt in {out}: train first, the first one comes after two minutes")
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    network = SpeechNetwork(tokenizer, Shape(**state["shape"]))
    network.load_state_dict(state["average" if averaged else "network"])
    return Checkpoint(
        network=network,
        tokenizer=tokenizer,
        presentations=state["presentations"],
        step=state["step"],
        minutes=state["spent_s"] / 60,
        settings=state["settings"],
    )


class _Run:
    """One process's part of a training: its network, optimiser and place in the schedule."""

    def __init__(self, rank: int, settings: TrainingSettings, maker: SpeechMaker) -> None:
        self.rank, self.settings = rank, settings
        self.tokenizer = Tokenizer.from_file(str(settings.out / "tokenizer.json"))
        shape = Shape(**{**asdict(settings.shape), "phones": max(1, len(maker.phone_names))})
        torch.manual_seed(settings.seed)
        self.network = SpeechNetwork(self.tokenizer, shape)
        self.step = self.presentations = 0
        self.spent_s = 0.0
        state = self._read_checkpoint()
        if state:
            self.network.load_state_dict(state["network"])
            self.step, self.presentations, self.spent_s = (state[key] for key in ("step", "presentations", "spent_s"))
        elif settings.init_from:
            try:
                self.network.load_whisper(settings.init_from)
            except ValueError as error:
                raise TrainingError(str(error)) from None
        self.network.to(settings.device)
        self.parameters = [one for one in self.network.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.peak_learn_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        )
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
        start = state["average"] if state else self.network.state_dict()
        self.average = {name: one.detach().clone().float() for name, one in start.items()}
        # A resumed run draws new examples; ranks draw different ones, but pad alike.
        self.rng = Random(f"{settings.seed} {rank} {self.step}")
        self.shared_rng = Random(f"{settings.seed} {self.step}")
        self.stream = ExampleStream(
            seed=self.rng.getrandbits(32),
            maker=maker,
            recordings=Recordings.load(settings.data),
            cached=[ClipStore(folder) for folder in sorted((settings.out / "speech").glob("*"))],
            texts=Texts.load(settings.data, settings.bot),
        )
        self._waiting: list[list[Example]] = []

    @property
    def progress(self) -> float:
        """Share of the training time used, 0..1."""
        return min(1.0, self.spent_s / (60 * self.settings.minutes))

    def next_batch(self) -> Batch:
        """A batch of this process's own examples; every process has as many frames to compute."""
        if not self._waiting:
            cold = self.settings.init_from is None
            self.stream.max_words = 4 if cold and self.progress < 0.06 else 7 if cold and self.progress < 0.3 else 12
            self._waiting = self.stream.batches(8, self.settings.frame_budget)
        examples, pad_to = self._waiting.pop(), 0
        kind = self.shared_rng.random()
        if kind < 0.04:  # silence of every length after the words ...
            pad_to = self.shared_rng.randint(400, 1200)
        elif kind < 0.05:  # ... up to the 30 s that faster-whisper's own transcribe() feeds
            pad_to = 3000
        if pad_to:
            budget = self.settings.frame_budget * (2 if pad_to == 3000 else 1)
            examples = examples[: max(2, budget // pad_to)]
        return collate(examples, self.tokenizer, self.rng, pad_to)

    def learn(self, batch: Batch) -> tuple[float, float, float]:
        """One step on every process; returns this one's losses (tokens, characters, phones)."""
        x = self.progress
        rate = self.settings.peak_learn_rate * min(1.0, x / 0.03 + 1e-3)
        rate *= 0.5 * (1 + math.cos(math.pi * x)) * 0.99 + 0.01
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        warm = self.settings.init_from is not None
        losses = self.network.losses(
            batch,
            frame_budget=self.settings.frame_budget,
            heads_only=warm and self.step < HEAD_WARM_UP_STEPS,
            device=self.settings.device,
        )
        phone_weight = max(0.15, (0.5 if warm else 1.0) - 1.2 * x)
        total = losses.tokens + 0.3 * losses.characters + phone_weight * losses.phones
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self.presentations += len(batch) * self.settings.ranks
        if self.rank == 0 and self.step % WEIGHT_AVERAGE_EVERY == 0:
            keep = min(0.98, self.step / (self.step + 200))
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value.float(), 1 - keep)
        return losses.tokens.item(), losses.characters.item(), losses.phones.item()

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        settings = {name: str(value) for name, value in asdict(self.settings).items()}
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "shape": asdict(self.network.shape),
            "presentations": self.presentations,
            "step": self.step,
            "spent_s": self.spent_s,
            "settings": settings,
        }
        part = self.settings.out / "checkpoint.pt.part"
        torch.save(state, part)
        part.replace(self.settings.out / "checkpoint.pt")

    def _read_checkpoint(self) -> dict[str, Any] | None:
        path = self.settings.out / "checkpoint.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["shape"] != asdict(self.network.shape):
            raise TrainingError(
                f"{path} is of a network of shape {state['shape']}, asked for is "
                f"{asdict(self.network.shape)}: ask for the same, or name another --out"
            )
        return state

    def _average_gradients(self) -> None:
        if self.settings.ranks == 1:
            return
        flat = torch.cat([_gradient(one).flatten() for one in self.parameters])
        dist.all_reduce(flat)
        flat /= self.settings.ranks
        first = 0
        for one in self.parameters:
            one.grad = flat[first : first + one.numel()].view_as(one)
            first += one.numel()


def _run_rank(
    rank: int,
    port: int,
    settings: TrainingSettings,
    live: Callable[[], SpeechMaker],
    report: Callable[[Progress], None] | None,
) -> bool:
    """The loop of one process. Rank 0 keeps the clock, reports and saves. False if it was asked to stop."""
    if settings.device == "cpu":
        torch.set_num_threads(1)  # the processes are the parallelism
    torch.set_flush_denormal(True)
    if settings.ranks > 1:
        dist.init_process_group(
            "nccl" if settings.device == "cuda" else "gloo",
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=settings.ranks,
            timeout=timedelta(days=2),  # a paused training is no failure
        )
    try:
        with _stop_requests(ignore=rank > 0) as stop:
            return _loop(_Run(rank, settings, live()), stop, report)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _loop(run: _Run, stop: list[int], report: Callable[[Progress], None] | None) -> bool:
    settings = run.settings
    sums, steps, seen_before = [0.0, 0.0, 0.0], 0, run.presentations
    reported = saved = last = time.monotonic()
    while True:
        now = time.monotonic()
        run.spent_s += min(now - last, LONGEST_STEP_S)
        last = now
        if settings.ranks > 1:  # one clock for all, or they would stop at different steps
            clock = torch.tensor([run.spent_s, float(bool(stop))], dtype=torch.float64, device=settings.device)
            dist.broadcast(clock, 0)
            run.spent_s, stopping = float(clock[0]), bool(clock[1])
        else:
            stopping = bool(stop)
        ended = run.progress >= 1 or stopping
        if run.rank == 0 and steps and (ended or now - reported > 30):
            progress = Progress(
                minutes=round(run.spent_s / 60, 2),
                of_minutes=settings.minutes,
                step=run.step,
                presentations=run.presentations,
                per_second=round((run.presentations - seen_before) / max(1e-3, now - reported), 1),
                token_loss=round(sums[0] / steps, 4),
                character_loss=round(sums[1] / steps, 4),
                phone_loss=round(sums[2] / steps, 4),
                learn_rate=run.optimizer.param_groups[0]["lr"],
            )
            with (settings.out / "progress.jsonl").open("a") as file:
                file.write(json.dumps(asdict(progress)) + "\n")
            if report:
                report(progress)
            sums, steps, seen_before, reported = [0.0, 0.0, 0.0], 0, run.presentations, now
        if run.rank == 0 and (ended or now - saved > settings.save_every_s):
            run.save()
            saved = now
        if ended:
            return run.progress >= 1
        for index, loss in enumerate(run.learn(run.next_batch())):
            sums[index] += loss
        steps += 1


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


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
