"""Callers for any of the peers: every call's 20 ms frames at real time, and when each was sent.

One process for all calls, kept on a core of its own; how late it was itself is in the figures, so that a client that
cannot keep up is not taken for a server that cannot.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field

import numpy as np

from audio.formats import Pcm16
from bench.frame_path import FRAME_S, Line, connect, linear

__all__ = ["Callers"]

GROUPS = 20  # of calls, spread over the 20 ms
DRAIN_TICKS = 5
SOUND = 103  # -50 dBFS
PATIENCE_S = 10.0


@dataclass(slots=True)
class Waiting:
    """A call that has heard nothing yet."""

    sock: socket.socket
    since: float
    data: bytes = b""


@dataclass(slots=True)
class Callers:
    """All calls to one server. `pcm` is what each says, again and again, from a place of its own."""

    port: int
    path: str
    """Of a call's request; `{}` is its number."""
    pcm: Pcm16
    sent_at: dict[tuple[int, int], float] = field(default_factory=dict)
    """When a frame of a call was sent: (call, frame) to monotonic seconds. Emptied by who reads it."""
    first_utterance_ms: list[float] = field(default_factory=list)
    """From a call's 101 to the first sound it heard."""
    sent: int = 0
    late_s: float = 0.0
    """How late the last `feed` was at its worst."""
    _sockets: list[socket.socket] = field(default_factory=list)
    _frames_sent: list[int] = field(default_factory=list)
    _messages: list[bytes] = field(default_factory=list)
    _waiting: dict[int, Waiting] = field(default_factory=dict)
    _poll: select.epoll = field(default_factory=select.epoll)

    def __post_init__(self) -> None:
        self._messages = linear(self.pcm)

    def __len__(self) -> int:
        return len(self._sockets)

    def grow(self, calls: int) -> None:
        """Connect until there are so many, one after the other: servers number them as they come."""
        while len(self._sockets) < calls:
            sock = connect(self.port, Line(self.path.format(len(self._sockets)), (), linear))
            self._waiting[sock.fileno()] = Waiting(sock, time.monotonic())
            self._poll.register(sock, select.EPOLLIN)
            self._sockets.append(sock)
            self._frames_sent.append(0)
            if len(self._sockets) % 10 == 0:  # nobody is without audio for long while others connect
                self.feed(FRAME_S)

    def feed(self, seconds: float) -> None:
        """Send every call's frames for so long."""
        calls, total = len(self._sockets), len(self._messages)
        size = max(1, -(-calls // GROUPS))
        begun = time.monotonic()
        self.late_s = 0.0
        for tick in range(round(seconds / FRAME_S)):
            for first in range(0, calls, size):
                wait = begun + (tick + first / calls) * FRAME_S - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                else:
                    self.late_s = max(self.late_s, -wait)
                for call in range(first, min(first + size, calls)):
                    frame = self._frames_sent[call]
                    self.sent_at[call, frame] = time.monotonic()
                    try:
                        self._sockets[call].send(self._messages[(frame + call * 7) % total])
                    except BlockingIOError:
                        continue  # its buffer is full: the server is far behind, and the delays say so
                    self._frames_sent[call] = frame + 1
                    self.sent += 1
                if self._waiting:
                    self._listen()
            if tick % DRAIN_TICKS == 0:
                self._drain()

    def wait_for_words(self) -> None:
        """Until every call has heard its first sound, or `PATIENCE_S`."""
        until = time.monotonic() + PATIENCE_S
        while self._waiting and time.monotonic() < until:
            self.feed(FRAME_S)

    def close(self) -> None:
        """Hang up."""
        for sock in self._sockets:
            sock.close()
        self._poll.close()

    def _listen(self) -> None:
        """Has somebody heard the bot for the first time?"""
        for fileno, _ in self._poll.poll(0):
            waiting = self._waiting[fileno]
            waiting.data += waiting.sock.recv(1 << 16)
            if holds_sound(waiting.data):
                self.first_utterance_ms.append((time.monotonic() - waiting.since) * 1000)
                self._poll.unregister(fileno)
                del self._waiting[fileno]

    def _drain(self) -> None:
        """Throw the bots' audio away, so that nobody is cut off for not reading."""
        for sock in self._sockets:
            if sock.fileno() not in self._waiting:
                try:
                    while len(sock.recv(1 << 16)) == 1 << 16:
                        pass
                except BlockingIOError:
                    pass


def holds_sound(stream: bytes) -> bool:
    """Whether the server's messages so far hold a sample above -50 dBFS (RFC 6455 section 5.2, unmasked)."""
    at = 0
    while at + 2 <= len(stream):
        length, body = stream[at + 1] & 0x7F, at + 2
        if length == 126:
            length, body = int.from_bytes(stream[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, body = int.from_bytes(stream[at + 2 : at + 10], "big"), at + 10
        if stream[at] & 0x0F == 0x2:
            pcm = np.frombuffer(stream[body : body + length][: (len(stream) - body) // 2 * 2], "<i2")
            if len(pcm) and int(np.abs(pcm.astype(np.int32)).max()) > SOUND:
                return True
        at = body + length
    return False
