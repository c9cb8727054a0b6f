"""Ending tasks that run beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["heed_cancellation", "stop"]

_HEARD_WITHIN_S: Final = 0.2


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are gone; how they ended is of no interest any more.

    They are cancelled again until they hear it: `asyncio.wait_for`, which redis-py sends with, may swallow a
    cancellation in Python 3.11.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=_HEARD_WITHIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen, so that it is not reported as forgotten


def heed_cancellation() -> None:
    """Raise CancelledError in a task that was cancelled and goes on, because somebody swallowed it (see `stop`). For
    tasks that are cancelled once, before they wait for what may never come."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
