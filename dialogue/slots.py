"""What a flow wants to know: slot types, their validators, reading a value and saying it back.

A value has two forms: the caller's own words and a normalised string, one form per type, which is what the
store keeps and the operator's systems receive:

| type   | normalised            | read back               |
| ------ | --------------------- | ----------------------- |
| digits | "4417"                | "four four one seven"   |
| number | "12"                  | "12"                    |
| amount | "84.50"               | "84 dollars and 50 cents" |
| date   | "2026-11-27" (ISO)    | "Friday, November 27th" |
| time   | "17:30"               | "5:30 pm"               |
| yes_no | "yes", "no"           | the same                |
| choice | the choice's name     | the same                |
| text   | the words as heard    | the same                |

How a value is said is the language's: `dialogue.english`, `dialogue.chinese`. An amount or a number below nothing,
which only a machine can give, is said with its sign: "minus 12 dollars", 负十二元.

`parse_slot` reads what a caller says, `parse_given` what machines and the flow file write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from dialogue import chinese, english
from dialogue.checksums import Checksum, has_checksum

__all__ = ["LANGUAGES", "InvalidValue", "SlotSpec", "SlotType", "SlotValue", "parse_given", "parse_slot", "say_slot"]


_NUMBER_KEYS = 9
"""Figures of the largest number that is read."""

_AMOUNT_FIGURES = 12
"""Figures before the point of the largest amount that is taken from a machine: a name for it every voice knows."""

_BOOLEANS = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}
_CURRENCY = re.compile(r" ?(?:[$€£¥元]|\b(?:USD|EUR|GBP|CNY|RMB)\b) ?")
_FIGURES = re.compile(
    r"([-+]?) ?(?:((?:\d+|\d{1,3}(?:[, ']\d{3})+)(?:\.\d*)?|\.\d+)((?:e[-+]?\d{1,4})?)"
    r"|(\d+|\d{1,3}(?:[. ']\d{3})+),(\d\d?))",
    re.IGNORECASE,
)
_GROUPED = str.maketrans("", "", ",.' ")
_MINUS = re.compile(r"(?<!\w)[-–—]|[-–—](?!\w)|\b(?:minus|negative)\b|[负負(]", re.IGNORECASE)
"""What may take a sum below nothing, not the hyphen of "forty-two"."""


class ValueLanguage(Protocol):
    """What a language's module reads and says; see `dialogue.english` for each."""

    @property
    def CURRENCIES(self) -> Mapping[str, str]:
        """Currency names, the default first."""
        ...

    def find_digit_runs(self, text: str) -> list[str]: ...
    def find_number(self, text: str) -> int | None: ...
    def find_amount(self, text: str, *, bare: bool) -> Decimal | None: ...
    def find_date(self, text: str, today: date, *, past: bool = False) -> date | None: ...
    def find_time(self, text: str, *, bare: bool, first_hour: int = ...) -> time | None: ...
    def find_yes_no(self, text: str) -> bool | None: ...
    def mentions(self, text: str, words: str) -> bool: ...

    def last_mention(self, text: str, words: str) -> int: ...
    def say_digits(self, digits: str) -> str: ...
    def say_number(self, value: int) -> str: ...
    def say_amount(self, amount: Decimal, currency: str = ...) -> str: ...
    def say_date(self, day: date, today: date) -> str: ...
    def say_time(self, value: time) -> str: ...


LANGUAGES: Mapping[str, ValueLanguage] = {"en": english, "zh": chinese}
"""Languages whose values can be read, as `language` in a bot names them."""


