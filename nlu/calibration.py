"""Two numbers fitted on dev data after training: how sure a score is, and when text is out of scope.

Probability: intent scores are divided by a temperature before the softmax (Guo et al. 2017, "On Calibration of
Modern Neural Networks"). Rejection: the energy of the scores, log-sum-exp over the intents, is low for text
that no intent claims (Liu et al. 2020, "Energy-based Out-of-distribution Detection"); on a public
out-of-scope set it beat an extra "oos" class by far.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["FEW_LINES", "energies", "fit_temperature", "fit_threshold", "middle_threshold"]

FEW_LINES = 100
"""Below this many lines in scope their quantile says little of the next line."""

_TEMPERATURES = [10 ** (step / 100) for step in range(-30, 101)]  # 0.5 .. 10 in steps of 2.3 %


def energies(intent_scores: Tensor) -> Tensor:
    """Intent scores (lines, intents) -> (lines,); the higher, the more in scope."""
    return intent_scores.logsumexp(dim=1)


def fit_temperature(intent_scores: Tensor, intents: Tensor) -> float:
    """The temperature with the least negative log likelihood, 1.0 without data.

    Args:
        intent_scores: float32 (lines, intents).
        intents: int64 (lines,), the right ones.

    Returns:
        Within 0.5..10: a model that is right on all of a small dev set is not therefore sure of everything.
    """
    if not len(intents):
        return 1.0
    losses = {t: float(functional.cross_entropy(intent_scores / t, intents)) for t in _TEMPERATURES}
    return min(losses, key=losses.__getitem__)


def fit_threshold(in_scope: Tensor, out_of_scope: Tensor, *, rejected_share: float = 0.03) -> float:
    """The energy below which text is out of scope.

    Args:
        in_scope: energies of dev lines in scope, float32 (lines,).
        out_of_scope: energies of dev lines out of scope; may be empty.
        rejected_share: what may be lost of the lines in scope.

    Returns:
        Without out-of-scope lines the quantile that rejects `rejected_share`; of fewer than `FEW_LINES` lines, where
        that is hardly above the lowest of them, the bound that the next line falls below with that probability, if
        it is lower. With out-of-scope lines, the threshold among those that reject no more which parts the two best
        (sum of both recalls). -inf with less than two lines in scope: nothing is rejected.
    """
    if len(in_scope) < 2:
        return -torch.inf
    ceiling = float(in_scope.quantile(rejected_share))
    if len(in_scope) < FEW_LINES:
        ceiling = min(ceiling, _next_line_bound(in_scope, rejected_share))
    if not len(out_of_scope):
        return ceiling
    candidates = torch.cat([in_scope, out_of_scope, torch.tensor([ceiling])]).sort().values
    candidates = candidates[candidates <= ceiling]
    kept = (in_scope[None, :] >= candidates[:, None]).float().mean(dim=1)
    caught = (out_of_scope[None, :] < candidates[:, None]).float().mean(dim=1)
    return float(candidates[int((kept + caught).argmax())])


def middle_threshold(in_scope: Tensor, out_of_scope: Tensor) -> float:
    """A threshold by lines that were learnt from, both sorts: new ones lie between, so it is in the middle.

    Learnt by heart, lines in scope have energies that no new line reaches: their lowest would refuse everything.

    Returns:
        -inf where either sort is missing or the two are not apart: nothing is rejected.
    """
    if not len(in_scope) or not len(out_of_scope):
        return -torch.inf
    inside, outside = float(in_scope.mean()), float(out_of_scope.mean())
    return (inside + outside) / 2 if inside > outside else -torch.inf


def _next_line_bound(values: Tensor, share: float) -> float:
    """What one more of these values is below with probability `share`, were they normal: a prediction bound.

    Four values scatter: their own spread is often half of the truth. Student's quantile allows for that.
    """
    count = len(values)
    spread = float(values.std(correction=1)) * math.sqrt(1 + 1 / count)
    return float(values.mean()) + _student_quantile(share, count - 1) * spread


def _student_quantile(share: float, degrees: int) -> float:
    """Quantile of Student's t: exact for one and two degrees, else Fisher's expansion (within 2 % for 0.01 to 0.99)."""
    if degrees == 1:
        return math.tan(math.pi * (share - 0.5))
    if degrees == 2:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    z = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term * float(degrees) ** -power for power, term in enumerate(terms))
