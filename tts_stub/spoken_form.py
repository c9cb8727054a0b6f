"""Written to spoken: what a formant synthesizer reads wrongly, spelled out before it sees it.

espeak-ng reads "48219370" as forty-eight million, "$42.50" as "dollar forty two point five", "AB12" as "ab
twelve" and "2026-11-27" with dashes. Production engines bring their own normalisation and get the text as
it is.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

__all__ = ["spoken_form"]

_CURRENCIES: Final = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_PLURALS: Final = {"penny": "pence"}
_MONTHS: Final = "January February March April May June July August September October November December".split()

_MONEY: Final = re.compile(r"([$£€])\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{2}))?(?![.,]?\d)")
_ISO_DATE: Final = re.compile(r"(?<![\d-])(\d{4})-(\d{2})-(\d{2})(?![\d-])")
_REFERENCE: Final = re.compile(r"\b(?=[A-Z0-9]*[A-Z])(?=[A-Z0-9]*\d)[A-Z0-9]{3,}\b")
"""Capitals and digits mixed, three or more: a reference, to be spelled."""
_LONG_NUMBER: Final = re.compile(r"(?<![\d.,])(\d{5,}|0\d+)(?![\d]|[.,]\d)")
"""Five digits or more, or a leading zero: a number that identifies rather than counts."""
_GROUP: Final = 3
_UNSPEAKABLE: Final = re.compile(r"[\x00-\x1f\x7f]+")


def spoken_form(text: str, language: str) -> str:
    """Spell out amounts, dates, references and long numbers; everything else is left as written.

    Args:
        text: what a prompt says; control characters (a NUL would end it early) become spaces.
        language: an espeak-ng voice or language code; only its first part ("en", "cmn") counts.
    """
    text = _UNSPEAKABLE.sub(" ", text)
    family = re.split(r"[-+]", language, maxsplit=1)[0].lower()
    if family == "en":
        text = _MONEY.sub(_english_money, text)
        text = _ISO_DATE.sub(lambda m: _date(m, english=True), text)
    elif family in ("cmn", "yue", "zh"):
        text = _ISO_DATE.sub(lambda m: _date(m, english=False), text)
    text = _REFERENCE.sub(lambda m: _spelled(m[0], family), text)
    return _LONG_NUMBER.sub(lambda m: _spelled(m[0], family), text)


def _english_money(match: re.Match[str]) -> str:
    unit, fraction = _CURRENCIES[match[1]]
    whole, part = int(match[2].replace(",", "")), int(match[3] or 0)
    words = [_counted(whole, unit)] if whole or not part else []
    if part:
        words.append(_counted(part, fraction))
    return " and ".join(words)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else _PLURALS.get(noun, noun + 's')}"


def _date(match: re.Match[str], *, english: bool) -> str:
    try:
        day = date.fromisoformat(match[0])
    except ValueError:  # 2026-13-01 is no date: read as written
        return match[0]
    if not english:
        return f"{day.month}月{day.day}号"
    suffix = "th" if 10 <= day.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return f"{_MONTHS[day.month - 1]} {day.day}{suffix} {day.year}"


def _spelled(symbols: str, family: str) -> str:
    """Symbol by symbol, a short pause (the comma) after every third, the way people read a number out."""
    # Alone before a consonant, espeak-ng's English takes A for the article; "eh" is the letter's sound.
    spoken = [("eh" if family == "en" and symbol == "A" else symbol) for symbol in symbols]
    groups = (spoken[i : i + _GROUP] for i in range(0, len(spoken), _GROUP))
    return ", ".join(" ".join(group) for group in groups)
