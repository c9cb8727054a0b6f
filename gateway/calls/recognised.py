"""A connection whose path does not say what it speaks: its first message does.

    undecided --text--> decided        undecided --200 ms after the first audio | 2 s of audio | 2 s--> decided (native)

Audio says nothing and is kept until a text comes: FreeSWITCH's module and some of Asterisk's send theirs first. No
peer says anything before our 101 has reached it, and its word takes as long to come back: so what decides is the time
since its first message, and of that the round trip it took is allowed once more, since a text behind much audio may
want a second one. A peer that says nothing at all waits for the greeting as only our own protocol's do, but so it looks
with any of them on a slow line: it is waited for 2 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.calls.dialects import NATIVE, Dialect, recognise
from gateway.calls.websocket import Connection, Receiver

__all__ = ["RecognisedReceiver"]

_TEXT_BEHIND_AUDIO_S: Final = 0.2
_DECIDE_S: Final = 2.0
_MAX_KEPT_BYTES: Final = 128_000


class RecognisedReceiver:
    """Implements `gateway.calls.websocket.Receiver` and hands everything on to the receiver of the dialect it finds."""

    subprotocol: str | None = None

    def __init__(self, make: Callable[[Dialect], Receiver]) -> None:
        self._make = make
        self._receiver: Receiver | None = None
        self._connection: Connection | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._opened_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_opened(self, connection: Connection) -> None:
        """The 101 is out."""
        self._connection = connection
        self._opened_at = time.monotonic()
        self._decide_in(_DECIDE_S)

    def message_received(self, message: str | bytes) -> None:
        """One message of the peer."""
        if self._receiver is None:
            dialect = recognise(message)
            if isinstance(message, bytes):
                self._keep(message)
                return
            self._decide(dialect or NATIVE)
        if self._receiver is not None:
            self._receiver.message_received(message)

    def connection_closed(self, code: int, reason: str) -> None:
        """Nothing more can be sent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._receiver is not None:
            self._receiver.connection_closed(code, reason)

    def _keep(self, audio: bytes) -> None:
        if not self._kept:
            took_s = time.monotonic() - self._opened_at
            self._decide_in(min(took_s + _TEXT_BEHIND_AUDIO_S, _DECIDE_S - took_s))
        self._kept.append(audio)
        self._kept_bytes += len(audio) + 1  # empty ones count too
        if self._kept_bytes > _MAX_KEPT_BYTES:
            self._decide(NATIVE)

    def _decide_in(self, s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, s), self._decide, NATIVE)

    def _decide(self, dialect: Dialect) -> None:
        assert self._connection is not None and self._receiver is None
        if self._timer is not None:
            self._timer.cancel()
        self._receiver = self._make(dialect)
        self._receiver.connection_opened(self._connection)
        for message in self._kept:
            self._receiver.message_received(message)
        self._kept.clear()
