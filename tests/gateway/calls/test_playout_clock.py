"""The clock that all calls of a worker share: it runs while somebody plays, and one's fault is one's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.calls.playout_clock import PlayoutClock

pytestmark = pytest.mark.unit


class Player:
    """Plays for so many ticks; `act` is done at each."""

    def __init__(self, ticks: int, act: Callable[[Player], None] = lambda player: None) -> None:
        self.left = ticks
        self.at: list[float] = []
        self._act = act

    def playout_tick(self, now: float) -> bool:
        self.at.append(now)
        self.left -= 1
        self._act(self)
        return self.left > 0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def clock() -> PlayoutClock:
    return PlayoutClock(asyncio.get_running_loop(), tick_s=0.005)


async def test_a_player_is_called_until_it_says_that_it_is_done_and_then_the_clock_stands() -> None:
    ticking = clock()
    player = Player(5)
    ticking.add(player)
    await until(lambda: ticking._timer is None)
    assert len(player.at) == 5
    assert player.at == sorted(player.at)
    again = Player(2)
    ticking.add(again)
    ticking.add(again)  # twice is once
    await until(lambda: ticking._timer is None)
    assert (len(again.at), len(player.at)) == (2, 5)


async def test_after_a_stall_the_grid_begins_anew() -> None:
    ticking = clock()
    player = Player(3, lambda self: time.sleep(0.03) if self.left == 2 else None)
    ticking.add(player)
    await until(lambda: ticking._timer is None)
    assert player.at[1] - player.at[0] >= 0.03
    assert player.at[2] - player.at[1] >= 0.004, "missed ticks are not made up one by one"


async def test_players_may_come_and_go_within_a_tick() -> None:
    ticking = clock()
    late = Player(1)
    gone = Player(1000)
    ticking.add(Player(1, lambda self: ticking.add(late)))
    ticking.add(Player(1, lambda self: ticking.remove(gone)))
    ticking.add(gone)
    await until(lambda: ticking._timer is None)
    assert len(late.at) == 1
    assert len(gone.at) <= 1
    ticking.remove(gone)


async def test_one_that_fails_is_dropped_and_the_others_play_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail(player: Player) -> None:
        raise RuntimeError("broken call")

    ticking = clock()
    broken, fine = Player(5, fail), Player(5)
    ticking.add(broken)
    ticking.add(fine)
    await until(lambda: ticking._timer is None)
    assert (len(broken.at), len(fine.at)) == (1, 5)
    assert "broken call" in caplog.text
    after = Player(1)
    ticking.add(after)
    await until(lambda: after.at)
