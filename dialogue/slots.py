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

How a value is said is the language's: `dialogue.english`, `dialogue.chinese`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from dialogue import chinese, english
from dialogue.checksums import Checksum, has_checksum

__all__ = ["LANGUAGES", "InvalidValue", "SlotSpec", "SlotType", "SlotValue", "parse_slot", "say_slot"]


_NUMBER_KEYS = 9
"""Figures of the largest number that is read."""


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
    if not fitting:
        return InvalidValue(f"{max(map(len, runs))} digits, not {_length(spec)}")
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
    if day is None:
        return None
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
