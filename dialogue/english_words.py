"""What the English readers of values share: the words of a text, numbers in words or figures, and what is refused."""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Collection, Sequence
from decimal import Decimal

__all__ = [
    "CORRECTION",
    "DIGIT_WORDS",
    "MONTHS",
    "day_number",
    "digits_at",
    "is_refused",
    "number_at",
    "one_of_several",
    "tokens",
]

DIGIT_WORDS = tuple("zero one two three four five six seven eight nine".split())
_UNITS = {w: i for i, w in enumerate(DIGIT_WORDS)}
_TEENS = {
    w: i
    for i, w in enumerate("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), 10)
}
_TENS = {w: i * 10 for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_REPEATS = {"double": 2, "triple": 3, "treble": 3}
_ZEROS = frozenset({"oh", "o", "nought", "naught"})
_ORDINALS = {
    w: i
    for i, w in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        1,
    )
} | {"thirtieth": 30}
_TIMES = {"hundred": 100, "thousand": 1000, "grand": 1000, "k": 1000, "million": 1_000_000}
_COINS = frozenset({"dollar", "buck", "euro", "pound", "quid"})
MONTHS = (
    {w.lower(): i for i, w in enumerate(calendar.month_name) if w}
    | {w.lower(): i for i, w in enumerate(calendar.month_abbr) if w and w != "May"}
    | {"sept": 9}
)
_FILLERS = frozenset({"um", "uh", "hmm", "er", "dash"})

_TOKEN = re.compile(
    r"[$€£]|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}/\d{1,2}(?:/\d{4})?"
    r"|\d+(?:,\d+)*(?:\.\d+)?(?:st|nd|rd|th)?|[a-z']+|[,.;!?]+(?=\s|$)",
    re.ASCII,
)


def tokens(text: str, marks: str = "") -> list[str]:
    """Words, figures and currency signs, lower case, without fillers.

    Args:
        marks: of "," and ";" those to keep; any other end of a clause counts as ";".
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")  # full-width figures are figures
    words: list[str] = []
    for found in _TOKEN.findall(plain):
        abbreviated = found == "." and words and words[-1] in MONTHS
        word = found if found[0] not in ",.;!?" else "," if found == "," else ";"
        if word in _FILLERS or (word in ",;" and (abbreviated or word not in marks)):
            continue
        words.append(word)
    return words


def digits_at(words: Sequence[str], i: int) -> tuple[str, int]:
    """Digits that begin at word `i` and how many words they take; ("", 0) where there are none."""
    word = words[i]
    if (figures := word.replace(",", "")).isdecimal():
        return figures, 1
    if word in _REPEATS and i + 1 < len(words):
        digit = _digit(words[i + 1])
        return (digit * _REPEATS[word], 2) if digit else ("", 0)
    if digit := _digit(word):
        return digit, 1
    if word in _TEENS:
        return str(_TEENS[word]), 1
    if word in _TENS:
        unit = _UNITS.get(words[i + 1], 0) if i + 1 < len(words) else 0
        return str(_TENS[word] + unit), 2 if unit else 1
    return "", 0


def _digit(word: str) -> str:
    if word in _ZEROS:
        return "0"
    return str(_UNITS[word]) if word in _UNITS else ""


def number_at(words: Sequence[str], i: int) -> tuple[Decimal, int]:
    """A whole or decimal number that begins at word `i`, and its words; (0, 0) where there is none."""
    if i >= len(words):
        return Decimal(0), 0
    if words[i][0].isdigit():
        return _figures_at(words, i)
    start, total, current = i, 0, 0
    last = 1000  # the size of the last word: "eighty four" falls, "four eighty" is two numbers
    while i < len(words):
        word = words[i]
        after = words[i + 1] if i + 1 < len(words) else ""
        if word == "a" and i == start and after in ("hundred", "thousand", "grand", *_COINS):
            current = 1
        elif word == "hundred" and 0 < current < 100:
            current, last = current * 100, 100
        elif word in ("thousand", "grand") and current and not total:
            total, current, last = current * 1000, 0, 1000
        elif (word == "and" and last >= 100 and i > start and _small(after)) or (
            word == "," and total and last == 1000 and _small(after)
        ):
            pass
        elif (value := _small(word)) and (last >= 100 or (last in range(20, 100) and value < 10)):
            current, last = current + value, value
        else:
            break
        i += 1
    whole = Decimal(total + current)
    if i > start and words[i : i + 1] == ["point"]:
        decimals, used = "", 1
        while i + used < len(words) and len(decimals) < 2 and (part := digits_at(words, i + used))[1]:
            decimals, used = decimals + part[0], used + part[1]
        if decimals:
            return whole + Decimal(f"0.{decimals}"), i + used - start
    return whole, i - start


def _figures_at(words: Sequence[str], i: int) -> tuple[Decimal, int]:
    if re.fullmatch(r"\d{1,6},\d{2}", words[i]):  # "20,50 euros", as most of Europe writes it
        return Decimal(words[i].replace(",", ".")), 1
    plain = words[i].replace(",", "")
    if not re.fullmatch(r"\d{1,9}(\.\d{1,2})?", plain):
        return Decimal(0), 0
    times = _TIMES.get(words[i + 1], 1) if i + 1 < len(words) else 1
    return Decimal(plain) * times, 2 if times > 1 else 1


def _small(word: str) -> int:
    return _UNITS.get(word) or _TEENS.get(word) or _TENS.get(word) or 0


def day_number(words: Sequence[str], *, cardinals: bool) -> tuple[int, int]:
    """A day of the month at the start of `words`: ordinals always, plain numbers only with `cardinals`."""
    if not words:
        return 0, 0
    first = words[0]
    if typed := re.fullmatch(r"(\d{1,2})(st|nd|rd|th)", first) or (
        re.fullmatch(r"(\d{1,2})", first) if cardinals else None
    ):
        return int(typed[1]), 1
    if first in ("twenty", "thirty") and len(words) > 1 and _ORDINALS.get(words[1], 99) < 10:
        return _TENS[first] + _ORDINALS[words[1]], 2
    if first in _ORDINALS:
        return _ORDINALS[first], 1
    if cardinals:
        number, used = number_at(words, 0)
        if used and number <= 31:
            return int(number), used
    return 0, 0


CORRECTION = r"\b(?:no|nope|sorry|actually|wait|rather|correction|(?:i )?mean(?:t)?|make (?:it|that))\b"
"""What a caller says between what was wrong and what is meant; a regular expression over lower case."""

_REFUSED_BEFORE = re.compile(
    r"(?:^|(?<!\bwhy)(?<!\bif) )"
    r"(?:not(?: (?:available|free|here|home))?|except|besides|instead of|rather than"
    r"|(?:any|every)(?:thing|time)? ?(?:day |time )?but"
    r"|(?:can't|cannot|can not|don't|do not|won't)"
    r"(?: (?:do|make|pay|come|want|have|manage|think|it|be|available|free|here|home))*)"
    r"(?: (?:on|at|by|in|the|this|next|for))*$"
)
_REFUSED_AFTER = re.compile(
    r"(?:isn't|doesn't|don't work|does not|won't|wouldn't|will not)\b(?! it\b| be a problem| a problem)"
    r"|(?:is|are|would be) (?:not|no|too|bad|out)\b(?! (?:a )?problem)"
    r"|i (?:can't|cannot)(?: do| make(?: it)?)?(?= ?[;,.!?]| ?$)"
)


def is_refused(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a value between these is refused: "not friday", "anything but friday", "friday doesn't work".

    "why not friday", "if not friday, monday", "not until friday" and "not more than fifty" refuse nothing.
    """
    near = " ".join(before[-12:]).rstrip(" ,"), " ".join(after[:6]).lstrip(" ,")
    return bool(_REFUSED_BEFORE.search(near[0]) or _REFUSED_AFTER.match(near[1]))


def one_of_several(words: Sequence[str], spans: Sequence[tuple[int, int]], at: int, joining: Collection[str]) -> bool:
    """Whether one of the values that stand at `spans` is joined to a neighbour, "forty or fifty": neither is meant yet.

    "and" joins only after "between": "between forty and fifty".
    """

    def joined(first: tuple[int, int], second: tuple[int, int]) -> bool:
        between = [word for word in words[first[1] : second[0]] if word not in ("the", "on", "maybe", "at", ",")]
        range_of = words[max(0, first[0] - 2) : first[0]]
        return len(between) == 1 and (between[0] in joining or (between[0] == "and" and "between" in range_of))

    return (at > 0 and joined(spans[at - 1], spans[at])) or (at + 1 < len(spans) and joined(spans[at], spans[at + 1]))