class SlotType(StrEnum):
    """Kinds of value; the words of the flow file."""

    DIGITS = "digits"
    NUMBER = "number"
    AMOUNT = "amount"
    DATE = "date"
    TIME = "time"
    YES_NO = "yes_no"
    CHOICE = "choice"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class SlotValue:
    """A filled slot: the caller's words (or the call's metadata) and the normalised value."""

    text: str
    value: str


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """A value was heard but a validator refused it; `reason` is for logs and tests, not for the caller."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSpec:
    """One slot of a flow, with its validators.

    `entity` is the NLU's slot name (several flow slots may read the same one). A variable is known before
    the call: from its metadata, else `default`. `default_from` names the slot whose value stands in until
    this one is filled. Day limits count from the day of the call.
    """

    name: str
    type: SlotType
    entity: str
    language: str = "en"
    variable: bool = False
    default: str | None = None
    default_from: str | None = None
    early: tuple[str, ...] = ()
    """Intents in whose turns it is taken wherever the dialogue stands; "*" is any."""
    min_length: int = 1
    max_length: int = 40
    checksum: Checksum | None = None
    equals: str | None = None
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    earliest_days: int | None = None
    latest_days: int | None = None
    earliest: time | None = None
    latest: time | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    """Of an amount or a number."""
    currency: str | None = None
    """None: the language's own."""

    @property
    def most_keys(self) -> int:
        """The keys of the longest value that may be keyed in; 0 where the type is none for a keypad."""
        match self.type:
            case SlotType.DIGITS:
                return self.max_length
            case SlotType.NUMBER:
                return _NUMBER_KEYS  # not the maximum's: who keys 100 where 20 is the most must not be taken for 10
            case _:
                return 0


def parse_slot(
    spec: SlotSpec,
    text: str,
    *,
    today: date,
    known: Mapping[str, SlotValue],
    asked: bool = False,
) -> SlotValue | InvalidValue | None:
    """Read a value of the slot's type anywhere in `text` and validate it.

    Args:
        text: an entity the NLU marked, or a whole utterance.
        known: slots filled so far, for `equals`.
        asked: the bot has just asked for this slot, so a bare number may be an amount or a count, and any words may
            be a text.

    Returns:
        The value; `InvalidValue` where one was heard that the validators refuse; None where there is none.
    """
    match spec.type:
        case SlotType.DIGITS:
            return _parse_digits(spec, text, known)
        case SlotType.NUMBER:
            number = LANGUAGES[spec.language].find_number(text) if asked else None
            return None if number is None else _beyond(spec, Decimal(number)) or SlotValue(text, str(number))
        case SlotType.AMOUNT:
            amount = LANGUAGES[spec.language].find_amount(text, bare=asked)
            return None if amount is None else _beyond(spec, amount) or SlotValue(text, str(amount))
        case SlotType.DATE:
            return _parse_date(spec, text, today)
        case SlotType.TIME:
            return _parse_time(spec, text, asked)
        case SlotType.YES_NO:
            answer = LANGUAGES[spec.language].find_yes_no(text)
            return None if answer is None else SlotValue(text, "yes" if answer else "no")
        case SlotType.CHOICE:
            return _parse_choice(spec, text)
        case SlotType.TEXT:
            words = " ".join(text.split())
            return SlotValue(text, words) if asked and words else None


