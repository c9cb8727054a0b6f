"""Scripts: what is read, and that every fault is named with its line."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import script
from dialogue.script import Expected, Script, load_script, read_marked
from dialogue.yaml_source import Fault
from nlu.meaning import Slot

pytestmark = pytest.mark.unit

GOOD = """\
today: 2026-11-21
metadata: {amount: "12"}
calls:
  one:
    metadata: {name: Mary}
    greeting: [Hello, Mary]
    turns:
      - {caller: "on [friday](date)", intent: inform, slots: {day: "2026-11-27", other: null}}
      - {keys: "44#", hears: Thanks, hears_not: [Sorry, What], node: done}
      - silence: true
      - reconnect: true
      - webhook: {id: "12"}
      - webhook: failed
    ends: promised
"""


def load(tmp_path: Path, text: str) -> tuple[Script | None, list[Fault]]:
    path = tmp_path / "calls.yaml"
    path.write_text(text, encoding="utf-8")
    return load_script(path)


def test_a_sound_file_becomes_a_script(tmp_path: Path) -> None:
    found, faults = load(tmp_path, GOOD)
    assert found is not None and faults == []
    (call,) = found.calls
    assert found.today == date(2026, 11, 21)
    assert (call.name, call.line, call.metadata) == ("one", 4, {"amount": "12", "name": "Mary"})
    assert (call.greeting, call.ends, call.transfer) == (("Hello", "Mary"), "promised", None)
    words, keys, silent, back, answered, failed = call.turns
    assert (words.words, words.marked, words.line) == ("on friday", (Slot("date", "friday", 3, 9),), 8)
    assert words.expected == Expected(intent="inform", slots={"day": "2026-11-27", "other": None})
    assert keys.keys == "44#" and keys.expected.hears_not == ("Sorry", "What")
    assert (answered.answer, answered.fails, failed.answer, failed.fails) == ({"id": "12"}, False, None, True)
    assert (silent.words, silent.keys, silent.reconnects, back.reconnects) == (None, None, False, True)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("today: 2026-11-21", "today: someday", 1, "'today' is no day"),
        ("today: 2026-11-21\n", "", 1, "has no 'today'"),
        ("calls:", "cals:", 1, "has no 'calls'"),
        ("- silence: true", "- {silence: true, keys: '1'}", 10, "a turn has keys and silence"),
        ("- silence: true", "- {node: done}", 10, "nothing that the caller does"),
        ("- silence: true", "- silence: false", 10, "does not keep silent"),
        ("- silence: true", "- hello", 10, "is 'hello', not a mapping"),
        ("webhook: failed", "webhook: down", 13, "a webhook's answer is neither"),
        ("44#", "44x", 9, "not on a telephone"),
        ("ends: promised", "end: promised", 14, "unknown key 'end'"),
        ("other: null", "other: [1]", 8, "no single value"),
        ("hears: Thanks", "heard: Thanks", 9, "unknown key 'heard'"),
    ],
)
def test_fault(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    found, faults = load(tmp_path, GOOD.replace(old, new, 1))
    assert found is None
    assert (line, True) in [(fault.line, what in fault.what) for fault in faults], [str(fault) for fault in faults]
    assert all(fault.mend for fault in faults)


def test_the_example_in_the_documentation_is_sound(tmp_path: Path) -> None:
    found, faults = load(tmp_path, str(script.__doc__).split("```")[1].removeprefix("yaml\n"))
    assert found is not None, faults


@given(st.lists(st.tuples(st.text(alphabet="ab 中", max_size=5), st.text(alphabet="xy 下", min_size=1, max_size=5))))
def test_marks_leave_the_words_and_say_where_they_were(parts: list[tuple[str, str]]) -> None:
    text, slots = read_marked("".join(f"{plain}[{marked}](day)" for plain, marked in parts))
    assert text == "".join(plain + marked for plain, marked in parts)
    assert [text[slot.start : slot.end] for slot in slots] == [marked for _, marked in parts]
