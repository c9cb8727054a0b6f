"""DTMF keys of one call, collected into entries: a number is one answer, not ten.

    waiting --key--> collecting --"#" | entry complete | 2 s without a key--> entry told --> full
    full --key--> full (typed ahead)        full --listen--> waiting | collecting

An entry is complete where no further key could be part of it: it is one of the node's own entries and the beginning of
no other, or a number with as many digits as are asked for. So a menu answers at once, and a number waits for `#` or
the gap.

Type-ahead: once an entry has been told, keys are kept until the dialogue listens again, and then are the next node's:
"1", "2" and an account number keyed in one go reach three nodes.

Odd cases: `#` with nothing before it is an entry of its own, but not within 2 s after one that was complete without
it; beyond 64 keys the oldest are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dialogue.loop import KeyEntries

__all__ = ["Keypad"]

_GAP_S = 2.0
_MAX_KEYS = 64


class Keypad:
    """`complete` is called with each entry, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, complete: Callable[[str], None]) -> None:
        self._loop = loop
        self._complete = complete
        self._keys = ""
        self._wanted = KeyEntries()
        self._full = False
        self._late_end_until = 0.0  # an entry was told before its "#" could come
        self._timer: asyncio.TimerHandle | None = None

    def press(self, key: str) -> None:
        """One key: 0-9, *, #, A-D."""
        late, self._late_end_until = self.is_late_end(key), 0.0
        if late:
            return
        self._keys = (self._keys + key)[-_MAX_KEYS:]
        self._collect()

    def is_late_end(self, key: str) -> bool:
        """Whether the key is the habitual `#` of an entry that was complete without it, and so means nothing."""
        return key == "#" and self._loop.time() < self._late_end_until

    def listen(self, wanted: KeyEntries) -> None:
        """The dialogue waits for its caller again; what was typed ahead is for this."""
        self._wanted = wanted
        self._full = False
        self._collect()

    def take(self) -> str:
        """The keys of an entry in the making, which goes on with spoken words; there is no longer one."""
        self.close()
        if self._full:
            return ""
        keys, self._keys = self._keys, ""
        return keys

    def put_back(self, keys: str) -> None:
        """Keys that were taken for words that came to nothing: they are the entry's beginning again."""
        self._keys = (keys + self._keys)[-_MAX_KEYS:]
        self._collect()

    def forget(self) -> None:
        """What was keyed was not for the dialogue; the next key is, where it listens."""
        self.close()
        self._keys, self._full, self._late_end_until = "", False, 0.0

    def close(self) -> None:
        """Forget the timer; keys pressed so far wait for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _collect(self) -> None:
        self.close()
        if not self._keys or self._full:
            return
        if length := self._entry_length():
            self._tell(length)
        else:
            self._timer = self._loop.call_later(_GAP_S, self._gap)

    def _entry_length(self) -> int:
        """How many of the keys are a complete entry; 0: none is yet."""
        for length in range(1, len(self._keys) + 1):
            if self._keys[length : length + 1] == "#" or self._is_complete(self._keys[:length]):
                return length
        return 0

    def _is_complete(self, keys: str) -> bool:
        if self._wanted.most_digits:
            return len(keys) == self._wanted.most_digits
        entries = self._wanted.entries
        return keys in entries and not any(other.startswith(keys) for other in entries if other != keys)

    def _gap(self) -> None:
        self._tell(len(self._keys))

    def _tell(self, length: int) -> None:
        self.close()
        entry, rest = self._keys[:length], self._keys[length:]
        self._keys = rest.removeprefix("#")
        self._full = True
        self._late_end_until = self._loop.time() + _GAP_S if rest == "" else 0.0
        self._complete(entry)
