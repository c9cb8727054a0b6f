"""Chinese numerals to digits, over characters: 四四一七 -> 4417, 一百二十万 -> 1200000, 三点五 -> 3.5.

A run of numerals is read as digits where it has no unit (十百千万亿), else as cardinals. Numerals and figures mix
(3万5, 1.5万), a digit after a unit stands for the next smaller one (两千五 -> 2500, but 两千零五 -> 2005).

Odd cases, each on purpose:
- What is about so many is no number: 十几, 几十万, 三四百, 两三天 stay as they are.
- A single numeral is one only where something is counted (三天, 第三, 百分之五): 一下, 五一, 三明治 are words.
- Weekdays keep theirs: 星期三, 下周五; 周五三点 is 周五 3点.
- 一点 and 十分 are "a little" and "very", 一块 "together", unless a time or a sum stands around them.
- 点 is a decimal point before digits spelled one by one (三点一四), the hour of a clock before all else (三点十四,
  三点零五).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Rewriting", "rewrite_chinese_numbers"]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Characters `start` to `end` (exclusive) are written as `text`."""

    start: int
    end: int
    text: str


_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "幺": 1, "两": 2, "兩": 2}
_DIGITS |= {char: value for value, char in enumerate("壹贰叁肆伍陆柒捌玖", start=1)} | {"貳": 2, "參": 3, "陸": 6}
_UNITS = {"十": 10, "百": 100, "千": 1000, "拾": 10, "佰": 100, "仟": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = "".join((*_DIGITS, *_UNITS, *_MYRIADS))
_PLAIN = "零〇一二三四五六七八九两兩"

_RUN = re.compile(rf"(?:(?<![\d.])\d+(?:\.\d+)?|[{_HAN}])*[{_HAN}](?:\d+(?:\.\d+)?(?![\d.])|[{_HAN}])*")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|.")
_DECIMALS = re.compile(rf"[点點]([{''.join(_DIGITS)}]+)(?![{''.join(_UNITS)}刻])")
_UNMISTAKABLE = re.compile(r"元|块|塊|万|萬|亿|億|倍|度|个|折|%")
"""After these, 零 behind a point is a decimal too: 三点零五万."""

# What a single numeral may count, and what it may follow.
_COUNTED = "年月日号號点點分元块塊毛角个個位人张間间天晚楼折次期"
_COUNTED_BUT_BY_ONE = "周岁秒倍条笔季层级斤米刻件家度"
"""一周 and 一条 are as often "the whole week" and "a"."""
_ORDINAL = "第之负負"
_WEEK = re.compile(r"(?:周|星期|礼拜|禮拜)$")
_DAY_PART = re.compile(r"(?:[午晚晨早]|[午晚早]上|[天日号號]|周[一二三四五六]|期[一二三四五六])$")
_CLOCK = re.compile(rf"[点點](?:钟|鐘|半|整|[{_HAN}\d]+分|[一三]刻)")
_SUM_GOES_ON = re.compile(rf"[块塊](?:钱|錢|[{_HAN}](?:[毛角]|$))")
_SUM_BEFORE = re.compile(rf"[\d{_HAN}][块塊元毛角]$")
_SUM_ENDS = re.compile(r"(?:[毛角分钱錢吧的了呢啊呀]|[^\w]|$)")
_MEASURE = re.compile(r"[年月日号號点點分元块塊毛角个個位人张天次岁周星小句条件笔成倍家遍趟百千万萬亿億十]")


def rewrite_chinese_numbers(text: str) -> list[Rewriting]:
    """Find the numbers of a text.

    Returns:
        Rewritings in order, not overlapping; characters in none of them stay as they are.
    """
    found: list[Rewriting] = []
    done = 0
    for run in _RUN.finditer(text):
        start, end = max(done, run.start()), run.end()
        if _WEEK.search(text, 0, start) and text[start] in "一二三四五六":
            start += 1
        if start >= end:
            continue
        if (rewriting := _decimal(text, start, end)) or (rewriting := _number(text, start, end)):
            found.append(rewriting)
            done = rewriting.end
    return [r for r in found if text[r.start : r.end] != r.text]


def _decimal(text: str, start: int, end: int) -> Rewriting | None:
    """The run with a point and digits behind it, or None where 点 is none or is a clock's."""
    point = _DECIMALS.match(text, end)
    whole = read_numerals(text[start:end])
    if point is None or whole is None or len(whole) > 1:
        return None
    if point[1][0] in "零〇" and int(whole[0]) <= 24 and not _follows(_UNMISTAKABLE, text, point.end()):
        return None
    return Rewriting(start, point.end(), f"{whole[0]}.{_spelled(point[1])}")


def _follows(pattern: re.Pattern[str], text: str, at: int) -> bool:
    return pattern.match(text, at) is not None


def _number(text: str, start: int, end: int) -> Rewriting | None:
    run, before, after = text[start:end], text[:start], text[end : end + 1]
    if after in ("几", "幾") or (before[-1:] in ("几", "幾", "数") and run[0] not in _DIGITS):
        return None
    if len(run) == 1:
        return Rewriting(start, end, _single(run)) if _is_counted(text, start) else None
    if _is_about(run) and _follows(_MEASURE, text, end):
        return None
    numbers = read_numerals(run)
    return Rewriting(start, end, " ".join(numbers)) if numbers else None


def _single(numeral: str) -> str:
    return str(_DIGITS.get(numeral, _UNITS.get(numeral)))


def _is_counted(text: str, at: int) -> bool:
    """Whether the single numeral at `at` is a number, by what stands around it."""
    numeral, before, after = text[at], text[:at], text[at + 1 : at + 2]
    if numeral not in _PLAIN and numeral != "十":
        return False
    if before[-1:] and before[-1] in _ORDINAL:
        return True
    if _SUM_BEFORE.search(before) and _follows(_SUM_ENDS, text, at + 1):
        return True
    if numeral == "一" and after in ("点", "點"):
        return bool(_DAY_PART.search(before)) or _follows(_CLOCK, text, at + 1)
    if numeral == "一" and after in ("块", "塊"):
        return _follows(_SUM_GOES_ON, text, at + 1)
    if numeral in "一十" and after == "分":
        return before[-1:] in ("点", "點", "毛", "角") or _follows(re.compile("分[钟鐘钱錢之]"), text, at + 1)
    if text.startswith("小时", at + 1):
        return True
    return bool(after) and (after in _COUNTED or (after in _COUNTED_BUT_BY_ONE and numeral != "一"))


def _is_about(run: str) -> bool:
    """Two neighbours (三四, 一两) or 三五: about so many, where something is counted."""
    values = [_DIGITS.get(char) for char in run]
    first, second = values[0], values[1]
    return len(run) == 2 and bool(first) and bool(second) and (second == (first or 0) + 1 or run == "三五")


def read_numerals(run: str) -> list[str] | None:
    """The numbers that a run of numerals and figures spells.

    Returns:
        Their digits in order; None for what is no number (千万, 三四百).
    """
    tokens = _TOKEN.findall(run)
    numbers: list[str] = []
    at = 0
    while at < len(tokens):
        digits_end = next((i for i in range(at, len(tokens)) if not _is_digits(tokens[i])), len(tokens))
        if digits_end == len(tokens):
            numbers.append(_spelled("".join(tokens[at:])))
            break
        if digits_end - at > 1:
            if not tokens[at][0].isdecimal() or digits_end - at > 2:
                return None
            numbers.append(tokens[at])
            at += 1
        cardinal = _Cardinal(tokens, at)
        if cardinal.end == at:
            return None
        numbers.append(cardinal.text)
        at = cardinal.end
    return numbers


def _is_digits(token: str) -> bool:
    return token in _DIGITS or token[0].isdecimal()


def _spelled(digits: str) -> str:
    return "".join(str(_DIGITS.get(char, char)) for char in digits)


class _Cardinal:
    """The longest cardinal from a token on. `end` is the token after it: the first one where there is none."""

    def __init__(self, tokens: Sequence[str], start: int) -> None:
        self._tokens = tokens
        self.end = start
        self._value = Decimal(0)
        ceiling = 10**12
        while True:
            before = self.end
            section = self._section(after=ceiling)
            size = _MYRIADS.get(self._token(0), 0)
            if section and 0 < size < ceiling:
                self._value += section * size
                self.end += 1
                ceiling = size
                continue
            if not section:
                self.end = before
            self._value += section or 0
            break

    @property
    def text(self) -> str:
        """The digits, without a fraction of zeros."""
        return f"{self._value.normalize():f}"

    def _token(self, ahead: int) -> str:
        at = self.end + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def _section(self, *, after: int) -> Decimal | None:
        """A number below 10,000, units falling; None where none stands here.

        Args:
            after: the myriad before it, whose tenth a lone digit counts (三万五).
        """
        value, unit, skipped, found = Decimal(0), 10_000, False, False
        while token := self._token(0):
            following = _UNITS.get(self._token(1), 0)
            if _DIGITS.get(token) == 0 and (found or after < 10**12) and not skipped:
                skipped = True
                self.end += 1
            elif token in ("十", "拾") and unit > 10 and (skipped or found or after == 10**12):
                value, unit, skipped, found = value + 10, 10, False, True
                self.end += 1
            elif (count := self._count(token)) and following and following < unit:
                value, unit, skipped, found = value + count * following, following, False, True
                self.end += 2
            elif count and not following and not _is_digits(self._token(1) or "x"):
                alone = len(token) == 1 and not skipped and not _MYRIADS.get(self._token(1))
                if found:
                    value += count * (unit // 10 if alone else 1)
                else:
                    value += count * (after // 10 if alone and after < 10**12 else 1)
                self.end += 1
                return value
            else:
                break
        return value if found else None

    def _count(self, token: str) -> Decimal:
        return Decimal(token) if token[0].isdecimal() else Decimal(_DIGITS.get(token, 0))
