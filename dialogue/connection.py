"""A client for the Redis that an address names: one server, or a cluster.

    redis://host:6379/0   rediss://...   unix:///path          one server
    redis+cluster://host:7000   rediss+cluster://...           any node of a cluster; the others are found through it

Every key of ours that a script or a command touches together with others carries the same hash tag, so both behave
alike. Commands are bounded in time and tried once more only where a connection was lost, which a pool notices late: a
server that hangs is known to be away after one wait.
"""

from __future__ import annotations

from typing import Any, Final, cast

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLostError

__all__ = ["connect", "is_cluster"]

_CONNECT_S: Final = 2.0


def is_cluster(url: str) -> bool:
    """Whether an address names a cluster."""
    return url.partition("://")[0].endswith("+cluster")


def connect(url: str, *, timeout_s: float | None, max_connections: int = 1024) -> redis.Redis:
    """A client that decodes responses; its first command connects. Whoever asked for it closes it.

    Args:
        timeout_s: bound of each command; None for reads that block.
        max_connections: redis-py's default of 100 raises under 200 concurrent calls.

    Returns:
        For a cluster a `RedisCluster`, which has the same commands: it is typed as the one that all else expects.

    Raises:
        ValueError: the address does not parse.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s if timeout_s is not None else _CONNECT_S,
        "max_connections": max_connections,
    }
    if is_cluster(url):
        return cast(redis.Redis, redis.RedisCluster.from_url(url.replace("+cluster", "", 1), **options))
    again = Retry(NoBackoff(), 1, supported_errors=(ConnectionLostError,))
    return redis.Redis.from_url(url, retry=again, **options)
