"""Fitting what we say to a peer that wants audio in frames of one size, or wants none for a while.

Both keep the bot's audio on our side, where a clear drops it at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.protocols.seam import AudioMessage, WireMessage

__all__ = ["Backlog", "FrameCutter"]


class FrameCutter:
    """Audio of any size in, whole frames of `frame_bytes` out; the rest waits for more, or is padded.

    Frames of the right size pass through as they are, uncopied.
    """

    __slots__ = ("_carry", "_frame_bytes", "_silence")

    def __init__(self, frame_bytes: int, silence: bytes) -> None:
        """`silence` is one frame of it, in the call's encoding."""
        self._frame_bytes = frame_bytes
        self._silence = silence
        self._carry = b""

    def push(self, audio: bytes | memoryview) -> Sequence[bytes | memoryview]:
        """Whole frames, one message each."""
        size = self._frame_bytes
        if len(audio) == size and not self._carry:
            return (audio,)
        stream = self._carry + bytes(audio)
        whole = len(stream) - len(stream) % size
        self._carry = stream[whole:]
        return [stream[at : at + size] for at in range(0, whole, size)]

    def finish(self) -> bytes:
        """What waits, padded with silence to a whole frame; empty where nothing does."""
        carry, self._carry = self._carry, b""
        return carry + self._silence[len(carry) :] if carry else b""

    def drop(self) -> None:
        """Forget what waits."""
        self._carry = b""


class Backlog:
    """Messages for a peer that said "no more for now", in order.

    Bounded: beyond `limit_bytes` of audio the newest is dropped, since a peer that takes nothing for so long is gone.
    """

    __slots__ = ("_bytes", "_limit_bytes", "_messages", "closed")

    def __init__(self, limit_bytes: int) -> None:
        self.closed = False
        """The peer wants nothing now."""
        self._limit_bytes = limit_bytes
        self._messages: deque[WireMessage] = deque()
        self._bytes = 0

    @property
    def waiting(self) -> bool:
        """Whether messages must queue: the peer wants none, or older ones wait."""
        return self.closed or bool(self._messages)

    def put(self, messages: Sequence[AudioMessage]) -> None:
        """Queue messages behind those already there."""
        for message in messages:
            if self._bytes + len(message) <= self._limit_bytes:
                self._messages.append(message if isinstance(message, str) else bytes(message))
                self._bytes += len(message)

    def take(self, limit_bytes: int) -> tuple[WireMessage, ...]:
        """The oldest messages, of `limit_bytes` together at most."""
        taken: list[WireMessage] = []
        while self._messages and len(self._messages[0]) <= limit_bytes:
            message = self._messages.popleft()
            self._bytes -= len(message)
            limit_bytes -= len(message)
            taken.append(message)
        return tuple(taken)

    def drop(self) -> None:
        """Forget what waits; the peer's wish stays."""
        self._messages.clear()
        self._bytes = 0
