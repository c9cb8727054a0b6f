"""What the normal form does to Chinese text, beyond what it does to any: sums, dates, times and shares.

Callers say 四十五块五, 十一月二十一号, 三点半, 百分之五; people type 45.50元 or ¥45.5, 11月21日, 3:30, 5%. Both become
45.5元, 11月21号, 3点30, 百分之5. Text without a Chinese character (or ¥) is left alone, so nothing here can change what
a model of another language sees.

The rules are versioned apart from the others for the same reason.
"""

from __future__ import annotations

import re

from nlu.chinese_numbers import rewrite_chinese_numbers
from nlu.draft import Draft, Rule, substitution

__all__ = ["CHINESE_RULES_VERSION", "say_chinese", "write_chinese"]

CHINESE_RULES_VERSION = 2
"""Counts for models of Chinese only. Version 1 read numerals and nothing else."""

_CHINESE = re.compile("[\u3400-\u9fff〇¥]")
_SUM_ENDS = r"(?=[吧的了呢啊呀]|[^\w.]|$)"


def _date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    return f"{year}年{int(month)}月{int(day)}号"


def _clock(match: re.Match[str]) -> str:
    hour, minute = match.groups()
    return f"{int(hour)}点{'' if minute == '00' else minute}"


_WRITTEN: tuple[Rule, ...] = (
    substitution(r"¥ ?(\d+(?:,\d{3})*(?:\.\d+)?)(?: ?元)?", lambda m: f"{m[1].replace(',', '')}元"),
    substitution(r"(?<![\d.])(\d+(?:\.\d+)?) ?%", lambda m: f"百分之{m[1]}"),
    substitution(r"(?<!\d)(\d{4})[-/](\d\d?)[-/](\d\d?)(?!\d)", _date),
    substitution(r"(?<![\d:])(\d\d?):([0-5]\d)(?![\d:])", _clock),
    # A range, before figures on both sides of a hyphen pass for an account number.
    substitution(r"(?<=\d) ?[-~] ?(?=\d+(?:\.\d+)?[元块塊个個天小时分人号號月年点點%])", "到"),
    substitution(r"(?<=[元块塊天时分号號月年人点點]) ?[-~] ?(?=\d)", "到"),
    substitution(r"(?<![\da-z])-(?=\d)", "负"),
)
"""Signs that are words when said; they run before punctuation is dropped."""


def _numbers(draft: Draft) -> Draft:
    return draft.edit(
        (r.start, r.end, _apart(draft.text, r.start, r.text)) for r in rewrite_chinese_numbers(draft.text)
    )


def _apart(text: str, at: int, number: str) -> str:
    """A number after figures that it does not continue keeps its distance: 5三百 is 5 300."""
    return f" {number}" if at and text[at - 1].isdecimal() and number[0].isdecimal() else number


_SPOKEN: tuple[Rule, ...] = (
    # A recogniser that writes spaces between characters: 四 四 一 七.
    substitution(r"(?<=[零〇一二三四五六七八九幺]) (?=[零〇一二三四五六七八九幺](?: |$))", ""),
    _numbers,
    substitution("百分之百", "百分之100"),
    # Dates.
    substitution(r"(?<=\d月)(\d\d?)[日號]", lambda m: f"{m[1]}号"),
    substitution(r"(?<![\d.])0(?=[1-9][月号])", ""),
    # Clock times.
    substitution(r"(?<![\d.])(\d\d?)[点點](?:[钟鐘]|整(?!\w))", lambda m: f"{m[1]}点"),
    substitution(r"(?<![\d.])(\d\d?)[点點]半", lambda m: f"{m[1]}点30"),
    substitution(r"(?<![\d.])(\d\d?)[点點][1一]刻", lambda m: f"{m[1]}点15"),
    substitution(r"(?<![\d.])(\d\d?)[点點][3三]刻", lambda m: f"{m[1]}点45"),
    substitution(r"(?<![\d.])(\d\d?)[点點](\d\d?)分", lambda m: f"{m[1]}点{m[2]:0>2}"),
    # Sums.
    substitution(r"(?<![\d.])(\d+)[块塊元](\d)[毛角](\d)分?", lambda m: f"{m[1]}.{m[2]}{m[3]}元"),
    substitution(rf"(?<![\d.])(\d+)[块塊元]零?(\d)(?:[毛角][钱錢]?|{_SUM_ENDS})", lambda m: f"{m[1]}.{m[2]}元"),
    substitution(r"(?<![\d.])(\d+)[块塊元]0(\d)分?", lambda m: f"{m[1]}.0{m[2]}元"),
    substitution(r"(?<=\d)[块塊][钱錢]", "元"),
    substitution(r"(?<![\d.])(\d+)\.(?:0+|(\d*[1-9])0+)元", lambda m: f"{m[1]}.{m[2]}元" if m[2] else f"{m[1]}元"),
)
"""Numerals to figures, and the words around them to one form; they run on what is left of the punctuation."""


def write_chinese(draft: Draft) -> Draft:
    """Signs to words, in Chinese text only."""
    return _apply(_WRITTEN, draft)


def say_chinese(draft: Draft) -> Draft:
    """Numerals to figures, in Chinese text only."""
    return _apply(_SPOKEN, draft)


def _apply(rules: tuple[Rule, ...], draft: Draft) -> Draft:
    if draft.text.isascii() or not _CHINESE.search(draft.text):
        return draft
    for rule in rules:
        draft = rule(draft)
    return draft
