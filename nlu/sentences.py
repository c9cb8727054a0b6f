"""Texts as vectors whose cosine says how alike they are: what questions of an FAQ are found by.

Two ways, measured on the bundled bots' questions (`bench/faq.py`, figures in docs/nlu.md):

- a sentence encoder, where one comes with the project (`nlu.sentence_encoder`);
- for other languages `CharacterGrams`: characters and their pairs, weighted by how rare they are (tf-idf, after Salton
  & Buckley 1988). They know no synonyms, so a question wants more wordings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nlu.languages import primary_language
from nlu.normalization import plain_words

__all__ = ["CharacterGrams", "SentenceSpace", "Vectors"]

Vectors: TypeAlias = NDArray[np.float32]
"""Shape (texts, size); a row's length is 1, or less where part of the text is not known at all."""


class SentenceSpace(Protocol):
    """A way to make vectors of texts. Immutable and shared; it blocks."""

    threshold: float
    """The cosine from which two texts ask the same, as measured."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text, which may be of any length."""
        ...


class CharacterGrams:
    """Rare characters and pairs in common; satisfies `SentenceSpace`.

    Chinese has words of one and two characters, other languages are compared by pairs and triples of letters.
    """

    def __init__(self, known: Iterable[str], language: str) -> None:
        """`known` are the texts that tell which grams are rare: the questions, and any others of the same calls."""
        self._chinese = primary_language(language) == "zh"
        self._sizes = (1, 2) if self._chinese else (2, 3)
        self.threshold = 0.2 if self._chinese else 0.38
        counts = [set(self._grams(text)) for text in known]
        seen = Counter(gram for grams in counts for gram in grams)
        self._columns = {gram: column for column, gram in enumerate(seen)}
        self._weights = {gram: math.log((len(counts) + 1) / (count + 1)) for gram, count in seen.items()}
        self._rarest = math.log(len(counts) + 1)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `SentenceSpace.embed`."""
        rows = np.zeros((len(texts), len(self._columns)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            unknown = 0.0
            for gram, count in self._grams(text).items():
                weight = self._weights.get(gram, self._rarest) * math.sqrt(count)
                if gram in self._columns:
                    row[self._columns[gram]] = weight
                else:
                    unknown += weight**2  # what is in no known text makes the row like none of them
            row /= max(math.sqrt(float(row @ row) + unknown), 1e-6)
        return rows

    def _grams(self, text: str) -> Counter[str]:
        words = plain_words(text)
        joined = words.replace(" ", "") if self._chinese else f" {words} "
        return Counter(joined[at : at + size] for size in self._sizes for at in range(len(joined) - size + 1))
