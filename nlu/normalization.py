"""One normal form for what a recogniser hears and what a person types.

A recogniser gives lower-case words, no punctuation, numbers as words or digits as it pleases; typed text has
capitals, punctuation, symbols and full-width characters. Both become lower-case words with numbers in digits:

    "Pay $45.50 on March 3rd!"                          -> "pay 45 dollars and 50 cents on march 3rd"
    "pay forty five dollars and fifty cents on march third" -> the same

Every character of the normal form knows the piece of raw text it came from, so slots found in the normal form
are reported in raw offsets. Normalising a normal form changes nothing.

The rules are versioned (`NORMALIZER_VERSION`): a model is only right with the rules it was trained under.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from nlu.spoken_numbers import chinese_number, rewrite_numbers

__all__ = ["NORMALIZER_VERSION", "NormalText", "normalize"]

NORMALIZER_VERSION = 1

_MAX_PASSES = 8


@dataclass(frozen=True, slots=True)
class NormalText:
    """A text, its normal form, and where each character of the normal form came from.

    `starts[i]` and `ends[i]` bound the raw characters behind `text[i]`; both never decrease.
    """

    raw: str
    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def to_raw(self, start: int, end: int) -> tuple[int, int]:
        """Raw offsets of the non-empty span `start`..`end` (exclusive) of the normal form."""
        return self.starts[start], self.ends[end - 1]

    def to_normal(self, start: int, end: int) -> tuple[int, int] | None:
        """Smallest span of the normal form that covers a raw span; None where nothing of it is left.

        A span that cuts a rewritten number gets the whole number.
        """
        first = bisect_right(self.ends, start)
        last = bisect_left(self.starts, end)
        while first < last and self.text[first] == " ":
            first += 1
        while first < last and self.text[last - 1] == " ":
            last -= 1
        return (first, last) if first < last else None


def normalize(raw: str) -> NormalText:
    """Bring a text to the normal form. Any string is valid; one with no word in it becomes empty."""
    draft = _Draft(raw, list(range(len(raw))), list(range(1, len(raw) + 1)))
    # A rule can make room for an earlier one (dropping a symbol may bring two digits together), so the
    # rules run until nothing moves: normally once, and once more to see that.
    for _ in range(_MAX_PASSES):
        before = draft.text
        for rule in _RULES:
            draft = rule(draft)
        if draft.text == before:
            break
    return NormalText(raw, draft.text, tuple(draft.starts), tuple(draft.ends))


@dataclass(slots=True)
class _Draft:
    """Text under rewriting, with the raw bounds of every character."""

    text: str
    starts: list[int]
    ends: list[int]

    def edit(self, edits: Iterable[tuple[int, int, str]]) -> _Draft:
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
        return _Draft("".join(pieces) + self.text[done:], starts + self.starts[done:], ends + self.ends[done:])


_Rule = Callable[[_Draft], _Draft]


def _substitution(pattern: str, replacement: Callable[[re.Match[str]], str] | str) -> _Rule:
    compiled = re.compile(pattern)

    def rule(draft: _Draft) -> _Draft:
        return draft.edit(
            (match.start(), match.end(), replacement if isinstance(replacement, str) else replacement(match))
            for match in compiled.finditer(draft.text)
        )

    return rule


def _fold(draft: _Draft) -> _Draft:
    """Unicode compatibility folding (full-width and half-width forms, ligatures) and lower case."""
    if draft.text.isascii():
        return _Draft(draft.text.lower(), draft.starts, draft.ends)
    # A base character and the marks on it compose together, so they are folded as one piece.
    borders = [i for i, char in enumerate(draft.text) if i == 0 or not unicodedata.combining(char)]
    pieces = ((start, end, draft.text[start:end]) for start, end in pairwise([*borders, len(draft.text)]))
    return draft.edit(
        (start, end, folded)
        for start, end, piece in pieces
        if (folded := unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).lower())) != piece
    )


_CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}


def _counted(count: str, unit: str) -> str:
    if count == "1":
        return f"1 {unit}"
    return f"{count} pence" if unit == "penny" else f"{count} {unit}s"


def _money(match: re.Match[str]) -> str:
    """ "$45.50" -> "45 dollars and 50 cents": as it is said, so that both meet."""
    symbol, whole, fraction, scale = match.groups()
    major, minor = _CURRENCIES[symbol]
    amount = (whole.replace(",", "").lstrip("0") or "0") + (f" {scale}" if scale else "")
    spoken = _counted(amount, major)
    if fraction and int(fraction):
        spoken += f" and {_counted(str(int(fraction)), minor)}"
    return spoken


def _grouped_digits(match: re.Match[str]) -> str:
    """ "4417-2231" -> "44172231": account, card and telephone numbers; short groups may be a range or a date."""
    digits = match.group().replace("-", "")
    is_date = re.fullmatch(r"\d{4}-\d\d?-\d\d?|\d\d?-\d\d?-\d{4}", match.group())
    return match.group().replace("-", " ") if is_date or len(digits) < 6 else digits


def _spoken_numbers(draft: _Draft) -> _Draft:
    matches = list(re.finditer(r"\S+", draft.text))
    return draft.edit(
        (matches[rewrite.first].start(), matches[rewrite.last - 1].end(), rewrite.text)
        for rewrite in rewrite_numbers([match.group() for match in matches])
    )


_HAN_NUMERALS = "零〇一二三四五六七八九两幺十百千万"
_HAN_COUNTED = "年月日号点分元块毛角个位人张间天晚楼折次期"


def _chinese_numbers(match: re.Match[str]) -> str:
    return chinese_number(match.group()) or match.group()


_RULES: tuple[_Rule, ...] = (
    _fold,
    _substitution("[’‘ʼ`´]", "'"),
    _substitution("[‐‑‒–—−]", "-"),
    # Symbols that are words when said, and punctuation inside numbers.
    _substitution(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m.group().replace(",", "")),
    _substitution(r"([$€£]) ?(\d+)(?:\.(\d\d)(?![\d.]))?(?: (thousand|million|billion)\b)?", _money),
    _substitution("%", " percent "),
    _substitution("&", " and "),
    _substitution(r"(?<![\d-])\d+(?:-\d+)+(?![\d-])", _grouped_digits),
    _substitution(r"(?<![\d:])\d\d?:\d\d(?![\d:])", lambda m: m.group().replace(":", "")),
    _substitution(r"(?<![^\W\d_])[ap]\.m\b\.?", lambda m: f" {m.group()[0]}m"),
    _substitution(r"(?<=\d)[ap]m\b", lambda m: f" {m.group()}"),
    # All other punctuation goes, but for the apostrophe in a word and the point or stroke in a number.
    _substitution(r"(?!(?<=[^\W\d_])'(?=[^\W\d_]))(?!(?<=\d)[./](?=\d))[^\w\s]|_", " "),
    _substitution(r"^\s+|\s+$", ""),
    _substitution(r"\s\s+|[^\S ]", " "),
    # Numbers said.
    _spoken_numbers,
    _substitution(r"(?<=\d )[ap] m\b", lambda m: f"{m.group()[0]}m"),
    _substitution(
        f"[{_HAN_NUMERALS}]{{2,}}|(?<=第)[{_HAN_NUMERALS}]|[{_HAN_NUMERALS}](?=[{_HAN_COUNTED}])",
        _chinese_numbers,
    ),
)
