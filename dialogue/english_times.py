"""Times of day in English: "half past five", "at 5:30 pm", "eight in the morning", "noon".

A time without a part of the day is one of the twelve hours from eight in the morning: "at five" is 17:00 and "at nine"
09:00. People mean that on the telephone, and it is read back. Who knows better asks for the twelve from another hour.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import time

__all__ = ["find_time", "say_time"]

_NUMBERS = {
    word: value
    for value, word in enumerate(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen".split(),
        1,
    )
} | {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_WORD = re.compile(
    rf"\b(?:(twenty|thirty|forty|fifty)[ -](one|two|three|four|five|six|seven|eight|nine)|({'|'.join(_NUMBERS)}))\b"
)
_FIRST_HOUR = 8

_PART = (
    r"(?:\s*(?P<am>a\.?\s?m\b\.?|in the morning|this morning|morning)"
    r"|\s*(?P<pm>p\.?\s?m\b\.?|in the afternoon|this afternoon|in the evening|this evening|at night|tonight"
    r"|afternoon|evening))?"
)
_UNITS = r"(?:days?|weeks?|months?|years?|dollars?|hours?|minutes?)\b"
_HOUR = r"(?P<hour>[01]?\d|2[0-3])"
_MINUTE = r"(?P<minute>[0-5]\d|[1-9])"
_FORMS = tuple(
    re.compile(form + _PART)
    for form in (
        rf"(?<!\d){_HOUR}[:.]{_MINUTE}(?!\d)",
        rf"\b(?P<half>half) past {_HOUR}\b",
        rf"\b(?:a )?(?P<quarter>quarter) (?P<way>past|after|to|before) {_HOUR}\b",
        rf"\b{_MINUTE}(?: minutes?)? (?P<way>past|after|to|before) {_HOUR}\b",
        rf"(?<!\d)(?<!\d ){_HOUR} (?P<minute>[0-5]\d|oh [1-9])(?! ?(?:\d|{_UNITS}|%))",
        rf"(?<![\d.:]){_HOUR} ?o'?\s?clock\b",
        rf"(?<![\d.:]){_HOUR}(?= ?[ap]\.?\s?m\b| (?:in the (?:morning|afternoon|evening)|at night|tonight))",
        rf"\b(?:at|by|around|about|after|before|from|until|till) {_HOUR}\b(?![:.]?\d|/| ?{_UNITS})",
    )
)
_BARE = re.compile(rf"(?<![\d.:/]){_HOUR}(?![.:]?\d|[%/]| ?{_UNITS}|th\b|st\b|nd\b|rd\b){_PART}")
_NAMED = ((re.compile(r"\b(?:noon|midday)\b"), time(12)), (re.compile(r"\bmidnight\b"), time(0)))


def find_time(text: str, *, bare: bool, first_hour: int = _FIRST_HOUR) -> time | None:
    """The last time of day in `text`.

    Args:
        bare: an hour alone counts too ("five"); right only where the bot has just asked for a time.
        first_hour: 1 to 23; what is said without a part of the day is one of the twelve hours from here.
    """
    plain = _figures(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))
    for pattern, named in _NAMED:
        if pattern.search(plain):
            return named
    for form in (*_FORMS, *((_BARE,) if bare else ())):
        found = [read for match in form.finditer(plain) if (read := _read(match, first_hour)) is not None]
        if found:
            return found[-1]
    return None


def _figures(text: str) -> str:
    """Number words as figures: "five twenty five" -> "5 25"."""
    return _WORD.sub(lambda match: str(sum(_NUMBERS[word] for word in match.groups() if word)), text)


def _read(match: re.Match[str], first_hour: int) -> time | None:
    parts = match.groupdict()
    hour = int(parts["hour"])
    minute = (
        30
        if parts.get("half")
        else 15
        if parts.get("quarter")
        else int((parts.get("minute") or "0").removeprefix("oh "))
    )
    if parts["pm"] and hour < 12:
        hour += 12
    elif parts["am"] and hour == 12:
        hour = 0
    elif not parts["am"] and not parts["pm"] and 1 <= hour <= 12 and not parts["hour"].startswith("0"):
        hour = (first_hour + (hour - first_hour) % 12) % 24
    minutes = hour * 60 + (-minute if parts.get("way") in ("to", "before") else minute)
    return time(minutes // 60 % 24, minutes % 60) if minutes >= 0 else None


def say_time(value: time) -> str:
    """ "5:30 pm", "9 am", "noon", "midnight"."""
    if (value.hour, value.minute) in ((12, 0), (0, 0)):
        return "noon" if value.hour else "midnight"
    minutes = f":{value.minute:02d}" if value.minute else ""
    return f"{value.hour % 12 or 12}{minutes} {'pm' if value.hour >= 12 else 'am'}"
