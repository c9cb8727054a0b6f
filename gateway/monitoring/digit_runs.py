"""Runs of digits in a text, written or said: the numbers that people dictate.

    "call 555 123 4567", "four one one one, double one", "幺三八零零幺三八零零零", "１３８ 0013 8000", "三个八"

A run is what stands together with nothing but spaces, punctuation or a hesitation between: groups in its order, each
one numeral or one number word. What a word count is good for, and nothing else: which runs are anybody's secret is for
`gateway.monitoring.redaction` to say.

Not in a run, since they are no dictated digits: ordinals, numbers with a scale word but for a lone hundred ("eight
hundred five five five"), times with a colon, dates with strokes, sums (by their currency, decimals or thousands).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

__all__ = ["DigitRun", "find_digit_runs", "fold", "holds_digits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitRun:
    """One run: `digits` in its order, how many each group holds, and where it stands in the text (end exclusive)."""

    start: int
    end: int
    digits: str
    sizes: tuple[int, ...]

    @property
    def groups(self) -> list[str]:
        """The digits, group by group."""
        at = 0
        found = []
        for size in self.sizes:
            found.append(self.digits[at : at + size])
            at += size
        return found


_FOLDED: Final = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
    | {code: code - 0xFEE0 + 32 for code in range(0xFF21, 0xFF3B)}
    | {0x3000: 0x20, 0x2019: 0x27, 0x3002: 0x2E}
    | dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), 0x2D)
)


def fold(text: str) -> str:
    """Full-width forms to ASCII and ASCII to lower case, one character for one: positions stay."""
    return text.translate(_FOLDED)


_UNITS: Final = {w: str(i) for i, w in enumerate("zero one two three four five six seven eight nine".split())} | {
    "oh": "0",
    "o": "0",
    "nought": "0",
    "naught": "0",
    "nil": "0",
    "niner": "9",
}
_TEENS: Final = {
    w: str(i)
    for i, w in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), start=10
    )
}
_TENS: Final = {
    w: i for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
} | {"fourty": 4}
_REPEATS: Final = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
_HAN: Final = (
    {char: str(value) for value, char in enumerate("零一二三四五六七八九")}
    | {char: str(value) for value, char in enumerate("零壹贰叁肆伍陆柒捌玖")}
    | {
        "〇": "0",
        "○": "0",
        "洞": "0",
        "幺": "1",
        "两": "2",
        "兩": "2",
        "貳": "2",
        "參": "3",
        "陸": "6",
        "拐": "7",
        "勾": "9",
    }
)
_HAN_REPEATS: Final = {"两": 2, "兩": 2, "二": 2, "2": 2, "三": 3, "3": 3, "四": 4, "4": 4}
_HESITATIONS: Final = frozenset("uh um er erm hmm mm ah eh dash hyphen space comma then like okay so".split())
_MOST_BETWEEN: Final = 4  # words; of punctuation twice as many characters

_TOKEN: Final = re.compile(
    r"(?P<number>\d+)"
    r"|(?P<word>[a-z]+(?:'[a-z]+)?)"
    rf"|(?P<han>[{''.join(_HAN)}])"
    r"|(?P<filler>[嗯呃额啊哦唔哎诶]|那个|然后|接着|横杠|杠)"
    r"|(?P<gap>[\s.,;、，()（）*#·•\-\u00ad\u200b-\u200d\u2060\ufeff]+)"
    r"|(?P<other>.)",
    re.DOTALL,
)

_DIGIT_TOKENS: Final = frozenset({"number", "han"})

_CURRENCY: Final = (
    r"(?:dollars?|bucks|euros?|pounds?|quid|yuan|rmb|cents?|pence|usd|eur|gbp|cny|元|块|塊|圆|美元|万|萬|亿|億)"
)
# Numerals that say by their form what they are. Each is bounded on both sides, so that no piece of a longer number
# passes for one.
_TOLD_APART: Final = re.compile(
    r"(?<![\d.,-])(?:"
    r"(?:19|20)\d\d([-/.])\d{1,2}\1\d{1,2}"  # 2026-11-27
    r"|\d{1,2}([-/.])\d{1,2}\2(?:19|20)\d\d"  # 27.11.2026
    r"|\d{1,2}:\d\d(?::\d\d)?"
    r"|(?P<sum>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d{1,2})?"  # 1,250,000
    r"|\d{1,6}\.\d{1,2})"
    rf"|[1-9]\d{{0,8}}\s?(?={_CURRENCY})"
    r")(?!\d|[.,-]\d)"
    r"|(?<=[$€£¥￥])\s?\d[\d,]{0,11}(?:\.\d{1,2})?(?!\d|[.,-]\d)"
    r"|(?<![\d])\d+(?:st|nd|rd|th)\b"
)

_NUMBER_WORDS: Final = (*_UNITS, *_TEENS, *_TENS, *_REPEATS)
_NUMBER_WORD_SET: Final = frozenset(_NUMBER_WORDS)
_LETTERS: Final = re.compile(r"[a-z]+")
_FIGURE: Final = re.compile(r"\d")
_NUMERAL: Final = re.compile(rf"[\d{''.join(_HAN)}]")
_COUNTS: Final = re.compile(rf"{_NUMERAL.pattern}|\b(?:{'|'.join(_NUMBER_WORDS)})\b")
_DIGITS_SAID: Final = rf"(?:[{''.join(_HAN)}]|\b(?:{'|'.join((*_UNITS, *_REPEATS))})\b)"
_MAY_STAND_BETWEEN: Final = rf"(?:[\s,\-嗯呃额啊哦]|\b(?:{'|'.join(_HESITATIONS)})\b)"
_GOES_ON: Final = re.compile(f"{_MAY_STAND_BETWEEN}*{_DIGITS_SAID}")
"""What follows a numeral whose number is still being dictated."""
_FEWEST_COUNTS: Final = 3
"""Of what `_COUNTS` finds, in a run of seven digits: "triple five double four oh oh". Most texts have fewer."""


def holds_digits(folded: str) -> bool:
    """Whether a digit is written or said anywhere: in most texts none is, and they need no closer look.

    Args:
        folded: a text as `fold` gives it.
    """
    return _NUMERAL.search(folded) is not None or not _NUMBER_WORD_SET.isdisjoint(_LETTERS.findall(folded))


def find_digit_runs(folded: str) -> Iterator[DigitRun]:
    """Runs of digits in order: all of seven digits or more, and maybe shorter ones.

    Args:
        folded: a text as `fold` gives it.
    """
    if sum(1 for _ in islice(_COUNTS.finditer(folded), _FEWEST_COUNTS)) < _FEWEST_COUNTS:
        return
    figure = _FIGURE.search(folded)  # each of those that are told apart has one, with a character before it at most
    apart = [] if figure is None else list(_TOLD_APART.finditer(folded, max(0, figure.start() - 1)))
    draft = _Draft()
    tokens = list(_TOKEN.finditer(folded))
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if not (draft or token.lastgroup in _DIGIT_TOKENS or token[0] in _NUMBER_WORD_SET):
            index += 1  # most tokens: no run is in progress, and none begins here
            continue
        while apart and apart[0].end() <= token.start():
            apart.pop(0)
        sum_here = apart[0] if apart and apart[0].start() == token.start() and apart[0]["sum"] else None
        if sum_here and (draft or _GOES_ON.match(folded, sum_here.end())):
            apart.pop(0)  # "00 zero 1,000": no sum, a number dictated with a comma
        if apart and apart[0].start() <= token.start():
            yield from draft.finish()
            index += 1
            continue
        digits, taken = _group(tokens, index, draft)
        if digits:
            draft.add(digits, token.start(), tokens[index + taken - 1].end())
        elif not draft.goes_on_over(token, tokens[index + 1 : index + 3]):
            yield from draft.finish()
        index += taken
    yield from draft.finish()


class _Draft:
    """The run in progress."""

    def __init__(self) -> None:
        self._groups: list[str] = []
        self._start = self._end = 0
        self._between = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    @property
    def last(self) -> str:
        return self._groups[-1] if self._groups else ""

    def add(self, digits: str, start: int, end: int) -> None:
        if not self._groups:
            self._start = start
        self._groups.append(digits)
        self._end, self._between = end, 0

    def goes_on_over(self, token: re.Match[str], following: list[re.Match[str]]) -> bool:
        """Whether what is no digit may stand within a run."""
        if not self._groups:
            return True
        self._between += token.lastgroup != "gap"
        match token.lastgroup:
            case "gap":
                return len(token[0]) <= 2 * _MOST_BETWEEN
            case "filler":
                return self._between <= _MOST_BETWEEN
            case "word" if token[0] == "and":
                # "double five and seven", but not "between 1500 and 2000".
                after = next((one for one in following if one.lastgroup != "gap"), None)
                return len(self.last) <= 2 and after is not None and len(after[0]) < 4 + 4 * (after.lastgroup == "word")
            case "word":
                return token[0] in _HESITATIONS and self._between <= _MOST_BETWEEN
        return False

    def finish(self) -> Iterator[DigitRun]:
        """The run, if there is one; then nothing is in progress."""
        if self._groups:
            sizes = tuple(map(len, self._groups))
            yield DigitRun(start=self._start, end=self._end, digits="".join(self._groups), sizes=sizes)
            self._groups = []
        self._between = 0


def _group(tokens: list[re.Match[str]], index: int, draft: _Draft) -> tuple[str, int]:
    """The digits that begin at a token, and how many tokens they take; "" and 1 where it is none."""
    token = tokens[index]
    text = token[0]
    match token.lastgroup:
        case "number":
            times = _HAN_REPEATS.get(text, 0)
            if times and (repeated := _said_so_often(tokens, index, times)):
                return repeated, 3
            return "".join(str(int(char)) for char in text), 1
        case "han":
            times = _HAN_REPEATS.get(text, 0)
            if times and (repeated := _said_so_often(tokens, index, times)):
                return repeated, 3
            return _HAN[text], 1
        case "word":
            return _spoken(tokens, index, draft)
    return "", 1


def _said_so_often(tokens: list[re.Match[str]], index: int, times: int) -> str:
    """三个八: "888"."""
    if index + 2 < len(tokens) and tokens[index + 1][0] == "个":
        digit = _HAN.get(tokens[index + 2][0], tokens[index + 2][0])
        return digit * times if len(digit) == 1 and digit.isascii() and digit.isdecimal() else ""
    return ""


def _spoken(tokens: list[re.Match[str]], index: int, draft: _Draft) -> tuple[str, int]:
    text = tokens[index][0]
    if text in _UNITS:
        return _UNITS[text], 1
    if text in _TEENS:
        return _TEENS[text], 1
    after = tokens[index + 2][0] if index + 2 < len(tokens) and tokens[index + 1].lastgroup == "gap" else ""
    if text in _TENS:
        unit = _UNITS.get(after, "0")
        return f"{_TENS[text]}{unit}", 3 if unit != "0" else 1
    if text in _REPEATS:
        digit = _UNITS.get(after) or (after if len(after) == 1 and after.isdecimal() else "")
        return digit * _REPEATS[text], 3 if digit else 1
    # "eight hundred five five five": within a dictated number a hundred is two noughts more.
    if len(draft.last) == 1 and (text == "hundred" or (text == "thousand" and len(draft) > 3)):
        return "00" if text == "hundred" else "000", 1
    return "", 1
