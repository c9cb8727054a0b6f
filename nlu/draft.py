"""Text under rewriting that remembers where each of its characters came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Draft", "Rule", "substitution"]


@dataclass(slots=True)
class Draft:
    """A text on its way to the normal form. `starts[i]` and `ends[i]` bound the raw characters behind `text[i]`."""

    text: str
    starts: list[int]
    ends: list[int]

    @classmethod
    def of(cls, raw: str) -> Draft:
        """The text as it came."""
        return cls(raw, list(range(len(raw))), list(range(1, len(raw) + 1)))

    def edit(self, edits: Iterable[tuple[int, int, str]]) -> Draft:
        """Replace non-empty, ordered, disjoint spans; all characters of a replacement stand for the whole span."""
        pieces: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for start, end, text in edits:
            pieces += (self.text[done:start], text)
            starts += self.starts[done:start]
            ends += self.ends[done:start]
            starts += [self.starts[start]] * len(text)
            ends += [self.ends[end - 1]] * len(text)
            done = end
        if not pieces:
            return self
        return Draft("".join(pieces) + self.text[done:], starts + self.starts[done:], ends + self.ends[done:])


Rule: TypeAlias = Callable[[Draft], Draft]
"""One step of rewriting."""


def substitution(pattern: str, replacement: Callable[[re.Match[str]], str] | str) -> Rule:
    """The rule that replaces each match of a pattern, by a fixed text or by what a function makes of the match."""
    compiled = re.compile(pattern)

    def rule(draft: Draft) -> Draft:
        return draft.edit(
            (match.start(), match.end(), replacement if isinstance(replacement, str) else replacement(match))
            for match in compiled.finditer(draft.text)
        )

    return rule
