"""How long, how fast and on how many cores to learn, by the number of examples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Schedule", "computing_with", "threads_for"]

_FEW = 3000  # up to here, a bot's own examples rather than a corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    batch_size: int
    encoder_rate: float
    head_rate: float
    patience: int
    """Epochs without a better dev score before stopping."""
    weight_decay: float = 0.01
    warm_up_share: float = 0.1
    gradient_norm: float = 1.0
    noisy_share: float = 0.4
    """Noisy copies an epoch, by lines (see `nlu.noise`)."""
    noise_rates: tuple[float, float] = (0.03, 0.24)
    """Word errors of a copy lie between these; 12 % on average is a telephone line on a fair day."""
    cycles: int = 0
    """Epochs after the others, each beginning anew with `cycle_rate` of the rates (see `nlu.averaging`)."""
    cycle_rate: float = 0.5

    @classmethod
    def for_size(cls, examples: int, epochs: int | None = None, *, pretrained: bool = True) -> Schedule:
        """The schedule for so many training lines; `epochs` overrides its own choice.

        One core learns about 130 lines a second, noisy copies included (a 6-layer, 384-wide encoder). A bot of its
        own has hundreds of lines: as many epochs as fit two minutes. From some thousands on, an epoch is long and
        few are needed: 15,000 lines take 8 epochs of about 3 minutes, and 3 cycles of one each.
        An encoder that is not `pretrained` learns all it knows here: at one rate with the head, and for longer.
        """
        if not pretrained:
            epochs = epochs or min(40, max(10, 60_000 // examples))
            batch_size = 16 if examples <= _FEW else 32
            return cls(
                epochs=epochs, batch_size=batch_size, encoder_rate=2e-3, head_rate=2e-3, patience=max(4, epochs // 3)
            )
        if examples <= _FEW:
            epochs = epochs or min(20, max(6, 9000 // examples))
            # The encoder learns slower than on a corpus, to keep what it knows of phrasings that the few examples
            # lack: 8e-5 instead of 2e-4 gave 90.0 instead of 86.1 % of a bot's intents said in new ways.
            # Patient, for slots start late: with few steps an epoch their F1 is 0 for some epochs.
            patience = max(4, epochs // 2)
            return cls(epochs=epochs, batch_size=16, encoder_rate=8e-5, head_rate=2e-3, patience=patience)
        epochs = epochs or 8
        cycles = min(3, epochs // 2)
        return cls(epochs=epochs, batch_size=32, encoder_rate=3e-4, head_rate=1e-3, patience=3, cycles=cycles)

    def rate(self, done: float) -> float:
        """What share of the rates to learn at: up from zero while warming up, then down to zero in a line.

        Args:
            done: the share of all steps that is behind, 0..1.
        """
        if done < self.warm_up_share:
            return done / self.warm_up_share
        return (1 - done) / (1 - self.warm_up_share)


def threads_for(examples: int) -> int:
    """One thread for a bot's own examples, all idle cores for more.

    Threads that share their cores spin while they wait for each other: on two busy cores, two threads took six
    times as long as one. And with one, the model depends on nothing but data and seed.
    """
    if examples <= _FEW:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - round(os.getloadavg()[0]))


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Set torch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
