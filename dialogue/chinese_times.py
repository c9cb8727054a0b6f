"""Times of day in Chinese: 下午五点半, 早上九点一刻, 17:30, 中午. The twin of `dialogue.english_times`.

A time without a part of the day is one of the twelve hours from eight in the morning: 五点 is 17:00.
"""

from __future__ import annotations

import re
from datetime import time

from nlu.normalization import normalize

__all__ = ["find_time", "say_time"]

_FIRST_HOUR = 8
_PART = r"(?P<am>凌晨|清晨|早晨|早上|清早|上午|今早|明早)?(?P<pm>中午|下午|午后|傍晚|晚上|夜里|夜晚|今晚|明晚)?"
_CLOCK = re.compile(rf"{_PART}\s*(?P<hour>[01]?\d|2[0-3])[:：](?P<minute>[0-5]\d)(?!\d)")
_QUARTER_TO = re.compile(rf"{_PART}差(?P<minute>一刻|\d{{1,2}}分?)(?:钟)?(?:到)?(?P<hour>[01]?\d|2[0-3])点(?!\d|多|几)")
_TIME = re.compile(rf"{_PART}\s*(?P<hour>[01]?\d|2[0-3])点(?P<minute>[0-5]?\d)?(?!\d|多|几)")
_BARE = re.compile(rf"^\D*?{_PART}(?P<hour>[01]?\d|2[0-3])\D*$")
_NAMED = ((re.compile("正午|中午"), time(12)), (re.compile("午夜|半夜12点|零点"), time(0)))


def find_time(text: str, *, bare: bool, first_hour: int = _FIRST_HOUR) -> time | None:
    """The last time of day in `text`; with `bare` an hour alone counts too.

    What is said without a part of the day is one of the twelve hours from `first_hour`, 1 to 23.
    """
    plain = normalize(text).text
    for source, form in ((text, _CLOCK), (plain, _QUARTER_TO), (plain, _TIME), *(((plain, _BARE),) if bare else ())):
        read = [_read(match, form is _QUARTER_TO, first_hour) for match in form.finditer(source)]
        found = [value for value in read if value is not None]
        if found:
            return found[-1]
    return next((named for pattern, named in _NAMED if pattern.search(plain)), None)


def _read(match: re.Match[str], to: bool, first_hour: int) -> time | None:
    parts = match.groupdict()
    hour, said = int(parts["hour"]), parts.get("minute") or "0"
    minute = 15 if said == "一刻" else int(said.removesuffix("分"))
    if parts["pm"] and hour < 12 and not (parts["pm"] == "中午" and hour >= 11):
        hour += 12
    elif parts["am"] and hour == 12:
        hour = 0
    elif not parts["am"] and not parts["pm"] and 1 <= hour <= 12 and not parts["hour"].startswith("0"):
        hour = (first_hour + (hour - first_hour) % 12) % 24
    minutes = hour * 60 + (-minute if to else minute)
    return time(minutes // 60 % 24, minutes % 60) if minutes >= 0 else None


def say_time(value: time) -> str:
    """下午五点半, 上午九点十五分."""
    part = next(word for until, word in _PARTS if value.hour < until)
    minutes = {0: "", 30: "半"}.get(value.minute, f"{'零' if value.minute < 10 else ''}{_say(value.minute)}分")
    hour = value.hour if value.hour <= 12 else value.hour - 12
    return f"{part}{'两' if hour == 2 else _say(hour)}点{minutes}"


_PARTS = ((6, "凌晨"), (12, "上午"), (13, "中午"), (18, "下午"), (24, "晚上"))
_NUMERALS = "零一二三四五六七八九"


def _say(value: int) -> str:
    """0 to 59."""
    tens, unit = divmod(value, 10)
    if not tens:
        return _NUMERALS[unit]
    return ("" if tens == 1 else _NUMERALS[tens]) + "十" + (_NUMERALS[unit] if unit else "")
