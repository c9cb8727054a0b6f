"""What one training is asked to do, and how it fails.

AudioError
└── TrainingError          it cannot start or go on
    └── TrainingDataError  recordings or text that it needs are missing or malformed
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from audio.formats import AudioError

__all__ = ["Shape", "TrainingDataError", "TrainingError", "TrainingSettings"]


class TrainingError(AudioError):
    """Training cannot start or go on; the message says why and what to do."""


class TrainingDataError(TrainingError):
    """Recordings or text that training needs are missing or malformed; the message says where they come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of a network. Width 256 with 4 + 2 layers and 1,009 tokens: 6.3 M parameters, 8 MB in int8.

    `phones` is set from the synthesiser.
    """

    width: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 2
    phones: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """One training, over all its runs."""

    out: Path
    """Its folder."""
    data: Path
    """Recordings and text, see `audio.recipe.recordings`."""
    minutes: float = 180.0
    """Training time, all runs together."""
    seed: int = 1
    ranks: int = 1
    """Processes, one a core."""
    device: str = "cpu"
    init_from: Path | None = None
    """Hugging Face folder to start from: weights and tokenizer."""
    bot: Path | None = None
    """Folder of a bot whose `examples.jsonl` is taught as well."""
    held_out: tuple[str, ...] = ()
    """Speakers that are not learnt from but tested on, beside every tenth; so FSDD's few get figures too."""
    shape: Shape = field(default_factory=Shape)
    vocabulary_tokens: int = 1000
    frame_budget: int = 4000
    """Padded mel frames in a batch of one process."""
    learn_rate: float | None = None
    """Peak; None: 3e-4 after a warm start (6e-4 undid more than it taught), 1.5e-3 else."""
    meet_every_s: float = 10.0
    """How long processes train apart before their weights are averaged."""
    save_every_s: float = 120.0
    cached_sentences: int = 3000
    """Sentences that each slow engine speaks, once."""

    @property
    def peak_learn_rate(self) -> float:
        """The learn rate after warm-up."""
        return self.learn_rate or (3e-4 if self.init_from else 1.5e-3)
