"""Which question of a bot's FAQ a text asks: the nearest wording, if it is near enough.

A text that is a question's very wording asks that, whatever else it may mean; any other is compared by its sentence
vector (`nlu.sentences`). Looking up costs a pass through a sentence encoder, so it is done only for what was not
understood, unless the bot wants it always (`FaqIndex.wants`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning
from nlu.normalization import bare_letters
from nlu.sentences import SentenceSpace, Vectors

__all__ = ["ALWAYS", "FaqIndex", "FaqLookup", "find_answers"]

ALWAYS = 2.0
"""`unsure_below` of a bot that wants every text looked up: no probability is as high."""


class FaqIndex:
    """A bot's questions, ready to be compared with. Immutable and shared."""

    def __init__(
        self,
        space: SentenceSpace,
        questions: Sequence[tuple[str, str]],
        *,
        threshold: float | None = None,
        unsure_below: float = 0.0,
    ) -> None:
        """
        Args:
            space: what makes the vectors.
            questions: (entry, wording), at least one.
            threshold: the cosine from which a wording is near; None: the space's own.
            unsure_below: a text whose intent has a lower probability was not understood.
        """
        self.space = space
        self.threshold = space.threshold if threshold is None else threshold
        self._unsure_below = unsure_below
        self._entries = [entry for entry, _ in questions]
        self._wordings = {bare_letters(wording): entry for entry, wording in questions}
        self._vectors: Vectors = space.embed([wording for _, wording in questions])

    def verbatim(self, text: str) -> FaqMatch | None:
        """The entry of which this is a wording; microseconds, for every text is asked for."""
        entry = self._wordings.get(bare_letters(text))
        return None if entry is None else FaqMatch(entry, 1.0, verbatim=True)

    def wants(self, meaning: Meaning) -> bool:
        """Whether a text of this meaning is to be looked up."""
        return meaning.intent == OUT_OF_SCOPE or meaning.score < self._unsure_below

    def nearest(self, vectors: Vectors) -> list[FaqMatch]:
        """The entry nearest to each row, however far it is."""
        alike = vectors @ self._vectors.T
        return [
            FaqMatch(self._entries[column], min(1.0, float(alike[row, column])))
            for row, column in enumerate(np.argmax(alike, axis=1))
        ]


@dataclass(frozen=True, slots=True)
class FaqLookup:
    """A text to be looked up in one bot's FAQ."""

    index: FaqIndex
    text: str


def find_answers(lookups: Sequence[FaqLookup]) -> list[FaqMatch | None]:
    """What each text asks, None where no question is near enough; texts of one space are encoded in one batch."""
    found: list[FaqMatch | None] = [None] * len(lookups)
    spaces = {id(lookup.index.space): lookup.index.space for lookup in lookups}
    for ident, space in spaces.items():
        places = [place for place, lookup in enumerate(lookups) if id(lookup.index.space) == ident]
        vectors = space.embed([lookups[place].text for place in places])
        for place, vector in zip(places, vectors, strict=True):
            index = lookups[place].index
            (match,) = index.nearest(vector[None])
            found[place] = match if match.score >= index.threshold else None
    return found
