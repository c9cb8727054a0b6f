"""One normal form for what a recogniser hears and what a person types.

A recogniser gives lower-case words, no punctuation, numbers as words or digits as it pleases; typed text has
capitals, punctuation, symbols and full-width characters. Both become lower-case words with numbers in digits:

    "Pay $45.50 on March 3rd!"                          -> "pay 45 dollars and 50 cents on march 3rd"
    "pay forty five dollars and fifty cents on march third" -> the same

Every character of the normal form knows the piece of raw text it came from, so slots found in the normal form
are reported in raw offsets. Normalising a normal form changes nothing.

The rules are versioned (`NORMALIZER_VERSION`): a model is only right with the rules it was trained under. Those for
Chinese are in `nlu.chinese_text`, with a version of their own: they touch no text of another language.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

from nlu.chinese_text import say_chinese, write_chinese
from nlu.draft import Draft, Rule, substitution
from nlu.spoken_numbers import rewrite_numbers

__all__ = ["NORMALIZER_VERSION", "NormalText", "bare_letters", "normalize", "plain_words"]

NORMALIZER_VERSION = 1

_MAX_PASSES = 8
_ABBREVIATION = re.compile(r"\b[^\W\d_]\. ?[^\W\d_]$")
_BRACKETS = {")": "(", "]": "[", "）": "（", "】": "【", "》": "《", "」": "「", "』": "『", "”": "“"}


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
        """Raw offsets of the non-empty span `start`..`end` (exclusive) of the normal form.

        Marks on the last character are its own, though many tokenizers drop them: बजे ends with one. Of what the normal
        form has not, a span also keeps the last point of an abbreviation, "Washington D.C.", and a bracket that opens
        within it and closes right behind: "Joe's Bar (Main Street)".
        """
        first, last = self.starts[start], self.ends[end - 1]
        while last < len(self.raw) and _is_mark(self.raw[last]):
            last += 1
        if self.raw.startswith(".", last) and _ABBREVIATION.search(self.raw, first, last):
            last += 1
        while last < len(self.raw) and (opening := _BRACKETS.get(closing := self.raw[last])):
            within = self.raw[first:last]
            if within.count(opening) <= within.count(closing):
                break
            last += 1
        return first, last

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
    draft = Draft.of(raw)
    # A rule can make room for an earlier one (dropping a symbol may bring two digits together), so the
    # rules run until nothing moves: normally once, and once more to see that.
    for _ in range(_MAX_PASSES):
        before = draft.text
        for rule in _RULES:
            draft = rule(draft)
        if draft.text == before:
            break
    return NormalText(raw, draft.text, tuple(draft.starts), tuple(draft.ends))


def bare_letters(text: str) -> str:
    """A text without capitals, spaces and punctuation, to find the same wording by: 2 us, where its normal form takes
    100. Numbers stay as they are written."""
    return "".join(filter(str.isalnum, text.casefold()))


def plain_words(text: str) -> str:
    """The words of a text's normal form and nothing between them but single spaces: what is heard of it."""
    return " ".join("".join(char if char.isalnum() else " " for char in normalize(text).text).split())


def _fold(draft: Draft) -> Draft:
    """Unicode compatibility folding (full-width and half-width forms, ligatures) and lower case."""
    if draft.text.isascii():
        return Draft(draft.text.lower(), draft.starts, draft.ends)
    # A base character and the marks on it compose together, so they are folded as one piece.
    borders = [i for i, char in enumerate(draft.text) if i == 0 or not unicodedata.combining(char)]
    pieces = ((start, end, draft.text[start:end]) for start, end in pairwise([*borders, len(draft.text)]))
    return draft.edit(
        (start, end, folded)
        for start, end, piece in pieces
        if (folded := _folded(piece, after=draft.text[max(0, start - 1) : start])) != piece
    )


def _folded(piece: str, *, after: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", piece).lower()).replace("\u2044", "/")
    if not (after.isdecimal() and unicodedata.decomposition(piece[0]).startswith("<fraction>")):
        return folded
    value = unicodedata.numeric(piece[0])  # 50½ is 50.50, and 3⅓ is 3 1/3
    return f"{value:.2f}".removeprefix("0") + piece[1:] if (4 * value).is_integer() else f" {folded}"


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


def _is_mark(sign: str) -> bool:
    """Whether a character is a vowel sign or a tone mark on the one before it: half of each word of Hindi or Thai.

    What chooses how a sign is drawn, an emoji's mostly, is a mark too by Unicode, and here is none.
    """
    if unicodedata.category(sign) not in ("Mn", "Mc"):
        return False
    return not ("\ufe00" <= sign <= "\ufe0f" or sign >= "\U000e0100")


def _unless_mark(match: re.Match[str]) -> str:
    """A space for punctuation, which marks are not. Models trained before marks stayed keep their version of the rules:
    texts of English and Chinese have none."""
    return match[0] if _is_mark(match[0]) else " "


def _spoken_numbers(draft: Draft) -> Draft:
    matches = list(re.finditer(r"\S+", draft.text))
    return draft.edit(
        (matches[rewrite.first].start(), matches[rewrite.last - 1].end(), rewrite.text)
        for rewrite in rewrite_numbers([match.group() for match in matches])
    )


_RULES: tuple[Rule, ...] = (
    _fold,
    substitution("[’‘ʼ`´]", "'"),
    substitution("[‐‑‒–—−]", "-"),
    # Symbols that are words when said, and punctuation inside numbers.
    write_chinese,
    substitution(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m.group().replace(",", "")),
    substitution(r"([$€£]) ?(\d+)(?:\.(\d\d)(?![\d.]))?(?: (thousand|million|billion)\b)?", _money),
    substitution("%", " percent "),
    substitution("&", " and "),
    substitution(r"(?<![\d-])\d+(?:-\d+)+(?![\d-])", _grouped_digits),
    substitution(r"(?<![\d:])\d\d?:\d\d(?![\d:])", lambda m: m.group().replace(":", "")),
    substitution(r"(?<![^\W\d_])[ap]\.m\b\.?", lambda m: f" {m.group()[0]}m"),
    substitution(r"(?<=\d)[ap]m\b", lambda m: f" {m.group()}"),
    # All other punctuation goes, but for the apostrophe in a word and the point or stroke in a number.
    substitution(r"(?!(?<=[^\W\d_])'(?=[^\W\d_]))(?!(?<=\d)[./](?=\d))[^\w\s]|_", _unless_mark),
    substitution(r"^\s+|\s+$", ""),
    substitution(r"\s\s+|[^\S ]", " "),
    # Numbers said.
    _spoken_numbers,
    substitution(r"(?<=\d )[ap] m\b", lambda m: f"{m.group()[0]}m"),
    say_chinese,
)
