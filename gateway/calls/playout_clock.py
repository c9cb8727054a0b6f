"""One clock per worker for all calls that are playing a prompt: a timer per call would cost 50 wake-ups a second each.

The clock runs only while somebody plays. A tick may be late by the loop's lag; each call's own times come from its
playout's anchor, so lateness is made up at the next tick and the lead (100 ms) hides it from the caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

__all__ = ["Player", "PlayoutClock"]

log = logging.getLogger(__name__)


class Player(Protocol):
    """Something with audio to send."""

    def playout_tick(self, now: float) -> bool:
        """Send what is due; False: nothing left, do not call again."""
        ...


class PlayoutClock:
    """Ticks every `tick_s` on the running loop. Times are `time.monotonic()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tick_s: float = 0.02) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._players: set[Player] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, player: Player) -> None:
        """Call `player` from the next tick on, until it says False."""
        self._players.add(player)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick, time.monotonic() + self._tick_s)

    def remove(self, player: Player) -> None:
        """Stop calling `player`."""
        self._players.discard(player)

    def _tick(self, due: float) -> None:
        now = time.monotonic()  # uvloop's own clock has whole milliseconds and stands still within a callback
        for player in tuple(self._players):  # a copy: a tick may add and remove players
            if player not in self._players:
                continue
            try:
                goes_on = player.playout_tick(now)
            except Exception:  # one call's fault must not silence the others
                log.exception("a call's playout failed; it is silent from here")
                goes_on = False
            if not goes_on:
                self._players.discard(player)
        if not self._players:
            self._timer = None
            return
        next_due = due + self._tick_s
        if next_due < now:  # the loop stalled: start a new grid rather than catch up tick by tick
            next_due = now + self._tick_s
        self._timer = self._loop.call_later(next_due - now, self._tick, next_due)