def parse_given(
    spec: SlotSpec, text: str, *, today: date, known: Mapping[str, SlotValue]
) -> SlotValue | InvalidValue | None:
    """Read `text`, whole, as the slot's value and validate it: metadata, a webhook's answer, what the flow file writes.

    Machines write alike for bots of all languages: numbers with their sign, ISO dates and times (the day and the time
    that stand there; a zone moves neither), true and false, a choice's own name. A speech reader would hear another
    sum in "-120.5" and in "1e16". It has the rest ("in three days"), but nothing with a minus, which it would drop.

    Args:
        known: slots filled so far, for `equals`.

    Returns:
        As `parse_slot`.
    """
    given = " ".join(unicodedata.normalize("NFKC", text).split()).replace("\N{MINUS SIGN}", "-")
    match spec.type:
        case SlotType.DIGITS if given.startswith("-"):
            return InvalidValue("a number below nothing")
        case SlotType.DIGITS if given.isdecimal():
            fitting = [given] if spec.min_length <= len(given) <= spec.max_length else []
            return _check_digits(spec, text, fitting, len(given), known)
        case SlotType.NUMBER | SlotType.AMOUNT if any(char.isdecimal() for char in given) or _MINUS.search(given):
            quantity = _given_quantity(spec, text, given)
            if quantity is not None:
                return quantity
        case SlotType.DATE if day := _iso(given):
            return _check_date(spec, text, day.date(), today)
        case SlotType.TIME if ":" in given and (at := _iso(given) or _iso(f"2000-01-01T{given}")):
            return _out_of_bounds(spec, at.time()) or SlotValue(text, f"{at:%H:%M}")
        case SlotType.YES_NO if answer := _BOOLEANS.get(given.casefold()):
            return SlotValue(text, answer)
        case SlotType.CHOICE if (name := text.strip()) in dict(spec.choices):
            return SlotValue(text, name)
    return parse_slot(spec, text, today=today, known=known, asked=True)


def _given_quantity(spec: SlotSpec, text: str, given: str) -> SlotValue | InvalidValue | None:
    """A number or an amount in figures; None where words may still say one."""
    whole = spec.type is SlotType.NUMBER
    figures = given if whole else _CURRENCY.sub("", given, count=1)
    value = _decimal(figures)
    if value is None:
        wordless = not any(char.isalpha() for char in figures)
        return InvalidValue("no number as machines write one") if wordless or _MINUS.search(given) else None
    most = _NUMBER_KEYS if whole else _AMOUNT_FIGURES
    if value and value.adjusted() >= most:
        return InvalidValue(f"more than {most} figures")
    if whole and value != value.to_integral_value():
        return InvalidValue("not whole")
    value = value.quantize(Decimal(1) if whole else Decimal("0.01")) + 0  # -0.00 is 0.00
    return _beyond(spec, value) or SlotValue(text, str(value))


def _decimal(given: str) -> Decimal | None:
    """-1234.5, "1,234.50", "1.234,50", 1e3, and "(5.25)", with which a ledger writes -5.25."""
    bracketed = given.startswith("(") and given.endswith(")")
    match = _FIGURES.fullmatch(given[1:-1] if bracketed else given)
    if match is None or (bracketed and match[1]):
        return None
    sign, figures, exponent, major, minor = match.groups()
    if figures:
        whole, point, rest = figures.partition(".")
        value = Decimal(f"{whole.translate(_GROUPED)}{point}{rest}{exponent}")
    else:
        value = Decimal(f"{major.translate(_GROUPED)}.{minor}")
    return value.copy_negate() if bracketed or sign == "-" else value


def _iso(given: str) -> datetime | None:
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        return None


