"""Work beside everything else that goes on although Redis is away, or one of its steps has failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from gateway import logs
from gateway.outage_log import OutageLog

__all__ = ["persist"]

log = logging.getLogger(__name__)

_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


async def persist(step: Callable[[], Awaitable[None]], *, doing: str) -> None:
    """Take a step again and again, until cancelled; after a failure with a pause, longer with each in a row.

    Args:
        step: waits by itself for something to do. It may raise anything; RedisError and OSError say that the server is
            away, all else is a fault of ours.
        doing: told in the log at the first failure of a row.
    """
    outage = OutageLog(log, doing)
    failures = 0
    while True:
        try:
            await step()
            outage.over()
            failures = 0
            continue
        except (RedisError, OSError) as exc:
            outage.failed(exc)
        except Exception as exc:  # the task's outer edge: without it others would wait for ever
            log.error("%s: a fault of ours: %s", doing, logs.where(exc))
        await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        failures += 1
