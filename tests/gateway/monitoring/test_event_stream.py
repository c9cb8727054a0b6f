"""What a reader is sent: a snapshot, what it does not hold, and where something is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.monitoring.event_stream import EventStream
from gateway.monitoring.hub import CallList

pytestmark = pytest.mark.unit


def event(kind: str, seq: int, *, call_id: str = "a", epoch: int = 1, **more: Any) -> str:
    body = {"v": 1, "type": kind, "call_id": call_id, "seq": seq, "at_ms": 20 * seq, "time": 100.0, "epoch": epoch}
    return json.dumps({**body, **more})


def present(seq: int, *, call_id: str = "a", epoch: int = 1) -> str:
    return event("call_present", seq, call_id=call_id, epoch=epoch, started_at=90.0, turns=1)


def begun(stream: EventStream, *lines: str) -> EventStream:
    stream.begin(CallList(lines, workers=2, complete=True))
    return stream


def told(stream: EventStream, *lines: str) -> list[tuple[Any, ...]]:
    """What a reader gets of these events: (type, seq), and ("dropped", count, after) where some are missing."""
    bodies = [json.loads(out) for line in lines for out in stream.take(line)]
    return [
        ("dropped", body["count"], body["after_seq"]) if body["type"] == "dropped" else (body["type"], body["seq"])
        for body in bodies
    ]


def test_it_begins_with_the_calls_and_goes_on_with_what_they_do_not_hold() -> None:
    stream = EventStream()
    first, *calls = stream.begin(CallList((present(3),), workers=2, complete=True))
    assert json.loads(first) == {"type": "watching", "v": 1, "calls": 1, "workers": 2, "complete": True}
    assert calls == [present(3)]
    events = [event("caller_silent", seq) for seq in (2, 3, 4, 5)]
    assert told(stream, *events) == [("caller_silent", 4), ("caller_silent", 5)]
    assert not stream.stale


def test_a_gap_is_told_where_it_is_and_wants_a_fresh_snapshot() -> None:
    stream = begun(EventStream(call_id="a"), present(3))
    assert told(stream, event("caller_silent", 4), event("caller_silent", 7)) == [
        ("caller_silent", 4),
        ("dropped", 2, 4),
        ("caller_silent", 7),
    ]
    assert stream.stale
    begun(stream, present(9))
    assert not stream.stale
    assert told(stream, event("caller_silent", 8), event("caller_silent", 10)) == [("caller_silent", 10)]


def test_events_before_the_first_that_comes_of_a_call_are_missed_too() -> None:
    stream = begun(EventStream())
    assert told(stream, event("call_started", 1), event("caller_silent", 2)) == [
        ("call_started", 1),
        ("caller_silent", 2),
    ]
    assert not stream.stale
    assert told(stream, event("caller_silent", 5, call_id="b")) == [("caller_silent", 5)]
    assert stream.stale  # its start was not told


def test_a_call_that_is_resumed_elsewhere_counts_anew_and_its_old_connection_is_not_heard() -> None:
    stream = begun(EventStream(), present(12))
    assert told(stream, event("call_started", 1, epoch=2), event("caller_silent", 2, epoch=2)) == [
        ("call_started", 1),
        ("caller_silent", 2),
    ]
    assert told(stream, event("caller_silent", 13), event("call_ended", 14)) == []
    assert told(stream, event("caller_silent", 3, epoch=2)) == [("caller_silent", 3)]
    assert not stream.stale
    assert told(stream, event("caller_silent", 3, epoch=3)) == [("dropped", 2, 0), ("caller_silent", 3)]


def test_a_snapshot_of_a_connection_that_has_lost_the_call_changes_nothing() -> None:
    stream = begun(EventStream(), present(2, epoch=2))
    begun(stream, present(12, epoch=1))
    assert told(stream, event("caller_silent", 3, epoch=2)) == [("caller_silent", 3)]


def begun_anew(stream: EventStream, *waiting: str, snapshot: str) -> list[tuple[Any, ...]]:
    bodies = map(json.loads, stream.begin(CallList((snapshot,), workers=2, complete=True), waiting))
    return [
        ("dropped", body["count"], body["after_seq"]) if body["type"] == "dropped" else (body["type"], body.get("seq"))
        for body in bodies
    ]


def test_a_fresh_snapshot_says_what_is_missing_before_it_and_not_what_was_on_its_way() -> None:
    stream = begun(EventStream(), present(3))
    waiting = [event("caller_silent", 4), event("caller_silent", 7), event("caller_silent", 8)]
    assert begun_anew(stream, *waiting, snapshot=present(7)) == [
        ("caller_silent", 4),
        ("dropped", 2, 4),
        ("caller_silent", 7),
        ("watching", None),
        ("call_present", 7),
        ("caller_silent", 8),
    ]
    assert begun_anew(stream, snapshot=present(12)) == [("dropped", 4, 8), ("watching", None), ("call_present", 12)]
    assert begun_anew(stream, snapshot=present(12)) == [("watching", None), ("call_present", 12)]


def test_a_fresh_snapshot_of_a_call_that_was_not_known_takes_the_place_of_its_events() -> None:
    stream = begun(EventStream())
    waiting = [event("caller_silent", 4), event("caller_silent", 6)]
    assert begun_anew(stream, *waiting, snapshot=present(5)) == [
        ("watching", None),
        ("call_present", 5),
        ("caller_silent", 6),
    ]


def test_a_fresh_snapshot_without_an_answer_of_every_worker_takes_no_call_away() -> None:
    stream = begun(EventStream(), present(1), present(1, call_id="b"))
    lines = stream.begin(CallList((present(3, call_id="b"),), workers=2, complete=False))
    assert [json.loads(line)["type"] for line in lines] == ["dropped", "call_present"]
    assert stream.stale
    (watching, *_) = stream.begin(CallList((present(3, call_id="b"),), workers=2, complete=True))
    assert json.loads(watching)["calls"] == 1 and not stream.stale


def test_the_first_snapshot_says_whether_it_is_complete() -> None:
    stream = EventStream()
    (watching,) = stream.begin(CallList((), workers=2, complete=False))
    assert json.loads(watching)["complete"] is False and not stream.stale


def test_one_call_s_stream_knows_of_no_other() -> None:
    stream = begun(EventStream(call_id="a"), present(1))
    assert told(stream, event("caller_silent", 9, call_id="b"), event("caller_silent", 2)) == [("caller_silent", 2)]
    assert not stream.stale
    assert [stream.take_stock(["a", "b"], now) for now in (1.0, 2.0)] == [[], []]
    assert not stream.stale


def test_of_types_that_are_not_wanted_only_the_gaps_are_told() -> None:
    stream = begun(EventStream(types=frozenset({"call_ended"})), present(1))
    assert told(stream, event("caller_silent", 2)) == []
    assert told(stream, event("caller_silent", 4), event("call_ended", 5)) == [("dropped", 1, 2), ("call_ended", 5)]


def test_a_reader_that_is_slow_is_told_once_how_much_it_lost_and_gets_a_fresh_snapshot() -> None:
    stream = begun(EventStream(), present(1), present(1, call_id="b"))
    assert [json.loads(line) for line in stream.fall_behind(40)] == [{"type": "dropped", "count": 40}]
    assert told(stream, event("caller_silent", 20), event("caller_silent", 22)) == [
        ("caller_silent", 20),
        ("dropped", 1, 20),
        ("caller_silent", 22),
    ]
    assert stream.stale


def test_of_one_call_a_slow_reader_is_told_what_it_lost_of_that_call() -> None:
    stream = begun(EventStream(call_id="a"), present(1))
    assert stream.fall_behind(40) == []  # most of them were other calls'
    assert stream.stale
    assert told(stream, event("caller_silent", 3)) == [("dropped", 1, 1), ("caller_silent", 3)]


def test_a_call_that_nobody_told_of_is_asked_for_once_two_stocks_have_it() -> None:
    stream = begun(EventStream(), present(1))
    stream.take_stock(["a", "new"], 1.0)
    assert not stream.stale  # its start may be on its way
    stream.take_stock(["a", "new"], 11.0)
    assert stream.stale
    begun(stream, present(1), present(4, call_id="new"))
    for now in (21.0, 31.0):
        assert stream.take_stock(["a", "new"], now) == []
    assert not stream.stale


def test_a_call_that_went_without_a_word_has_an_end_once() -> None:
    stream = begun(EventStream(), present(6))
    assert stream.take_stock([], 100.0) == []
    (end,) = map(json.loads, stream.take_stock([], 110.0))
    assert (end["type"], end["ended_by"], end["seq"], end["epoch"]) == ("call_ended", "lost", 7, 1)
    assert stream.take_stock([], 120.0) == []


def test_a_stream_keeps_nothing_of_calls_that_are_over() -> None:
    stream = begun(EventStream(), *(present(1, call_id=f"p{number}") for number in range(50)))
    for number in range(50):
        stream.take(event("call_ended", 2, call_id=f"p{number}"))
        stream.take(event("call_started", 1, call_id=f"s{number}"))
        stream.take(event("call_ended", 2, call_id=f"s{number}"))
    assert not stream._roll._calls