def _parse_digits(spec: SlotSpec, text: str, known: Mapping[str, SlotValue]) -> SlotValue | InvalidValue | None:
    """The last run of a right length, so that "no four four one eight" corrects; else all runs joined; else the half of
    one that was said twice over."""
    runs = LANGUAGES[spec.language].find_digit_runs(text)
    if not runs:
        return None
    wanted = range(spec.min_length, spec.max_length + 1)
    # "oh four four one seven": a sigh, not a zero, where only the rest has the right length.
    fitting = [
        candidate
        for run in [*reversed(runs), "".join(runs)]
        for candidate in (run, run[1:] if run[0] == "0" else run)
        if len(candidate) in wanted
    ] or [half for run in runs if run == (half := run[: len(run) // 2]) * 2 and len(half) in wanted]
    return _check_digits(spec, text, fitting, max(map(len, runs)), known)


def _check_digits(
    spec: SlotSpec, text: str, fitting: Sequence[str], length: int, known: Mapping[str, SlotValue]
) -> SlotValue | InvalidValue:
    """The first of those of a right length that the validators take; `length` is what there was where none has it."""
    if not fitting:
        return InvalidValue(f"{length} digits, not {_length(spec)}")
    if spec.checksum is not None:
        fitting = [digits for digits in fitting if has_checksum(spec.checksum, digits)]
        if not fitting:
            return InvalidValue(f"wrong check digits ({spec.checksum})")
    expected = known.get(spec.equals) if spec.equals else None
    if expected is not None and expected.value not in fitting:
        return InvalidValue(f"not the digits of {spec.equals}")
    return SlotValue(text, expected.value if expected else fitting[0])


def _length(spec: SlotSpec) -> str:
    low, high = spec.min_length, spec.max_length
    return str(low) if low == high else f"{low} to {high}"


def _beyond(spec: SlotSpec, value: Decimal) -> InvalidValue | None:
    if spec.minimum is not None and value < spec.minimum:
        return InvalidValue(f"below {spec.minimum}")
    if spec.maximum is not None and value > spec.maximum:
        return InvalidValue(f"above {spec.maximum}")
    return None


def _parse_date(spec: SlotSpec, text: str, today: date) -> SlotValue | InvalidValue | None:
    past = spec.latest_days is not None and spec.latest_days <= 0
    day = LANGUAGES[spec.language].find_date(text, today, past=past)
    return None if day is None else _check_date(spec, text, day, today)


def _check_date(spec: SlotSpec, text: str, day: date, today: date) -> SlotValue | InvalidValue:
    ahead = (day - today).days
    if spec.earliest_days is not None and ahead < spec.earliest_days:
        return InvalidValue(f"earlier than {spec.earliest_days} days ahead")
    if spec.latest_days is not None and ahead > spec.latest_days:
        return InvalidValue(f"later than {spec.latest_days} days ahead")
    return SlotValue(text, day.isoformat())


def _parse_time(spec: SlotSpec, text: str, asked: bool) -> SlotValue | InvalidValue | None:
    """As it is usually meant, else in the half of the day that the slot takes: "at eight", said to who opens at six."""
    find_time = LANGUAGES[spec.language].find_time
    usual = find_time(text, bare=asked)
    if usual is None:
        return None
    first_hour = max(1, spec.earliest.hour) if spec.earliest is not None else 1
    readings = (usual, find_time(text, bare=asked, first_hour=first_hour) or usual)
    value = next((value for value in readings if _out_of_bounds(spec, value) is None), usual)
    return _out_of_bounds(spec, value) or SlotValue(text, f"{value:%H:%M}")


def _out_of_bounds(spec: SlotSpec, value: time) -> InvalidValue | None:
    if spec.earliest is not None and value < spec.earliest:
        return InvalidValue(f"before {spec.earliest:%H:%M}")
    if spec.latest is not None and value > spec.latest:
        return InvalidValue(f"after {spec.latest:%H:%M}")
    return None


def _parse_choice(spec: SlotSpec, text: str) -> SlotValue | None:
    """The choice mentioned last; of two that end there the longer, for one's words may hold the other's."""
    language = LANGUAGES[spec.language]
    mentions = [(language.last_mention(text, word), len(word), name) for name, words in spec.choices for word in words]
    end, _, name = max(mentions, default=(0, 0, ""))
    return SlotValue(text, name) if end else None


def say_slot(spec: SlotSpec, value: str, *, today: date) -> str:
    """The words a bot reads a normalised value back with."""
    language = LANGUAGES[spec.language]
    match spec.type:
        case SlotType.DIGITS:
            return language.say_digits(value)
        case SlotType.NUMBER:
            return language.say_number(int(value))
        case SlotType.AMOUNT:
            return language.say_amount(Decimal(value), spec.currency or next(iter(language.CURRENCIES)))
        case SlotType.DATE:
            return language.say_date(date.fromisoformat(value), today)
        case SlotType.TIME:
            return language.say_time(time.fromisoformat(value))
        case SlotType.YES_NO | SlotType.CHOICE | SlotType.TEXT:
            return value
