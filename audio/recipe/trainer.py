"""One process's part of a training: its network, optimiser, examples and place in the schedule; checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer

from audio.recipe.examples import Example, ExampleStream
from audio.recipe.network import Batch, SpeechNetwork, collate
from audio.recipe.plan import Shape, TrainingError, TrainingSettings
from audio.recipe.recordings import Recordings
from audio.recipe.speech import ClipStore, SpeechMaker
from audio.recipe.texts import Texts

__all__ = ["Checkpoint", "Trainer", "load_checkpoint"]

HEAD_WARM_UP_STEPS = 150
AVERAGE_STEPS = 500
"""Steps that the averaged weights look back on."""
BATCHES_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A network as a run left it."""

    network: SpeechNetwork
    tokenizer: Tokenizer
    presentations: int
    step: int
    minutes: float
    settings: dict[str, str]
    never_heard: tuple[str, ...]
    """Speakers held out from its first step on, and from whatever it started from."""


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
        never_heard=tuple(state.get("never_heard", ())),
    )


class Trainer:
    """Learns batch by batch, and meets the other processes now and then to average weights.

    Meeting every ten seconds instead of averaging gradients each step (local SGD) lets a process that gets
    little of its core slow down only itself: each one's weights count by the steps it made.

    Attributes:
        step: steps of this process; presentations: examples heard by all; spent_s: training time, all runs.
    """

    def __init__(self, rank: int, settings: TrainingSettings, maker: SpeechMaker) -> None:
        self.rank, self.settings = rank, settings
        self.step = self.presentations = 0
        self.spent_s = 0.0
        self._tokenizer = Tokenizer.from_file(str(settings.out / "tokenizer.json"))
        shape = Shape(**{**asdict(settings.shape), "phones": max(1, len(maker.phone_names))})
        torch.manual_seed(settings.seed)
        self._network = SpeechNetwork(self._tokenizer, shape)
        state = self._read_checkpoint()
        if state:
            self._network.load_state_dict(state["network"])
            self.step, self.presentations = state["step"], state["presentations"]
            self.spent_s = state["spent_s"]
        elif settings.init_from:
            self._network.load_whisper(settings.init_from)
        self._network.to(settings.device)
        self._parameters = [one for one in self._network.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.peak_learn_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        )
        if state:
            self._optimizer.load_state_dict(state["optimizer"])
        start = state["average"] if state else self._network.state_dict()
        self._average = {name: one.detach().clone().float().to(settings.device) for name, one in start.items()}
        self._steps_apart = self._heard_apart = 0
        # A resumed run draws new examples, and so does each process.
        self._rng = Random(f"{settings.seed} {rank} {self.step}")
        self._stream = ExampleStream(
            seed=self._rng.getrandbits(32),
            maker=maker,
            recordings=Recordings.load(settings.data, settings.held_out),
            cached=[ClipStore(folder) for folder in sorted((settings.out / "speech").glob("*"))],
            texts=Texts.load(settings.data, settings.bot),
        )
        self._waiting: list[list[Example]] = []

    @property
    def progress(self) -> float:
        """Share of the training time used, 0..1."""
        return min(1.0, self.spent_s / (60 * self.settings.minutes))

    @property
    def learn_rate(self) -> float:
        """Warm-up over 3 % of the time, then a cosine down to a hundredth."""
        warm_up = min(1.0, self.progress / 0.03 + 1e-3)
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress)) * 0.99 + 0.01
        return self.settings.peak_learn_rate * warm_up * cosine

    def learn(self) -> tuple[float, float, float]:
        """One step on fresh examples; the losses: tokens, characters, phones."""
        batch = self._next_batch()
        for group in self._optimizer.param_groups:
            group["lr"] = self.learn_rate
        warm = self.settings.init_from is not None
        losses = self._network.losses(
            batch,
            frame_budget=self.settings.frame_budget,
            heads_only=warm and self.step < HEAD_WARM_UP_STEPS,
            device=self.settings.device,
        )
        phone_weight = max(0.15, (0.5 if warm else 1.0) - 1.2 * self.progress)
        total = losses.tokens + 0.3 * losses.characters + phone_weight * losses.phones
        self._optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self.step += 1
        self._steps_apart += 1
        self._heard_apart += len(batch)
        return losses.tokens.item(), losses.characters.item(), losses.phones.item()

    def meet(self, *, stop: bool) -> bool:
        """Average weights with the other processes, take rank 0's clock; whether rank 0 says stop."""
        if self.settings.ranks > 1:
            flat = torch.cat([one.detach().flatten() for one in self._parameters]) * self._steps_apart
            counts = torch.tensor([self._steps_apart, self._heard_apart], dtype=torch.float64)
            clock = torch.tensor([self.spent_s, float(stop)], dtype=torch.float64)
            dist.all_reduce(flat)
            dist.all_reduce(counts)
            dist.broadcast(clock, 0)
            flat /= counts[0].item()
            torch.nn.utils.vector_to_parameters(flat, self._parameters)
            self._heard_apart = int(counts[1])
            self.spent_s, stop = clock[0].item(), bool(clock[1])
        self.presentations += self._heard_apart
        keep = min(math.exp(-self._steps_apart / AVERAGE_STEPS), self.step / (self.step + 200))
        for name, value in self._network.state_dict().items():
            self._average[name].lerp_(value.float(), 1 - keep)
        self._steps_apart = self._heard_apart = 0
        return stop

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "network": self._network.state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "shape": asdict(self._network.shape),
            "presentations": self.presentations,
            "step": self.step,
            "spent_s": self.spent_s,
            "settings": {name: str(value) for name, value in asdict(self.settings).items()},
            "never_heard": list(self.settings.held_out),  # `prepare` let the training go on, so it holds for all runs
        }
        part = self.settings.out / "checkpoint.pt.part"
        torch.save(state, part)
        part.replace(self.settings.out / "checkpoint.pt")

    def _next_batch(self) -> Batch:
        if not self._waiting:
            cold = self.settings.init_from is None  # then short texts first
            early = 4 if self.progress < 0.06 else 7 if self.progress < 0.3 else 12
            self._stream.max_words = early if cold else 12
            self._waiting = self._stream.batches(BATCHES_AHEAD, self.settings.frame_budget)
        examples, pad_to = self._waiting.pop(), 0
        kind = self._rng.random()
        if kind < 0.04:  # silence of every length after the words ...
            pad_to = self._rng.randint(400, 1200)
        elif kind < 0.05:  # ... up to the 30 s that faster-whisper's own transcribe() feeds
            pad_to = 3000
        if pad_to:
            budget = self.settings.frame_budget * (2 if pad_to == 3000 else 1)
            examples = examples[: max(2, budget // pad_to)]
        return collate(examples, self._tokenizer, self._rng, pad_to)

    def _read_checkpoint(self) -> dict[str, Any] | None:
        path = self.settings.out / "checkpoint.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["shape"] != asdict(self._network.shape):
            raise TrainingError(
                f"{path} is of a network of shape {state['shape']}, asked for is "
                f"{asdict(self._network.shape)}: ask for the same, or name another --out"
            )
        return state
