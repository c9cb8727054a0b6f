"""A clock that is set ahead by mistake erases nothing; one that is right in the end is followed."""

from __future__ import annotations

import pytest

from gateway.monitoring.believed_clock import BelievedClock

pytestmark = pytest.mark.unit

BEGUN = 1_795_000_000.0
HOUR_S, DAY_S = 3600.0, 86_400.0


def test_it_runs_on_with_the_wall_clock_and_with_what_is_set_by_little() -> None:
    clock = BelievedClock(BEGUN, 100.0)
    assert clock.time(BEGUN + 600, 700.0) == BEGUN + 600
    assert clock.time(BEGUN + 1200 + 59, 1300.0) == BEGUN + 1259
    assert clock.time(BEGUN + 1800 + 118, 1900.0) == BEGUN + 1918, "a minute at a time is no jump"


def test_one_that_is_set_ahead_and_back_again_was_never_believed() -> None:
    clock = BelievedClock(BEGUN, 0.0)
    for now in (600.0, 1200.0, 20 * HOUR_S):
        assert clock.time(BEGUN + 400 * DAY_S + now, now) == BEGUN + now
    assert clock.time(BEGUN + 21 * HOUR_S, 21 * HOUR_S) == BEGUN + 21 * HOUR_S
    assert clock.time(BEGUN + HOUR_S + 30 * HOUR_S, 30 * HOUR_S) == BEGUN + 30 * HOUR_S, "doubted anew, for a day"


def test_one_that_stays_ahead_is_believed_after_a_day() -> None:
    clock = BelievedClock(BEGUN, 0.0)
    assert clock.time(BEGUN + 400 * DAY_S, 0.0) == BEGUN
    assert clock.time(BEGUN + 401 * DAY_S - 1, DAY_S - 1) == BEGUN + DAY_S - 1
    assert clock.time(BEGUN + 401 * DAY_S, DAY_S) == BEGUN + 401 * DAY_S
    assert clock.time(BEGUN + 401 * DAY_S + 600, DAY_S + 600) == BEGUN + 401 * DAY_S + 600


def test_one_that_is_set_back_is_believed_at_once() -> None:
    clock = BelievedClock(BEGUN, 0.0)
    assert clock.time(BEGUN - 2 * HOUR_S, 10.0) == BEGUN - 2 * HOUR_S
    assert clock.time(BEGUN - 2 * HOUR_S + 600, 610.0) == BEGUN - 2 * HOUR_S + 600
