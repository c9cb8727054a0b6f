"""The flow file: what is wrong is named with its line, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogue import flow_yaml
from dialogue.flow import Flow, Prompt, Stay
from dialogue.flow_yaml import load_flow
from dialogue.yaml_source import Fault

pytestmark = pytest.mark.unit

GOOD = """\
start: greet
variables:
  name: {type: text, default: Mary}
slots:
  day: {type: date}
no_input: {after_ms: 4000, prompts: ["Hello?"], give_up: bye}
no_match: {prompts: ["Sorry?", "Pardon?"], give_up: bye}
anywhere:
  help: {say: I can help., stay: repeat}
keys: {"0": bye}
nodes:
  greet:
    say: Hello.
    ask: "Is this {name}?"
    on: {affirm: ask_day, deny: bye}
  ask_day: {ask: "Which day?", collect: day, then: bye}
  bye: {say: Bye., hang_up: done}
"""
INTENTS = {"affirm", "deny", "help"}


def load(tmp_path: Path, text: str, intents: set[str] | None = INTENTS) -> tuple[Flow | None, list[Fault]]:
    path = tmp_path / "flow.yaml"
    path.write_text(text, encoding="utf-8")
    return load_flow(path, language="en", intents=intents)


def test_a_sound_file_becomes_a_flow(tmp_path: Path) -> None:
    flow, faults = load(tmp_path, GOOD)
    assert flow is not None and faults == []
    greet, ask_day, bye = flow.nodes.values()
    assert greet.ask == (Prompt(text="Is this {name}?"),)
    assert (greet.listens, ask_day.listens, bye.listens) == (True, True, False)
    assert greet.on["affirm"][0].to == "ask_day"
    assert (greet.no_input_ms, greet.no_match.give_up, ask_day.expect) == (4000, "bye", "date")
    assert flow.anywhere["help"][0].stay is Stay.REPEAT
    assert flow.slots["name"].variable and not flow.slots["day"].variable


def test_the_tail_is_the_bots_unless_a_node_says_another(tmp_path: Path) -> None:
    flow, faults = load(tmp_path, GOOD)
    assert flow is not None and {node.tail_ms for node in flow.nodes.values()} == {None}  # the gateway's
    text = "tail_ms: 600\n" + GOOD.replace("collect: day", "collect: day, tail_ms: 1200")
    flow, faults = load(tmp_path, text)
    assert flow is not None and faults == []
    assert (flow.nodes["greet"].tail_ms, flow.nodes["ask_day"].tail_ms) == (600, 1200)
    _, (fault,) = load(tmp_path, "tail_ms: 100\n" + GOOD)
    assert (fault.line, "200 to 5000" in str(fault)) == (1, True)


def test_five_mistakes_are_five_faults_with_their_lines(tmp_path: Path) -> None:
    text = (
        GOOD.replace("type: date}", "type: dat}")  # line 5
        .replace("affirm: ask_day", "affirm: ask_dya")  # line 15
        .replace('ask: "Is this {name}?"', 'ask: "Is this {nmae}?"')  # line 14
        .replace("on: {affirm", "onn: {}\n    on: {affirm")  # line 15, pushes the rest down
        .replace('ask: "Which day?"', 'ask: "Which day?", tail_ms: long')  # line 17
    )
    flow, faults = load(tmp_path, text)
    assert flow is None
    file = str(tmp_path / "flow.yaml")
    assert [str(fault) for fault in faults if "nothing leads" not in fault.what] == [
        f"{file}:5: slot 'day' has unknown type 'dat' (did you mean 'date'?)",
        f"{file}:14: a prompt names {{nmae}}, which is no slot (did you mean 'name'?)",
        f"{file}:15: node 'greet' has an unknown key 'onn' (did you mean 'on'?)",
        f"{file}:16: there is no node 'ask_dya' (did you mean 'ask_day'?)",
        f"{file}:17: 'tail_ms' of node 'ask_day' is 'long' (write a number from 200 to 5000)",
    ]
    # The mistyped name also cuts a node off, which is said too.
    assert [(fault.line, fault.what) for fault in faults if "nothing leads" in fault.what] == [
        (17, "nothing leads to node 'ask_day'")
    ]


FAULTS = {
    "no start": ("start: greet\n", "", 1, "has no 'start'"),
    "start nowhere": ("start: greet", "start: grete", 1, "no node 'grete'"),
    "unknown key on top": ("start: greet", "start: greet\ncolour: red", 2, "unknown key 'colour'"),
    "slot without type": ("{type: date}", "{}", 5, "has no 'type'"),
    "slot that no prompt could name": ("day: {type: date}", "due-date: {type: date}", 5, "cannot be named 'due-date'"),
    "variable that no prompt could name": ("name: {type", "my name: {type", 3, "cannot be named 'my name'"),
    "a stand-in for itself": ("{type: date}", "{type: date, default_from: day}", 5, "slot 'day' leads back to it"),
    "stand-ins in a circle": (
        "day: {type: date}",
        "day: {type: date, default_from: due}\n  due: {type: date, default_from: day}",
        6,
        "slot 'due' leads back to it",
    ),
    "a time with an offset": ("{type: date}", '{type: time, earliest: "08:00+00:00"}', 5, "is '08:00+00:00'"),
    "a time that is none": ("{type: date}", "{type: time, latest: noon}", 5, "is 'noon'"),
    "lengths exchanged": (
        "{type: date}",
        "{type: digits, min_length: 6, max_length: 4}",
        5,
        "its 'min_length' is more",
    ),
    "amounts exchanged": ("{type: date}", "{type: amount, minimum: 20, maximum: 5}", 5, "more than its 'maximum'"),
    "days exchanged": (
        "{type: date}",
        "{type: date, earliest_days: 1, latest_days: 0}",
        5,
        "its 'earliest_days' is more",
    ),
    "hours exchanged": (
        "{type: date}",
        '{type: time, earliest: "18:00", latest: "08:00"}',
        5,
        "its 'earliest' is more than its 'latest'",
    ),
    "bad number": ("after_ms: 4000", "after_ms: soon", 6, "'after_ms'"),
    "number out of range": ("after_ms: 4000", "after_ms: 5", 6, "'after_ms'"),
    "default of the wrong kind": ("type: text, default: Mary", "type: digits, default: Mary", 3, "default of 'name'"),
    "choice without choices": ("{type: date}", "{type: choice}", 5, "no choices"),
    "give up nowhere": ("give_up: bye}", "give_up: byebye}", 6, "no node 'byebye'"),
    "unknown stay": ("stay: repeat", "stay: here", 9, "unknown 'stay' 'here'"),
    "to and stay": ("stay: repeat", "stay: repeat, to: bye", 9, "one of 'to' and 'stay'"),
    "neither to nor stay": (", stay: repeat", "", 9, "one of 'to' and 'stay'"),
    "key leads nowhere": ('"0": bye', '"0": by', 10, "no node 'by'"),
    "intent without example": ("deny: bye", "denny: bye", 15, "intent 'denny'"),
    "needs no slot": ("deny: bye", "deny: {to: bye, needs: dya}", 15, "no slot 'dya'"),
    "forgets no slot": ("deny: bye", "deny: {to: bye, forget: [dya]}", 15, "no slot 'dya'"),
    "collects no slot": ("collect: day", "collect: dya", 16, "no slot 'dya'"),
    "collects and then nothing": (", then: bye}", "}", 16, "then does nothing"),
    "ends and goes on": ("hang_up: done", "hang_up: done, then: greet", 17, "ends the call and yet goes on"),
    "ends twice": ("hang_up: done", "hang_up: done, transfer: x", 17, "hangs up and transfers"),
    "asks and goes on": ("collect: day, then", "then", 16, "without an answer"),
    "a node twice": (
        "  bye: {say",
        "  greet: {say: Hi., hang_up: x}\n  bye: {say",
        17,
        "'greet' twice, first on line 12",
    ),
    "a node nobody reaches": (
        "  bye: {say",
        "  lost: {say: Hi., hang_up: x}\n  bye: {say",
        17,
        "nothing leads to node 'lost'",
    ),
    "a node that is a list": ("{say: Bye., hang_up: done}", "[Bye]", 17, "is a list, not a mapping"),
    "a prompt that is empty": ("say: Hello.", 'say: ""', 13, "is empty"),
    "a prompt that is a mapping without text": ("say: Hello.", "say: {recording: x.wav}", 13, "has no 'text'"),
    "a recording that is not there": ("say: Hello.", "say: {text: Hi, recording: x.wav}", 13, "'x.wav' does not exist"),
    "a flag that is none": ("say: Hello.", "say: {text: Hi, interruptible: maybe}", 13, "'interruptible'"),
    "a slot between blanks": ("this {name}?", "this { name }?", 14, "brace that encloses no slot's name"),
    "a slot with a dash": ("this {name}?", "this {first-name}?", 14, "brace that encloses no slot's name"),
    "a brace not closed": ("this {name}?", "this {name?", 14, "brace that encloses no slot's name"),
    "a brace not opened": ("this {name}?", "this name}?", 14, "brace that encloses no slot's name"),
    "a slot twice in braces": ("this {name}?", "this {{name}}?", 14, "brace that encloses no slot's name"),
    "a prompt too long": ("say: Hello.", f"say: {'far too long ' * 20}", 13, "callers follow"),
    "first words not fixed": ("say: Hello.", 'say: "Hello {name}."', 12, "first prompt of 'greet' is not fixed"),
    "unknown expect": ("collect: day", "collect: day, expect: dates", 16, "unknown 'expect' 'dates'"),
    "no way out after the last turn": (
        'no_match: {prompts: ["Sorry?", "Pardon?"], give_up: bye}',
        "max_turns: 3",
        7,
        "'max_turns' has nowhere to go",
    ),
    "a circle": (
        "  bye: {say",
        "  one: {say: 1., then: two}\n  two: {say: 2., then: one}\n  bye: {say",
        17,
        "leads back to itself by 'then'",
    ),
    "a value that may not be there": ("say: Bye.", 'say: "Bye, {day}."', 17, "{day} may have no value at node 'bye'"),
    "a value forgotten": (
        "then: bye}",
        'then: sure}\n  sure: {ask: "{day}?", on: {affirm: bye, deny: {to: sure, forget: day}}}',
        17,
        "{day} may have no value at node 'sure'",
    ),
    "a value forgotten where it is asked about": (
        "then: bye}",
        'then: sure}\n  sure: {ask: "{day}?", on: {affirm: bye, deny: {stay: ask, forget: day}}}',
        17,
        "{day} may have no value at node 'sure'",
    ),
    "a value missing somewhere": ("say: I can help.", 'say: "{day}"', 9, "at every node that listens"),
    "not YAML": ("nodes:", "nodes: [", 11, "not YAML"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(tmp_path: Path, name: str) -> None:
    old, new, line, what = FAULTS[name]
    assert old in GOOD
    flow, faults = load(tmp_path, GOOD.replace(old, new, 1))
    assert flow is None
    found = [fault for fault in faults if what in fault.what]
    assert found, f"not among {[str(f) for f in faults]}"
    if name != "not YAML":  # there the parser's own line is as good as it gets
        assert found[0].line == line
    assert all(fault.mend for fault in faults)


def test_a_comma_that_cuts_an_unquoted_text_is_told_from_a_key(tmp_path: Path) -> None:
    _, faults = load(tmp_path, GOOD.replace("{say: Bye.,", "{say: Thanks, bye.,"))
    assert [(fault.line, fault.what, fault.mend) for fault in faults] == [
        (17, "node 'bye' has an unknown key 'bye.'", 'quote the text before it, which holds a comma: "..., bye."')
    ]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "a: b: c", "\0", "a: &x [*x]", "? {a: b}\n: c"])
def test_what_is_no_flow_at_all(tmp_path: Path, text: str) -> None:
    flow, faults = load(tmp_path, text)
    assert flow is None and faults


def test_the_example_in_the_documentation_is_sound(tmp_path: Path) -> None:
    example = str(flow_yaml.__doc__).split("```")[1].removeprefix("yaml\n")
    flow, faults = load(tmp_path, example, intents=None)
    assert flow is not None, faults


def test_a_missing_file(tmp_path: Path) -> None:
    flow, faults = load_flow(tmp_path / "none.yaml", language="en")
    assert flow is None and "missing" in faults[0].what


def test_a_value_that_is_there_on_every_way_may_be_said(tmp_path: Path) -> None:
    for text in (
        GOOD.replace("day: {type: date}", "day: {type: date, default_from: name}").replace("Bye.", '"Bye, {day}."'),
        GOOD.replace("say: Bye.", 'say: {text: "Bye, {day}.", needs: day}'),
        GOOD.replace("{say: I can help.,", '{say: "{day}", needs: day,'),
        GOOD.replace("then: bye}", 'then: good}\n  good: {say: "{day}!", hang_up: x}'),
    ):
        flow, faults = load(tmp_path, text)
        assert flow is not None, faults


def test_bounds_that_one_value_passes_are_sound(tmp_path: Path) -> None:
    for bounds in (
        "digits, min_length: 4, max_length: 4",
        "date, earliest_days: 0, latest_days: 0",
        'time, earliest: "08:00", latest: "08:00"',
        "number, minimum: 0, maximum: 0",
    ):
        flow, faults = load(tmp_path, GOOD.replace("type: date", f"type: {bounds}"))
        assert flow is not None, faults


def test_intents_are_not_checked_without_examples(tmp_path: Path) -> None:
    flow, faults = load(tmp_path, GOOD.replace("deny: bye", "denny: bye"), intents=None)
    assert flow is not None and not faults
