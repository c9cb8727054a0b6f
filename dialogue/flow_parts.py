"""The small parts of a flow file: names, prompts, conditions, transitions. Used by `dialogue.flow_yaml`.

Names are read in a `Scope`: in a sub-flow a name may be one of its own nodes, one that its use gives, or one of the
flow around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import yaml

from dialogue.conditions import ORDERED, Condition, Relation, read_operand
from dialogue.flow import Prompt, Stay, Transition
from dialogue.flow_check import FlowReferences
from dialogue.slots import SlotSpec
from dialogue.yaml_source import Faults, Located, Section, suggest

__all__ = ["MAX_PROMPT_CHARS", "RETURN", "FlowParts", "Scope"]

MAX_PROMPT_CHARS = 200
"""About 12 seconds of speech: more than that, and a caller on the phone has forgotten its beginning."""

RETURN = "return"
"""In a sub-flow: the node after the one that uses it."""

_SLOT_IN_TEXT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose names are read. The default is the flow's own; a sub-flow's has the `prefix` of its use.

    `given` maps names of the sub-flow, of nodes and slots alike, to the flow's; `used` collects those met.
    """

    prefix: str = ""
    nodes: frozenset[str] = frozenset()
    given: Mapping[str, Located] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def node(self, named: Located) -> Located:
        """The flow's node that a name means here."""
        if named.text in self.given:
            self.used.add(named.text)
            return self.given[named.text]
        return replace(named, text=self.prefix + named.text) if named.text in self.nodes else named

    def slot(self, named: Located) -> Located:
        """The flow's slot that a name means here."""
        if named.text in self.given:
            self.used.add(named.text)
            return replace(named, text=self.given[named.text].text)
        return named


