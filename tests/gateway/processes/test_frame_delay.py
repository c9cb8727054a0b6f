"""The delay of frames: what a worker's loop lets a caller's frame wait, told by a timer of the kernel's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest
import uvloop

from gateway.processes.frame_delay import EVERY_S, FrameDelayProbe

pytestmark = pytest.mark.unit

STALL_S = 0.2


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def watched_through_a_stall() -> list[float]:
    """The delays that are told of a loop which stands still for a while."""
    delays: list[float] = []
    probe = FrameDelayProbe(asyncio.get_running_loop(), delays.append)
    try:
        await until(lambda: len(delays) >= 5)
        delays.clear()
        time.sleep(STALL_S)  # noqa: ASYNC251  the stall
        await until(lambda: len(delays) >= STALL_S / EVERY_S - 1)
    finally:
        probe.close()
    return delays


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_stall_is_seen_by_every_moment_in_it(run: Callable[..., list[float]]) -> None:
    delays = run(watched_through_a_stall())
    told = delays[: int(STALL_S / EVERY_S) - 1]
    assert told[0] > STALL_S - 2 * EVERY_S, "the first waited through nearly all of it"
    steps = [before - after for before, after in zip(told, told[1:], strict=False)]
    assert steps == pytest.approx([EVERY_S] * len(steps), abs=1e-6), "each later one by so much less"


async def test_moments_that_the_loop_is_in_time_for_have_next_to_no_delay() -> None:
    delays: list[float] = []
    probe = FrameDelayProbe(asyncio.get_running_loop(), delays.append)
    try:
        await until(lambda: len(delays) >= 10)
    finally:
        probe.close()
    assert min(delays) < EVERY_S, "a busy machine delays some, not all"
    assert all(delay >= 0 for delay in delays)


async def test_a_closed_one_leaves_nothing_open() -> None:
    delays: list[float] = []
    probe = FrameDelayProbe(asyncio.get_running_loop(), delays.append)
    fd = probe._fd
    await until(lambda: delays)
    probe.close()
    probe.close()
    with pytest.raises(OSError):
        os.fstat(fd)
