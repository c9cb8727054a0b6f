"""Conditions on slots: what holds for which values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from dialogue.conditions import Condition, Relation, read_operand
from dialogue.slots import SlotSpec, SlotType, SlotValue

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 21)
SPECS = {
    "amount": SlotSpec(name="amount", type=SlotType.AMOUNT, entity="amount", maximum=Decimal(50)),
    "bill": SlotSpec(name="bill", type=SlotType.AMOUNT, entity="bill"),
    "day": SlotSpec(name="day", type=SlotType.DATE, entity="date", latest_days=7),
    "tier": SlotSpec(
        name="tier", type=SlotType.CHOICE, entity="tier", choices=(("gold", ("gold",)), ("tin", ("tin",)))
    ),
    "guests": SlotSpec(name="guests", type=SlotType.NUMBER, entity="number", maximum=Decimal(12)),
    "sure": SlotSpec(name="sure", type=SlotType.YES_NO, entity="sure"),
    "code": SlotSpec(name="code", type=SlotType.DIGITS, entity="digits", min_length=4),
    "note": SlotSpec(name="note", type=SlotType.TEXT, entity="note"),
}
VALUES = {
    "amount": "40.00",
    "guests": "9",
    "bill": "84.50",
    "day": "2026-11-27",
    "tier": "gold",
    "sure": "yes",
    "code": "4417",
}


def holds(slot: str, relation: Relation, *values: str, against: str | None = None) -> bool:
    slots = {name: SlotValue(value, value) for name, value in VALUES.items()}
    return Condition(slot=slot, relation=relation, values=values, against=against).holds(SPECS, slots, TODAY)


@pytest.mark.parametrize(
    ("slot", "relation", "values"),
    [
        ("amount", Relation.FILLED, []),
        ("note", Relation.EMPTY, []),
        ("amount", Relation.IS, ["40"]),
        ("amount", Relation.IS, ["fifty dollars", "forty dollars"]),
        ("amount", Relation.NOT, ["41"]),
        ("amount", Relation.OVER, ["39.99"]),
        ("amount", Relation.UNDER, ["100"]),  # beyond what the slot takes from a caller, and yet a limit
        ("bill", Relation.OVER, ["-100"]),
        ("amount", Relation.AT_LEAST, ["40"]),
        ("amount", Relation.AT_MOST, ["40"]),
        ("guests", Relation.IS, ["nine"]),
        ("guests", Relation.UNDER, ["10"]),  # as numbers, not as texts
        ("guests", Relation.AT_MOST, ["9"]),
        ("day", Relation.IS, ["friday"]),
        ("day", Relation.UNDER, ["in a month"]),
        ("day", Relation.AT_LEAST, ["2026-11-27"]),
        ("tier", Relation.IS, ["tin", "gold"]),
        ("sure", Relation.IS, ["yes"]),
        ("code", Relation.NOT, ["4418"]),
    ],
)
def test_what_holds(slot: str, relation: Relation, values: list[str]) -> None:
    assert holds(slot, relation, *values)


@pytest.mark.parametrize(
    ("slot", "relation", "values"),
    [
        ("amount", Relation.EMPTY, []),
        ("note", Relation.FILLED, []),
        ("amount", Relation.OVER, ["40"]),
        ("amount", Relation.UNDER, ["40"]),
        ("amount", Relation.IS, ["41"]),
        ("day", Relation.OVER, ["friday"]),
        ("tier", Relation.NOT, ["gold"]),
        ("note", Relation.NOT, ["anything"]),  # every test but `empty` needs a value
    ],
)
def test_what_does_not(slot: str, relation: Relation, values: list[str]) -> None:
    assert not holds(slot, relation, *values)


def test_slots_are_compared_with_each_other() -> None:
    assert holds("amount", Relation.UNDER, against="bill")
    assert not holds("bill", Relation.UNDER, against="amount")
    assert not holds("note", Relation.IS, against="code") and not holds("code", Relation.IS, against="note")


def test_a_day_is_read_on_the_day_of_the_call() -> None:
    spec = SPECS["day"]
    assert read_operand(spec, "in two weeks", TODAY) == "2026-12-05"
    assert read_operand(spec, "in two weeks", date(2026, 1, 1)) == "2026-01-15"


@pytest.mark.parametrize(("slot", "text"), [("amount", "much"), ("tier", "silver"), ("sure", "perhaps"), ("day", "x")])
def test_what_is_no_value_of_the_type(slot: str, text: str) -> None:
    assert read_operand(SPECS[slot], text, TODAY) is None