class FlowParts:
    """Reads parts of sections; what is wrong goes to `faults`, what is named to `references`."""

    def __init__(self, faults: Faults, directory: Path) -> None:
        """`slots` is filled before anything that names a slot's type is read."""
        self.faults = faults
        self.references = FlowReferences()
        self.slots: dict[str, SlotSpec] = {}
        self.scope = Scope()
        self._directory = directory

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[None]:
        """Read names in this scope."""
        outer, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = outer

    # Names

    def node_name(self, section: Section, key: str) -> str | None:
        """The node that a key names."""
        named = section.text(key)
        return self._node(named) if named else None

    def _node(self, named: Located) -> str:
        meant = self.scope.node(named)
        self.references.nodes.append(meant)
        return meant.text

    def slot_name(self, section: Section, key: str) -> str | None:
        """The slot that a key names."""
        named = section.text(key)
        return self._slot(named) if named else None

    def slot_names(self, section: Section, key: str) -> tuple[str, ...]:
        """The slots that a key names, one or a list."""
        return tuple(self._slot(named) for named in section.texts(key))

    def _slot(self, named: Located) -> str:
        meant = self.scope.slot(named)
        self.references.slots.append(meant)
        return meant.text

    def intents(self, section: Section, key: str) -> tuple[str, ...]:
        """The intents that a key names."""
        named = section.texts(key)
        self.references.intents.extend(named)
        return tuple(intent.text for intent in named)

    # Conditions

    def conditions(self, parent: Section, key: str = "when") -> tuple[Condition, ...]:
        """The tests of `when`, all of which must hold."""
        section = parent.section(key)
        if section is None:
            return ()
        found: list[Condition] = []
        for name, line, value in section.entries():
            slot = self._slot(Located(name, line))
            if isinstance(value, yaml.MappingNode):
                tests = Section(value, f"the test of {name!r}", self.faults)
                for word in Relation:
                    if word not in (Relation.FILLED, Relation.EMPTY) and (operands := tests.texts(word)):
                        found += self._condition(slot, word, operands)
                tests.finish()
            else:
                operands = section.texts(name)
                if [o.text for o in operands] in ([Relation.FILLED], [Relation.EMPTY]):
                    found.append(Condition(slot=slot, relation=Relation(operands[0].text)))
                elif operands:
                    found += self._condition(slot, Relation.IS, operands)
        return tuple(found)

    def _condition(self, slot: str, relation: Relation, operands: tuple[Located, ...]) -> Iterator[Condition]:
        spec, first = self.slots.get(slot), operands[0]
        if spec is None:  # told as a name that is no slot
            return
        if relation.orders and spec.type not in ORDERED:
            mend = "compare numbers, amounts, dates and times, or use `is` and `not`"
            self.faults.add(first.line, f"slot {slot!r} is a {spec.type}, which is not more or less than another", mend)
        elif relation.orders and len(operands) > 1:
            self.faults.add(first.line, f"{relation.value!r} of {slot!r} has several values", "keep one")
        elif other := _SLOT_IN_TEXT.fullmatch(first.text):
            against = self._slot(Located(other[1], first.line))
            if against in self.slots and self.slots[against].type is not spec.type:
                kinds = f"{spec.type} {slot!r} is compared with {self.slots[against].type} {against!r}"
                self.faults.add(first.line, kinds, "compare slots of one type")
            else:
                yield Condition(slot=slot, relation=relation, against=against)
        else:
            for operand in operands:
                if read_operand(spec, operand.text, date.today()) is None:
                    what = f"{operand.text!r} is no {spec.type} that slot {slot!r} could have"
                    self.faults.add(operand.line, what, suggest(operand.text, dict(spec.choices)))
                    return
            yield Condition(slot=slot, relation=relation, values=tuple(operand.text for operand in operands))

    # Transitions

    def transitions(self, parent: Section, key: str) -> dict[str, tuple[Transition, ...]]:
        """A table of transitions by intent, or by DTMF entry."""
        section = parent.section(key)
        if section is None:
            return {}
        table = {}
        for name, line, _ in section.entries():
            if key != "keys":
                self.references.intents.append(Located(name, line))
            options = [self.transition(node, f"{name!r} in {section.what}") for node in section.nodes(name)]
            table[name] = tuple(t for t in options if t is not None)
        return table

    def transition(self, node: yaml.Node, what: str) -> Transition | None:
        """One transition: a node's name, or a mapping. None where it is neither."""
        if isinstance(node, yaml.ScalarNode):
            return Transition(to=self._node(Located(node.value, node.start_mark.line + 1)))
        section = Section(node, what, self.faults)
        to = self.node_name(section, "to")
        stay = section.text("stay")
        if stay and stay.text not in list(Stay):
            self.faults.add(stay.line, f"unknown 'stay' {stay.text!r}", suggest(stay.text, Stay))
            stay = None
        elif (to is None) == (stay is None):
            self.faults.add(section.line, f"{what} needs one of 'to' and 'stay'", "write `to: NODE` or `stay: ask`")
        transition = Transition(
            to=to,
            stay=Stay(stay.text) if stay else Stay.ASK,
            say=self.prompts(section, "say"),
            needs=self.slot_name(section, "needs"),
            when=self.conditions(section),
            changes=self.slot_names(section, "changes"),
            forget=self.slot_names(section, "forget"),
        )
        section.finish()
        return transition

    # Prompts

    def prompts(self, parent: Section, key: str) -> tuple[Prompt, ...]:
        """One prompt, or a list of them."""
        prompts = (self._prompt(node, f"{key!r} of {parent.what}") for node in parent.nodes(key))
        return tuple(p for p in prompts if p is not None)

    def _prompt(self, node: yaml.Node, what: str) -> Prompt | None:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            prompt = Prompt(text=" ".join(node.value.split()))
        else:
            section = Section(node, what, self.faults)
            section.require("text", "write what is said, also for a recording")
            text, recording = section.text("text"), section.text("recording")
            prompt = Prompt(
                text=text.text if text else "",
                recording=recording.text if recording else None,
                interruptible=section.flag("interruptible", True),
                needs=self.slot_name(section, "needs"),
                when=self.conditions(section),
            )
            section.finish()
            if recording and not (self._directory / recording.text).is_file():
                mend = "record it, or remove the key"
                self.faults.add(recording.line, f"recording {recording.text!r} does not exist", mend)
            if text is None:
                return None
        if not prompt.text:
            self.faults.add(line, f"{what} is empty", "write what the bot says, or remove the key")
            return None
        if len(prompt.text) > MAX_PROMPT_CHARS:
            self.faults.add(
                line,
                f"{what} has {len(prompt.text)} characters; callers follow {MAX_PROMPT_CHARS}",
                "shorten it, or make it a list of two prompts",
            )
        if "{" in (rest := _SLOT_IN_TEXT.sub("", prompt.text)) or "}" in rest:
            mend = "write {slot}, without blanks or dashes; a voice can say no brace"
            self.faults.add(line, f"{what} has a brace that encloses no slot's name", mend)
        slots = {name: self.scope.slot(Located(name, line)).text for name in prompt.slots}
        prompt = replace(prompt, text=_SLOT_IN_TEXT.sub(lambda match: f"{{{slots[match[1]]}}}", prompt.text))
        self.references.prompts.append((prompt, line))
        return prompt
