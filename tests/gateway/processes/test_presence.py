"""A worker's word that it is there: what its log says of a Redis that is away."""

from __future__ import annotations

import asyncio
import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.processes import presence
from gateway.processes.presence import Presence

pytestmark = pytest.mark.unit


class RedisNow:
    """A client whose server is away for the first `missed` commands."""

    def __init__(self, missed: int) -> None:
        self.missed = missed
        self.written = asyncio.Event()

    async def set(self, *_args: object, **_options: object) -> None:
        if self.missed:
            self.missed -= 1
            raise RedisConnectionError("gone")
        self.written.set()

    async def delete(self, _key: str) -> None: ...

    async def aclose(self) -> None: ...


async def test_a_redis_that_is_away_is_told_once_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = RedisNow(missed=3)
    monkeypatch.setattr(presence, "connect", lambda *_args, **_options: client)
    monkeypatch.setattr(presence, "_EVERY_S", 0.01)
    caplog.set_level(logging.INFO, logger=presence.__name__)
    async with Presence("redis://nowhere", gateway="here:1", name="7", calls=lambda: 0), asyncio.timeout(20):
        await client.written.wait()
    assert caplog.messages == [
        "presence: ConnectionError (gone); is Redis running and reachable? Trying again",
        "presence: goes on",
    ]
