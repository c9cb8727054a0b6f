"""What is said of calls under which an inference worker died."""

from __future__ import annotations

import pytest

from bench.model_outages import judge
from gateway.replay.record import CallRecord, Point

pytestmark = pytest.mark.unit


def call(*replies: tuple[float, float], ended_by: str = "caller", faults: tuple[str, ...] = ()) -> CallRecord:
    points = tuple(Point("endpoint_to_reply_ms", at_s, ms) for at_s, ms in replies)
    return CallRecord(caller="anna", ended_by=ended_by, faults=faults, points=points)


def test_replies_are_told_apart_by_the_blow() -> None:
    found = judge([call((1.0, 3.0), (12.0, 4000.0)), call((9.0, 5.0), (13.0, 8.0))], struck_s=[10.0], until_s=50.0)
    assert (found.replies_before, found.replies_after, found.late_until_s) == (2, 2, 2.0)
    assert found.before["max"] == 5.0 and found.after["max"] == 4000.0
    assert found.kept and found.broken == {}


def test_each_late_reply_is_counted_from_the_last_blow() -> None:
    found = judge([call((1.0, 3.0), (13.0, 900.0), (31.0, 900.0))], struck_s=[10.0, 30.0], until_s=50.0)
    assert found.late_until_s == 3.0


def test_a_call_that_ended_breaks_it_and_one_that_was_not_answered_is_counted() -> None:
    patient = call((11.0, 5.0), faults=("no prompt within 12 s to yes.wav",))
    assert judge([patient], struck_s=[10.0], until_s=50.0).unanswered == 1
    over = judge([patient, call(ended_by="bot")], struck_s=[10.0], until_s=50.0)
    assert over.broken == {"bot": 1} and not over.kept
    assert not judge([call((1.0, 3.0))], struck_s=[10.0], until_s=50.0).kept, "nobody was answered again"
