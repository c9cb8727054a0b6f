"""The wall clock for what cannot be undone: one that is set ahead is believed a day later, if it still says so then.

    follows --is ahead of what was reckoned by more than a minute--> doubted --back, or for a day--> follows

Set back it is believed at once: what is erased later than it might be is no harm. Pure.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BelievedClock"]

_SLACK_S: Final = 60.0
"""A clock that is slewed, or was set by so little, is followed."""
_DOUBTED_S: Final = 86_400.0


class BelievedClock:
    """One process's, which begins by believing. Times of the wall clock are seconds since the epoch."""

    def __init__(self, wall: float, now: float) -> None:
        """`now` is monotonic, in seconds, as below."""
        self._ahead_s = wall - now
        self._doubted_since: float | None = None

    def time(self, wall: float, now: float) -> float:
        """What time it is, as far as that is believed; to be asked now and then."""
        if wall - now - self._ahead_s > _SLACK_S:
            self._doubted_since = now if self._doubted_since is None else self._doubted_since
            if now - self._doubted_since < _DOUBTED_S:
                return now + self._ahead_s
        self._ahead_s, self._doubted_since = wall - now, None
        return wall
