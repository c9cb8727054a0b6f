"""A connection whose path does not say what it speaks: its first message does.

    undecided --text--> decided        undecided --200 ms | 2 s of audio--> decided (native)

Audio says nothing and is kept until a text comes: FreeSWITCH's module and some of Asterisk's send theirs first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.calls.dialects import NATIVE, Dialect, recognise
from gateway.calls.websocket import Connection, Receiver

__all__ = ["RecognisedReceiver"]

_DECIDE_S: Final = 0.2
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
        self._timer: asyncio.TimerHandle | None = None

    def connection_opened(self, connection: Connection) -> None:
        """The 101 is out."""
        self._connection = connection
        self._timer = asyncio.get_running_loop().call_later(_DECIDE_S, self._decide, NATIVE)

    def message_received(self, message: str | bytes) -> None:
        """One message of the peer."""
        if self._receiver is None:
            dialect = recognise(message)
            if isinstance(message, bytes):
                self._kept.append(message)
                self._kept_bytes += len(message) + 1  # empty ones count too
                if self._kept_bytes > _MAX_KEPT_BYTES:
                    self._decide(NATIVE)
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

    def _decide(self, dialect: Dialect) -> None:
        assert self._connection is not None and self._receiver is None
        if self._timer is not None:
            self._timer.cancel()
        self._receiver = self._make(dialect)
        self._receiver.connection_opened(self._connection)
        for message in self._kept:
            self._receiver.message_received(message)
        self._kept.clear()
