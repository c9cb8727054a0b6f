"""Calls that went without a word are told, once, and none that is there."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.monitoring.events import CallEnded
from gateway.monitoring.roll import CallRoll

pytestmark = pytest.mark.unit


def event(kind: str, call_id: str, *, time: float = 100.0, seq: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": call_id, "seq": seq, "epoch": 1, "at_ms": 40, "time": time, **fields}


def test_a_call_that_is_missing_twice_has_ended() -> None:
    roll = CallRoll()
    roll.take(event("call_started", "a"))
    roll.take(event("turn_heard", "a", seq=2, supersedes=None))
    roll.take(event("turn_heard", "a", seq=3, supersedes=1))
    roll.present(event("call_present", "b", started_at=50.0, turns=4))
    assert roll.take_stock(["b"], 110.0) == []
    (end,) = roll.take_stock(["b"], 120.0)
    assert end.event == CallEnded(ended_by="lost", disposition=None, duration_s=20.0, turns=1)
    assert (end.call_id, end.seq, end.at_ms, end.time) == ("a", 4, 40, 120.0)
    assert roll.take_stock(["b"], 130.0) == []
    assert roll.take_stock([], 140.0) == []
    (end,) = roll.take_stock([], 150.0)
    assert isinstance(end.event, CallEnded) and (end.event.duration_s, end.event.turns) == (100.0, 4)


def test_a_call_whose_worker_had_a_clock_ahead_lasted_no_less_than_nothing() -> None:
    roll = CallRoll()
    roll.take(event("call_started", "a", time=3700.0))
    assert roll.take_stock([], 110.0) == []
    (end,) = roll.take_stock([], 120.0)
    assert isinstance(end.event, CallEnded) and end.event.duration_s == 0.0


def test_a_call_that_begins_while_stock_is_taken_or_has_ended_by_itself_is_not_told() -> None:
    roll = CallRoll()
    roll.take(event("call_started", "new"))
    assert roll.take_stock([], 101.0) == []  # it began behind the counting
    assert roll.take_stock(["new"], 111.0) == []
    assert roll.take_stock([], 121.0) == []
    roll.take(event("call_ended", "new", seq=2))
    assert roll.take_stock([], 131.0) == []
