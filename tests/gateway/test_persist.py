"""Work that goes on: what failed is tried again, told once, and ends when it is cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest
from redis.exceptions import ConnectionError as ConnectionLostError

from gateway import background
from gateway.persist import persist

pytestmark = pytest.mark.unit


async def test_a_step_that_fails_is_taken_again_and_each_row_of_failures_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[Exception] = [ConnectionLostError("a"), OSError("b"), ConnectionLostError("c")]
    steps: list[str] = []
    ended = asyncio.Event()

    async def step() -> None:
        if failures:
            raise failures.pop(0)
        steps.append("done")
        if len(steps) == 2:
            failures.append(ValueError("my pin is 4417"))
        if len(steps) == 4:
            ended.set()
            await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(persist(step, doing="counting"))
        async with asyncio.timeout(20):
            await ended.wait()
        await background.stop([task])
    assert [record.message.splitlines()[0] for record in caplog.records] == [
        "counting: ConnectionError (a); is Redis running and reachable? Trying again",
        "counting: a fault of ours: ValueError",
    ]
    assert "4417" not in caplog.text and task.cancelled()
