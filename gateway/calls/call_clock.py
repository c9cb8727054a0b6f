"""What time it is, for one call: the wall clock as it was when the call began, and from then on the monotonic one.

So a wall clock that is set during a call moves neither its length nor the places of its events in its recording. All
that a connection tells of its call is by this one clock; another call, or the same one on another connection, has its
own.
"""

from __future__ import annotations

import time

__all__ = ["CallClock"]


class CallClock:
    """Made with the call; called, it gives seconds since the epoch."""

    __slots__ = ("_ahead_s",)

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._ahead_s
