"""A client for the Redis that an address names: one server, the primary that Sentinels name, or a cluster.

    redis://host:6379/0   rediss://...   unix:///path          one server
    redis+sentinel://host:26379,host2:26379/SERVICE/0          the primary of a service; rediss+sentinel://: TLS to all
    redis+cluster://host:7000   rediss+cluster://...           any node of a cluster; the others are found through it

User and password in a Sentinel address are the primary's; options after `?` are those of redis://, for all connections.

Every key of ours that a script or a command touches together with others carries the same hash tag, so both behave
alike. Commands are bounded in time and tried once more only where a connection was lost, which a pool notices late: a
server that hangs is known to be away after one wait.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast
from urllib.parse import urlsplit

import redis.asyncio as redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

__all__ = ["connect", "is_cluster", "one_node"]

_CONNECT_S: Final = 2.0
_SENTINEL_PORT: Final = 26379


def is_cluster(url: str) -> bool:
    """Whether an address names a cluster."""
    return url.partition("://")[0].endswith("+cluster")


def connect(
    url: str,
    *,
    timeout_s: float | None,
    max_connections: int = 1024,
    decode_responses: bool = True,
    retries: int = 1,
) -> redis.Redis:
    """A client whose first command connects. Whoever asked for it closes it.

    Args:
        timeout_s: bound of each command; None for reads that block.
        max_connections: redis-py's default of 100 raises under 200 concurrent calls.
        decode_responses: to text; false for values that are none.
        retries: of a command whose connection was lost.

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
    again = Retry(NoBackoff(), retries, supported_errors=(ConnectionLostError,))
    if url.partition("://")[0].endswith("+sentinel"):
        return _named_by_sentinels(url, {**options, "retry": again})
    if is_cluster(url):
        return cast(redis.Redis, _Cluster.from_url(one_node(url), retry=again, **options))
    return redis.Redis.from_url(url, retry=again, **options)


def _named_by_sentinels(url: str, options: dict[str, Any]) -> redis.Redis:
    scheme, _, rest = url.replace("+sentinel", "", 1).partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("a Sentinel address ends with the service's name: redis+sentinel://host:26379/SERVICE")
    named = [urlsplit(f"//{host}") for host in hosts.split(",")]
    found: dict[str, Any] = dict(parse_url(f"{scheme}://{credentials}{at}primary/{database or 0}?{query}"))
    for known_later in ("host", "connection_class"):
        found.pop(known_later, None)
    encrypted = {"ssl": True} if scheme == "rediss" else {}
    encrypted |= {name: value for name, value in found.items() if name.startswith("ssl_")}
    watchers = {
        "socket_timeout": options["socket_connect_timeout"],
        "socket_connect_timeout": options["socket_connect_timeout"],
        **encrypted,
    }
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        [(host.hostname or "", host.port or _SENTINEL_PORT) for host in named], sentinel_kwargs=watchers
    )
    return cast(redis.Redis, sentinels.master_for(service, redis_class=_Watched, **{**found, **encrypted, **options}))


class _Watched(redis.Redis):
    """A client whose primary Sentinels name: it closes its connections to them too."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        assert isinstance(self.connection_pool, SentinelConnectionPool)
        for sentinel in self.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


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
