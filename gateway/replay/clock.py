"""One clock for all lines of a client process: a timer per call would cost fifty wake-ups a second each.

Each line keeps its own 20 ms, so that a thousand calls do not all speak in the same millisecond.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["FrameClock", "Talker"]

_GRAIN_S: Final = 0.001
"""What uvloop's timers can tell apart; lines due within it are served together."""


class Talker(Protocol):
    """Something that sends when it is due."""

    def talk(self, now: float) -> float | None:
        """Send; when to call again, in monotonic seconds. None: nothing was sent, and nothing more will be."""
        ...


class FrameClock:
    """On the running loop. Lateness is counted for every message, as its talker wanted it."""

    def __init__(self, on_sent: Callable[[float], None]) -> None:
        """`on_sent` is told how many seconds late each message went out."""
        self._loop = asyncio.get_running_loop()
        self._on_sent = on_sent
        self._due: list[tuple[float, int, Talker]] = []
        self._added = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def add(self, talker: Talker, due: float) -> None:
        """Call `talker` at `due`, and then when it says."""
        self._added += 1  # unique, so that talkers are never compared
        heapq.heappush(self._due, (due, self._added, talker))
        self._arm()

    def _arm(self) -> None:
        if not self._due:
            return
        at = self._due[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        until = time.monotonic() + _GRAIN_S / 2
        while self._due and self._due[0][0] <= until:
            due, number, talker = self._due[0]
            now = time.monotonic()
            following = talker.talk(now)
            if following is None:
                heapq.heappop(self._due)
                continue
            self._on_sent(now - due)
            heapq.heapreplace(self._due, (following, number, talker))
        self._arm()
