"""The two WebSockets of supervisors: the stream of events, and one call's sound.

    /v1/monitor            texts of one or more JSON lines: `watching`, then calls in progress, then events as they come
    /v1/calls/ID/audio     text `listening`; binary chunks of both sides; `take_over` and `hand_back` by text, and
                           then binary from the browser is the supervisor's voice

A connection that ends takes with it what it had begun: the lease on the audio, and the call that it had taken over.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway import background, logs
from gateway.auth import Scope
from gateway.monitoring.admission import Visitor
from gateway.monitoring.audit import AuditError, AuditLog
from gateway.monitoring.events import SCHEMA_VERSION, to_json
from gateway.monitoring.hub import Ear, HubError, MonitorHub, Stock, Watcher
from gateway.monitoring.roll import CallRoll
from gateway.monitoring.wire import LEASE_S, RENEW_S, Act, Answer, OrderKind

__all__ = ["CallSocket", "EventSocket"]

log = logging.getLogger(__name__)

_TRY_AGAIN: Final = 1013  # RFC 6455's registry
_NORMAL: Final = 1000
_NOT_FOUND: Final = 4404
_MOST_VOICE_BYTES: Final = 64 * 1024


async def _while_connected(*work: Coroutine[Any, Any, None]) -> None:
    """Run until the peer goes or a piece of the work is done."""
    tasks = [asyncio.create_task(piece) for piece in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                task.result()
            except (WebSocketDisconnect, HubError):
                pass
            except Exception as error:  # uvicorn would log its text, which may hold what somebody said
                log.error("a fault of ours ended a supervisor's socket: %s", logs.where(error))
    finally:
        await background.stop(tasks)


async def _close(socket: WebSocket, code: int = _NORMAL) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):  # it may be closed already
        await socket.close(code)


class EventSocket:
    """One connection to `/v1/monitor`."""

    def __init__(self, socket: WebSocket, hub: MonitorHub, *, call_id: str, types: frozenset[str], raw: bool) -> None:
        """`call_id` "": of all calls; `types` empty: all."""
        self._socket = socket
        self._hub = hub
        self._call_id = call_id
        self._types = types
        self._raw = raw
        self._seen: dict[str, tuple[int, float]] = {}  # by call: the last event that its snapshot holds, and its time
        self._roll = CallRoll()

    async def serve(self) -> None:
        """Until the peer goes."""
        with suppress(WebSocketDisconnect), self._hub.watching(raw=self._raw) as watcher:
            try:
                await self._hub.begin()
                present = await self._hub.calls(call_id=self._call_id, raw=self._raw)
            except HubError as error:
                log.warning("nobody can watch: %s", error)
                await _close(self._socket, _TRY_AGAIN)
                return
            watching = {
                "type": "watching",
                "v": SCHEMA_VERSION,
                "calls": len(present.lines),
                "workers": present.workers,
                "complete": present.complete,
            }
            lines = [json.dumps(watching), *present.lines]
            for body in map(json.loads, present.lines):
                self._seen[body["call_id"]] = body["seq"], body["time"]
                self._roll.take(body)
            await self._socket.send_text("\n".join(lines))
            await _while_connected(self._send(watcher), self._wait_for_end())
        await _close(self._socket)

    async def _send(self, watcher: Watcher) -> None:
        while True:
            news = await watcher.some()
            lines = [line for one in news for line in self._lines(one) if self._wanted(line)]
            if dropped := watcher.take_dropped():
                lines.insert(0, json.dumps({"type": "dropped", "count": dropped}))
            if lines:
                await self._socket.send_text("\n".join(lines))

    def _lines(self, news: str | Stock) -> list[str]:
        """An event; or the ends of calls that went without a word."""
        if isinstance(news, str):
            return [news]
        return [to_json(end, None) for end in self._roll.take_stock(news.call_ids, time.time())]

    def _wanted(self, line: str) -> bool:
        body = json.loads(line)
        self._roll.take(body)
        call_id = body["call_id"]
        seq, until = self._seen.get(call_id, (0, 0.0))
        if body["seq"] <= seq and body["time"] <= until:
            return False  # the snapshot has it; a call that was resumed elsewhere counts anew, but later
        return self._call_id in ("", call_id) and (not self._types or body["type"] in self._types)

    async def _wait_for_end(self) -> None:
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass


class CallSocket:
    """One connection to `/v1/calls/ID/audio`."""

    def __init__(self, socket: WebSocket, hub: MonitorHub, audit: AuditLog, visitor: Visitor, call_id: str) -> None:
        self._socket = socket
        self._hub = hub
        self._audit = audit
        self._visitor = visitor
        self._call_id = call_id
        self._speaking = False
        self._voice_at = 0.0  # when the supervisor's voice last came, monotonic seconds

    async def serve(self) -> None:
        """Until the peer goes or the call is over."""
        try:
            await self._audit.write(self._visitor.who, Act.LISTEN, call_id=self._call_id)
            with self._hub.listening(self._call_id) as ear:
                await self._hub.begin()
                answer = await self._order(OrderKind.LISTEN)
                if answer is None or answer.result is None:
                    code, message = (answer and answer.fault) or ("not_found", "no such call is in progress")
                    await self._tell(type="error", code=code, message=message)
                    await _close(self._socket, _NOT_FOUND)
                    return
                await self._tell(
                    type="listening",
                    call_id=self._call_id,
                    encoding="pcm_s16le",
                    sample_rate=answer.result["sample_rate"],
                    channels=2,
                )
                await _while_connected(self._sound(ear), self._renew(), self._obey())
        except (AuditError, HubError) as error:
            log.warning("nobody can listen: %s", error)
            await _close(self._socket, _TRY_AGAIN)
        except WebSocketDisconnect:  # before it was told anything
            pass
        finally:
            await asyncio.shield(self._leave())
        await _close(self._socket)

    async def _leave(self) -> None:
        with suppress(HubError, AuditError):
            if self._speaking:
                await self._audit.write(self._visitor.who, Act.HAND_BACK, call_id=self._call_id, detail="left")
                await self._order(OrderKind.ACT, act=Act.HAND_BACK)
            await self._order(OrderKind.UNLISTEN)

    async def _order(self, kind: OrderKind, **more: Any) -> Answer | None:
        visitor = self._visitor
        return await self._hub.order(kind, self._call_id, by=visitor.who, session=visitor.session, **more)

    async def _tell(self, **message: Any) -> None:
        await self._socket.send_text(json.dumps(message, ensure_ascii=False))

    async def _sound(self, ear: Ear) -> None:
        while True:
            chunks = await ear.some()
            if dropped := ear.take_dropped():
                await self._tell(type="dropped", count=dropped)
            for chunk in chunks:
                await self._socket.send_bytes(chunk)

    async def _renew(self) -> None:
        """Keep what the connection has, until the call is over."""
        while True:
            await asyncio.sleep(RENEW_S)
            if await self._order(OrderKind.LISTEN) is None:
                await self._tell(type="over")
                return
            if self._speaking:
                await self._go_on_speaking()

    async def _go_on_speaking(self) -> None:
        """Keep the call that was taken over, while the supervisor's microphone is heard."""
        silent = time.monotonic() - self._voice_at > LEASE_S  # a browser that has gone is noticed much later
        answer = await self._order(OrderKind.ACT, act=Act.HAND_BACK) if silent else await self._order(OrderKind.KEEP)
        if silent or (answer is not None and answer.fault is not None):
            self._speaking = False
            await self._tell(type="handed_back")

    async def _obey(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if (voice := message.get("bytes")) is not None:
                self._voice_at = time.monotonic()
                if self._speaking and len(voice) <= _MOST_VOICE_BYTES:
                    await self._hub.speak(self._call_id, voice)
            elif (text := message.get("text")) is not None:
                await self._command(text)

    async def _command(self, text: str) -> None:
        try:
            wanted = json.loads(text)["type"]
        except (ValueError, KeyError, TypeError):
            wanted = None
        if wanted not in (Act.TAKE_OVER, Act.HAND_BACK):
            await self._fault("bad_message", 'send {"type": "take_over"} or {"type": "hand_back"}')
            return
        if not self._visitor.may(Scope.SUPERVISE):
            await self._fault("forbidden", f"the token does not hold the scope {Scope.SUPERVISE}; use one that does")
            return
        act = Act(wanted)
        try:
            await self._audit.write(self._visitor.who, act, call_id=self._call_id)
            answer = await self._order(OrderKind.ACT, act=act)
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
