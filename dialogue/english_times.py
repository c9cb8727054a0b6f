"""Times of day in English: "half past five", "at 5:30 pm", "eight in the morning", "noon".

A time without a part of the day is one of the twelve hours from eight in the morning: "at five" is 17:00 and "at nine"
09:00. People mean that on the telephone, and it is read back. Who knows better asks for the twelve from another hour.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import time

from dialogue.english_words import CORRECTION, MONTHS, is_refused, tokens

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
_UNITS = (
    r"(?:(?:quick |last )?(?:seconds?|secs?|moments?|questions?)|more|things?|days?|weeks?|months?|years?|hours?"
    r"|minutes?|mins?|dollars?|bucks?|euros?|pounds?|percent|people|persons?|guests|of us|kids|children"
    rf"|(?:of )?(?:{'|'.join(MONTHS)})|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)\b"
)
_HOUR = r"(?P<hour>[01]?\d|2[0-3])"
_MINUTE = r"(?P<minute>[0-5]\d|[1-9])"
_FORMS = tuple(
    re.compile(form + _PART)
    for form in (
        rf"(?<!\d){_HOUR}[:.]{_MINUTE}(?!\d)",
        rf"\b(?P<half>half) past {_HOUR}\b",
        rf"\b(?:a )?(?P<quarter>quarter) (?P<way>past|after|to|till|of|before) {_HOUR}\b",
        rf"\b{_MINUTE}(?: minutes?)? (?P<way>past|after) {_HOUR}\b",
        # "five to seven" is a time; "four to seven", without the minutes, is from when till when.
        rf"\b(?P<minute>[1-5]?\d(?= minutes? )|5|10|15|20|25)(?: minutes?)? (?P<way>to|till|before) {_HOUR}\b",
        rf"(?<!\d)(?<!\d ){_HOUR} (?P<minute>[0-5]\d|oh [1-9])(?! ?(?:\d|{_UNITS}|%))",
        rf"(?<![\d.:]){_HOUR} ?o'?\s?clock\b",
        rf"(?<![\d.:]){_HOUR}(?= ?[ap]\.?\s?m\b| (?:in the (?:morning|afternoon|evening)|at night|tonight))",
        rf"\b(?:at|by|around|about|after|before|from|until|till) {_HOUR}\b(?![:.]?\d|/| ?{_UNITS})",
    )
)
_NO_HOUR_BEHIND = "".join(
    rf"(?<!\b{word} )"
    for word in (
        *MONTHS,
        *"that which this any first last the later earlier other for room flat extension apartment half".split(),
    )
)
_BARE = re.compile(
    rf"(?<![\d.:/$€£])(?<!\d ){_NO_HOUR_BEHIND}{_HOUR}(?![.: ]?\d|[%/]| ?{_UNITS}|th\b|st\b|nd\b|rd\b){_PART}"
)
_NAMED = (
    (re.compile(r"(?:\b12 (?:o'?clock )?(?:at )?)?\b(?:noon|midday)\b"), "12:00 pm"),
    (re.compile(r"(?:\b12 (?:o'?clock )?(?:at )?)?\bmidnight\b"), "12:00 am"),
)
_CORRECTED = re.compile(rf"{CORRECTION}[,.]? ?(?:at |say )?$")
_LIMIT = re.compile(r"(?:after|before|from|until|till) ")
_CLOCK = r"\d{1,2}(?::[0-5]\d| [0-5]\d)?(?: ?[ap]\.?m\.?| o'?clock)?"
_RANGE = re.compile(
    rf"\b(?:from|between) {_CLOCK} ?(?:to|and|until|till|-) ?{_CLOCK}\b"
    rf"|(?<![\d$/-]){_CLOCK} ?(?:or|-) ?(?:at |maybe )?{_CLOCK}\b(?!-)"
    r"|\b(?!(?:5|10|15|20|25) )\d{1,2} to \d|\d:\d\d ?(?:[ap]\.?m\.?)? to \d|\d ?[ap]\.?m\.? to \d"
)
_DAY = r"(?:tomorrow|(?:on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
_PART_BEFORE = re.compile(
    r"(?<!good )\b(?:(?P<am>morning)|(?P<pm>afternoon|evening|night|tonight))[,.]?"
    r"(?: (?:at|by|around|about|after|before|from|maybe|say))*,? ?$"
)
_PART_AFTER = re.compile(rf",?(?: in the| {_DAY}) (?:(?P<am>morning)|(?P<pm>afternoon|evening|night))\b")


def find_time(text: str, *, bare: bool, first_hour: int = _FIRST_HOUR) -> time | None:
    """The last time of day in `text` that is not refused there; None where it names several, "from nine to five".

    Args:
        bare: an hour alone counts too ("five"); right only where the bot has just asked for a time. Beside a time in
            another form it counts only where it corrects that.
        first_hour: 1 to 23; what is said without a part of the day is one of the twelve hours from here.
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    plain = _figures(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", plain))
    for pattern, named in _NAMED:
        plain = pattern.sub(named, plain)
    if _RANGE.search(plain):
        return None
    last = next((match for match in reversed(_matches(plain, bare=bare)) if not _is_refused(match)), None)
    return None if last is None else _read(last, first_hour)


def _matches(plain: str, *, bare: bool) -> list[re.Match[str]]:
    """Times by their place in the text; where two forms match the same words, the earlier form's."""
    taken: list[re.Match[str]] = []
    for form in _FORMS:
        taken += [match for match in form.finditer(plain) if not _overlaps(match, taken)]
    if bare:
        alone = [match for match in _BARE.finditer(plain) if not _overlaps(match, taken)]
        taken += [match for match in alone if not taken or _CORRECTED.search(plain, 0, match.start())]
    return sorted(taken, key=lambda match: match.start())


def _overlaps(match: re.Match[str], taken: list[re.Match[str]]) -> bool:
    return any(match.start() < other.end() and other.start() < match.end() for other in taken)


def _is_refused(match: re.Match[str]) -> bool:
    limit = _LIMIT.match(match[0])  # "not before six" is six
    before = match.string[: match.start() + (limit.end() if limit else 0)]
    return is_refused(tokens(before, marks=",;"), tokens(match.string[match.end() :], marks=",;"))


def _figures(text: str) -> str:
    """Number words as figures: "five twenty five" -> "5 25"."""
    return _WORD.sub(lambda match: str(sum(_NUMBERS[word] for word in match.groups() if word)), text)


def _read(match: re.Match[str], first_hour: int) -> time:
    parts = match.groupdict()
    hour = int(parts["hour"])
    minute = (
        30
        if parts.get("half")
        else 15
        if parts.get("quarter")
        else int((parts.get("minute") or "0").removeprefix("oh "))
    )
    am, pm = parts["am"], parts["pm"] or ""
    if not am and not pm and (part := _part_around(match)):
        am, pm = part["am"], part["pm"] or ""
    minutes = hour * 60 + (-minute if parts.get("way") in ("to", "till", "of", "before") else minute)
    if (am or "night" in pm) and hour == 12:
        minutes -= 720
    elif pm and hour < 12 and not ("night" in pm and hour < 5):
        minutes += 720
    elif not am and not pm and 1 <= hour <= 12 and not parts["hour"].startswith("0"):
        minutes = first_hour * 60 + (minutes - first_hour * 60) % 720
    minutes %= 1440
    return time(minutes // 60, minutes % 60)


def _part_around(match: re.Match[str]) -> re.Match[str] | None:
    """A part of the day a little apart: "tonight at eight", "8:30 tomorrow evening"."""
    before = _PART_BEFORE.search(match.string, 0, match.start())
    if before and not is_refused(tokens(match.string[: before.start()], marks=",;"), ()):
        return before
    return _PART_AFTER.match(match.string, match.end())


def say_time(value: time) -> str:
    """ "5:30 pm", "9 am", "noon", "midnight"."""
    if (value.hour, value.minute) in ((12, 0), (0, 0)):
        return "noon" if value.hour else "midnight"
    minutes = f":{value.minute:02d}" if value.minute else ""
    return f"{value.hour % 12 or 12}{minutes} {'pm' if value.hour >= 12 else 'am'}"
