"""Is a peer sending audio faster than it can be spoken? Counted in bytes: a stall and its burst are no flood."""

from __future__ import annotations

__all__ = ["FloodGuard"]


class FloodGuard:
    """Audio may run `ahead_s` ahead of the wall clock, measured from the first byte.

    `count` costs a subtraction until the allowance granted at its last look at the clock is used up.
    """

    __slots__ = ("_ahead_s", "_allowed", "_bytes_per_s", "_left", "_since")

    def __init__(self, *, bytes_per_s: int, ahead_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._ahead_s = ahead_s
        self._since: float | None = None
        self._allowed = 0
        self._left = 0

    def count(self, n_bytes: int, now: float) -> bool:
        """Take `n_bytes` that came at `now` (monotonic seconds); False: the peer is flooding."""
        self._left -= n_bytes
        if self._left >= 0:
            return True
        if self._since is None:
            self._since = now
        used = self._allowed - self._left
        self._allowed = int((now - self._since + self._ahead_s) * self._bytes_per_s)
        self._left = self._allowed - used
        return self._left >= 0
