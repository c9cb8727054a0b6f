"""Text as a recogniser would have misheard it: word errors by sound, with the slots moved along.

A recogniser's errors are not typing errors: it writes real words that sound alike ("add westbam" -> "at west
bam"), leaves out short words, and hears words in noise. So a word is replaced by one of nearly the same sound from
a lexicon of common words, or falls apart into two that together sound like it; some words are dropped, some put in.

Sound is judged from the spelling, by rules in the manner of Metaphone (Philips 1990): rough, but it needs no
pronouncing dictionary and knows every word. English only; another language brings its own `Noise`.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Protocol

from nlu.data import Example
from nlu.meaning import Slot

__all__ = ["Edit", "EnglishNoise", "Noise", "edited", "sound"]

Edit = tuple[int, int, str]
"""A span of the text and what stands there instead; an empty span inserts."""


class Noise(Protocol):
    """Makes noisy copies of examples."""

    def noisy(self, example: Example, rate: float, chance: random.Random) -> Example:
        """The example with about `rate` (0..1) of its words misheard; slots that lost all their words are gone."""
        ...


_LEXICAL = re.compile(r"[a-z]{2,}|[ai]")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_HEARD_IN_NOISE = ("a", "the", "to", "in", "and", "of", "uh", "um", "is", "it", "i", "on", "that", "for", "you")
_CANDIDATES = 8
_MIN_SPLIT = 5  # letters; a shorter word rarely falls apart

# What becomes of a misheard word; the rest is a substitution. Shares as in published analyses of recognisers'
# errors: most are substitutions, deletions are about twice as frequent as insertions.
_DELETED, _INSERTED, _SPLIT = 0.18, 0.10, 0.12

_SOUNDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"[^a-z0-9]", ""),
        (r"^(?:kn|gn|pn)", "n"),
        (r"^wr", "r"),
        (r"^ps", "s"),
        (r"^x", "z"),
        (r"mb$", "m"),
        (r"ph", "f"),
        (r"gh(?=t|$)", ""),
        (r"gh", "g"),
        (r"t?ch|tu(?=r)", "C"),
        (r"sch|sh|[tcs]i(?=[oa]n?)", "S"),
        (r"th", "0"),
        (r"wh", "w"),
        (r"c(?=[eiy])", "s"),
        (r"dg(?=[eiy])|g(?=[eiy])", "j"),
        (r"ck|c|q", "k"),
        (r"x", "ks"),
        (r"(?<=[a-z0])e$", ""),
        (r"e[ea]|ie|ey|y", "i"),
        (r"oo|ou|ew|ue|ui", "u"),
        (r"a[iy]|ei", "e"),
        (r"a[uw]|oa|ow", "o"),
        (r"([aeiou])[aeiou]+", r"\1"),
        (r"h(?![aeiou])", ""),
        (r"(.)\1+", r"\1"),
    )
)


@lru_cache(maxsize=65536)
def sound(word: str) -> str:
    """A rough code of how an English word sounds: alike words share it, or differ by one letter of it."""
    code = word.lower()
    for pattern, replacement in _SOUNDS:
        code = pattern.sub(replacement, code)
    return code


class EnglishNoise:
    """Recogniser-like errors in English text.

    Args:
        words: the lexicon of what may be heard, commonest first: a recogniser prefers words that it knows.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._rank = {word: rank for rank, word in enumerate(dict.fromkeys(words)) if _WORD.fullmatch(word)}
        self._by_sound: dict[str, list[str]] = defaultdict(list)
        # Codes one edit apart share themselves or one of their one-letter deletions.
        self._near: dict[str, list[str]] = defaultdict(list)
        for word in self._rank:
            code = sound(word)
            if code:
                self._by_sound[code].append(word)
        for code in self._by_sound:
            for shorter in _deletions(code):
                self._near[shorter].append(code)
        self._alike: dict[str, tuple[list[str], list[float]]] = {}

    @classmethod
    def of(cls, vocabulary: Mapping[str, int], texts: Iterable[str]) -> EnglishNoise:
        """Noise with the words of an encoder's vocabulary, whose low numbers are common words, and of `texts`."""
        common = sorted((word for word in vocabulary if _LEXICAL.fullmatch(word)), key=vocabulary.__getitem__)
        return cls([*common, *(word for text in texts for word in _WORD.findall(text.lower()))])

    def noisy(self, example: Example, rate: float, chance: random.Random) -> Example:
        """See `Noise`. The same state of `chance` gives the same copy."""
        matches = list(_WORD.finditer(example.text))
        edits: list[Edit] = []
        for index, match in enumerate(matches):
            if chance.random() >= rate:
                continue
            kind = chance.random()
            if kind < _DELETED and len(matches) > 1:
                # With the space after it, or the one before where it is the last.
                last = index + 1 == len(matches)
                start = matches[index - 1].end() if last else match.start()
                edits.append((start, match.end() if last else matches[index + 1].start(), ""))
            elif kind < _DELETED + _INSERTED:
                edits.append((match.end(), match.end(), f" {chance.choice(_HEARD_IN_NOISE)}"))
            else:
                split = kind < _DELETED + _INSERTED + _SPLIT
                edits.append((match.start(), match.end(), self._misheard(match.group(), split, chance)))
        return edited(example, edits)

    def _misheard(self, word: str, split: bool, chance: random.Random) -> str:
        if word.isdigit():
            place = chance.randrange(len(word))
            return f"{word[:place]}{chance.choice('0123456789')}{word[place + 1 :]}"
        words, weights = self._sounding_like(word.lower())
        if (split or not words) and (pairs := list(self._pairs(word.lower()))):
            return chance.choice(pairs)
        if words:
            return chance.choices(words, weights)[0]
        # Nothing sounds like it: a recogniser writes part of it.
        return word[: max(1, len(word) - chance.randint(1, 2))]

    def _sounding_like(self, word: str) -> tuple[list[str], list[float]]:
        """Candidates and their weights; homophones first, common words before rare ones."""
        if word not in self._alike:
            code = sound(word)
            near = {found for shorter in _deletions(code) for found in self._near.get(shorter, ())}
            weighed = sorted(
                ((4.0 if found == code else 1.0) / (1 + self._rank[other] / 2000), other)
                for found in near
                if _one_edit_apart(found, code)
                for other in self._by_sound[found]
                if other != word
            )[::-1][:_CANDIDATES]
            self._alike[word] = [other for _, other in weighed], [weight for weight, _ in weighed]
        return self._alike[word]

    def _pairs(self, word: str) -> Iterator[str]:
        """Two known words each that together sound like `word`."""
        if len(word) < _MIN_SPLIT:
            return
        for place in range(2, len(word) - 1):
            first, second = (self._by_sound.get(sound(part)) for part in (word[:place], word[place:]))
            if first and second:
                yield f"{first[0]} {second[0]}"


