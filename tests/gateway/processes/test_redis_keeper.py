"""The embedded server is there again after it died, and after it hung."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis

from gateway import background
from gateway.processes.redis_keeper import RedisKeeper

pytestmark = pytest.mark.redis


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGKILL, "the embedded Redis died"), (signal.SIGSTOP, "the embedded Redis hangs")]
)
async def test_another_server_is_at_the_same_address_with_what_was_kept(
    number: signal.Signals, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        keeper = RedisKeeper(Path(folder, "state"), Path(folder, "run"), hang_s=2.0)
        keeping = asyncio.create_task(keeper.keep())
        client = redis.Redis.from_url(keeper.url, decode_responses=True)
        try:
            await client.set("kept", "yes")
            await client.execute_command("WAITAOF", 1, 0, 5000)  # type: ignore[no-untyped-call]
            before = keeper.pid
            os.kill(before, number)
            await until(lambda: keeper.pid != before)
            assert await client.get("kept") == "yes"
        finally:
            await client.aclose()
            await background.stop([keeping])
            keeper.stop()
    assert told in caplog.text
