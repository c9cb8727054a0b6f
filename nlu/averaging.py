"""The mean of the weights that a model had at several ends of its training.

Models that were trained on from one and the same lie in one valley of the loss, and their mean lies deeper in it than
each: it answers like all of them voting, at the cost of one (Izmailov et al. 2018, "Averaging Weights Leads to Wider
Optima and Better Generalization"). Figures are in docs/nlu.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["WeightMean"]


@dataclass(slots=True)
class WeightMean:
    """A running mean; `weights` by name, of `count` models."""

    count: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take one more model into the mean. All have the same names and shapes, floating point."""
        self.count += 1
        if self.count == 1:
            self.weights = dict(weights)
        else:
            self.weights = {name: mean.lerp(weights[name], 1 / self.count) for name, mean in self.weights.items()}
