"""Slot validators: what is taken, what is refused, what is not there."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from dialogue.slots import InvalidValue, SlotSpec, SlotType, SlotValue, parse_slot, say_slot

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 21)
ACCOUNT = {"account": SlotValue("4417", "4417")}


def spec(kind: SlotType, **limits: object) -> SlotSpec:
    return SlotSpec(name="s", entity="s", type=kind, **limits)  # type: ignore[arg-type]


FOUR = spec(SlotType.DIGITS, min_length=4, max_length=4)
CHECK = spec(SlotType.DIGITS, equals="account")
AMOUNT = spec(SlotType.AMOUNT, minimum=Decimal(5), maximum=Decimal(100))
SOON = spec(SlotType.DATE, earliest_days=0, latest_days=14)
PAST = spec(SlotType.DATE, latest_days=0)
GUESTS = spec(SlotType.NUMBER, minimum=Decimal(1), maximum=Decimal(12))
PLAN = spec(SlotType.CHOICE, choices=(("monthly", ("monthly", "a month")), ("weekly", ("weekly", "a week"))))


@pytest.mark.parametrize(
    ("slot", "text", "value"),
    [
        (FOUR, "four four one seven", "4417"),
        (FOUR, "oh four four one seven", "4417"),  # a sigh
        (FOUR, "zero four four one", "0441"),
        (FOUR, "four four i mean four four one seven", "4417"),
        (FOUR, "four four and then one seven", "4417"),
        (FOUR, "4417. 4417.", "4417"),
        (FOUR, "4417 not 4418", "4417"),
        (CHECK, "four four one seven", "4417"),
        (CHECK, "it is one two no four four one seven", "4417"),
        (GUESTS, "a table for two no three", "3"),
        (GUESTS, "12", "12"),
        (AMOUNT, "forty dollars", "40.00"),
        (AMOUNT, "forty", "40.00"),
        (SOON, "next friday", "2026-11-27"),
        (PAST, "friday", "2026-11-20"),
        (spec(SlotType.YES_NO), "no not really", "no"),
        (PLAN, "twenty dollars A MONTH", "monthly"),
        (PLAN, "Weekly, please.", "weekly"),
        (PLAN, "not weekly, monthly", "monthly"),
        (PLAN, "not monthly but weekly", "weekly"),
        (PLAN, "weekly, not monthly", "weekly"),
        (spec(SlotType.TEXT), " in  words ", "in words"),
    ],
)
def test_taken(slot: SlotSpec, text: str, value: str) -> None:
    assert parse_slot(slot, text, today=TODAY, known=ACCOUNT, asked=True) == SlotValue(text, value)


@pytest.mark.parametrize(
    ("slot", "text", "reason"),
    [
        (FOUR, "four four one", "3 digits, not 4"),
        (FOUR, "4417, 4418", "8 digits, not 4"),
        (spec(SlotType.DIGITS, min_length=4, max_length=6), "one", "1 digits, not 4 to 6"),
        (CHECK, "one two three four", "not the digits of account"),
        (GUESTS, "zero", "below 1"),
        (GUESTS, "two dozen", "above 12"),
        (AMOUNT, "two dollars", "below 5"),
        (AMOUNT, "two hundred dollars", "above 100"),
        (SOON, "yesterday", "earlier than 0 days"),
        (SOON, "in three weeks", "later than 14 days"),
        (PAST, "tomorrow", "later than 0 days"),
    ],
)
def test_refused(slot: SlotSpec, text: str, reason: str) -> None:
    value = parse_slot(slot, text, today=TODAY, known=ACCOUNT, asked=True)
    assert isinstance(value, InvalidValue) and reason in value.reason


@pytest.mark.parametrize(
    ("slot", "text", "asked"),
    [
        (FOUR, "i do not know", True),
        (GUESTS, "four", False),  # it may be a time or a day
        (GUESTS, "some of us", True),
        (AMOUNT, "forty", False),
        (AMOUNT, "some money", True),
        (SOON, "soon", True),
        (spec(SlotType.YES_NO), "friday", True),
        (PLAN, "never", True),
        (PLAN, "not monthly", True),
        (spec(SlotType.TEXT), "any words", False),
        (spec(SlotType.TEXT), "  ", True),
    ],
)
def test_not_there(slot: SlotSpec, text: str, asked: bool) -> None:
    assert parse_slot(slot, text, today=TODAY, known=ACCOUNT, asked=asked) is None


@pytest.mark.parametrize(
    ("slot", "value", "words"),
    [
        (FOUR, "44170", "four four one seven, zero"),
        (GUESTS, "12", "12"),
        (AMOUNT, "84.50", "84 dollars and 50 cents"),
        (spec(SlotType.AMOUNT, currency="pound"), "1.01", "1 pound and 1 penny"),
        (spec(SlotType.AMOUNT, currency="euro"), "0.05", "5 cents"),
        (spec(SlotType.AMOUNT), "0.00", "0 dollars"),
        (SOON, "2026-11-27", "Friday, November 27th"),
        (PLAN, "monthly", "monthly"),
    ],
)
def test_read_back(slot: SlotSpec, value: str, words: str) -> None:
    assert say_slot(slot, value, today=TODAY) == words


@pytest.mark.parametrize(
    ("slot", "keys"),
    [(FOUR, 4), (spec(SlotType.DIGITS), 40), (GUESTS, 9), (spec(SlotType.NUMBER), 9), (AMOUNT, 0), (SOON, 0)],
)
def test_what_can_be_keyed_in_is_as_long_as_its_longest_value(slot: SlotSpec, keys: int) -> None:
    assert slot.most_keys == keys
