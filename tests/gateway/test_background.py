"""Tasks that are ended, whatever they do about it."""

from __future__ import annotations

import asyncio

import pytest

from gateway import background

pytestmark = pytest.mark.unit


async def test_nothing_to_end() -> None:
    await background.stop([])


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_HEARD_WITHIN_S", 0.01)
    heard = 0

    async def hard_of_hearing() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard += 1
                if heard == 3:
                    raise

    task = asyncio.create_task(hard_of_hearing())
    await asyncio.sleep(0)
    await background.stop([task])
    assert task.cancelled()
    assert heard == 3


async def test_a_failure_does_not_spread_nor_is_it_reported_as_forgotten() -> None:
    async def fails() -> None:
        raise ValueError("mine")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await background.stop([task])
    assert task.done()
    assert not task._log_traceback  # type: ignore[attr-defined]  # what asyncio itself goes by
