"""English values as callers say or type them, and as a bot reads them back.

Readers (`find_*`) look for one value anywhere in a text, so "uh, on the third please" holds a date. They
take what a recogniser writes ("four four one seven", "eighty four dollars and fifty cents", "the day after
tomorrow") and what a person types ("4417", "$84.50", "27 Nov", "2026-11-27"). They return None where there
is no such value, and never guess a missing part. Speakers (`say_*`) give words that a synthesiser reads well.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal

from dialogue.english_counts import find_number, say_number
from dialogue.english_times import find_time, say_time
from dialogue.english_yes_no import find_yes_no
from nlu.normalization import plain_words

__all__ = [
    "CURRENCIES",
    "find_amount",
    "find_date",
    "find_digit_runs",
    "find_number",
    "find_time",
    "find_yes_no",
    "last_mention",
    "mentions",
    "say_amount",
    "say_date",
    "say_digits",
    "say_number",
    "say_time",
]

_UNITS = {w: i for i, w in enumerate("zero one two three four five six seven eight nine".split())}
_TEENS = {
    w: i
    for i, w in enumerate("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), 10)
}
_TENS = {w: i * 10 for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_REPEATS = {"double": 2, "triple": 3}
_ORDINALS = {
    w: i
    for i, w in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        1,
    )
} | {"thirtieth": 30}
_WEEKDAYS = {w.lower(): i for i, w in enumerate(calendar.day_name)}
_MONTHS = {w.lower(): i for i, w in enumerate(calendar.month_name) if w} | {
    w.lower(): i for i, w in enumerate(calendar.month_abbr) if w and w != "May"
}
_FILLERS = frozenset({"um", "uh", "hmm", "er", "dash"})
_CURRENCY = frozenset({"dollar", "dollars", "bucks", "buck", "euro", "euros", "pound", "pounds", "quid"})
_CENTS = frozenset({"cent", "cents", "pence", "penny"})
_AND = frozenset({"and"})

_TOKEN = re.compile(
    r"[$€£]|\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}(?:/\d{4})?|\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?|[a-z']+", re.ASCII
)


def _tokens(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")  # full-width figures are figures
    return [word for word in _TOKEN.findall(plain) if word not in _FILLERS]


def mentions(text: str, words: str) -> bool:
    """Whether the words stand in the text, each whole and one after the other."""
    return last_mention(text, words) > 0


def last_mention(text: str, words: str) -> int:
    """Where the words end in what is heard of the text, the last time; 0 where they do not stand in it."""
    wanted = plain_words(words)
    at = f" {plain_words(text)} ".rfind(f" {wanted} ") if wanted else -1
    return 0 if at < 0 else at + len(wanted)


# Digits


def find_digit_runs(text: str) -> list[str]:
    """Every unbroken run of digits in `text`, in order: "four oh one, not double five" -> ["401", "55"].

    Two-figure words count as two digits ("forty four seventeen" -> "4417"), typed groups join ("44 17").
    A leading "oh" before other digits is kept as zero: only the wanted length can tell it from a sigh.
    """
    runs: list[str] = []
    run = ""
    words = _tokens(text)
    i = 0
    while i < len(words):
        digits, used = _digits_at(words, i)
        if used:
            run += digits
            i += used
            continue
        if run:
            runs.append(run)
            run = ""
        i += 1
    return [*runs, run] if run else runs


def _digits_at(words: Sequence[str], i: int) -> tuple[str, int]:
    """Digits that begin at word `i` and how many words they take; ("", 0) where there are none."""
    word = words[i]
    if word.isdecimal():
        return word, 1
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
    if word in ("oh", "o"):
        return "0"
    return str(_UNITS[word]) if word in _UNITS else ""


def say_digits(digits: str) -> str:
    """One word a digit, in groups of at most four with a pause between: "four four one seven, two"."""
    words = [list(_UNITS)[int(d)] for d in digits]
    return ", ".join(" ".join(words[i : i + 4]) for i in range(0, len(words), 4))


# Amounts


def find_amount(text: str, *, bare: bool) -> Decimal | None:
    """The last amount of money in `text`, two decimals.

    Args:
        bare: a number without a currency counts too ("eighty four fifty" -> 84.50); right only where the
            bot has just asked for an amount.
    """
    words = _tokens(text)
    found: Decimal | None = None
    i = 0
    while i < len(words):
        amount, named, used = _amount_at(words, i)
        if used and (named or bare):
            found = amount
        i += used or 1
    return None if found is None else found.quantize(Decimal("0.01"))


def _amount_at(words: Sequence[str], i: int) -> tuple[Decimal, bool, int]:
    """An amount that begins at word `i`, whether it names a currency, and its words; 0 words where none does."""
    symbol = words[i] in "$€£"
    whole, used = _number_at(words, i + symbol)
    if not used:
        return Decimal(0), False, 0
    end = i + symbol + used
    if _is_in(words, end, _CENTS):
        return whole / 100, True, end + 1 - i
    named = symbol or _is_in(words, end, _CURRENCY)
    end += named and not symbol
    after = end + _is_in(words, end, _AND)
    cents, cents_used = _number_at(words, after)
    said_cents = _is_in(words, after + cents_used, _CENTS)
    # "eighty four fifty": two figures after a sum below a thousand are its cents, said so or not.
    if cents_used and (0 < cents < 100 if said_cents else 10 <= cents < 100 and whole < 1000):
        whole, end = whole + cents / 100, after + cents_used + said_cents
        if not named and _is_in(words, end, _CURRENCY):
            named, end = True, end + 1
        named = named or said_cents
    return whole, named, end - i


def _is_in(words: Sequence[str], i: int, kind: frozenset[str]) -> bool:
    return i < len(words) and words[i] in kind


def _number_at(words: Sequence[str], i: int) -> tuple[Decimal, int]:
    """A whole or decimal number that begins at word `i`, and its words; (0, 0) where there is none."""
    if i >= len(words):
        return Decimal(0), 0
    if words[i][0].isdigit():
        plain = words[i].replace(",", "")
        return (Decimal(plain), 1) if re.fullmatch(r"\d{1,9}(\.\d{1,2})?", plain) else (Decimal(0), 0)
    start, total, current = i, 0, 0
    last = 1000  # the size of the last word: "eighty four" falls, "four eighty" is two numbers
    while i < len(words):
        word = words[i]
        if word == "a" and i == start and i + 1 < len(words) and words[i + 1] in ("hundred", "thousand"):
            current = 1
        elif word == "hundred" and 0 < current < 100:
            current, last = current * 100, 100
        elif word == "thousand" and current and not total:
            total, current, last = current * 1000, 0, 1000
        elif word == "and" and last >= 100 and i > start and i + 1 < len(words) and _small(words[i + 1]):
            pass
        elif (value := _small(word)) and (last >= 100 or (last in range(20, 100) and value < 10)):
            current, last = current + value, value
        else:
            break
        i += 1
    return Decimal(total + current), i - start


def _small(word: str) -> int:
    return _UNITS.get(word) or _TEENS.get(word) or _TENS.get(word) or 0


CURRENCIES = {"dollar": "cent", "euro": "cent", "pound": "penny"}
"""Names in a flow file, the default first, and their hundredths."""


def say_amount(amount: Decimal, currency: str = "dollar") -> str:
    """ "84 dollars and 50 cents"; figures are left to the synthesiser, which reads them as numbers."""
    whole, minor = int(amount), int(amount * 100) % 100
    parts = [f"{whole} {currency}{'' if whole == 1 else 's'}"] if whole or not minor else []
    if minor:
        small = CURRENCIES[currency]
        parts.append(f"{minor} {small if minor == 1 else 'pence' if small == 'penny' else small + 's'}")
    return " and ".join(parts)


# Dates


def find_date(text: str, today: date, *, past: bool = False) -> date | None:
    """The last day named in `text`.

    Weekdays and days of the month mean the nearest one after `today` (with `past`, on or before it).
    "next friday" is the one of the following calendar week: people disagree, so read it back.
    """
    words = _tokens(text)
    found: date | None = None
    i = 0
    while i < len(words):
        for day, used in _dates_at(words, i, today, past):
            found = day
            i += used - 1
            break
        i += 1
    return found


def _dates_at(words: Sequence[str], i: int, today: date, past: bool) -> Iterator[tuple[date, int]]:
    """Readings of the words from `i`, the longest first, each with its number of words."""
    here = words[i : i + 6]
    phrase = " ".join(here)
    for form, days in _FIXED.items():
        if phrase == form or phrase.startswith(form + " "):
            yield today + timedelta(days), form.count(" ") + 1
    if phrase.startswith("end of the month") or phrase.startswith("end of month"):
        yield (
            today.replace(day=calendar.monthrange(today.year, today.month)[1]),
            4 if "the" in here[:3] else 3,
        )
    if phrase.startswith(("end of the week", "end of week")):
        yield today + timedelta((4 - today.weekday()) % 7), 4 if "the" in here[:3] else 3
    if phrase.startswith("next month"):
        yield _month_later(today.replace(day=1), 1), 2
    if phrase.startswith(("the weekend", "this weekend")):
        yield today + timedelta((5 - today.weekday()) % 7), 2
    yield from _spans_at(here, today)
    yield from _weekdays_at(here, today, past)
    yield from _calendar_days_at(here, today, past)


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


def _spans_at(here: Sequence[str], today: date) -> Iterator[tuple[date, int]]:
    """ "in two weeks", "three days ago"."""
    ahead = here[0] == "in"
    words = here[1:] if ahead else here
    count = 1 if words[:1] in (["a"], ["one"], ["an"]) else 0
    used = 1 if count else 0
    if not count:
        number, used = _number_at(words, 0)
        count = int(number)
    unit = words[used] if used and used < len(words) else ""
    if unit.rstrip("s") not in ("day", "week", "month"):
        return
    sign = 1 if ahead else -1 if words[used + 1 : used + 2] == ["ago"] else 0
    if not sign or count > 365:
        return
    if unit.startswith("month"):
        day = _month_later(today, sign * count)
    else:
        day = today + timedelta(sign * count * (7 if unit.startswith("week") else 1))
    yield day, used + 2


def _month_later(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _weekdays_at(here: Sequence[str], today: date, past: bool) -> Iterator[tuple[date, int]]:
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


def _calendar_days_at(here: Sequence[str], today: date, past: bool) -> Iterator[tuple[date, int]]:
    """ISO and month/day figures, "november twenty seventh", "the third of may", "27 nov", "the fifteenth"."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", here[0]):
        year, month, number = map(int, here[0].split("-"))
        yield from _valid(year, month, number, 1)
    elif re.fullmatch(r"\d{1,2}/\d{1,2}(/\d{4})?", here[0]):
        parts = [int(p) for p in here[0].split("/")]
        if len(parts) == 3:
            yield from _valid(parts[2], parts[0], parts[1], 1)
        else:
            yield from _nearest(parts[0], parts[1], today, past, 1)
    elif here[0] in _MONTHS:
        skip = 2 if here[1:2] == ["the"] else 1
        number, used = _day_number(here[skip:], cardinals=True)
        if used:
            yield from _nearest(_MONTHS[here[0]], number, today, past, skip + used)
    else:
        number, used = _day_number(here, cardinals=False)
        if not used:
            number, used = _day_number(here, cardinals=True)
            if here[used : used + 1] and here[used] in _MONTHS and used:
                yield from _nearest(_MONTHS[here[used]], number, today, past, used + 1)
            return
        month_at = used + (here[used : used + 1] == ["of"])
        if month_at < len(here) and here[month_at] in _MONTHS:
            yield from _nearest(_MONTHS[here[month_at]], number, today, past, month_at + 1)
        else:
            yield from _nearest_day(number, today, past, used)


def _day_number(words: Sequence[str], *, cardinals: bool) -> tuple[int, int]:
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
        number, used = _number_at(words, 0)
        if used and number <= 31:
            return int(number), used
    return 0, 0


def _valid(year: int, month: int, day: int, used: int) -> Iterator[tuple[date, int]]:
    try:
        yield date(year, month, day), used
    except ValueError:  # the 30th of February: not a day, so nothing was found
        return


def _nearest(month: int, day: int, today: date, past: bool, used: int) -> Iterator[tuple[date, int]]:
    for year in (today.year, today.year - 1) if past else (today.year, today.year + 1):
        for found, words in _valid(year, month, day, used):
            if (found <= today) if past else (found >= today):
                yield found, words
                return


def _nearest_day(number: int, today: date, past: bool, used: int) -> Iterator[tuple[date, int]]:
    """The nearest month, looking back with `past`, in which this day exists."""
    for months in range(4):
        first = _month_later(today.replace(day=1), -months if past else months)
        for found, words in _valid(first.year, first.month, number, used):
            if (found <= today) if past else (found >= today):
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
