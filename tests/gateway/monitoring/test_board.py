"""The watcher's board: rows from events, and lines for people."""

from __future__ import annotations

import io
import json
import time as wall_clock
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import watch
from gateway.cli.watch import table_of
from gateway.monitoring.board import CallBoard, told
from gateway.monitoring.events import EVENT_TYPES, Published, to_json
from tests.gateway.monitoring.test_events import sample

pytestmark = pytest.mark.unit


def event(kind: str, call_id: str = "c", *, time: float = 100.0, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "seq": 1, "at_ms": 0, "time": time, "epoch": 1, **fields}


def apply(board: CallBoard, *events: dict[str, Any], ahead_s: float = 0.0) -> None:
    """Events of a host whose clock is so far ahead of the watcher's, as they happen."""
    for one in events:
        board.apply(one, one["time"] - ahead_s)


def present(call_id: str, *, time: float, started_at: float, **fields: Any) -> dict[str, Any]:
    return event(
        "call_present",
        call_id,
        time=time,
        **{"bot": "b", "caller": None, "started_at": started_at, "node": "a", "turns": 0}
        | {"taken_over_by": None, "opening": "", "history": []}
        | fields,
    )


def test_a_call_from_its_first_word_to_its_end() -> None:
    board = CallBoard()
    for one in (
        event("call_started", bot="bill", caller="[phone]"),
        event("node_entered", node="greet"),
        event("prompt_started", text="Hello", timing={}),
        event("speech_started"),
        event("partial_heard", text="yes sp"),
    ):
        apply(board, one)
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
        apply(board, one)
    (row,) = board.rows(102.0)
    assert (row.turns, row.intent, row.score, row.speaking) == (1, "affirm", 0.97, False)
    assert row.alerts == ["1 late", "taken over by ann"]
    apply(board, event("supervised", act="hand_back", by="ann"))
    apply(board, event("call_ended", ended_by="bot", time=110.0))
    assert [row.alerts for row in board.rows(111.0)] == [["1 late", "ended by bot"]]
    assert board.rows(121.0) == []


def test_a_snapshot_brings_what_was_before() -> None:
    board = CallBoard()
    turn = {"round_id": 1, "node": "a", "said": "hi", "intent": "greet", "score": 0.5, "reply": "Hello there"}
    fields = {"turns": 3, "taken_over_by": "ann", "opening": "Good morning", "history": [turn]}
    apply(board, present("c", time=100.0, started_at=40.0, **fields))
    (row,) = board.rows(100.0)
    assert (row.since, row.turns, row.last_words, row.intent) == (40.0, 3, "< Hello there", "greet")
    assert row.alerts == ["taken over by ann"]


def test_the_oldest_call_is_first_and_a_new_stream_forgets_what_was() -> None:
    board = CallBoard()
    apply(board, event("call_started", "late", bot="b", caller=None, time=50.0))
    apply(board, event("call_started", "early", bot="b", caller=None, time=10.0))
    assert [row.call_id for row in board.rows(60.0)] == ["early", "late"]
    board.apply({"type": "dropped", "count": 7}, 60.0)
    board.apply({"type": "watching", "calls": 0, "workers": 1}, 60.0)
    assert (board.rows(60.0), board.dropped) == ([], 7)


def lengths(board: CallBoard, now: float) -> dict[str, float]:
    return {row.call_id: round((row.ended_at or now) - row.since, 3) for row in board.rows(now)}


def test_a_call_is_as_long_as_it_is_whatever_its_hosts_clock_says() -> None:
    board = CallBoard()
    apply(board, present("ahead", time=4600.0, started_at=4590.0), ahead_s=3600.0)
    apply(board, event("call_started", "right", time=1000.0, bot="b", caller=None))
    apply(board, event("call_started", "behind", time=995.0, bot="b", caller=None), ahead_s=-5.0)
    assert lengths(board, 1020.0) == {"ahead": 30.0, "right": 20.0, "behind": 20.0}
    assert board.rows(1020.0)[0].call_id == "ahead", "the longest is first"
    apply(board, event("call_ended", "ahead", time=4630.0, ended_by="bot"), ahead_s=3600.0)
    apply(board, event("call_ended", "behind", time=1025.0, ended_by="bot"), ahead_s=-5.0)
    assert lengths(board, 1039.0) == {"right": 39.0, "ahead": 40.0, "behind": 30.0}, "those that ended stay as long"
    assert lengths(board, 1041.0) == {"right": 41.0}


def test_an_event_that_was_long_on_its_way_is_outweighed_by_quicker_ones() -> None:
    board = CallBoard()
    board.apply(event("call_started", time=100.0, bot="b", caller=None), 52.0)
    board.apply(event("speech_started", time=110.0), 60.0)
    board.apply(event("speech_ended", time=111.0), 62.0)
    assert lengths(board, 65.0) == {"c": 15.0}


def test_a_call_that_goes_on_at_another_host_is_as_long_as_it_was() -> None:
    board = CallBoard()
    apply(board, event("call_started", time=1000.0, bot="b", caller=None))
    apply(board, event("call_started", time=4610.0, epoch=2, bot="b", caller=None), ahead_s=3600.0)
    assert lengths(board, 1020.0) == {"c": 20.0}
    apply(board, present("c", time=4621.0, epoch=2, started_at=1000.0), ahead_s=3600.0)
    assert lengths(board, 1025.0) == {"c": 25.0}, "it began by the first host's clock"


def test_the_end_of_a_lost_call_is_when_it_was_told() -> None:
    board = CallBoard()
    apply(board, event("call_started", time=4600.0, bot="b", caller=None), ahead_s=3600.0)
    board.apply(event("call_ended", time=1030.0, ended_by="lost"), 1030.0)  # by the control process' clock
    assert lengths(board, 1035.0) == {"c": 30.0}


def test_the_drawn_board_needs_no_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = wall_clock.time() + 3600.0
    lines = [present("old", time=ahead, started_at=ahead - 65.0)]
    console = Console(width=120, height=10, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(watch, "_lines", lambda *_, **__: iter(("", line) for line in lines))
    monkeypatch.setattr(watch, "Console", lambda: console)
    watch._draw("ws://nowhere", "")
    assert "1:05" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_every_type_of_event_fits_on_the_board_and_in_a_line(kind: Any) -> None:

    body = json.loads(to_json(Published(sample(kind), "c", 1, 0, 1.0), None))
    board = CallBoard()
    board.apply(body, body["time"])
    assert len(board.rows(1.0)) == 1
    line = told(body)
    assert line is None or line.strip()


def test_the_table_fits_the_terminal_and_shows_no_markup_of_a_callers() -> None:
    board = CallBoard()
    for number in range(30):
        apply(board, event("call_started", f"call-{number:02}", bot="bill", caller=None, time=float(number)))
        apply(board, event("turn_heard", f"call-{number:02}", text="[red]ha[/red] [phone]", supersedes=None))
    console = Console(width=120, height=24, record=True, file=io.StringIO())
    console.print(table_of(board, 100.0, height=24))
    text = console.export_text()
    assert "30 calls" in text and "... and 10 more" in text
    assert "call-00" in text and "1:40" in text
    assert "> [red]ha[/red] [phone]" in text
    assert len(text.splitlines()) <= 24
