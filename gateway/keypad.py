"""DTMF keys of one call, collected into entries: a number is one answer, not ten.

    empty --key--> collecting --"#" | 2 s without a key--> entry told --> empty

Odd cases: `#` with nothing before it is an entry of its own; beyond 64 keys the oldest are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Keypad"]

_GAP_S = 2.0
_MAX_KEYS = 64


class Keypad:
    """`complete` is called with each entry, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, complete: Callable[[str], None]) -> None:
        self._loop = loop
        self._complete = complete
        self._keys = ""
        self._timer: asyncio.TimerHandle | None = None

    def press(self, key: str) -> None:
        """One key: 0-9, *, #, A-D."""
        self.close()
        if key == "#" and self._keys:
            self._tell()
            return
        self._keys = (self._keys + key)[-_MAX_KEYS:]
        self._timer = self._loop.call_later(_GAP_S, self._tell)

    def close(self) -> None:
        """Forget the timer; keys pressed so far wait for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self.close()
        keys, self._keys = self._keys, ""
        self._complete(keys)
