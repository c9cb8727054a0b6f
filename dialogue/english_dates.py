"""Days in English: "tomorrow", "friday next week", "the twenty seventh of november", "two weeks from friday".

What says no day for certain is none: the 31st of November, one of two ("monday or tuesday"), one that is refused ("not
friday"), a second that is a moment.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from dialogue.english_words import MONTHS, day_number, is_refused, number_at, one_of_several, tokens

__all__ = ["find_date", "say_date"]

_WEEKDAYS = {w.lower(): i for i, w in enumerate(calendar.day_name)} | {
    w: i for i, words in enumerate(("mon", "tue tues", "wed", "thu thur thurs", "fri")) for w in words.split()
}
_ALTERNATIVES = frozenset({"or", "to", "until", "till", "through"})

_Reading = tuple[date | None, int]
"""A day and its number of words; None where they name a day that does not exist."""


def find_date(text: str, today: date, *, past: bool = False) -> date | None:
    """The last day named in `text` that is not refused there.

    Weekdays and days of the month mean the nearest one after `today` (with `past`, on or before it).
    "next friday" is the one of the following calendar week: people disagree, so read it back.
    """
    words = [word.removesuffix("'s") for word in tokens(text, marks=";")]
    days: list[date] = []
    spans: list[tuple[int, int]] = []
    i = 0
    while i < len(words):
        day, used = next(_dates_at(words, i, today, past), (None, 1))
        if day is not None:
            days.append(day)
            spans.append((i, i + used))
        i += used
    for at, (start, end) in reversed([*enumerate(spans)]):
        refused = is_refused(words[:start], words[end:])
        if not refused and (len(set(days)) == 1 or not one_of_several(words, spans, at, _ALTERNATIVES)):
            return days[at]
    return None


def _dates_at(words: Sequence[str], i: int, today: date, past: bool) -> Iterator[_Reading]:
    """Readings of the words from `i`, the longest first."""
    here = words[i : i + 6]
    phrase = " ".join(here)
    for form, days in _FIXED.items():
        if phrase == form or phrase.startswith(form + " "):
            if form == "today" and _ASKED_DATE.search(" ".join(words[max(0, i - 6) : i])):
                return
            yield today + timedelta(days), form.count(" ") + 1
    yield from _ends_at(here, today)
    yield from _later_at(words, i, today, past)
    if phrase.startswith("next month"):
        yield _month_later(today.replace(day=1), 1), 2
    if phrase.startswith(("the weekend", "this weekend")):
        yield today + timedelta((5 - today.weekday()) % 7), 2
    yield from _spans_at(here, today)
    yield from _weekdays_at(here, today, past)
    if not _is_rank(words, i):
        yield from _calendar_days_at(here, today, past)


_ASKED_DATE = re.compile(r"\bwhat(?: is)?(?: the)?(?: day| date)?(?: is)?(?: it)?$")
_RANKED = frozenset(
    "available one ones thing time week weekend choice option appointment slot opening payment half".split()
)


def _is_rank(words: Sequence[str], i: int) -> bool:
    """Whether the ordinal at `i` is no day of the month: "one second", "let me check first", "the first available"."""
    if words[i] not in ("first", "second", "third"):
        return False
    before, after = words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
    if after in _RANKED or list(words[i + 1 : i + 3]) == ["of", "all"]:
        return True
    if after in MONTHS or after == "of" or before in MONTHS or before == "the":
        return False
    return any(word not in ("please", "on", "maybe", ";") for j, word in enumerate(words) if j != i)


def _ends_at(here: Sequence[str], today: date) -> Iterator[_Reading]:
    """ "end of the month", "end of next week", "end of november"."""
    if list(here[:2]) != ["end", "of"]:
        return
    at = 3 if here[2:3] in (["the"], ["this"], ["next"]) else 2
    ahead = here[2:3] == ["next"]
    unit = here[at] if at < len(here) else ""
    if unit == "month":
        yield _month_end(_month_later(today.replace(day=1), int(ahead))), at + 1
    elif unit == "week":
        yield today + timedelta((4 - today.weekday()) % 7 if not ahead else 11 - today.weekday()), at + 1
    elif unit in MONTHS and at == 2:
        year = today.year + (MONTHS[unit] < today.month)
        yield _month_end(date(year, MONTHS[unit], 1)), at + 1


def _month_end(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


_FIXED = {
    "the day after tomorrow": 2,
    "day after tomorrow": 2,
    "the day before yesterday": -2,
    "tomorrow": 1,
    "yesterday": -1,
    "today": 0,
    "tonight": 0,
    "right now": 0,
    "right away": 0,
    "immediately": 0,
    "this morning": 0,
    "this afternoon": 0,
    "this evening": 0,
    "last night": -1,
    "next week": 7,
    "last week": -7,
    "last month": -30,
}


def _spans_at(here: Sequence[str], today: date) -> Iterator[_Reading]:
    """ "in two weeks", "three days ago"."""
    ahead = here[0] in ("in", "within")
    words = here[1:] if ahead else here
    count, used = _count_at(words)
    unit = words[used].rstrip("s") if used and used < len(words) else ""
    if unit not in ("day", "week", "month"):
        return
    sign = 1 if ahead else -1 if words[used + 1 : used + 2] == ["ago"] else 0
    if not sign or count > 365:
        return
    yield _moved(today, sign * count, unit), used + 1 + ahead


def _later_at(words: Sequence[str], i: int, today: date, past: bool) -> Iterator[_Reading]:
    """ "two weeks from friday", "a week from now"; "the fifth of next month", "friday of next week"."""
    here = words[i : i + 6]
    number, used = _count_at(here)
    unit = here[used].rstrip("s") if used and used < len(here) else ""
    from_day = here[used + 1 : used + 2] in (["from"], ["after"], ["on"])
    if unit in ("day", "week", "month") and from_day and number <= 365:
        near = words[i + used + 1 : i + 9]  # no further, however many weeks from weeks from weeks are said
        base, more = (None, 1) if len(near) < 2 else next(_dates_at(near, 1, today, past), (None, 1))
        if near[1:2] == ["now"]:
            base = today
        elif base is None and near[1:2] == ["the"] and len(near) > 2:
            base, more = next(_dates_at(near, 2, today, past), (None, 1))
            more += 1
        yield None if base is None else _moved(base, number, unit), used + 2 + more
    number, used = day_number(here, cardinals=False)
    if used and list(here[used : used + 3]) == ["of", "next", "month"]:
        first = _month_later(today.replace(day=1), 1)
        yield from _valid(first.year, first.month, number, used + 3)
    if here[0] in _WEEKDAYS and list(here[1:4]) == ["of", "next", "week"]:
        yield today + timedelta(7 - today.weekday() + _WEEKDAYS[here[0]]), 4


def _count_at(words: Sequence[str]) -> tuple[int, int]:
    if words[:1] in (["a"], ["one"], ["an"]):
        return 1, 1
    number, used = number_at(words, 0)
    return int(number), used


def _moved(day: date, count: int, unit: str) -> date:
    return _month_later(day, count) if unit == "month" else day + timedelta(count * (7 if unit == "week" else 1))


def _month_later(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _weekdays_at(here: Sequence[str], today: date, past: bool) -> Iterator[_Reading]:
    which = here[0] if here[0] in ("next", "last", "this") else ""
    name = here[1] if which and len(here) > 1 else here[0]
    if name not in _WEEKDAYS:
        return
    ahead = (_WEEKDAYS[name] - today.weekday()) % 7
    next_monday = today + timedelta(7 - today.weekday())
    if not which and list(here[1:3]) == ["next", "week"]:
        yield next_monday + timedelta(_WEEKDAYS[name]), 3
    elif which == "next":
        yield next_monday + timedelta(_WEEKDAYS[name]), 2
    elif which == "last" or (past and which != "this"):
        yield today - timedelta((7 - ahead) % 7 or 7), 2 if which else 1
    else:
        yield today + timedelta(ahead or 7), 2 if which else 1


def _calendar_days_at(here: Sequence[str], today: date, past: bool) -> Iterator[_Reading]:
    """ISO and month/day figures, "november twenty seventh", "the third of may", "27 nov", "the fifteenth"."""
    if re.fullmatch(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", here[0]):
        year, month, number = map(int, re.split("[-/.]", here[0]))
        yield from _valid(year, month, number, 1)
    elif re.fullmatch(r"\d{1,2}/\d{1,2}(/\d{4})?", here[0]):
        month, number, *years = map(int, here[0].split("/"))
        if month > 12:  # 27/11 can only be the day first
            month, number = number, month
        yield from _valid(years[0], month, number, 1) if years else _nearest(month, number, today, past, 1)
    elif here[0] in MONTHS:
        skip = 2 if here[1:2] == ["the"] else 1
        number, used = day_number(here[skip:], cardinals=True)
        if used:
            yield from _of_year(here, MONTHS[here[0]], number, today, past, skip + used)
    else:
        number, used = day_number(here, cardinals=False)
        if not used:
            number, used = day_number(here, cardinals=True)
            if used and used < len(here) and here[used] in MONTHS:
                yield from _of_year(here, MONTHS[here[used]], number, today, past, used + 1)
            return
        month_at = used + (here[used : used + 1] == ["of"])
        if month_at < len(here) and here[month_at] in MONTHS:
            yield from _of_year(here, MONTHS[here[month_at]], number, today, past, month_at + 1)
        else:
            yield from _nearest_day(number, today, past, used)


def _of_year(here: Sequence[str], month: int, number: int, today: date, past: bool, used: int) -> Iterator[_Reading]:
    """In the year that follows if one does. The 31st of November is no day, nor the 31st of another month."""
    if used < len(here) and re.fullmatch(r"20\d\d", here[used]):
        yield next(_valid(int(here[used]), month, number, used + 1), (None, used + 1))
    else:
        yield next(_nearest(month, number, today, past, used), (None, used))


def _valid(year: int, month: int, day: int, used: int) -> Iterator[_Reading]:
    try:
        yield date(year, month, day), used
    except ValueError:  # the 30th of February: not a day, so nothing was found
        return


def _nearest(month: int, day: int, today: date, past: bool, used: int) -> Iterator[_Reading]:
    for year in (today.year, today.year - 1) if past else (today.year, today.year + 1):
        for found, words in _valid(year, month, day, used):
            if found is not None and ((found <= today) if past else (found >= today)):
                yield found, words
                return


def _nearest_day(number: int, today: date, past: bool, used: int) -> Iterator[_Reading]:
    """The nearest month, looking back with `past`, in which this day exists."""
    for months in range(4):
        first = _month_later(today.replace(day=1), -months if past else months)
        for found, words in _valid(first.year, first.month, number, used):
            if found is not None and ((found <= today) if past else (found >= today)):
                yield found, words
                return


def say_date(day: date, today: date) -> str:
    """ "today", "tomorrow" or "Friday, November 27th"."""
    if day == today:
        return "today"
    if day == today + timedelta(1):
        return "tomorrow"
    number = day.day
    ending = "th" if 10 < number < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    year = "" if abs((day - today).days) < 330 else f", {day.year}"
    return f"{calendar.day_name[day.weekday()]}, {calendar.month_name[day.month]} {number}{ending}{year}"
