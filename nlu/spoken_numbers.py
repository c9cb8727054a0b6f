"""Spoken English numbers to digits, over words: "four four one seven" -> "4417", "forty two" -> "42".

A run of number words is cut into groups by English grammar ("two hundred and five" is one group), and
neighbouring groups that a caller spells out are written together, as account numbers, years and times are:
"one two three" -> "123", "nineteen eighty four" -> "1984", "five thirty" -> "530". Groups with a scale word
and numbers already written with several digits stay apart ("200 300"), so the result is a fixed point: the
words it gives are not numbers of the kind it joins.

Odd cases, each on purpose:
- "oh" is 0 only inside digits: "one oh five", but not "oh one more thing".
- "this one", "which one" stay words; so do "second" and "first" away from a month.
- "double five", "triple zero" repeat the digit.
- "and" is part of a number only after a scale word: "one hundred and five", but "five and six" are two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Rewrite", "rewrite_numbers"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Words `first` to `last` (exclusive) are written as `text`."""

    first: int
    last: int
    text: str


_UNITS = {word: value for value, word in enumerate("zero one two three four five six seven eight nine".split())} | {
    "nought": 0
}
_TEENS = {
    word: value
    for value, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), start=10
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
} | {"fourty": 40}
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 10**3}
_REPEATS = {"double": 2, "triple": 3}
_OH = frozenset({"oh", "o"})

_UNIT_ORDINALS = {
    word: value
    for value, word in enumerate("first second third fourth fifth sixth seventh eighth ninth".split(), start=1)
}
_ORDINALS = _UNIT_ORDINALS | {
    word: value
    for value, word in enumerate(
        "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth "
        "twentieth".split(),
        start=10,
    )
}
_ORDINALS["thirtieth"] = 30
_NEEDS_MONTH = frozenset({"first", "second", "third"})
"""Ordinals with another common sense ("first of all", "wait a second", "a third party")."""
_MONTHS = frozenset("january february march april may june july august september october november december".split())
_BEFORE_PRONOUN_ONE = frozenset(
    "this that the which any every each other another last next no some right wrong".split()
)


@dataclass(frozen=True, slots=True)
class _Group:
    """One number of a run: its digits, the word after it, and whether neighbours may be written onto it."""

    digits: str
    end: int
    joins: bool


