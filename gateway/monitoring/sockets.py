"""The two WebSockets of supervisors: the stream of events, and one call's sound.

    /v1/monitor            texts of one or more JSON lines: `watching`, then calls in progress, then events as they come
    /v1/calls/ID/audio     text `listening`; binary chunks of both sides; `take_over` and `hand_back` by text, and
                           then binary from the browser is the supervisor's voice

A connection that ends takes with it what it had begun: the lease on the audio, and the call that it had taken over. It
ends with its token, and with a peer that takes nothing of what it is sent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway import background, logs
from gateway.access.auth import Scope
from gateway.monitoring.admission import Visitor
from gateway.monitoring.audit import AuditError, AuditLog
from gateway.monitoring.event_stream import EventStream
from gateway.monitoring.hub import CallList, Ear, HubError, MonitorHub, Stock, Watcher
from gateway.monitoring.wire import LEASE_S, RENEW_S, Act, Answer, OrderKind

__all__ = ["EXPIRED", "CallSocket", "EventSocket"]

log = logging.getLogger(__name__)

EXPIRED: Final = 4401
"""Close code: the token is over; come again with another."""
_TRY_AGAIN: Final = 1013  # RFC 6455's registry
_NORMAL: Final = 1000
_NOT_FOUND: Final = 4404
_MOST_VOICE_BYTES: Final = 64 * 1024
_SEND_S: Final = 20.0
"""A peer that takes nothing for so long is gone, or stands still: what it holds is let go."""
_CLOSE_S: Final = 1.0
_LOOK_S: Final = 30.0
"""How often the wall clock is looked at, which may be set meanwhile."""
_SNAPSHOT_EVERY_S: Final = 2.0
_INCOMPLETE_S: Final = 30.0
"""Before workers are asked again of which one did not answer: the stream waits for it each time."""
_ON_THE_WAY_S: Final = 0.4
"""Workers batch a fifth of a second's events: after so long those that a snapshot holds have come, or are lost."""


