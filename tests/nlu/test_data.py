from __future__ import annotations

import json
from pathlib import Path

import pytest

from nlu.data import DataError, Example, hold_out, read_dataset, unseen_labels
from nlu.meaning import Slot

pytestmark = pytest.mark.unit

GOOD = '{"text": "pay on friday", "intent": "promise", "slots": [{"name": "date", "start": 7, "end": 13}]}'


def file_of(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "data.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


def slotted(*slots: tuple[str, int, int]) -> str:
    entries = [{"name": name, "start": start, "end": end} for name, start, end in slots]
    return json.dumps({"text": "0123456789", "intent": "a", "slots": entries})


def test_lines_become_examples_with_their_numbers(tmp_path: Path) -> None:
    dataset = read_dataset(file_of(tmp_path, GOOD, GOOD))
    slot = Slot("date", "friday", 7, 13)
    assert dataset.examples == (
        Example("pay on friday", "promise", (slot,), 1),
        Example("pay on friday", "promise", (slot,), 2),
    )
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ('{"intent": "a", "slots": []}', '"text" is missing'),
        ('{"text": "a", "slots": []}', '"intent" is missing'),
        ('{"text": 1, "intent": "a"}', '"text" is missing or no string'),
        ('{"text": "a", "intent": ""}', '"intent" is empty'),
        ('{"text": "a", "intent": "a", "slots": {}}', '"slots" is not a list'),
        ('{"text": "a", "intent": "a", "slots": [1]}', "a slot is not an object"),
        (slotted(("x", -1, 3)), "slot 'x' has start -1"),
        (slotted(("x", 3, 11)), "0 <= start < end <= 10"),
        (slotted(("x", 3, 2)), "start 3 and end 2"),
        ('{"text": "a", "intent": "a", "slots": [{"name": "x", "start": 0.0, "end": 1}]}', "start 0.0"),
        ('{"text": "a", "intent": "a", "slots": [{"name": "x", "start": true, "end": 1}]}', "start True"),
        ('{"text": "a", "intent": "a", "n": ' + "9" * 5000 + "}", "not JSON (a number too long)"),
        ('{"text": "a", "intent": "\\ud83d"}', '"intent" holds half a surrogate pair'),
        (
            '{"text": "ab", "intent": "a", "slots": [{"name": "\\ud83d", "start": 0, "end": 1}]}',
            '"name" holds half a surrogate pair',
        ),
        (b'{"text": "\xff", "intent": "a"}', "not UTF-8"),
    ],
)
def test_a_malformed_line_stops_with_file_and_line(tmp_path: Path, line: str | bytes, fault: str) -> None:
    path = file_of(tmp_path, GOOD, line)
    with pytest.raises(DataError) as raised:
        read_dataset(path)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert fault in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"text": " ", "intent": "a"}\n'])
def test_a_file_without_examples_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no example"):
        read_dataset(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read"):
        read_dataset(tmp_path / "gone.jsonl")


def test_odd_lines_are_mended_with_a_warning(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD + "\r",
        "",
        '{"text": "  ", "intent": "promise"}',
        slotted(("long", 0, 5), ("short", 4, 6), ("other", 6, 8), ("empty", 9, 9)),
        '{"text": "no slots", "intent": "a"}',
    )
    dataset = read_dataset(path)
    assert [example.line for example in dataset.examples] == [1, 2, 5, 6]
    assert [slot.name for slot in dataset.examples[2].slots] == ["long", "other"]
    assert [str(warning) for warning in dataset.warnings] == [
        f"{path}:3: empty line, left out",
        f"{path}:4: empty text, left out",
        f"{path}:5: slot 'empty' covers no text, left out",
        f"{path}:5: slot 'short' overlaps the longer 'long', left out",
    ]


def test_spaces_around_a_slot_are_none_of_it(tmp_path: Path) -> None:
    line = {"text": "pay  on friday ", "intent": "a", "slots": [{"name": "date", "start": 7, "end": 15}]}
    dataset = read_dataset(file_of(tmp_path, json.dumps(line), json.dumps(line)))
    assert dataset.examples[0].slots == (Slot("date", "friday", 8, 14),)
    assert [(w.line, w.text) for w in dataset.warnings] == [
        (line, "slot 'date' begins or ends with a space, which is left out of it") for line in (1, 2)
    ]


def test_an_intent_with_one_example_is_warned_about(tmp_path: Path) -> None:
    path = file_of(tmp_path, GOOD, GOOD, '{"text": "hm", "intent": "rare"}')
    (warning,) = read_dataset(path).warnings
    assert (warning.line, "'rare' has this one example only" in warning.text) == (3, True)


def test_labels_that_only_dev_has_are_warned_about_once(tmp_path: Path) -> None:
    train = [Example("a", "known", ())]
    dev = read_dataset(file_of(tmp_path, GOOD, GOOD, '{"text": "x", "intent": "oos"}'))
    warnings = unseen_labels(train, dev)
    assert [(w.line, w.text.partition(" is")[0]) for w in warnings] == [
        (1, "intent 'promise'"),
        (1, "slot 'date'"),
    ]


def test_hold_out_takes_a_share_of_each_intent_and_leaves_rare_ones() -> None:
    examples = [Example(f"{i}", intent, ()) for intent, n in (("a", 40), ("b", 5), ("c", 3)) for i in range(n)]
    train, dev = hold_out(examples, 0.1)
    assert sorted(train + dev, key=str) == sorted(examples, key=str)
    assert {intent: sum(e.intent == intent for e in dev) for intent in "abc"} == {"a": 4, "b": 1, "c": 0}


def test_lines_out_of_scope_alone_are_nothing_to_judge_by() -> None:
    """Three examples an intent and a dozen of oos: one of those was all that the threshold was fitted to."""
    lines = [Example(f"line {intent} {n}", intent, ()) for intent in ("a", "b") for n in range(3)]
    lines += [Example(f"other {n}", "oos", ()) for n in range(12)]
    assert hold_out(lines, 0.1) == (lines, [])
