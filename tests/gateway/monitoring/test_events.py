"""Events as JSON: every type, what goes through redaction and what does not."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.monitoring import events
from gateway.monitoring.events import EVENT_TYPES, CallEvent, CallPresent, PastTurn, Published, TurnUnderstood, to_json

pytestmark = pytest.mark.unit


def sample(kind: type[CallEvent]) -> CallEvent:
    """An event whose labels are "label" and whose other texts are "words"."""
    turn = PastTurn(round_id=1, node="label", said="words", intent="label", score=0.5, reply="words")
    values: dict[str, Any] = {
        "Label": "label",
        "Label | None": "label",
        "str": "words",
        "str | None": "words",
        "int": 3,
        "int | None": 3,
        "float": 1.5,
        "bool": True,
        "Mapping[Label, str]": {"label": "words"},
        "Mapping[Label, Label]": {"label": "label"},
        "Mapping[Label, float]": {"label": 2.5},
        "tuple[tuple[Label, str], ...]": (("label", "words"), ("label", "words")),
        "tuple[PastTurn, ...]": (turn, turn),
    }
    return kind(**{each.name: values[str(each.type)] for each in fields(kind)})


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_every_text_of_every_event_is_redacted_but_for_our_own_words(kind: type[CallEvent]) -> None:
    published = Published(sample(kind), "c1", 7, 4210, 1.23456)
    line = to_json(published, lambda text: "hidden" if text == "words" else f"WRONG {text}")
    assert "words" not in line and "WRONG" not in line
    body = json.loads(line)
    assert list(body)[:6] == ["v", "type", "call_id", "seq", "at_ms", "time"]
    assert (body["v"], body["type"], body["call_id"], body["seq"], body["at_ms"], body["time"]) == (
        events.SCHEMA_VERSION,
        kind.type,
        "c1",
        7,
        4210,
        1.235,
    )
    assert set(body) - {"v", "type", "call_id", "seq", "at_ms", "time", "epoch"} == {each.name for each in fields(kind)}


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_unredacted_an_event_differs_in_nothing_else(kind: type[CallEvent]) -> None:
    published = Published(sample(kind), "c1", 7, 4210, 1.0)
    raw = to_json(published, None)
    assert raw.replace("words", "hidden") == to_json(published, lambda _: "hidden")


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)
@pytest.mark.parametrize("words", ['she said "no"\\', "line\nline\x00", "号码 \u2028 é", ""])
def test_a_line_is_what_a_json_encoder_writes(kind: type[CallEvent], words: str) -> None:
    line = to_json(Published(sample(kind), words, 7, 4210, 1.0), lambda _: words)
    assert line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))
    assert "\n" not in line and json.loads(line)["call_id"] == words


def test_a_turns_slots_and_a_snapshots_history_keep_their_shape() -> None:
    understood = TurnUnderstood(round_id=1, intent="pay", score=0.9, slots=(("date", "friday"),), model="8c07")
    assert json.loads(to_json(Published(understood, "c", 1, 0, 0.0), None))["slots"] == [["date", "friday"]]
    present = sample(CallPresent)
    turns = json.loads(to_json(Published(present, "c", 1, 0, 0.0), str.upper))["history"]
    assert turns[0] == {
        "round_id": 1,
        "node": "label",
        "said": "WORDS",
        "intent": "label",
        "score": 0.5,
        "reply": "WORDS",
    }


def test_every_type_is_documented_with_its_keys_and_no_other_is() -> None:
    document = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = document.split("| type | keys | when |")[1].split("\n\n")[0]
    documented = {
        name: set(re.findall(r"`(\w+)`", keys)) for name, keys in re.findall(r"^\| `(\w+)` \| (.*?) ?\|", table, re.M)
    }
    assert documented == {name: {each.name for each in fields(kind)} for name, kind in EVENT_TYPES.items()}
