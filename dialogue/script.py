"""Scripted conversations: what a caller does turn by turn, and what the bot must do. YAML in, `Script` out.

```yaml
today: 2026-11-21                       # the day of the calls, so that "friday" is always the same one
metadata: {customer_name: Mary Brown}   # of every call of the file; a call may add its own
calls:
  promises to pay:
    greeting: Mary Brown                # a part, or a list of parts, of what the caller hears first
    turns:
      - {caller: yes speaking, intent: affirm, node: check_account}
      - {keys: "4417", hears: your bill of}
      - silence: true
      - {caller: "i will pay on [friday](date)", intent: promise_to_pay, slots: {promise_date: "2026-11-27"}}
      - {caller: "yes", hears: noted, hears_not: sorry}
    ends: promise_to_pay                # the call's disposition; `transfer: agent` names a target
```

A turn is one of `caller` (words), `keys`, `silence`, `reconnect` and `webhook` (what the operator's system answers:
`failed`, or texts by key); with `assistant` is what the bot's second track would say to the words, which is heard where
nothing else answers; the rest is expected of the bot. Nothing in the form is of text alone: the same script can
be spoken. A part marked `[friday](date)` is what the understanding would mark. With a model the marks are only words,
and `intent` and `faq` (the entry of the FAQ that answers) are what it must find; without one all are taken as found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import yaml

from dialogue.yaml_source import Fault, Faults, Section, read_yaml
from nlu.meaning import Slot

__all__ = ["SCRIPTS_FOLDER", "Call", "Expected", "Script", "Turn", "load_script", "read_marked"]

SCRIPTS_FOLDER = "scripts"
"""Where a bot keeps its scripts."""

_ACTS = ("caller", "keys", "silence", "reconnect", "webhook")
_MARKED = re.compile(r"\[([^\]]+)\]\((\w+)\)")
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must hold after a turn. None and empty: anything may.

    `slots` are normalised values; None: the slot must be empty. `hears` are parts of the reply, whatever the case.
    `faq` is the entry of the FAQ that answers.
    """

    hears: tuple[str, ...] = ()
    hears_not: tuple[str, ...] = ()
    node: str | None = None
    intent: str | None = None
    faq: str | None = None
    slots: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing the caller does: says `words`, presses `keys`, comes back after a lost line, or (none of these)
    keeps silent. `marked` are the parts of the words that the script marks as slots. With `answer` it is the operator's
    system that acts: texts by key, or None in `fails`. `assistant` is what the bot's second track would say."""

    line: int
    words: str | None = None
    marked: tuple[Slot, ...] = ()
    keys: str | None = None
    reconnects: bool = False
    answer: Mapping[str, str] | None = None
    fails: bool = False
    assistant: tuple[str, ...] = ()
    expected: Expected = Expected()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One scripted call. `ends` is the disposition and `transfer` the target that it must end with."""

    name: str
    line: int
    metadata: Mapping[str, str]
    greeting: tuple[str, ...]
    turns: tuple[Turn, ...]
    ends: str | None
    transfer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The calls of one file."""

    path: Path
    today: date
    calls: tuple[Call, ...]


def read_marked(marked: str) -> tuple[str, tuple[Slot, ...]]:
    """Words and slots of a text like "i will pay on [friday](date)"."""
    text, slots, last = "", [], 0
    for match in _MARKED.finditer(marked):
        text += marked[last : match.start()]
        slots.append(Slot(match[2], match[1], len(text), len(text) + len(match[1])))
        text += match[1]
        last = match.end()
    return text + marked[last:], tuple(slots)


def load_script(path: Path) -> tuple[Script | None, list[Fault]]:
    """Read a script file: the script and no faults, or None and all of them."""
    faults = Faults(str(path))
    top = read_yaml(path, "the script", faults)
    if top is None:
        return None, faults.found
    top.require("today", "write the day of the calls: `today: 2026-11-21`")
    top.require("calls", "add a `calls:` section")
    today = _today(top, faults)
    metadata = _words(top.section("metadata"))
    calls: list[Call] = []
    if section := top.section("calls"):
        calls = [_call(name, line, Section(value, f"call {name!r}", faults), metadata, faults)
                 for name, line, value in section.entries()]  # fmt: skip
    top.finish()
    if today is None or faults.found:
        return None, sorted(faults.found, key=lambda fault: fault.line)
    return Script(path=path, today=today, calls=tuple(calls)), []


