"""Two numbers fitted on dev data after training: how sure a score is, and when text is out of scope.

Probability: intent scores are divided by a temperature before the softmax (Guo et al. 2017, "On Calibration of
Modern Neural Networks"). Rejection: the energy of the scores, log-sum-exp over the intents, is low for text
that no intent claims (Liu et al. 2020, "Energy-based Out-of-distribution Detection"); on a public
out-of-scope set it beat an extra "oos" class by far.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["energies", "fit_temperature", "fit_threshold"]

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
        Without out-of-scope lines the quantile that rejects `rejected_share`. With them, the threshold among
        those that reject no more which parts the two best (sum of both recalls). -inf without lines in
        scope: nothing is rejected.
    """
    if not len(in_scope):
        return -torch.inf
    ceiling = float(in_scope.quantile(rejected_share))
    if not len(out_of_scope):
        return ceiling
    candidates = torch.cat([in_scope, out_of_scope, torch.tensor([ceiling])]).sort().values
    candidates = candidates[candidates <= ceiling]
    kept = (in_scope[None, :] >= candidates[:, None]).float().mean(dim=1)
    caught = (out_of_scope[None, :] < candidates[:, None]).float().mean(dim=1)
    return float(candidates[int((kept + caught).argmax())])
