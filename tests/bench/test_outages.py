"""The outage bench, small: the worker is killed under eight calls, and every one goes on."""

from __future__ import annotations

import pytest

from bench.outages import Tally, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_eight_calls_outlive_their_worker_and_repeat_nothing() -> None:
    tally = await run("worker", calls=8, seconds=0, steps=6)
    assert tally.lost == []
    assert (tally.went_on, tally.greeted_again, tally.acts_repeated, tally.acts_missing) == (8, 0, 0, 0)
    assert tally.reconnects >= 8 and tally.acts == 16
    assert tally.kept


@pytest.mark.unit
def test_what_breaks_the_promise() -> None:
    assert Tally(1, went_on=1).kept
    assert not Tally(1, lost=["outage-0: not over at q3, 3 turns"]).kept
    assert not Tally(1, acts_repeated=1).kept
    assert Tally(2, before_ms=[4.0, 6.0]).figures()["reply_ms_p50_before"] == 5.0