class _Words:
    """The words of a text with a look-ahead that never runs off the end."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def __getitem__(self, index: int) -> str:
        return self._words[index] if 0 <= index < len(self._words) else ""

    def __len__(self) -> int:
        return len(self._words)


def rewrite_numbers(words: Sequence[str]) -> list[Rewrite]:
    """Find the numbers among lower-case words.

    Returns:
        Rewrites in order, not overlapping; words in none of them stay as they are. Applying them and
        calling again gives none.
    """
    padded = _Words(words)
    found: list[Rewrite] = []
    index = 0
    while index < len(words):
        if rewrite := _ordinal(padded, index):
            found.append(rewrite)
            index = rewrite.last
        elif run := _run(padded, index):
            found.extend(_join(index, run))
            index = run[-1].end
        else:
            index += 1
    return [r for r in found if list(words[r.first : r.last]) != r.text.split(" ")]


def _run(words: _Words, start: int) -> list[_Group]:
    """All groups from `start` on that follow one another without a word between them."""
    groups: list[_Group] = []
    index = start
    while group := _group(words, index, after_digits=bool(groups) and groups[-1].joins):
        groups.append(group)
        index = group.end
    if index == start + 1 and words[start] == "one" and words[start - 1] in _BEFORE_PRONOUN_ONE:
        return []
    return groups


def _join(start: int, groups: list[_Group]) -> list[Rewrite]:
    """Write neighbouring groups that join as one number."""
    rewrites: list[Rewrite] = []
    first = start
    for position, group in enumerate(groups):
        previous = groups[position - 1] if position else None
        if previous and previous.joins and group.joins:
            rewrites[-1] = Rewrite(rewrites[-1].first, group.end, rewrites[-1].text + group.digits)
        else:
            rewrites.append(Rewrite(first, group.end, group.digits))
        first = group.end
    return rewrites


def _group(words: _Words, index: int, *, after_digits: bool) -> _Group | None:
    """The number that starts at `index`, or None."""
    word = words[index]
    if word in _REPEATS and (digit := _digit(words[index + 1])) is not None:
        return _Group(str(digit) * _REPEATS[word], index + 2, joins=True)
    if word in _OH:
        following = words[index + 1]
        if after_digits:
            is_zero = following == "" or following in _REPEATS or _digit(following) is not None
        else:
            is_zero = _digit(following) is not None and _digit(words[index + 2]) is not None
        return _Group("0", index + 1, joins=True) if is_zero else None
    if word in _TENS and words[index + 1] in _UNIT_ORDINALS:
        return None  # "twenty first": an ordinal
    if cardinal := _cardinal(words, index):
        return _with_decimals(words, cardinal)
    if word.isdecimal() and len(word) == 1:
        return _with_decimals(words, _Group(word, index + 1, joins=True))
    return None


def _with_decimals(words: _Words, group: _Group) -> _Group:
    """ "forty two" followed by "point five" -> "42.5"; only digits spelled one by one may follow."""
    if words[group.end] != "point":
        return group
    decimals, index = "", group.end + 1
    while (digit := _digit(words[index])) is not None:
        decimals, index = decimals + str(digit), index + 1
    return _Group(f"{group.digits}.{decimals}", index, joins=False) if decimals else group


def _digit(word: str) -> int | None:
    """One spelled or written digit; "oh" counts, for its callers look only inside digits."""
    if word in _OH:
        return 0
    if len(word) == 1 and word.isdecimal():
        return int(word)
    return _UNITS.get(word)


def _small(words: _Words, index: int) -> tuple[int, int] | None:
    """A number below 100 and the word after it."""
    word = words[index]
    if word in _TENS:
        unit = _UNITS.get(words[index + 1], 0)
        return _TENS[word] + unit, index + (2 if unit else 1)
    value = _UNITS.get(word, _TEENS.get(word))
    return None if value is None else (value, index + 1)


def _hundreds(words: _Words, index: int) -> tuple[int, int, bool] | None:
    """A number below 1,000, the word after it and whether it was said with "hundred"."""
    head = _small(words, index) or _before_scale(words, index)
    if head is None:
        return None
    value, end = head
    if words[end] != "hundred" or not 0 < value < 100:
        return value, end, False
    value, end = value * 100, end + 1
    rest_at = end + 1 if words[end] == "and" else end
    rest = _small(words, rest_at)
    if rest and rest[0] and words[rest[1]] != "hundred":  # "two hundred three hundred" are two numbers
        value, end = value + rest[0], rest[1]
    return value, end, True


def _before_scale(words: _Words, index: int) -> tuple[int, int] | None:
    """ "a" or digits, but only where a scale word follows: "a hundred", "20 thousand"."""
    word, following = words[index], words[index + 1]
    if following not in _SCALES and following != "hundred":
        return None
    if word == "a":
        return 1, index + 1
    return (int(word), index + 1) if word.isdecimal() and word.isascii() and len(word) <= 3 else None


def _cardinal(words: _Words, index: int) -> _Group | None:
    """The longest cardinal from `index` on, scales falling from billion to thousand."""
    head = _hundreds(words, index)
    if head is None:
        return None
    value, end, scaled = head
    total, ceiling = 0, 10**12
    while (scale := _SCALES.get(words[end])) and scale < ceiling and value:
        total, ceiling, scaled, end = total + value * scale, scale, True, end + 1
        rest = _hundreds(words, end + 1 if words[end] == "and" else end)
        fits = rest is not None and rest[0] > 0 and _SCALES.get(words[rest[1]], 0) < ceiling
        value = 0
        if rest is not None and fits:
            value, end = rest[0], rest[1]
    return _Group(str(total + value), end, joins=not scaled)


def _ordinal(words: _Words, index: int) -> Rewrite | None:
    """ "twenty first" -> "21st", "fifth" -> "5th"; "first", "second", "third" only beside a month."""
    word = words[index]
    if word in _TENS and (unit := _UNIT_ORDINALS.get(words[index + 1])):
        return Rewrite(index, index + 2, _with_suffix(_TENS[word] + unit))
    value = _ORDINALS.get(word)
    if value is None or (word in _NEEDS_MONTH and not _beside_month(words, index)):
        return None
    return Rewrite(index, index + 1, _with_suffix(value))


def _beside_month(words: _Words, index: int) -> bool:
    before = words[index - 2] if words[index - 1] == "the" else words[index - 1]
    after = words[index + 2] if words[index + 1] == "of" else words[index + 1]
    return before in _MONTHS or after in _MONTHS


def _with_suffix(value: int) -> str:
    suffix = "th" if value in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{suffix}"
