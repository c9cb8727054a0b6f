"""The embedded Valkey of a gateway, replaced when it dies or hangs.

With a state directory nothing older than a second is lost; calls in progress write their newest state again.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from gateway.processes.embedded_redis import EmbeddedRedis, EmbeddedRedisError

__all__ = ["RedisKeeper"]

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.25


class RedisKeeper:
    """Starts the server, on the main thread; `keep` is a task of the same thread's loop."""

    def __init__(self, state_dir: Path | None, runtime: Path, *, hang_s: float) -> None:
        """
        Args:
            state_dir, runtime: see `EmbeddedRedis`.
            hang_s: a server that answers nothing for about so long is replaced.

        Raises:
            EmbeddedRedisError: it cannot run.
        """
        self._state_dir = state_dir
        self._runtime = runtime
        self._hang_s = hang_s
        self._server = EmbeddedRedis(state_dir, runtime)

    @property
    def url(self) -> str:
        """The same for every server that comes after this one."""
        return self._server.url

    @property
    def pid(self) -> int:
        """Of the present server."""
        return self._server.pid

    def stop(self) -> None:
        """End the server, once `keep` is cancelled."""
        self._server.stop()

    async def keep(self) -> None:
        """Look after the server for ever."""
        silent = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._server.is_running():
                # Looks are counted, not seconds: of a machine that was suspended one has failed, and not all.
                silent = silent + 1 if await asyncio.to_thread(self._server.hangs) else 0
                if silent < self._hang_s:  # a look takes a second where nothing answers
                    continue
                self._server.kill()
            log.error("the embedded Redis %s; starting it again", "hangs" if silent else "died")
            silent = 0
            self._server.stop()  # lets go of its directory
            try:
                # On this thread: the server dies with the thread that started it.
                self._server = EmbeddedRedis(self._state_dir, self._runtime)
            except EmbeddedRedisError as exc:
                log.error("the embedded Redis does not start: %s", exc)
