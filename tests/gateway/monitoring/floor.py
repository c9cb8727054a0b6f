"""A worker with its bridge, a control plane over the same Valkey, and a supervisor's sockets to it."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.access.auth import Scope, mint
from gateway.metrics import Metrics
from gateway.monitoring.bridge import MonitorBridge
from gateway.monitoring.recording import Recorder
from gateway.monitoring.redaction import Redactor
from gateway.records.results import CallRecords
from gateway.settings import Settings, load
from tests.gateway.harness import Rig, rig, write_bot
from tests.gateway.http_harness import Api, api

__all__ = ["AudioSocket", "Floor", "MonitorSocket", "floor"]


class MonitorSocket:
    """`/v1/monitor`, with everything it has brought."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws
        self.lines: list[dict[str, Any]] = []

    async def until(self, kind: str, *, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The `count`-th line of a type with these fields, waited for."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line["type"] == kind and fields.items() <= line.items()]

        async with asyncio.timeout(20):
            while len(found()) < count:
                await self.more()
        return found()[count - 1]

    async def more(self) -> None:
        """Wait for what comes next."""
        text = await self._ws.recv()
        self.lines += map(json.loads, str(text).split("\n"))


class AudioSocket:
    """`/v1/calls/ID/audio`: texts, and both sides' samples by their positions."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.texts: list[dict[str, Any]] = []
        self._chunks: list[tuple[int, np.ndarray[Any, Any]]] = []

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not wanted():
                try:
                    message = await self.ws.recv()
                except ConnectionClosed as closed:
                    raise AssertionError(f"{closed}; got {self.texts}") from None
                if isinstance(message, str):
                    self.texts.append(json.loads(message))
                else:
                    (first,) = struct.unpack_from("<I", message)
                    self._chunks.append((first, np.frombuffer(message[4:], "<i2").reshape(-1, 2)))

    async def text(self, kind: str) -> dict[str, Any]:
        """The first text of a type, waited for."""
        await self.until(lambda: any(text["type"] == kind for text in self.texts))
        return next(text for text in self.texts if text["type"] == kind)

    @property
    def stereo(self) -> np.ndarray[Any, Any]:
        """Everything heard so far, shape (samples, 2); the chunks must follow one another."""
        at = self._chunks[0][0] if self._chunks else 0
        for first, chunk in self._chunks:
            assert first == at
            at += len(chunk)
        return np.concatenate([np.zeros((0, 2), np.int16), *(chunk for _, chunk in self._chunks)])

    async def say(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def keep_silent(self) -> None:
        """What an open microphone sends while nobody speaks."""
        with suppress(ConnectionClosed):
            while True:
                await self.ws.send(bytes(320))
                await asyncio.sleep(0.5)


@dataclass
class Floor:
    """All of it."""

    calls: Rig
    api: Api
    _open: list[ClientConnection] = field(default_factory=list)

    async def watch(self, query: str = "", **options: Any) -> MonitorSocket:
        """A watcher that knows the calls in progress."""
        socket = MonitorSocket(await self._connect(f"/v1/monitor{query}", **options))
        await socket.until("watching")
        return socket

    async def listen(self, call_id: str, **options: Any) -> AudioSocket:
        return AudioSocket(await self._connect(f"/v1/calls/{call_id}/audio", **options))

    async def _connect(self, path: str, **options: Any) -> ClientConnection:
        ws = await connect(
            f"ws://127.0.0.1:{self.api.port}{path}", proxy=None, max_size=None, max_queue=None, **options
        )
        self._open.append(ws)
        return ws


@asynccontextmanager
async def floor(
    redis_url: str,
    folder: Path,
    *,
    hear: str = "yes",
    environ: dict[str, str] | None = None,
    flow: str | None = None,
    keeps: bool = False,
) -> AsyncIterator[Floor]:
    """One worker, one control plane. `environ` is for both; `keeps`: there are records of calls, and recordings."""
    more: dict[str, Any] = {"flow": flow} if flow is not None else {}
    environ = {"VOICEGATE_LIMITS_FLOOD_S": "60", **(environ or {})}  # tests speak faster than callers
    settings = load(environ=environ)
    async with AsyncExitStack() as stack:
        if keeps:
            more |= await _keepers(redis_url, settings, stack)
        calls = await stack.enter_async_context(rig(folder, hear=hear, environ=environ, **more))
        bridge = MonitorBridge(
            redis_url,
            calls.services.bus,
            lambda: calls.worker.sessions,
            settings.monitoring,
            calls.services.metrics,
            calls.services.webhooks,
            name="worker-1",
        )
        async with bridge, api(redis_url, write_bot(folder / "other" / "tester"), environ=environ) as control:
            made = Floor(calls, control)
            async with asyncio.timeout(10):
                while not (await control.client.get("/v1/calls", headers=_bearer(environ))).json().get("workers"):
                    await asyncio.sleep(0.02)
            try:
                yield made
            finally:
                for ws in made._open:
                    await ws.close()


async def _keepers(redis_url: str, settings: Settings, stack: AsyncExitStack) -> dict[str, Any]:
    metrics = Metrics(CollectorRegistry())
    records = CallRecords(redis_url, settings.results, metrics, ttl_s=60)
    return {
        "records": await stack.enter_async_context(records),
        "recorder": await stack.enter_async_context(Recorder(settings.recording, metrics, Redactor())),
    }


def _bearer(environ: dict[str, str]) -> dict[str, str]:
    secret = environ.get("VOICEGATE_AUTH_SECRET")
    return {"Authorization": f"Bearer {mint(secret, 'test', [Scope.ADMIN], 60)}"} if secret else {}