async def _while_connected(*work: Coroutine[Any, Any, None]) -> int:
    """Run until the peer goes or a piece of the work is done. Returns the close code."""
    code = _NORMAL
    tasks = [asyncio.create_task(piece) for piece in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                task.result()
            except WebSocketDisconnect:
                pass
            except (HubError, AuditError) as error:
                log.warning("nobody can watch: %s", error)
                code = _TRY_AGAIN
            except TimeoutError:
                log.warning("a supervisor's connection takes nothing for %g s: it is let go", _SEND_S)
            except Exception as error:  # uvicorn would log its text, which may hold what somebody said
                log.error("a fault of ours ended a supervisor's socket: %s", logs.where(error))
    finally:
        await background.stop(tasks)
    return code


async def _until_expired(visitor: Visitor) -> None:
    """Until the visitor's token is over, which may be never."""
    while visitor.left_s > 0:  # noqa: ASYNC110 - see below
        await asyncio.sleep(min(visitor.left_s, _LOOK_S))  # it is time that is waited for, which sets no event


async def _send(socket: WebSocket, message: str | bytes) -> None:
    """Raises TimeoutError where the peer does not take it."""
    async with asyncio.timeout(_SEND_S):
        if isinstance(message, str):
            await socket.send_text(message)
        else:
            await socket.send_bytes(message)


async def _close(socket: WebSocket, visitor: Visitor, code: int = _NORMAL) -> None:
    code, reason = (code, "") if visitor.left_s > 0 else (EXPIRED, "token expired")
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # it may be closed already, or stand still
        async with asyncio.timeout(_CLOSE_S):
            await socket.close(code, reason)


class EventSocket:
    """One connection to `/v1/monitor`."""

    def __init__(
        self,
        socket: WebSocket,
        hub: MonitorHub,
        visitor: Visitor,
        *,
        call_id: str,
        types: frozenset[str],
        raw: bool,
    ) -> None:
        """`call_id` "": of all calls; `types` empty: all."""
        self._socket = socket
        self._hub = hub
        self._visitor = visitor
        self._call_id = call_id
        self._raw = raw
        self._stream = EventStream(call_id=call_id, types=types)
        self._asked_at = 0.0  # for the last snapshot, monotonic seconds
        self._complete = True  # all workers gave theirs

    async def serve(self) -> None:
        """Until the peer goes, or its token is over."""
        with self._hub.watching(raw=self._raw) as watcher:
            code = await _while_connected(self._watch(watcher), self._wait_for_end(), _until_expired(self._visitor))
        await _close(self._socket, self._visitor, code)

    async def _watch(self, watcher: Watcher) -> None:
        await self._tell(self._stream.begin(await self._calls()))
        while True:
            news: list[str | Stock] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s(watcher)):
                    news = await watcher.some()
            dropped = watcher.take_dropped()
            lines = self._stream.fall_behind(dropped) if dropped else []
            for one in news:
                lines += self._lines(one)
            await self._tell(lines)
            if self._wait_s(watcher) == 0.0:
                with suppress(HubError):  # again then
                    await self._tell(await self._begin_anew(watcher))

    def _lines(self, news: str | Stock) -> list[str]:
        if isinstance(news, str):
            return self._stream.take(news)
        return self._stream.take_stock(news.call_ids, time.time())

    def _wait_s(self, watcher: Watcher) -> float | None:
        """Until a fresh snapshot is to be had; None: it is not wanted."""
        doubted = watcher.doubted_at > self._asked_at
        if not doubted and not self._stream.stale:
            return None
        every_s = _SNAPSHOT_EVERY_S if doubted or self._complete else _INCOMPLETE_S
        return max(0.0, self._asked_at + every_s - time.monotonic())

    async def _begin_anew(self, watcher: Watcher) -> list[str]:
        calls = await self._calls()
        await asyncio.sleep(_ON_THE_WAY_S)
        news = watcher.take()
        lines = self._stream.begin(calls, [one for one in news if isinstance(one, str)])
        if dropped := watcher.take_dropped():
            lines = [*self._stream.fall_behind(dropped), *lines]
        return lines

    async def _calls(self) -> CallList:
        """The calls as they stand. What happens from now on comes as events, or is in them already.

        Raises:
            HubError: Redis does not answer.
        """
        self._asked_at = time.monotonic()
        await self._hub.begin()
        calls = await self._hub.calls(call_id=self._call_id, raw=self._raw)
        self._complete = calls.complete
        return calls

    async def _tell(self, lines: list[str]) -> None:
        if lines:
            await _send(self._socket, "\n".join(lines))

    async def _wait_for_end(self) -> None:
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass


