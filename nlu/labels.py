"""Slot labels: BIO tags over words, and spans again. The best valid sequence of tags is found in `nlu.crf`.

Tags are laid out O, B-first, B-second, ..., I-first, I-second, ... so that the constraint "I-x follows B-x or
I-x" is arithmetic on columns, not a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["SlotTags", "Span"]


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
