"""The watcher's board: rows from events, and lines for people."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.watch import table_of
from gateway.monitoring.board import CallBoard, told
from gateway.monitoring.events import EVENT_TYPES, Published, to_json
from tests.gateway.monitoring.test_events import sample

pytestmark = pytest.mark.unit


def event(kind: str, call_id: str = "c", *, time: float = 100.0, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "seq": 1, "at_ms": 0, "time": time, **fields}


def test_a_call_from_its_first_word_to_its_end() -> None:
    board = CallBoard()
    for one in (
        event("call_started", bot="bill", caller="[phone]"),
        event("node_entered", node="greet"),
        event("prompt_started", text="Hello", timing={}),
        event("speech_started"),
        event("partial_heard", text="yes sp"),
    ):
        board.apply(one)
    (row,) = board.rows(101.0)
    assert (row.bot, row.caller, row.node, row.last_words, row.speaking) == (
        "bill",
        "[phone]",
        "greet",
        "> yes sp",
        True,
    )
    for one in (
        event("speech_ended"),
        event("turn_heard", text="yes speaking", supersedes=None),
        event("turn_heard", text="yes speaking to you", supersedes=1),
        event("turn_understood", intent="affirm", score=0.97),
        event("budget_missed"),
        event("supervised", act="take_over", by="ann"),
    ):
        board.apply(one)
    (row,) = board.rows(102.0)
    assert (row.turns, row.intent, row.score, row.speaking) == (1, "affirm", 0.97, False)
    assert row.alerts == ["1 late", "taken over by ann"]
    board.apply(event("supervised", act="hand_back", by="ann"))
    board.apply(event("call_ended", ended_by="bot", time=110.0))
    assert [row.alerts for row in board.rows(111.0)] == [["1 late", "ended by bot"]]
    assert board.rows(121.0) == []


def test_a_snapshot_brings_what_was_before() -> None:
    board = CallBoard()
    turn = {"round_id": 1, "node": "a", "said": "hi", "intent": "greet", "score": 0.5, "reply": "Hello there"}
    board.apply(
        event(
            "call_present",
            bot="b",
            caller=None,
            started_at=40.0,
            node="a",
            turns=3,
            taken_over_by="ann",
            opening="Good morning",
            history=[turn],
        )
    )
    (row,) = board.rows(100.0)
    assert (row.since, row.turns, row.last_words, row.intent) == (40.0, 3, "< Hello there", "greet")
    assert row.alerts == ["taken over by ann"]


def test_the_oldest_call_is_first_and_a_new_stream_forgets_what_was() -> None:
    board = CallBoard()
    board.apply(event("call_started", "late", bot="b", caller=None, time=50.0))
    board.apply(event("call_started", "early", bot="b", caller=None, time=10.0))
    assert [row.call_id for row in board.rows(60.0)] == ["early", "late"]
    board.apply({"type": "dropped", "count": 7})
    board.apply({"type": "watching", "calls": 0, "workers": 1})
    assert (board.rows(60.0), board.dropped) == ([], 7)


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_every_type_of_event_fits_on_the_board_and_in_a_line(kind: Any) -> None:

    body = json.loads(to_json(Published(sample(kind), "c", 1, 0, 1.0), None))
    board = CallBoard()
    board.apply(body)
    assert len(board.rows(1.0)) == 1
    line = told(body)
    assert line is None or line.strip()


def test_the_table_fits_the_terminal_and_shows_no_markup_of_a_callers() -> None:
    board = CallBoard()
    for number in range(30):
        board.apply(event("call_started", f"call-{number:02}", bot="bill", caller=None, time=float(number)))
        board.apply(event("turn_heard", f"call-{number:02}", text="[red]ha[/red] [phone]", supersedes=None))
    console = Console(width=120, height=24, record=True, file=io.StringIO())
    console.print(table_of(board, 100.0, height=24))
    text = console.export_text()
    assert "30 calls" in text and "... and 10 more" in text
    assert "call-00" in text and "1:40" in text
    assert "> [red]ha[/red] [phone]" in text
    assert len(text.splitlines()) <= 24
