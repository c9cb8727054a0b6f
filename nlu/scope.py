"""How much a text is in scope: what the intents claim of it, and how near its wording is to any example.

Two views that fail differently. Energy, the log-sum-exp of the intent scores, is low for text that no intent claims
(Liu et al. 2020, "Energy-based Out-of-distribution Detection"); but an intent claims all that shares its key word.
The nearest training example by wording, the mean of the pretrained word vectors, knows nothing of intents and
notices what none of the examples speaks of (after Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest
Neighbors"). Each is scaled by its mean and spread over dev lines in scope, and they are added.

Wordings are kept in their 64 main directions: of 384, that loses nothing, and 10,000 examples take 1.3 MB.
Figures are in docs/nlu.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nlu.calibration import energies

__all__ = ["Scope"]

_DIRECTIONS = 64
_PREFIX = "scope."


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a model knows of its scope; all tensors float32.

    `centre` (size,) and `directions` (size, d) bring a wording to the space of `examples` (n, d), each of length 1.
    `means` and `spreads` (2,) are those of energy and nearness on dev.
    """

    centre: Tensor
    directions: Tensor
    examples: Tensor
    means: Tensor
    spreads: Tensor

    @classmethod
    def fit(cls, examples: Tensor, intent_scores: Tensor, wordings: Tensor, *, held_out: bool) -> Scope:
        """From data in scope alone.

        Args:
            examples: wordings of the training lines, float32 (n, size).
            intent_scores: of dev lines, float32 (lines, intents).
            wordings: of dev lines, float32 (lines, size).
            held_out: whether dev lines are other lines than the examples; else each line's own example is passed
                over, for it says nothing of how near a new line is.
        """
        centre = examples.mean(dim=0)
        centred = examples - centre
        # eigh gives directions in rising order of spread
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -_DIRECTIONS:].contiguous()
        fitted = cls(
            centre=centre,
            directions=directions,
            examples=functional.normalize(centred @ directions, dim=1),
            means=torch.zeros(2),
            spreads=torch.ones(2),
        )
        rank = 1 if held_out or len(examples) == 1 else 2
        parts = torch.stack([energies(intent_scores), fitted._nearness(wordings, rank)], dim=1)
        if not len(parts):
            return fitted
        # A spread of nothing would make everything unheard of.
        spreads = parts.std(dim=0, correction=0).clamp_min(1e-2)
        return cls(
            centre=centre, directions=directions, examples=fitted.examples, means=parts.mean(dim=0), spreads=spreads
        )

    def scores(self, intent_scores: Tensor, wordings: Tensor) -> Tensor:
        """(lines, intents) and (lines, size) -> float32 (lines,); the higher, the more in scope."""
        parts = torch.stack([energies(intent_scores), self._nearness(wordings, 1)], dim=1)
        return ((parts - self.means) / self.spreads).sum(dim=1)

    def _nearness(self, wordings: Tensor, rank: int) -> Tensor:
        """Cosine to the nearest example (`rank` 1), or the one after (2)."""
        placed = functional.normalize((wordings - self.centre) @ self.directions, dim=1)
        return (placed @ self.examples.T).topk(rank, dim=1).values[:, -1]

    def to(self, device: torch.device) -> Scope:
        """The same on `device`."""
        return Scope(**{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, to be stored with a model's weights."""
        return {_PREFIX + name: tensor for name, tensor in self._tensors().items()}

    @classmethod
    def take_from(cls, state: dict[str, Tensor]) -> Scope | None:
        """Build from what `state` gave, and take it out of the dictionary; None where nothing of it is in there.

        Raises:
            KeyError: a tensor is missing.
        """
        if not any(name.startswith(_PREFIX) for name in state):
            return None
        return cls(**{name: state.pop(_PREFIX + name) for name in cls.__dataclass_fields__})

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
