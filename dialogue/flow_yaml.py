"""The flow file: YAML in, `Flow` out, or every fault at once with its line.

```yaml
start: greet
variables:                    # known before the call: from its metadata, else `default`
  amount: {type: amount, default: "84.50"}
slots:                        # heard from the caller; `entity` is the NLU's name, default the slot's own
  promise_date: {type: date, entity: date, earliest_days: 0, latest_days: 31}
no_input: {after_ms: 6000, prompts: ["Are you there?"], give_up: goodbye}      # after_ms: never = no timer
no_match: {prompts: ["Sorry?"], give_up: goodbye}
anywhere: {speak_to_person: person, repeat: {stay: repeat}} # intent: node or {to|stay, say, needs, forget}
keys: {"0": person}
nodes:
  greet:
    say: Hello.                              # a text, {text, recording, needs, interruptible}, or a list
    ask: "When will you pay {amount}?"       # said again after a misunderstanding
    on: {affirm: ask_day}                    # "*" is any turn that nothing else takes
  ask_day: {ask: "Which day?", collect: promise_date, then: goodbye}
  goodbye: {say: Goodbye., hang_up: done}
  person: {say: One moment., transfer: agent}
```

Reading is in two passes: the sections' own form, here; then what they say about each other, in
`dialogue.flow_check`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path

import yaml

from dialogue.flow import Flow, Node, Patience, Prompt, Stay, Transition
from dialogue.flow_check import FlowReferences, check_flow
from dialogue.slots import LANGUAGES, SlotSpec, SlotType, SlotValue, parse_slot
from dialogue.yaml_source import Fault, Faults, Located, Section, read_yaml, suggest

__all__ = ["EXPECTATIONS", "MAX_PROMPT_CHARS", "load_flow"]

MAX_PROMPT_CHARS = 200
"""About 12 seconds of speech: more than that, and a caller on the phone has forgotten its beginning."""

_DEFAULT_NO_INPUT_MS = 6000
_DEFAULT_MAX_REPEATS = 8
_FILLERS = {"en": "One moment, please.", "zh": "请稍等。"}
_TIME_UP = {
    "en": "I am sorry, I have to end this call now. Goodbye.",
    "zh": "很抱歉，通话时间已到，再见。",
}
_EXPECT = {
    SlotType.DIGITS: "digits",
    SlotType.AMOUNT: "amount",
    SlotType.DATE: "date",
    SlotType.YES_NO: "yes_no",
}
EXPECTATIONS = frozenset(_EXPECT.values())
"""What a node can wait for: words of `audio.asr.Expectation`."""


def load_flow(path: Path, *, language: str, intents: Collection[str] | None = None) -> tuple[Flow | None, list[Fault]]:
    """Read and check a flow file.

    Args:
        intents: those that the bot's examples have; None where it has no examples of its own.

    Returns:
        The flow and no faults, or None and all of them.
    """
    faults = Faults(str(path))
    top = read_yaml(path, "the flow", faults)
    if top is None:
        return None, faults.found
    reader = _Reader(faults, path.parent, language)
    flow = reader.flow(top)
    if flow is not None:
        check_flow(flow, reader.references, intents, faults)
    faults.found.sort(key=lambda fault: fault.line)
    return (None if faults.found else flow), faults.found


class _Reader:
    """First pass: each section by itself."""

    def __init__(self, faults: Faults, directory: Path, language: str) -> None:
        self._faults = faults
        self._directory = directory
        self._language = language
        self.references = FlowReferences()

    def flow(self, top: Section) -> Flow | None:
        top.require("start", "name the first node: `start: greet`")
        top.require("nodes", "add a `nodes:` section")
        start = top.text("start")
        min_score = top.decimal("min_score", low=0, high=1)
        max_turns = top.integer("max_turns", low=1, high=1000)
        max_repeats = top.integer("max_repeats", low=2, high=1000)
        slots = self._slots(top, "variables", variable=True) | self._slots(top, "slots", variable=False)
        no_input_ms, no_input = self._patience(top, "no_input", _DEFAULT_NO_INPUT_MS)
        _, no_match = self._patience(top, "no_match", None)
        anywhere = self._transitions(top, "anywhere")
        keys = self._transitions(top, "keys")
        resume = self._prompts(top, "resume")
        filler = self._prompts(top, "filler") or _default_prompt(_FILLERS, self._language)
        time_up = self._prompts(top, "time_up") or _default_prompt(_TIME_UP, self._language)
        nodes: dict[str, Node] = {}
        if section := top.section("nodes"):
            for name, line, value in section.entries():
                self.references.lines[name] = line
                nodes[name] = self._node(
                    name,
                    Section(value, f"node {name!r}", self._faults),
                    slots,
                    no_input_ms,
                    no_input,
                    no_match,
                )
        top.finish()
        if max_turns and no_match.give_up is None:
            self._faults.add(
                top.line_of("max_turns"), "'max_turns' has nowhere to go", "give 'no_match' a 'give_up' node"
            )
        if start is None or not nodes:
            return None
        self.references.nodes.append(start)
        return Flow(
            language=self._language,
            start=start.text,
            nodes=nodes,
            slots=slots,
            anywhere=anywhere,
            keys=keys,
            give_up=no_match.give_up,
            resume=resume,
            min_score=float(min_score or 0),
            max_turns=max_turns,
            max_repeats=max_repeats or _DEFAULT_MAX_REPEATS,
            filler=filler,
            time_up=time_up,
        )

    def _slots(self, top: Section, key: str, *, variable: bool) -> dict[str, SlotSpec]:
        section = top.section(key)
        if section is None:
            return {}
        return {
            name: self._slot(name, Section(value, f"slot {name!r}", self._faults), variable)
            for name, _, value in section.entries()
        }

    def _slot(self, name: str, section: Section, variable: bool) -> SlotSpec:
        section.require("type", f"add one of {', '.join(SlotType)}")
        kind = section.text("type")
        if kind and kind.text not in list(SlotType):
            self._faults.add(kind.line, f"slot {name!r} has unknown type {kind.text!r}", suggest(kind.text, SlotType))
            kind = None
        length = section.integer("length", low=1, high=40)
        entity = section.text("entity")
        default = section.text("default") if variable else None
        spec = SlotSpec(
            name=name,
            type=SlotType(kind.text) if kind else SlotType.TEXT,
            entity=entity.text if entity else name,
            language=self._language,
            variable=variable,
            default=default.text if default else None,
            default_from=None if variable else self._slot_name(section, "default_from"),
            min_length=length or section.integer("min_length", low=1, high=40) or 1,
            max_length=length or section.integer("max_length", low=1, high=40) or 40,
            equals=self._slot_name(section, "equals"),
            choices=self._choices(section),
            earliest_days=section.integer("earliest_days", low=-3660, high=3660),
            latest_days=section.integer("latest_days", low=-3660, high=3660),
            minimum=section.decimal("minimum", low=0, high=1e9),
            maximum=section.decimal("maximum", low=0, high=1e9),
            currency=self._currency(section),
        )
        section.finish()
        if spec.type is SlotType.CHOICE and not spec.choices:
            self._faults.add(section.line, f"slot {name!r} has no choices", "add `choices: {name: [words]}`")
        if default and kind:
            value = parse_slot(spec, default.text, today=date.today(), known={}, asked=True)
            if not isinstance(value, SlotValue):
                self._faults.add(
                    default.line, f"the default of {name!r} is no {spec.type}: {default.text!r}", "correct it"
                )
        return spec

    def _slot_name(self, section: Section, key: str) -> str | None:
        named = section.text(key)
        if named:
            self.references.slots.append(named)
        return named.text if named else None

    def _currency(self, section: Section) -> str | None:
        named = section.text("currency")
        known = LANGUAGES[self._language].CURRENCIES
        if named and named.text not in known:
            self._faults.add(named.line, f"unknown currency {named.text!r}", f"use one of {', '.join(known)}")
        return named.text if named else None

    def _choices(self, section: Section) -> tuple[tuple[str, tuple[str, ...]], ...]:
        choices = section.section("choices")
        if choices is None:
            return ()
        return tuple((name, tuple(t.text for t in choices.texts(name))) for name, _, _ in choices.entries())

    def _patience(
        self, parent: Section, key: str, after_ms: int | None, inherited: Patience | None = None
    ) -> tuple[int | None, Patience]:
        section = parent.section(key)
        if section is None:
            return after_ms, inherited or Patience()
        if key == "no_input":
            after_ms = self._milliseconds(section, "after_ms", after_ms)
        prompts = self._prompts(section, "prompts")
        give_up = self._node_name(section, "give_up")
        section.finish()
        return after_ms, Patience(
            prompts=prompts or (inherited.prompts if inherited else ()),
            give_up=give_up or (inherited.give_up if inherited else None),
        )

    def _milliseconds(self, section: Section, key: str, default: int | None) -> int | None:
        written = section.text(key)
        if written is None:
            return default
        if written.text == "never":
            return None
        return section.integer(key, low=100, high=600_000)

    def _node(
        self,
        name: str,
        section: Section,
        slots: Mapping[str, SlotSpec],
        no_input_ms: int | None,
        no_input: Patience,
        no_match: Patience,
    ) -> Node:
        collect = self._slot_name(section, "collect")
        confirm = section.texts("confirm")
        optional = section.texts("optional")
        self.references.slots.extend((*confirm, *optional))
        expect = section.text("expect")
        if expect and expect.text not in _EXPECT.values():
            self._faults.add(expect.line, f"unknown 'expect' {expect.text!r}", suggest(expect.text, _EXPECT.values()))
        default_expect = "yes_no" if confirm else None
        if collect is not None and collect in slots:
            default_expect = _EXPECT.get(slots[collect].type)
        no_input_ms, own_no_input = self._patience(section, "no_input", no_input_ms, no_input)
        _, own_no_match = self._patience(section, "no_match", None, no_match)
        hang_up, transfer, outcome = (section.text(k) for k in ("hang_up", "transfer", "outcome"))
        node = Node(
            name=name,
            say=self._prompts(section, "say"),
            ask=self._prompts(section, "ask"),
            collect=collect,
            optional=tuple(t.text for t in optional),
            confirm=tuple(t.text for t in confirm),
            invalid=self._prompts(section, "invalid"),
            on=self._transitions(section, "on"),
            keys=self._transitions(section, "keys"),
            then=self._node_name(section, "then"),
            hang_up=hang_up.text if hang_up else None,
            transfer=transfer.text if transfer else None,
            outcome=outcome.text if outcome else None,
            no_match=own_no_match,
            no_input=own_no_input,
            no_input_ms=no_input_ms,
            tail_ms=section.integer("tail_ms", low=200, high=5000),
            expect=expect.text if expect else default_expect,
        )
        section.finish()
        self._check_form(node, section)
        return node

    def _check_form(self, node: Node, section: Section) -> None:
        """A node does one thing: pass on, end, or listen."""
        if node.hang_up is not None and node.transfer is not None:
            self._faults.add(section.line, f"node {node.name!r} hangs up and transfers", "keep one of them")
        if node.ends and (node.then or node.ask or node.on or node.keys or node.collect or node.confirm):
            self._faults.add(
                section.line,
                f"node {node.name!r} ends the call and yet goes on",
                "remove hang_up/transfer, or then/ask/on/keys/collect/confirm",
            )
        elif node.collect and node.then is None:
            self._faults.add(
                section.line,
                f"node {node.name!r} collects {node.collect!r} and then does nothing",
                "add `then: NODE`",
            )
        elif node.then and not node.collect and (node.ask or node.on or node.keys or node.confirm):
            self._faults.add(
                section.line,
                f"node {node.name!r} asks and yet goes on without an answer",
                "remove `then`, or say what it collects",
            )
        elif node.optional and not node.collect:
            self._faults.add(section.line, f"node {node.name!r} has 'optional' but no 'collect'", "add `collect: SLOT`")

    def _node_name(self, section: Section, key: str) -> str | None:
        named = section.text(key)
        if named:
            self.references.nodes.append(named)
        return named.text if named else None

    def _transitions(self, parent: Section, key: str) -> dict[str, tuple[Transition, ...]]:
        section = parent.section(key)
        if section is None:
            return {}
        table = {}
        for name, line, _ in section.entries():
            if key != "keys":
                self.references.intents.append(Located(name, line))
            options = [self._transition(node, f"{name!r} in {section.what}") for node in section.nodes(name)]
            table[name] = tuple(t for t in options if t is not None)
        return table

    def _transition(self, node: yaml.Node, what: str) -> Transition | None:
        if isinstance(node, yaml.ScalarNode):
            self.references.nodes.append(Located(node.value, node.start_mark.line + 1))
            return Transition(to=node.value)
        section = Section(node, what, self._faults)
        to = self._node_name(section, "to")
        stay = section.text("stay")
        forget = section.texts("forget")
        self.references.slots.extend(forget)
        if stay and stay.text not in list(Stay):
            self._faults.add(stay.line, f"unknown 'stay' {stay.text!r}", suggest(stay.text, Stay))
            stay = None
        elif (to is None) == (stay is None):
            self._faults.add(section.line, f"{what} needs one of 'to' and 'stay'", "write `to: NODE` or `stay: ask`")
        transition = Transition(
            to=to,
            stay=Stay(stay.text) if stay else Stay.ASK,
            say=self._prompts(section, "say"),
            needs=self._slot_name(section, "needs"),
            forget=tuple(t.text for t in forget),
        )
        section.finish()
        return transition

    def _prompts(self, parent: Section, key: str) -> tuple[Prompt, ...]:
        prompts = (self._prompt(node, f"{key!r} of {parent.what}") for node in parent.nodes(key))
        return tuple(p for p in prompts if p is not None)

    def _prompt(self, node: yaml.Node, what: str) -> Prompt | None:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            prompt = Prompt(text=" ".join(node.value.split()))
        else:
            section = Section(node, what, self._faults)
            section.require("text", "write what is said, also for a recording")
            text, recording = section.text("text"), section.text("recording")
            prompt = Prompt(
                text=text.text if text else "",
                recording=recording.text if recording else None,
                interruptible=section.flag("interruptible", True),
                needs=self._slot_name(section, "needs"),
            )
            section.finish()
            if recording and not (self._directory / recording.text).is_file():
                self._faults.add(
                    recording.line,
                    f"recording {recording.text!r} does not exist",
                    "record it, or remove the key",
                )
            if text is None:
                return None
        if not prompt.text:
            self._faults.add(line, f"{what} is empty", "write what the bot says, or remove the key")
            return None
        if len(prompt.text) > MAX_PROMPT_CHARS:
            self._faults.add(
                line,
                f"{what} has {len(prompt.text)} characters; callers follow {MAX_PROMPT_CHARS}",
                "shorten it, or make it a list of two prompts",
            )
        self.references.prompts.append((prompt, line))
        return prompt


def _default_prompt(texts: Mapping[str, str], language: str) -> tuple[Prompt, ...]:
    text = texts.get(language)
    return () if text is None else (Prompt(text=text),)
