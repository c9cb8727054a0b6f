"""Flooding, counted in bytes: a stall and its burst are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.calls.flood import FloodGuard

pytestmark = pytest.mark.unit

RATE = 16_000


def guard() -> FloodGuard:
    return FloodGuard(bytes_per_s=RATE, ahead_s=5)


def test_real_time_is_never_a_flood() -> None:
    flood = guard()
    assert all(flood.count(320, 100 + n * 0.02) for n in range(50 * 600))


def test_a_stall_of_any_length_may_be_made_up_in_one_burst() -> None:
    flood = guard()
    assert flood.count(320, 0)
    assert flood.count(RATE * 60, 60)


def test_the_limit_is_met_to_the_byte() -> None:
    flood = guard()
    assert flood.count(RATE * 5, 0)
    assert not flood.count(1, 0)


@pytest.mark.parametrize(("speed", "caught_after_s"), [(2, 5), (1.1, 50), (100, 0.05)])
def test_a_peer_faster_than_time_is_caught_once_it_is_that_far_ahead(speed: float, caught_after_s: float) -> None:
    flood = guard()
    n = 0
    while flood.count(320, n * 0.02 / speed):
        n += 1
        assert n < 100_000
    assert n * 0.02 / speed == pytest.approx(caught_after_s, rel=0.05, abs=0.02)


def test_silence_before_the_first_byte_earns_nothing() -> None:
    flood = guard()
    assert flood.count(0, 0)
    assert flood.count(320, 1000)
    assert not flood.count(RATE * 6, 1000)


@given(st.lists(st.tuples(st.integers(0, 40_000), st.floats(0, 2)), max_size=60))
def test_the_saved_look_at_the_clock_changes_no_verdict_that_counts(steps: list[tuple[int, float]]) -> None:
    """Never a flood where an exact count sees none; a flood at the latest when the exact count is at its limit."""
    flood = guard()
    now, total, since = 50.0, 0, None
    for n_bytes, pause_s in steps:
        now += pause_s
        total += n_bytes
        if since is None and n_bytes:
            since = now
        verdict = flood.count(n_bytes, now)
        allowed = (now - (since if since is not None else now) + 5) * RATE
        if total <= allowed - 1:
            assert verdict
        if total > allowed + 1:
            assert not verdict
            return
