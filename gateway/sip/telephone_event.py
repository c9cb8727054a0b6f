"""Keys in RTP (telephone-event): one key out of the many packets that it takes.

    idle --packet--> held --E bit | next key | 250 ms without a packet--> idle, the key is told

All packets of one key carry the same timestamp, which tells `11` from one `1` whose packets were repeated. The end is
sent three times, and may be lost three times. Recorded keys, as SIPp plays them, may share one timestamp: another key
is another key all the same.

Source: RFC 4733 sections 2.3, 2.5.1 and 3.2.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["KeyReader"]

_KEYS: Final = "0123456789*#ABCD"
_END: Final = 0x80
_GONE_S: Final = 0.25


class KeyReader:
    """One stream's keys."""

    def __init__(self) -> None:
        self._held: tuple[int, str] | None = None
        """Timestamp and key."""
        self._heard_at = 0.0
        self._told: deque[tuple[int, str]] = deque(maxlen=8)

    def push(self, timestamp: int, payload: bytes, now: float) -> str:
        """One packet; the keys that are complete with it, as a rule none or one."""
        if len(payload) < 4 or payload[0] >= len(_KEYS):
            return ""
        key = (timestamp, _KEYS[payload[0]])
        if key in self._told:
            return ""
        done = self._release() if self._held != key else ""
        self._held, self._heard_at = key, now
        return done + self._release() if payload[1] & _END else done

    def overdue(self, now: float) -> str:
        """A key whose end was lost."""
        return self._release() if now - self._heard_at > _GONE_S else ""

    def _release(self) -> str:
        if self._held is None:
            return ""
        told, self._held = self._held, None
        self._told.append(told)
        return told[1]
