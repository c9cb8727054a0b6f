"""Channels are heard again when Redis is, whatever became of the connection; and who must know is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis

from gateway import background
from gateway.monitoring import channels
from gateway.monitoring.channels import ChannelReader
from tests.dialogue.valkey import Valkey, valkey

pytestmark = pytest.mark.redis


class Reader:
    """Counts how often the channels were joined, and keeps what came."""

    def __init__(self, url: str) -> None:
        self.joined = 0
        self.came: list[tuple[str, bytes]] = []
        self.channels = ChannelReader(url, "home", on_joined=self._join, on_message=self._take)

    async def _join(self) -> None:
        self.joined += 1

    async def _take(self, channel: str, data: bytes) -> None:
        self.came.append((channel, data))

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not wanted():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def reading(server: Valkey) -> AsyncIterator[Reader]:
    reader = Reader(server.url)
    task = asyncio.create_task(reader.channels.read_for_ever())
    try:
        await reader.until(lambda: reader.joined == 1)
        yield reader
    finally:
        await background.stop([task])
        await reader.channels.aclose()


async def published(server: Valkey, channel: str, text: str) -> None:
    async with redis.Redis.from_url(server.url) as client:
        await client.publish(channel, text)


async def test_what_is_wanted_is_heard_and_no_more_than_that() -> None:
    with valkey(lasting=False) as server:
        async with reading(server) as reader:
            await reader.channels.hear({"one", "two"})
            await reader.channels.hear({"two"})
            for channel in ("one", "two", "home"):
                await published(server, channel, "x")
            await reader.until(lambda: ("home", b"x") in reader.came)
            assert reader.came == [("two", b"x"), ("home", b"x")]


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_a_connection_that_was_lost_is_opened_again_with_all_that_was_wanted(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is silent closes nothing, as one whose host has vanished."""
    monkeypatch.setattr(channels, "_SILENT_S", 0.2)
    monkeypatch.setattr(channels, "_RETRY_S", 0.05)
    with valkey(lasting=False) as server:
        async with reading(server) as reader:
            await reader.channels.hear({"one"})
            if how == "killed":
                server.kill()
                server.start()
            else:
                server.pause()
                await reader.until(lambda: "hearing what is published" in caplog.text)
                server.go_on()
            await reader.until(lambda: reader.joined >= 2)
            await published(server, "one", "behind")
            await reader.until(lambda: ("one", b"behind") in reader.came)


async def test_silence_alone_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_SILENT_S", 0.05)
    with valkey(lasting=False) as server:
        async with reading(server) as reader:
            pings = 0
            ping = reader.channels._news.ping

            async def counted() -> bool:
                nonlocal pings
                pings += 1
                return await ping()

            monkeypatch.setattr(reader.channels._news, "ping", counted)
            await reader.until(lambda: pings >= 3)
            assert reader.joined == 1
