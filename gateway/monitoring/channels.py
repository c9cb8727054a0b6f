"""Channels of Redis as one process hears them: one connection, opened again when it is lost, which is noticed.

    subscribe --confirmed--> joined --messages--> ... --lost, or silent to a ping--> subscribe again --> joined

What was published while the connection was away is gone, and nothing in the messages says so: who must know is told
each time that the channels are heard (again). A host that vanishes closes no connection, so silence is asked about.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import RedisError

from dialogue.connection import connect, one_node
from gateway import background
from gateway.outage_log import OutageLog

__all__ = ["ChannelReader"]

log = logging.getLogger(__name__)

_SILENT_S: Final = 3.0
"""After so long without a message the server is asked whether it is there, and has as long again to answer."""
_RETRY_S: Final = 1.0
_WAIT_S: Final = 2.0


class ChannelReader:
    """One per process. `home` is always heard, other channels as they are wanted."""

    def __init__(
        self,
        redis_url: str,
        home: str,
        *,
        on_joined: Callable[[], Awaitable[None]],
        on_message: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        """`read_for_ever` connects.

        Args:
            on_joined: called each time that `home` is heard (again); what came before may have been missed.
            on_message: called with each message and its channel. Neither may take long; a RedisError or OSError of
                theirs counts as a lost connection.
        """
        # Its reads block; and a connection that is lost is ours to open again: see `read_for_ever`.
        self._client = connect(one_node(redis_url), timeout_s=None, decode_responses=False, retries=0)
        self._news = self._client.pubsub()
        self._joined = asyncio.Event()
        self._home = home
        self._wanted: set[str] = set()
        self._outage = OutageLog(log, "hearing what is published")
        self._on_joined = on_joined
        self._on_message = on_message

    async def hear(self, channels: set[str]) -> None:
        """Hear these besides `home`, and no others.

        Raises:
            RedisError, OSError: not now; ask again.
        """
        if channels == self._wanted:
            return
        async with asyncio.timeout(_WAIT_S):  # two that connected at once would leave one's channels behind
            await self._joined.wait()
        news, fresh, gone = self._news, channels - self._wanted, self._wanted - channels
        if fresh:
            await news.subscribe(*fresh)
        if gone:
            await news.unsubscribe(*gone)
        if news is self._news:  # the connection was not lost meanwhile
            self._wanted = (self._wanted | fresh) - gone

    async def read_for_ever(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._news.subscribe(self._home, *self._wanted)
                await self._read()
            except (RedisError, OSError) as error:
                background.heed_cancellation()
                self._outage.failed(error)
                await self._begin_anew()
                await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        asked = False
        while True:
            message = await self._news.get_message(timeout=_SILENT_S)
            background.heed_cancellation()
            if message is None:
                if asked:
                    raise ConnectionLostError("no answer to a ping")
                await self._news.ping()
                asked = True
                continue
            asked = False
            match message["type"]:
                case "message":
                    await self._on_message(message["channel"].decode(), message["data"])
                case "subscribe" if message["channel"].decode() == self._home:
                    self._outage.over()
                    self._joined.set()
                    await self._on_joined()

    async def _begin_anew(self) -> None:
        self._joined.clear()
        with suppress(RedisError, OSError):
            await self._news.aclose()  # type: ignore[no-untyped-call]
        self._news = self._client.pubsub()

    async def aclose(self) -> None:
        """Close the connection; `read_for_ever` must have ended."""
        with suppress(RedisError, OSError):
            await self._news.aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose()
