"""A client for the Redis that an address names: one server, or a cluster.

    redis://host:6379/0   rediss://...   unix:///path          one server
    redis+cluster://host:7000   rediss+cluster://...           any node of a cluster; the others are found through it

Every key of ours that a script or a command touches together with others carries the same hash tag, so both behave
alike. Commands are bounded in time and tried once more only where a connection was lost, which a pool notices late: a
server that hangs is known to be away after one wait.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

__all__ = ["connect", "is_cluster", "one_node"]

_CONNECT_S: Final = 2.0


def is_cluster(url: str) -> bool:
    """Whether an address names a cluster."""
    return url.partition("://")[0].endswith("+cluster")


def connect(
    url: str, *, timeout_s: float | None, max_connections: int = 1024, decode_responses: bool = True
) -> redis.Redis:
    """A client whose first command connects. Whoever asked for it closes it.

    Args:
        timeout_s: bound of each command; None for reads that block.
        max_connections: redis-py's default of 100 raises under 200 concurrent calls.
        decode_responses: to text; false for values that are none.

    Returns:
        For a cluster a `RedisCluster`, which has the same commands: it is typed as the one that all else expects.

    Raises:
        ValueError: the address does not parse.
    """
    options: dict[str, Any] = {
        "decode_responses": decode_responses,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s if timeout_s is not None else _CONNECT_S,
        "max_connections": max_connections,
    }
    again = Retry(NoBackoff(), 1, supported_errors=(ConnectionLostError,))
    if is_cluster(url):
        return cast(redis.Redis, _Cluster.from_url(one_node(url), retry=again, **options))
    return redis.Redis.from_url(url, retry=again, **options)


class _Cluster(redis.RedisCluster):
    """redis-py (8.1) closes its connections, also those that it is about to use, when it looks at the cluster: at first
    and after a failure. So one command goes ahead alone then, and the others wait for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._met = False
        self._meeting = asyncio.Lock()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        if not self._met:
            async with self._meeting:
                if not self._met:
                    await self._execute("PING")
                    self._met = True
        return await self._execute(*args, **kwargs)

    async def _execute(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except (ConnectionLostError, NoAnswerError, ClusterDownError):
            self._met = False
            raise
        except AttributeError as error:  # of a connection that was closed while it was made
            self._met = False
            raise ConnectionLostError("the connection was closed when another command failed") from error


def one_node(url: str) -> str:
    """The address of the node that a cluster's address names; another address as it is. Enough for publishing and
    subscribing, which reach every node."""
    return url.replace("+cluster", "", 1) if is_cluster(url) else url
