"""When a worker's garbage collector goes through all that the worker keeps: at moments that are worth it.

Left to itself, CPython does so whenever that has grown by a quarter: several times while a worker fills with calls,
though nothing of theirs is garbage, and every few seconds while calls come and go. Each time all calls stand still, for
0.07 ms a call (docs/performance.md). What makes garbage in a worker is a connection that is gone, whose objects point
at each other. So collections of the young go on as ever, and a full one is due

- when as many connections are gone since the last one as calls are open: half of what it looks at is garbage;
- when some are gone and no call is open, who could notice;
- after `_AT_LEAST_EVERY_S`, whatever there is.
"""

from __future__ import annotations

import gc

__all__ = ["FullCollections"]

_WORTH_IT = 200
"""Connections gone, 8 MB of garbage at most: for fewer no call is stopped."""
_WHILE_IDLE = 20
_AT_LEAST_EVERY_S = 600.0
_NEVER = 1 << 30


class FullCollections:
    """Decides for one process, whose collector no longer does so from here on. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        young, middle, _ = gc.get_threshold()
        gc.collect()
        # What exists now lives as long as we do: keep the collector from walking it in the middle of calls.
        gc.freeze()
        gc.set_threshold(young, middle, _NEVER)
        self._last_at = now
        self._gone_before = 0

    def look(self, now: float, *, connections: int, calls: int) -> bool:
        """Collect if it is due, and say whether it was.

        Args:
            connections: made so far.
            calls: open now.
        """
        gone = connections - calls - self._gone_before
        worth_it = gone >= max(_WORTH_IT, calls)
        unnoticed = not calls and gone >= _WHILE_IDLE
        if not worth_it and not unnoticed and now - self._last_at < _AT_LEAST_EVERY_S:
            return False
        gc.collect()
        self._last_at = now
        self._gone_before += gone
        return True