def _today(top: Section, faults: Faults) -> date | None:
    written = top.text("today")
    if written is None:
        return None
    try:
        return date.fromisoformat(written.text)
    except ValueError:
        faults.add(written.line, f"'today' is no day: {written.text!r}", "write it as 2026-11-21")
        return None


def _words(section: Section | None) -> dict[str, str]:
    """A mapping of names to texts."""
    if section is None:
        return {}
    return {name: written.text for name, _, _ in section.entries() if (written := section.text(name))}


def _call(name: str, line: int, section: Section, metadata: Mapping[str, str], faults: Faults) -> Call:
    section.require("turns", "add `turns:`, a list of what the caller does")
    ends, transfer = section.text("ends"), section.text("transfer")
    call = Call(
        name=name,
        line=line,
        metadata={**metadata, **_words(section.section("metadata"))},
        greeting=tuple(part.text for part in section.texts("greeting")),
        turns=tuple(_turn(node, faults) for node in section.nodes("turns")),
        ends=ends.text if ends else None,
        transfer=transfer.text if transfer else None,
    )
    section.finish()
    return call


def _turn(node: yaml.Node, faults: Faults) -> Turn:
    section = Section(node, "a turn", faults)
    present = [key for key in _ACTS if key in section]
    if len(present) != 1:
        what = f"a turn has {' and '.join(present)}" if present else "a turn has nothing that the caller does"
        faults.add(section.line, what, f"give it one of {', '.join(_ACTS)}")
    words, keys = section.text("caller"), section.text("keys")
    silent, reconnects = section.flag("silence", True), section.flag("reconnect", True)
    if not silent or not reconnects:
        faults.add(section.line, "a turn in which the caller does not keep silent, or come back", "leave it out")
    if keys and not re.fullmatch(r"[0-9A-D*#]+", keys.text):
        faults.add(keys.line, f"keys {keys.text!r} are not on a telephone", "use 0-9, *, # and A-D, in quotes")
    text, marked = read_marked(words.text) if words else (None, ())
    answer, fails = _answer(section, faults)
    intent, node_name, faq = section.text("intent"), section.text("node"), section.text("faq")
    turn = Turn(
        line=section.line,
        words=text,
        marked=marked,
        keys=keys.text if keys else None,
        reconnects="reconnect" in section,
        answer=answer,
        fails=fails,
        assistant=tuple(sentence.text for sentence in section.texts("assistant")),
        expected=Expected(
            hears=tuple(part.text for part in section.texts("hears")),
            hears_not=tuple(part.text for part in section.texts("hears_not")),
            node=node_name.text if node_name else None,
            intent=intent.text if intent else None,
            faq=faq.text if faq else None,
            slots=_slots(section.section("slots"), faults),
        ),
    )
    section.finish()
    return turn


def _answer(section: Section, faults: Faults) -> tuple[dict[str, str] | None, bool]:
    """What a webhook answers, and whether it fails."""
    for node in section.nodes("webhook"):
        if isinstance(node, yaml.MappingNode):
            return _words(Section(node, "the webhook's answer", faults)), False
        if not isinstance(node, yaml.ScalarNode) or node.value != "failed":
            faults.add(section.line_of("webhook"), "a webhook's answer is neither", "write `failed`, or texts by key")
        return None, True
    return None, False


def _slots(section: Section | None, faults: Faults) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, line, node in section.entries() if section else ():
        if not isinstance(node, yaml.ScalarNode):
            faults.add(line, f"slot {name!r} is no single value", "write the normalised value, or null for empty")
        else:
            found[name] = None if node.tag == _NULL else node.value
    return found