def edited(example: Example, edits: Iterable[Edit]) -> Example:
    """Apply ordered edits to the text and move the slots along.

    An edit that begins before the one before it has ended is left out. What is inserted at a slot's border stays
    outside it. A slot that holds part of a replaced stretch has all that stands there now, the first one where two
    share it; a slot left without a word is dropped.
    """
    applied: list[Edit] = []
    for edit in edits:
        if not applied or edit[0] >= applied[-1][1]:
            applied.append(edit)
    pieces: list[str] = []
    done = 0
    for start, end, new in applied:
        pieces += (example.text[done:start], new)
        done = end
    text = "".join(pieces) + example.text[done:]
    slots: list[Slot] = []
    for slot in example.slots:
        first = next((a for a, b, _ in applied if a < slot.start < b), slot.start)
        last = next((b for a, b, _ in applied if a < slot.end < b), slot.end)
        start = first + sum(len(new) - (b - a) for a, b, new in applied if b <= first)
        end = last + sum(len(new) - (b - a) for a, b, new in applied if a < last)
        start = max(start, slots[-1].end) if slots else start
        covered = text[start:end] if end > start else ""
        if kept := covered.strip():
            start += len(covered) - len(covered.lstrip())
            slots.append(Slot(slot.name, kept, start, start + len(kept)))
    return Example(text, example.intent, tuple(slots), example.line)


def _deletions(code: str) -> set[str]:
    """The code and all that is left of it without one letter."""
    return {code, *(code[:i] + code[i + 1 :] for i in range(len(code)))}


def _one_edit_apart(one: str, other: str) -> bool:
    """At most one letter put in, left out or exchanged (two deletions may also be a move: that is further)."""
    if len(one) == len(other):
        return sum(a != b for a, b in zip(one, other, strict=True)) <= 1
    shorter, longer = sorted((one, other), key=len)
    return len(longer) - len(shorter) == 1 and shorter in _deletions(longer)
