"""Times of day in Chinese: 下午五点半, 早上九点一刻, 17:30, 中午. The twin of `dialogue.english_times`.

A time without a part of the day is one of the twelve hours from eight in the morning: 五点 is 17:00.
"""

from __future__ import annotations

import re
from datetime import time

from dialogue.chinese_doubts import last_meant
from nlu.normalization import normalize

__all__ = ["find_time", "say_time"]

_FIRST_HOUR = 8
_PART = (
    r"(?:(?:(?P<am>凌晨|清晨|早晨|早上|清早|上午|今早|明早)|(?P<pm>中午|下午|午后|傍晚)|(?P<night>晚上|夜里|半夜|夜晚|今晚|明晚))"
    r"(?:大概|大约|差不多|[的吧 ])*"
    r"|(?<![太更再最不很稍早晚])(?:(?P<early>早)|(?P<late>晚))(?=\d))?"
)
_HOUR = r"(?<![\d.])(?P<hour>[01]?\d|2[0-3])"
_MINUTES = r"[一三]刻|十|[0-5]?\d"
_TIME = re.compile(
    rf"{_PART}(?:差(?P<to>{_MINUTES})分?钟?到?)?{_HOUR}点(?:差(?P<less>{_MINUTES})分?|过?(?P<past>{_MINUTES}))?(?!\d|[多几来差])"
)
_BARE = re.compile(
    rf"^(?:[^\d第号]*?[^\d第号早晚差快慢等])?{_PART}{_HOUR}"
    r"(?![\d多几来号日月年天周分秒次个位人口块元折成楼岁小%]|点[多几来差]| percent)\D*$"
)
_CLOCK = re.compile(r"(?<![\d:：])(\d{1,2})[:：](\d\d)(?![\d:：])")
_SOONER_OR_LATER = re.compile(r"[早晚]1点(?!\d)")
_ONE_OCLOCK = re.compile(r"(?:^|(?<= )|(?<=那就)|(?<=[夜晚][里上])|(?<=半夜))一点(?=[吧呢左钟]|$)")
"""Not 一点 as in 便宜一点, a little."""

_NAMED = {"正午": time(12), "中午": time(12), "午夜": time(0), "零点": time(0)}
_NAME = re.compile("|".join(_NAMED))
_IN_CHARACTERS = {"一刻": 15, "三刻": 45, "十": 10}


def find_time(text: str, *, bare: bool, first_hour: int = _FIRST_HOUR) -> time | None:
    """The last time of day in `text`; with `bare` an hour alone counts too.

    What is said without a part of the day is one of the twelve hours from `first_hour`, 1 to 23.
    """
    plain = _SOONER_OR_LATER.sub("", normalize(_CLOCK.sub(r"\1点\2", text)).text)
    if bare:
        plain = _ONE_OCLOCK.sub("1点", plain)
    for form in (_TIME, _BARE) if bare else (_TIME,):
        if matches := list(form.finditer(plain)):
            return last_meant(plain, ((_read(match, first_hour), *_place(match)) for match in matches))
    return last_meant(plain, ((_NAMED[match[0]], *match.span()) for match in _NAME.finditer(plain)))


def _place(match: re.Match[str]) -> tuple[int, int]:
    """Of the time itself: what is read as an hour alone matches the whole text."""
    return (match.start("hour"), match.end("hour")) if match.re is _BARE else match.span()


def _read(match: re.Match[str], first_hour: int) -> time:
    parts = match.groupdict()
    hour = int(parts["hour"])
    minutes = hour * 60 + _minutes(parts.get("past")) - _minutes(parts.get("to")) - _minutes(parts.get("less"))
    if parts["am"] or parts["early"]:
        minutes -= 12 * 60 if minutes >= 12 * 60 and hour == 12 else 0
    elif parts["night"] or parts["late"]:
        minutes += 12 * 60 if 5 <= hour < 12 else -12 * 60 if hour == 12 else 0
    elif parts["pm"]:
        minutes += 12 * 60 if hour < 12 and not (parts["pm"] == "中午" and hour >= 11) else 0
    elif 1 <= hour <= 12 and not parts["hour"].startswith("0"):
        first = first_hour * 60  # not the hour but the time lies behind it: a quarter to eight is 19:45
        minutes = first + (minutes - first) % (12 * 60)
    return time(*divmod(minutes % (24 * 60), 60))


def _minutes(said: str | None) -> int:
    return _IN_CHARACTERS.get(said) or int(said) if said else 0


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