class CallSocket:
    """One connection to `/v1/calls/ID/audio`."""

    def __init__(
        self,
        socket: WebSocket,
        hub: MonitorHub,
        audit: AuditLog,
        visitor: Visitor,
        call_id: str,
        *,
        on_voice_lost: Callable[[], object] = lambda: None,
    ) -> None:
        """`on_voice_lost` is called for each piece of the supervisor's voice that could not be passed on."""
        self._on_voice_lost = on_voice_lost
        self._socket = socket
        self._hub = hub
        self._audit = audit
        self._visitor = visitor
        self._call_id = call_id
        self._speaking = False
        self._voice_at = 0.0  # when the supervisor's voice last came, monotonic seconds

    async def serve(self) -> None:
        """Until the peer goes, its token is over, or the call is."""
        code = _NORMAL
        try:
            await self._audit.write(self._visitor.who, Act.LISTEN, call_id=self._call_id)
            with self._hub.listening(self._call_id) as ear:
                code = await self._listen(ear)
        except (AuditError, HubError) as error:
            log.warning("nobody can listen: %s", error)
            code = _TRY_AGAIN
        except (WebSocketDisconnect, TimeoutError):  # before it was told anything
            pass
        finally:
            leaving = asyncio.create_task(self._leave())
            try:
                await _close(self._socket, self._visitor, code)
            finally:
                await asyncio.shield(leaving)

    async def _listen(self, ear: Ear) -> int:
        """Returns the close code."""
        await self._hub.begin()
        answer = await self._order(OrderKind.LISTEN)
        if answer is None or answer.result is None:
            code, message = (answer and answer.fault) or ("not_found", "no such call is in progress")
            await self._fault(code, message)
            return _NOT_FOUND
        await self._tell(
            type="listening",
            call_id=self._call_id,
            encoding="pcm_s16le",
            sample_rate=answer.result["sample_rate"],
            channels=2,
        )
        return await _while_connected(self._sound(ear), self._renew(), self._obey(), _until_expired(self._visitor))

    async def _leave(self) -> None:
        with suppress(HubError, AuditError):
            if self._speaking:
                await self._hand_back("left")
            await self._order(OrderKind.UNLISTEN)

    async def _hand_back(self, why: str) -> None:
        """Give the bot what this connection has taken over, if it still has it: the worker knows."""
        await self._audit.write(self._visitor.who, Act.HAND_BACK, call_id=self._call_id, detail=why)
        await self._order(OrderKind.ACT, act=Act.HAND_BACK)

    async def _order(self, kind: OrderKind, **more: Any) -> Answer | None:
        visitor = self._visitor
        return await self._hub.order(kind, self._call_id, by=visitor.who, session=visitor.session, **more)

    async def _tell(self, **message: Any) -> None:
        await _send(self._socket, json.dumps(message, ensure_ascii=False))

    async def _sound(self, ear: Ear) -> None:
        while True:
            chunks = await ear.some()
            if dropped := ear.take_dropped():
                await self._tell(type="dropped", count=dropped)
            for chunk in chunks:
                await _send(self._socket, chunk)

    async def _renew(self) -> None:
        """Keep what the connection has, until the call is over.

        Raises:
            HubError: nothing could be renewed for as long as a lease lasts.
        """
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if await self._order(OrderKind.LISTEN) is None:
                    await self._tell(type="over")
                    return
                if self._speaking:
                    await self._keep()
                renewed_at = time.monotonic()
            except HubError:  # one answer that is late must not take a call from who speaks in it
                if time.monotonic() - renewed_at > LEASE_S:
                    raise

    async def _keep(self) -> None:
        """Keep the call that was taken over, while the supervisor's microphone is heard."""
        if time.monotonic() - self._voice_at > LEASE_S:  # a browser that has gone is noticed much later
            await self._hand_back("was not heard of any more")
            why = "nothing was heard of your microphone"
        else:
            answer = await self._order(OrderKind.KEEP)
            if answer is None or answer.fault is None:
                return
            why = answer.fault[1]
        self._speaking = False
        await self._tell(type="handed_back", message=why)

    async def _obey(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if (voice := message.get("bytes")) is not None:
                self._voice_at = time.monotonic()
                if self._speaking and len(voice) <= _MOST_VOICE_BYTES:
                    await self._speak(voice)
            elif (text := message.get("text")) is not None:
                await self._command(text)

    async def _speak(self, voice: bytes) -> None:
        """Pass on a piece of voice, or lose it: whether the connection still has the call is for `_renew` to find."""
        try:
            await self._hub.speak(self._visitor.session, voice)
        except HubError:
            self._on_voice_lost()

    async def _command(self, text: str) -> None:
        try:
            body = json.loads(text)
            act, from_whom = Act(body["type"]), body.get("from", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            act, from_whom = None, ""
        if act not in (Act.TAKE_OVER, Act.HAND_BACK) or not isinstance(from_whom, str):
            await self._fault("bad_message", 'send {"type": "take_over"} or {"type": "hand_back"}')
            return
        if not self._visitor.may(Scope.SUPERVISE):
            await self._fault("forbidden", f"the token does not hold the scope {Scope.SUPERVISE}; use one that does")
            return
        try:
            detail = f"from {from_whom}" if from_whom else ""
            await self._audit.write(self._visitor.who, act, call_id=self._call_id, detail=detail)
            answer = await self._order(OrderKind.ACT, act=act, from_whom=from_whom)
        except (AuditError, HubError) as error:
            await self._fault("unavailable", str(error))
            return
        if answer is None:
            await self._fault("not_found", "the call is over")
        elif answer.fault is not None:
            await self._fault(*answer.fault)
        else:
            self._speaking, self._voice_at = act is Act.TAKE_OVER, time.monotonic()
            await self._tell(type="taken_over" if self._speaking else "handed_back")

    async def _fault(self, code: str, message: str) -> None:
        await self._tell(type="error", code=code, message=message)
