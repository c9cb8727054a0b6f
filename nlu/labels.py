"""Slot labels: BIO tags over words, the best valid tag sequence, and spans again.

Tags are laid out O, B-first, B-second, ..., I-first, I-second, ... so that the constraint "I-x follows B-x or
I-x" is arithmetic on columns, not a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scores", "SlotTags", "Span"]

Scores = NDArray[np.float32]
"""Tag scores of one text, shape (words, tags); only differences within a row matter."""


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch of characters, end exclusive."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SlotTags:
    """The BIO tags of a set of slot names. Tag 0 is O, then B of each name, then I of each name."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> SlotTags:
        """Tags for these names, in sorted order so that the same data gives the same model."""
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return 1 + 2 * len(self.names)

    def tag(self, spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[int]:
        """Tag words, given as character spans. A word belongs to the span that it overlaps.

        Spans of unknown names are passed over: their words are O.
        """
        tags = [0] * len(words)
        for span in spans:
            if span.name not in self.names:
                continue
            begin = 1 + self.names.index(span.name)
            inside = begin + len(self.names)
            covered = [i for i, (start, end) in enumerate(words) if start < span.end and span.start < end]
            for position, index in enumerate(covered):
                tags[index] = inside if position else begin
        return tags

    def decode(self, scores: Scores) -> list[int]:
        """The valid tag sequence with the highest sum of scores (Viterbi).

        Args:
            scores: float32, shape (words, tags).

        Returns:
            One tag a word; no I stands without its B or I before it.
        """
        count = len(self.names)
        if not len(scores):
            return []
        begin, inside = slice(1, 1 + count), slice(1 + count, 1 + 2 * count)
        best = scores[0].astype(np.float64)
        best[inside] = -np.inf
        # Any tag may precede O and B, so these share one predecessor; I has two to choose from.
        came_from = np.zeros((len(scores), len(self)), dtype=np.intp)
        for index in range(1, len(scores)):
            before = best
            after_begin = before[begin] >= before[inside]
            came_from[index] = before.argmax()
            came_from[index, inside] = np.arange(1, 1 + count) + np.where(after_begin, 0, count)
            best = before[came_from[index]] + scores[index]
        tags = [int(best.argmax())]
        for index in range(len(scores) - 1, 0, -1):
            tags.append(int(came_from[index, tags[-1]]))
        return tags[::-1]

    def spans(self, tags: Sequence[int], words: Sequence[tuple[int, int]]) -> list[Span]:
        """Character spans of a valid tag sequence, in text order."""
        spans: list[Span] = []
        count = len(self.names)
        for tag, (start, end) in zip(tags, words, strict=True):
            if tag > count:
                spans[-1] = Span(spans[-1].name, spans[-1].start, end)
            elif tag:
                spans.append(Span(self.names[tag - 1], start, end))
        return spans
