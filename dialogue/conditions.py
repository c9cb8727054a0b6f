"""Conditions on slots: where a transition, a prompt or a next node of the flow holds.

```yaml
when: {account_check: filled}                      # or: empty
when: {tier: gold}                                 # the value; a list: any of them
when: {amount: {over: 100}, day: {at_most: "{due_date}"}}     # all must hold; {slot} is another slot's value
```

Every test but `empty` needs a value. Numbers, amounts, dates and times have an order. A date may be written as callers
say it ("in a week"), and means what it means on the day of the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum

from dialogue.slots import SlotSpec, SlotType, SlotValue, parse_given

__all__ = ["ORDERED", "Condition", "Relation", "read_operand"]

ORDERED = frozenset({SlotType.NUMBER, SlotType.AMOUNT, SlotType.DATE, SlotType.TIME})
"""Types whose values are more or less than others."""


class Relation(StrEnum):
    """What is asked of a slot; the words of the flow file."""

    FILLED = "filled"
    EMPTY = "empty"
    IS = "is"
    NOT = "not"
    UNDER = "under"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    OVER = "over"

    @property
    def orders(self) -> bool:
        """Whether it asks for more or less."""
        return self in (Relation.UNDER, Relation.AT_MOST, Relation.AT_LEAST, Relation.OVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test of one slot, against `values` or another slot's value (`against`)."""

    slot: str
    relation: Relation
    values: tuple[str, ...] = ()
    against: str | None = None

    def holds(self, specs: Mapping[str, SlotSpec], slots: Mapping[str, SlotValue], today: date) -> bool:
        """Whether it holds for these slots on this day."""
        mine = slots.get(self.slot)
        if self.relation in (Relation.FILLED, Relation.EMPTY):
            return (mine is not None) == (self.relation is Relation.FILLED)
        spec = specs[self.slot]
        if mine is None or (self.against is not None and self.against not in slots):
            return False
        if self.against is not None:
            others = [slots[self.against].value]
        else:
            others = [read_operand(spec, value, today) or "" for value in self.values]
        match self.relation:
            case Relation.IS:
                return mine.value in others
            case Relation.NOT:
                return mine.value not in others
            case Relation.UNDER:
                return _rank(spec, mine.value) < _rank(spec, others[0])
            case Relation.AT_MOST:
                return _rank(spec, mine.value) <= _rank(spec, others[0])
            case Relation.AT_LEAST:
                return _rank(spec, mine.value) >= _rank(spec, others[0])
            case _:
                return _rank(spec, mine.value) > _rank(spec, others[0])


def read_operand(spec: SlotSpec, text: str, today: date) -> str | None:
    """What a condition's text means for a slot, normalised; None where it is no value of the slot's type."""
    if spec.type is SlotType.TEXT:
        return text
    if spec.type is SlotType.CHOICE:
        return text if text in dict(spec.choices) else None
    unlimited = replace(
        spec,
        equals=None,
        earliest_days=None,
        latest_days=None,
        earliest=None,
        latest=None,
        minimum=None,
        maximum=None,
        min_length=1,
        max_length=40,
    )
    value = parse_given(unlimited, text, today=today, known={})
    return value.value if isinstance(value, SlotValue) else None


def _rank(spec: SlotSpec, value: str) -> Decimal:
    """What orders the values of a type of `ORDERED`."""
    if spec.type is SlotType.DATE:
        return Decimal(date.fromisoformat(value).toordinal())
    return Decimal(value.replace(":", ""))  # a number, an amount, or a time: 17:30 is 1730
