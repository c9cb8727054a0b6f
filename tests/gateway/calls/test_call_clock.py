"""A call's time, while the wall clock is set: an hour ahead, two back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dialogue.codec import decode_state
from gateway.calls.call_clock import CallClock
from gateway.monitoring.events import CallEnded
from tests.gateway.harness import rig, silence, speech
from tests.gateway.monitoring.test_call_watch import Collected

pytestmark = pytest.mark.unit


class WallClock:
    """`time.time`, which may be set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        real = time.time
        patch.setattr(time, "time", lambda: real() + self.ahead_s)


@pytest.mark.parametrize("ahead_s", [3600.0, -7200.0])
def test_it_goes_on_where_it_was_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    wall = WallClock(monkeypatch)
    clock = CallClock()
    begun = clock()
    assert begun == pytest.approx(time.time(), abs=5)
    wall.ahead_s = ahead_s
    assert 0 <= clock() - begun < 60
    assert CallClock()() == pytest.approx(begun + ahead_s, abs=60)


@pytest.mark.parametrize("ahead_s", [3600.0, -7200.0])
async def test_all_that_is_told_of_a_call_is_by_its_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    """Its events, and the state that its record is made of."""
    wall = WallClock(monkeypatch)
    async with rig(tmp_path) as at:
        with at.services.bus.subscribe() as subscription:
            got = Collected(subscription)
            peer = await at.peer(start={"call_id": "set"})
            await peer.event("prompt", timeout_s=20)
            (session,) = at.worker.sessions
            wall.ahead_s = ahead_s
            await peer.send(speech())
            await peer.send(silence(1500))
            await peer.closed(timeout_s=20)
            await at.no_calls(20)
            await got.first(CallEnded)
        times = [one.time for one in got.all]
        assert times == sorted(times) and times[-1] - times[0] < 60
        claim = await at.services.store.claim("set", owner=None)
        assert claim.body is not None
        state = decode_state(claim.body)
        assert 0 < state.ended_at - state.started_at < 60
        assert session.watch.clock() - state.started_at < 60
