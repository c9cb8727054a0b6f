"""Sums of money in English: "eighty four dollars and fifty cents", "$84.50", "a dollar fifty", "two grand".

A number alone is a sum only where one was asked for, and then only where it counts nothing else: people add when, how
often and from which account.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from dialogue.english_words import CORRECTION, MONTHS, day_number, is_refused, number_at, one_of_several, tokens

__all__ = ["CURRENCIES", "find_amount", "say_amount"]

_CURRENCY = frozenset({"dollar", "dollars", "bucks", "buck", "euro", "euros", "pound", "pounds", "quid"})
_CENTS = frozenset({"cent", "cents", "pence", "penny"})
_AND = frozenset({"and"})
_COMMA = frozenset({","})
_NONE = (Decimal(0), 0)
_ALTERNATIVES = frozenset({"or", "to", "and"})
_CORRECTED = re.compile(rf"(?:{CORRECTION}|\bsay)$")
_COUNTED = frozenset(
    "second seconds sec secs minute minutes moment moments hour hours day days week weeks month months year years "
    "percent people kids children times payments installments instalments am pm o'clock oclock question questions "
    "thing things".split()
)
_BEFORE_OTHER_NUMBERS = frozenset("account card ending number extension room".split())
_NO_SUM = re.compile(r"\b\d{1,2}:\d\d\b|\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}/\d{1,2}\b|\d+(?:\.\d+)? ?%")
_RANGE = re.compile(r"(?<=\d) ?[-–—~] ?(?=[$€£]?\d)")


def find_amount(text: str, *, bare: bool) -> Decimal | None:
    """The last amount of money in `text` that is not refused there, two decimals.

    Args:
        bare: a number without a currency counts too ("eighty four fifty" -> 84.50); right only where the
            bot has just asked for an amount. Beside a sum with its currency it counts only where it corrects that.
    """
    figures = _NO_SUM.sub(" ; ", unicodedata.normalize("NFKC", text))
    words = tokens(_RANGE.sub(" to ", figures), marks=",;")
    spans: list[tuple[int, int]] = []
    amounts: list[tuple[Decimal, bool]] = []
    i = 0
    while i < len(words):
        other = _other_number_at(words, i)
        amount, named, used = (Decimal(0), False, other) if other else _amount_at(words, i)
        if used and not other:
            spans.append((i, i + used))
            amounts.append((amount, named))
        i += used or 1
    found: Decimal | None = None
    certain = False
    for at, (start, end) in enumerate(spans):
        amount, named = amounts[at]
        corrects = _CORRECTED.search(" ".join(word for word in words[max(0, start - 3) : start] if word != ","))
        counts = named or (bare and (corrects or not certain))
        refused = is_refused(words[:start], words[end:])
        if counts and not refused and not one_of_several(words, spans, at, _ALTERNATIVES):
            found, certain = amount, certain or named
    return None if found is None else found.quantize(Decimal("0.01"))


def _other_number_at(words: Sequence[str], i: int) -> int:
    """Words at `i` of a number that counts or names something else: "the twenty seventh", "december 5", "two weeks"."""
    if words[i] in MONTHS:
        skip = 2 if words[i + 1 : i + 2] == ["the"] else 1
        day = day_number(words[i + skip :], cardinals=True)[1]
        return skip + day if day or words[i] != "may" else 0
    if ordinal := day_number(words[i:], cardinals=False)[1]:
        return ordinal
    number, used = number_at(words, i)
    if not used or _is_in(words, i + used, _CURRENCY):
        return 0
    after, before = words[i + used : i + used + 1], words[i - 1] if i else ""
    if after and (after[0] in _COUNTED or after[0] in MONTHS):
        return used + 1
    if list(words[i + used : i + used + 2]) in (["a", "m"], ["p", "m"]):
        return used + 2
    names = before in _BEFORE_OTHER_NUMBERS or (before == "at" and number <= 12)
    return used if names or (number == 1 and before in ("that", "this", "which")) else 0


def _amount_at(words: Sequence[str], i: int) -> tuple[Decimal, bool, int]:
    """An amount that begins at word `i`, whether it names a currency, and its words; 0 words where none does."""
    symbol = words[i] in "$€£"
    whole, used = number_at(words, i + symbol)
    if not used:
        return Decimal(0), False, 0
    end = i + symbol + used
    if _is_in(words, end, _CENTS):
        return whole / 100, True, end + 1 - i
    named = symbol or _is_in(words, end, _CURRENCY)
    end += named and not symbol
    paused = end + _is_in(words, end, _COMMA)
    after = paused + _is_in(words, paused, _AND)
    cents, cents_used = number_at(words, after) if after < len(words) and not _other_number_at(words, after) else _NONE
    said_cents = _is_in(words, after + cents_used, _CENTS)
    if not said_cents and (paused > end or (after > end and not named)):
        cents_used = 0  # "forty, fifty" and "forty and fifty" may be two sums
    # "eighty four fifty": two figures after a sum below a thousand are its cents, said so or not.
    if cents_used and (0 < cents < 100 if said_cents else 10 <= cents < 100 and whole < 1000):
        whole, end = whole + cents / 100, after + cents_used + said_cents
        if not named and _is_in(words, end, _CURRENCY):
            named, end = True, end + 1
        named = named or said_cents
    return whole, named, end - i


def _is_in(words: Sequence[str], i: int, kind: frozenset[str]) -> bool:
    return i < len(words) and words[i] in kind


CURRENCIES = {"dollar": "cent", "euro": "cent", "pound": "penny"}
"""Names in a flow file, the default first, and their hundredths."""


def say_amount(amount: Decimal, currency: str = "dollar") -> str:
    """ "84 dollars and 50 cents"; figures are left to the synthesiser, which reads them as numbers."""
    if amount < 0:
        return f"minus {say_amount(-amount, currency)}"
    whole, minor = int(amount), int(amount * 100) % 100
    parts = [f"{whole} {currency}{'' if whole == 1 else 's'}"] if whole or not minor else []
    if minor:
        small = CURRENCIES[currency]
        parts.append(f"{minor} {small if minor == 1 else 'pence' if small == 'penny' else small + 's'}")
    return " and ".join(parts)
