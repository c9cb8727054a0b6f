"""A linear-chain CRF over slot tags: which tag likes to follow which, and the best sequence under it.

Scores of words alone leave the tags of a span to be agreed upon word by word; transition scores learnt with them make
"B-artist I-artist" cheaper than "B-artist I-album" where the words cannot tell (Lafferty et al. 2001, "Conditional
Random Fields"). Sequences that are no valid BIO have no probability at all, in training as in decoding; without
learnt transitions the same search keeps the rules alone ("constrained").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nlu.labels import SlotTags

__all__ = ["Crf", "Transitions", "bio_rules", "log_partition", "viterbi"]

Transitions = NDArray[np.float32]
"""Scores of tag pairs, shape (1 + tags, tags): row 0 is the start of the line, row 1 + i what follows tag i."""

_FORBIDDEN = -1e4  # exp() of it is 0 in float32, and sums of it stay finite


def bio_rules(tags: SlotTags) -> Transitions:
    """0 where a tag may follow, else `_FORBIDDEN`: I-x stands after B-x and I-x only."""
    names = len(tags.names)
    rules = np.zeros((1 + len(tags), len(tags)), dtype=np.float32)
    rules[:, 1 + names :] = _FORBIDDEN
    inside = np.arange(1 + names, 1 + 2 * names)
    rules[1 + inside - names, inside] = 0.0  # after its B
    rules[1 + inside, inside] = 0.0  # after itself
    return rules


class Crf(nn.Module):
    """Learnt transitions on top of the rules."""

    rules: Tensor

    def __init__(self, tags: SlotTags) -> None:
        super().__init__()
        self.learnt = nn.Parameter(torch.zeros(1 + len(tags), len(tags)))
        self.register_buffer("rules", torch.from_numpy(bio_rules(tags)), persistent=False)

    def transitions(self) -> Transitions:
        """Rules and what was learnt, for `viterbi`."""
        scores: Transitions = (self.learnt + self.rules).detach().float().cpu().numpy()
        return scores

    def negative_log_likelihood(self, scores: Tensor, targets: Tensor, word_counts: Tensor) -> Tensor:
        """How improbable the right tags are.

        Args:
            scores: float32 (lines, words, tags).
            targets: int64 (lines, words), valid BIO; what stands beyond a line's words is not read.
            word_counts: int64 (lines,), at least 1.

        Returns:
            float32 (lines,), in nats.
        """
        table = self.learnt + self.rules
        start, follow = table[0], table[1:]
        real = torch.arange(scores.shape[1], device=scores.device) < word_counts.to(scores.device)[:, None]
        right = targets.masked_fill(~real, 0)
        steps = torch.cat([start[right[:, :1]], follow[right[:, :-1], right[:, 1:]]], dim=1)
        emitted = scores.gather(2, right[:, :, None])[:, :, 0]
        gold = ((steps + emitted) * real).sum(dim=1)
        return log_partition(scores, word_counts, table) - gold


def log_partition(scores: Tensor, word_counts: Tensor, transitions: Tensor) -> Tensor:
    """The logarithm of the sum over all tag sequences of the exponential of their score: the forward algorithm.

    Args:
        scores: float32 (lines, words, tags).
        word_counts: int64 (lines,), at least 1; what stands beyond a line's words is not read.
        transitions: float32, see `Transitions`.

    Returns:
        float32 (lines,), in nats.
    """
    start, follow = transitions[0], transitions[1:]
    real = torch.arange(scores.shape[1], device=scores.device) < word_counts.to(scores.device)[:, None]
    # A matrix product of exponentials instead of a logsumexp over (lines, tags, tags) is four times as fast, and
    # the maximum taken out keeps it in range.
    weights = follow.exp()
    reached = start + scores[:, 0]
    for word in range(1, scores.shape[1]):
        highest = reached.amax(dim=1, keepdim=True).detach()
        sums = (reached - highest).exp() @ weights
        onward = sums.clamp_min(torch.finfo(sums.dtype).tiny).log() + highest + scores[:, word]
        reached = torch.where(real[:, word, None], onward, reached)
    return reached.logsumexp(dim=1)


def viterbi(scores: NDArray[np.float32], counts: Sequence[int], transitions: Transitions) -> list[list[int]]:
    """The best tag sequence of each line, all lines at once.

    Args:
        scores: (lines, words, tags).
        counts: words of each line; what stands beyond is not read.
        transitions: see `Transitions`.

    Returns:
        One list of tags a line, as long as its count.
    """
    start, follow = transitions[0], transitions[1:]
    # Where each tag came from is looked up only along the best path: maxima here, one argmax a word there.
    best = np.empty_like(scores)
    best[:, :1] = scores[:, :1] + start
    for word in range(1, scores.shape[1]):
        best[:, word] = (best[:, word - 1, :, None] + follow).max(axis=1) + scores[:, word]
    paths: list[list[int]] = []
    for line, count in zip(best, counts, strict=True):
        if not count:
            paths.append([])
            continue
        path = [int(line[count - 1].argmax())]
        for word in range(count - 2, -1, -1):
            path.append(int((line[word] + follow[:, path[-1]]).argmax()))
        paths.append(path[::-1])
    return paths
