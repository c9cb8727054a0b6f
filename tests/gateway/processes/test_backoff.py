"""Pauses before what died is started again."""

from __future__ import annotations

import pytest

from gateway.processes.backoff import Backoff

pytestmark = pytest.mark.unit


def test_pauses_double_up_to_the_cap_and_stay_there() -> None:
    backoff = Backoff(longest_s=3.0)
    assert [backoff.died(0.5) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


def test_who_had_run_for_half_a_minute_is_started_again_at_once_and_begins_anew() -> None:
    backoff = Backoff(longest_s=30.0)
    assert [backoff.died(ran_s) for ran_s in (1.0, 1.0, 30.0, 1.0)] == [0.1, 0.2, 0.0, 0.1]


def test_a_process_that_dies_for_a_month_overflows_nothing() -> None:
    backoff = Backoff(longest_s=30.0)
    assert {backoff.died(0.1) for _ in range(100_000)} <= {30.0} | {0.1 * 2**n for n in range(9)}
