"""Workers say in Redis that they are there, and whether they take calls: so the control plane counts its gateway's.

A key per worker with a short time to live; a worker that dies is gone from the list by itself. Several gateways may
share a Redis, so the key names the gateway: its host and media port, which no two have in common.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import redis.asyncio as redis
from redis.exceptions import RedisError

from dialogue.connection import connect
from gateway import background
from gateway.outage_log import OutageLog

__all__ = ["Presence", "PresentWorkers", "gateway_name", "presence_key", "present_workers"]

log = logging.getLogger(__name__)

_PREFIX = "vg:worker:"
_TTL_S = 4
_EVERY_S = 1.0
_COMMAND_S = 2.0


def gateway_name(port: int) -> str:
    """This machine's gateway on a media port."""
    return f"{socket.gethostname()}:{port}"


def presence_key(gateway: str, name: str) -> str:
    """The key that is there while a gateway's worker lives; the hash tag keeps a gateway's on one cluster node."""
    return f"{_PREFIX}{{{gateway}}}:{name}"


@dataclass(frozen=True, slots=True)
class PresentWorkers:
    """A gateway's workers."""

    serving: int
    """That take calls."""
    draining: int
    """That take none any more, and end with their last."""
    calls: int
    """In progress at all of them."""


class Presence:
    """Keeps one worker's key alive. Use as an async context, entered when the worker accepts calls."""

    def __init__(self, redis_url: str, *, gateway: str, name: str, calls: Callable[[], int]) -> None:
        self._client = connect(redis_url, timeout_s=_COMMAND_S)
        self._key = presence_key(gateway, name)
        self._calls = calls
        self._draining = False
        self._outage = OutageLog(log, "presence")
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Presence:
        self._task = asyncio.create_task(self._keep(), name="presence")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        await background.stop([self._task])
        try:
            await self._client.delete(self._key)
        except (RedisError, OSError) as exc:
            log.info("presence not withdrawn (%s); it expires in %d s", type(exc).__name__, _TTL_S)
        await self._client.aclose()

    def drain(self) -> None:
        """Tell that this worker takes no more calls, now: who balances calls shall know before many are refused."""
        self._draining = True
        self._news.set()

    async def _keep(self) -> None:
        while True:
            self._news.clear()
            await self._renew()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._news.wait()

    async def _renew(self) -> None:
        told = {"calls": self._calls(), "draining": self._draining}
        try:
            await self._client.set(self._key, json.dumps(told), ex=_TTL_S)
        except (RedisError, OSError) as exc:
            self._outage.failed(exc)
        else:
            self._outage.over()


async def present_workers(client: redis.Redis, gateway: str) -> PresentWorkers:
    """The workers of one gateway. Raises RedisError or OSError."""
    prefix = presence_key(gateway, "")
    keys = [key async for key in client.scan_iter(match=f"{prefix}*", count=1000)]
    values = await client.mget(keys) if keys else []
    told = [json.loads(value) for value in values if value is not None]
    draining = sum(1 for one in told if one["draining"])
    return PresentWorkers(len(told) - draining, draining, sum(int(one["calls"]) for one in told))
