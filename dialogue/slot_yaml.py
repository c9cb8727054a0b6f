"""The sections `slots` and `variables` of a flow file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time

from dialogue.checksums import Checksum
from dialogue.flow_parts import FlowParts
from dialogue.slots import LANGUAGES, SlotSpec, SlotType, SlotValue, parse_given
from dialogue.yaml_source import Section, suggest

__all__ = ["read_slots"]

_NAME = re.compile(r"\w+")
"""Names that a prompt can hold in braces."""

_BOUNDS = (
    ("min_length", "max_length"),
    ("earliest_days", "latest_days"),
    ("earliest", "latest"),
    ("minimum", "maximum"),
)
"""Keys whose values no value could lie between, were they the wrong way round."""


def read_slots(parts: FlowParts, top: Section, key: str, *, variable: bool, language: str) -> dict[str, SlotSpec]:
    """The slots of one section by name."""
    section = top.section(key)
    if section is None:
        return {}
    slots, sections = {}, {}
    for name, line, value in section.entries():
        if not _NAME.fullmatch(name):
            parts.faults.add(line, f"a slot cannot be named {name!r}", "use letters, digits and _")
        sections[name] = Section(value, f"slot {name!r}", parts.faults)
        slots[name] = _slot(parts, name, sections[name], variable, language)
    for name in slots:
        if _stands_in_for_itself(slots, name):
            what = f"'default_from' of slot {name!r} leads back to it"
            parts.faults.add(sections[name].line_of("default_from"), what, "name a variable, or a slot without it")
    return slots


def _stands_in_for_itself(slots: Mapping[str, SlotSpec], name: str) -> bool:
    seen: set[str] = set()
    waiting = slots[name].default_from
    while waiting is not None and waiting in slots and waiting not in seen:
        seen.add(waiting)
        waiting = slots[waiting].default_from
    return name in seen


def _slot(parts: FlowParts, name: str, section: Section, variable: bool, language: str) -> SlotSpec:
    section.require("type", f"add one of {', '.join(SlotType)}")
    kind = section.text("type")
    if kind and kind.text not in list(SlotType):
        parts.faults.add(kind.line, f"slot {name!r} has unknown type {kind.text!r}", suggest(kind.text, SlotType))
        kind = None
    length = section.integer("length", low=1, high=40)
    entity = section.text("entity")
    default = section.text("default") if variable else None
    spec = SlotSpec(
        name=name,
        type=SlotType(kind.text) if kind else SlotType.TEXT,
        entity=entity.text if entity else name,
        language=language,
        variable=variable,
        default=default.text if default else None,
        default_from=None if variable else parts.slot_name(section, "default_from"),
        early=() if variable else parts.intents(section, "early"),
        min_length=length or section.integer("min_length", low=1, high=40) or 1,
        max_length=length or section.integer("max_length", low=1, high=40) or 40,
        checksum=_checksum(parts, section),
        equals=parts.slot_name(section, "equals"),
        choices=_choices(section),
        earliest_days=section.integer("earliest_days", low=-3660, high=3660),
        latest_days=section.integer("latest_days", low=-3660, high=3660),
        earliest=_time(parts, section, "earliest"),
        latest=_time(parts, section, "latest"),
        minimum=section.decimal("minimum", low=-1e9, high=1e9),
        maximum=section.decimal("maximum", low=-1e9, high=1e9),
        currency=_currency(parts, section, language),
    )
    section.finish()
    for low, high in _BOUNDS:
        least, most = getattr(spec, low), getattr(spec, high)
        if least is not None and most is not None and least > most:
            what = f"slot {name!r} takes no value: its {low!r} is more than its {high!r}"
            parts.faults.add(section.line_of(low), what, "exchange them, or correct one")
    if spec.type is SlotType.CHOICE and not spec.choices:
        parts.faults.add(section.line, f"slot {name!r} has no choices", "add `choices: {name: [words]}`")
    if default and kind:
        value = parse_given(spec, default.text, today=date.today(), known={})
        if not isinstance(value, SlotValue):
            parts.faults.add(default.line, f"the default of {name!r} is no {spec.type}: {default.text!r}", "correct it")
    return spec


def _checksum(parts: FlowParts, section: Section) -> Checksum | None:
    named = section.text("checksum")
    if named and named.text not in list(Checksum):
        parts.faults.add(named.line, f"unknown checksum {named.text!r}", suggest(named.text, Checksum))
        return None
    return Checksum(named.text) if named else None


def _time(parts: FlowParts, section: Section, key: str) -> time | None:
    written = section.text(key)
    if written is None:
        return None
    try:
        value = time.fromisoformat(written.text)
    except ValueError:
        value = None
    if value is None or value.tzinfo is not None:  # one with an offset cannot be compared with what callers say
        parts.faults.add(written.line, f"{key!r} of {section.what} is {written.text!r}", 'write a time: "08:00"')
        return None
    return value


def _currency(parts: FlowParts, section: Section, language: str) -> str | None:
    named = section.text("currency")
    known = LANGUAGES[language].CURRENCIES
    if named and named.text not in known:
        parts.faults.add(named.line, f"unknown currency {named.text!r}", f"use one of {', '.join(known)}")
    return named.text if named else None


def _choices(section: Section) -> tuple[tuple[str, tuple[str, ...]], ...]:
    choices = section.section("choices")
    if choices is None:
        return ()
    return tuple((name, tuple(t.text for t in choices.texts(name))) for name, _, _ in choices.entries())
