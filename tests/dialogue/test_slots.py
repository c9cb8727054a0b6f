"""Slot validators: what is taken, what is refused, what is not there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time
from decimal import Decimal

import pytest

from dialogue.slots import InvalidValue, SlotSpec, SlotType, SlotValue, parse_given, parse_slot, say_slot

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
        (spec(SlotType.AMOUNT), "-120.50", "minus 120 dollars and 50 cents"),
        (spec(SlotType.AMOUNT, currency="pound"), "-0.01", "minus 1 penny"),
        (spec(SlotType.AMOUNT, language="zh"), "-120.50", "负一百二十元五角"),
        (spec(SlotType.AMOUNT, language="zh", currency="euro"), "-2.05", "负两点零五欧元"),
        (spec(SlotType.NUMBER), "-3", "minus 3"),
        (spec(SlotType.NUMBER, language="zh"), "-2", "负二"),
        (spec(SlotType.NUMBER, language="zh"), "-12", "负十二"),
        (SOON, "2026-11-27", "Friday, November 27th"),
        (PLAN, "monthly", "monthly"),
    ],
)
def test_read_back(slot: SlotSpec, value: str, words: str) -> None:
    assert say_slot(slot, value, today=TODAY) == words


SUM = spec(SlotType.AMOUNT)
COUNT = spec(SlotType.NUMBER)
AGREED = spec(SlotType.YES_NO)
TIER = spec(SlotType.CHOICE, choices=(("gold_plan", ("gold",)), ("basic", ("plain", "gold_plan"))))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("slot", "text", "value"),
    [
        (SUM, "-120.5", "-120.50"),
        (SUM, "-5.25", "-5.25"),
        (SUM, "\N{MINUS SIGN}5.25", "-5.25"),
        (SUM, "-$5", "-5.00"),
        (SUM, "$-5", "-5.00"),
        (SUM, "(5.25)", "-5.25"),
        (SUM, "($5.25)", "-5.25"),
        (SUM, "-84.50 EUR", "-84.50"),
        (SUM, "€84.50", "84.50"),
        (SUM, "1,234.5", "1234.50"),
        (SUM, "1.234,50 €", "1234.50"),
        (SUM, "84,50", "84.50"),
        (SUM, "1 234.50", "1234.50"),
        (SUM, "1e3", "1000.00"),
        (SUM, "5.55e-17", "0.00"),
        (SUM, "-5.55e-17", "0.00"),
        (SUM, "120.49999999999999", "120.50"),
        (COUNT, "12.0", "12"),
        (COUNT, "-3", "-3"),
        (COUNT, "1E3", "1000"),
        (AGREED, "yes", "yes"),
        (AGREED, "no", "no"),
        (AGREED, "True", "yes"),
        (AGREED, "False", "no"),
        (AGREED, "0", "no"),
        (TIER, "gold_plan", "gold_plan"),
        (TIER, "plain", "basic"),
        (FOUR, "0441", "0441"),
        (SOON, "2026-11-27", "2026-11-27"),
        (SOON, "2026-11-27T23:30:00Z", "2026-11-27"),
        (SOON, "20261127", "2026-11-27"),
        (spec(SlotType.TIME), "17:30:00", "17:30"),
        (spec(SlotType.TIME), "2026-11-27T17:30:00+01:00", "17:30"),
        (spec(SlotType.TEXT), "-120.5", "-120.5"),
    ],
)
def test_what_a_machine_gives_means_the_same_in_every_language(
    slot: SlotSpec, text: str, value: str, language: str
) -> None:
    given = parse_given(replace(slot, language=language), text, today=TODAY, known={})
    assert given == SlotValue(text, value)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("slot", "text", "reason"),
    [
        (AMOUNT, "-7", "below 5"),
        (spec(SlotType.AMOUNT, minimum=Decimal(0)), "-0.01", "below 0"),
        (SUM, "1e16", "more than 12 figures"),
        (SUM, "1e999", "more than 12 figures"),
        (SUM, "5.25-", "no number"),
        (SUM, "-5 apples", "no number"),
        (SUM, "minus five dollars", "no number"),
        (SUM, "负五元", "no number"),
        (SUM, "84.5.6", "no number"),
        (COUNT, "12.5", "not whole"),
        (COUNT, "1234567890", "more than 9 figures"),
        (GUESTS, "13.0", "above 12"),
        (FOUR, "04417", "5 digits, not 4"),
        (FOUR, "44174417", "8 digits, not 4"),
        (FOUR, "-4417", "below nothing"),
        (CHECK, "1234", "not the digits of account"),
        (SOON, "2026-12-27", "later than 14 days"),
        (spec(SlotType.TIME, earliest=time(9)), "01:30Z", "before 09:00"),
    ],
)
def test_what_a_machine_gives_is_validated_too(slot: SlotSpec, text: str, reason: str, language: str) -> None:
    given = parse_given(replace(slot, language=language), text, today=TODAY, known=ACCOUNT)
    assert isinstance(given, InvalidValue) and reason in given.reason


@pytest.mark.parametrize(
    ("slot", "text", "value"),
    [
        (SUM, "forty-two dollars", "42.00"),
        (spec(SlotType.AMOUNT, language="zh"), "八十四块五", "84.50"),
        (SOON, "in three days", "2026-11-24"),
        (spec(SlotType.TIME), "5:30 pm", "17:30"),
        (FOUR, "44-17", "4417"),
        (AGREED, "of course", "yes"),
        (SUM, "NaN", None),
        (SUM, "", None),
        (SOON, "2026-02-30", None),
        (TIER, "", None),
    ],
)
def test_words_are_read_as_speech(slot: SlotSpec, text: str, value: str | None) -> None:
    given = parse_given(slot, text, today=TODAY, known={})
    assert given == (value and SlotValue(text, value))


@pytest.mark.parametrize(
    ("slot", "keys"),
    [(FOUR, 4), (spec(SlotType.DIGITS), 40), (GUESTS, 9), (spec(SlotType.NUMBER), 9), (AMOUNT, 0), (SOON, 0)],
)
def test_what_can_be_keyed_in_is_as_long_as_its_longest_value(slot: SlotSpec, keys: int) -> None:
    assert slot.most_keys == keys
