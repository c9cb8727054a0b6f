"""The line between `serve` and each process that it started: signs of life one way, orders the other.

A socket pair, made before the child was, whose other end the child inherits. JSON, a message a line:

    child -> serve    {"calls": 3}                                       a beat; the first one says: I serve now
                      {"ask": 7, "what": "drain", ...}                   of the control plane alone
    serve -> child    {"drain": "hand_over", "deadline_s": 3660.0}
                      {"answer": 7, "ok": {...}}   or   {"answer": 7, "fault": "conflict", "message": "..."}

Beats come from the child's event loop, so a process that exists and does nothing any more sends none. How long that may
last, `serve` decides (settings `supervision.*`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway import background

__all__ = ["Asked", "ChildLine", "DrainOrder", "Handover", "Lifeline", "SupervisionError"]

BEAT_S: Final = 0.5
_ASK_S: Final = 10.0
_MAX_LINE_BYTES: Final = 1024 * 1024  # 256 workers, listed
_MAX_UNSENT_BYTES: Final = 64 * 1024  # more than that nobody reads: `serve` is stopped, and beats are worth nothing

_Message = dict[str, Any]  # a decoded line; goes no further than this file and what answers the asking


class SupervisionError(Exception):
    """`serve` will not do what it was asked; nothing has changed. `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Handover(StrEnum):
    """What becomes of connections that come while a worker drains."""

    HAND_OVER = "hand_over"
    """A successor listens on the same socket already; this worker just stops listening."""
    CLOSE = "close"
    """Other workers are to have them: what waits in this one's queue is still taken, then its socket goes."""
    REFUSE = "refuse"
    """The gateway goes down: they are answered 503 with Retry-After, as long as any of its workers has a call. SIGTERM
    follows then."""


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """Take no new calls, let those in progress end, and then end."""

    how: Handover
    deadline_s: float
    """Calls that still go on then are closed with 1001."""


Asked = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers what a child asks: the question's name and its fields. May raise SupervisionError."""


class Lifeline:
    """The child's end. Use as an async context; call `serving` when the process does what it is there for."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._drain: asyncio.Future[DrainOrder]
        self._asked: dict[int, asyncio.Future[_Message]] = {}
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Lifeline:
        self._drain = asyncio.get_running_loop().create_future()
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=_MAX_LINE_BYTES)
        self._tasks.append(asyncio.create_task(self._read(reader), name="orders of serve"))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        self._drain.cancel()
        assert self._writer is not None
        self._writer.close()

    def serving(self, calls: Callable[[], int] = lambda: 0, *, alive: Callable[[], bool] = lambda: True) -> None:
        """Tell `serve` that this process is up, now and from now on.

        Args:
            calls: how many are in progress.
            alive: False holds the beat back: what the process is for hangs, though its loop does not.
        """
        self._tasks.append(asyncio.create_task(self._beat(calls, alive), name="beats"))

    async def drain_ordered(self) -> DrainOrder:
        """Until this process shall drain."""
        return await asyncio.shield(self._drain)

    async def drain_or(self, stop: asyncio.Event) -> DrainOrder | None:
        """Until this process shall drain, or `stop` is set; then None."""
        stopped = asyncio.create_task(stop.wait())
        either: list[asyncio.Future[Any]] = [stopped, self._drain]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await background.stop([stopped])
        return None if stop.is_set() else self._drain.result()

    async def ask(self, what: str, **more: object) -> Mapping[str, Any]:
        """Have `serve` do something.

        Raises:
            SupervisionError: it will not, or does not answer.
        """
        ident = next(self._ids)
        answer = self._asked[ident] = asyncio.get_running_loop().create_future()
        try:
            self._send({"ask": ident, "what": what, **more})
            async with asyncio.timeout(_ASK_S):
                message = await answer
        except TimeoutError:
            raise SupervisionError("no_answer", f"`serve` does not answer within {_ASK_S:g} s; its log tells") from None
        finally:
            del self._asked[ident]
        if "fault" in message:
            raise SupervisionError(message["fault"], message["message"])
        ok: Mapping[str, Any] = message["ok"]
        return ok

    async def _beat(self, calls: Callable[[], int], alive: Callable[[], bool]) -> None:
        while True:
            if alive():
                self._send({"calls": calls()})
            await asyncio.sleep(BEAT_S)

    def _send(self, message: _Message) -> None:
        assert self._writer is not None
        if self._writer.transport.get_write_buffer_size() < _MAX_UNSENT_BYTES:
            self._writer.write(_line(message))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message: _Message = json.loads(line)
            if "drain" in message:
                if not self._drain.done():
                    self._drain.set_result(DrainOrder(Handover(message["drain"]), message["deadline_s"]))
            elif (answer := self._asked.get(message["answer"])) is not None and not answer.done():
                answer.set_result(message)


class ChildLine:
    """`serve`'s end of one child's line."""

    def __init__(self, asked: Asked | None = None) -> None:
        """`asked` answers what the child asks; None: this one has nothing to ask."""
        self._asked = asked
        self._writer: asyncio.StreamWriter | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self.beats = 0
        self.calls = 0
        self.up = asyncio.Event()
        """Set with the first beat."""
        self.heard = asyncio.Event()
        """Set with each; who waits for the next clears it."""

    async def listen(self, sock: socket.socket) -> None:
        """Hear the child until its end is closed."""
        reader, self._writer = await asyncio.open_connection(sock=sock)
        try:
            with contextlib.suppress(ConnectionError):  # a killed child resets what it had not read
                while line := await reader.readline():
                    self._heard(json.loads(line))
        finally:
            await background.stop(self._answering)
            self._writer.close()
            self._writer = None

    def order(self, drain: DrainOrder) -> None:
        """Have the child drain; one that is gone already has."""
        self._send({"drain": drain.how.value, "deadline_s": drain.deadline_s})

    def _heard(self, message: _Message) -> None:
        if "ask" in message:
            task = asyncio.create_task(self._answer(message), name="a child's question")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        self.beats += 1
        self.calls = int(message["calls"])
        self.up.set()
        self.heard.set()

    async def _answer(self, message: _Message) -> None:
        ident, what = message.pop("ask"), message.pop("what")
        try:
            if self._asked is None:
                raise SupervisionError("unknown", f"{what}: this process may ask nothing")
            self._send({"answer": ident, "ok": await self._asked(what, message)})
        except SupervisionError as exc:
            self._send({"answer": ident, "fault": exc.code, "message": str(exc)})

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(_line(message))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
