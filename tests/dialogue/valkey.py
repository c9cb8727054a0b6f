"""A Valkey of a test's own, that may be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.embedded_redis import EmbeddedRedis

__all__ = ["Valkey", "valkey"]


class Valkey:
    """Keeps its data in an append-only file, or (`lasting` false) in memory only."""

    def __init__(self, folder: Path, *, lasting: bool) -> None:
        self._folder = folder
        self._state = folder / "state" if lasting else None
        self._server = EmbeddedRedis(self._state, folder)

    @property
    def url(self) -> str:
        return self._server.url

    def pause(self) -> None:
        """It hangs: connections are taken, nothing is answered."""
        os.kill(self._server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """What waited in its sockets is carried out now."""
        os.kill(self._server.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It dies as if by the kernel."""
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()

    def start(self) -> None:
        """Again, on the same socket, with what it kept."""
        self._server = EmbeddedRedis(self._state, self._folder)

    def stop(self) -> None:
        """At the end of the test, in whatever state it is."""
        if self._server.is_running():
            os.kill(self._server.pid, signal.SIGCONT)
        self._server.stop()


@contextmanager
def valkey(*, lasting: bool = True) -> Iterator[Valkey]:
    """A running server, gone afterwards."""
    # Not under pytest's own tmp_path: its names grow past what a Unix socket path may have.
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        server = Valkey(Path(folder), lasting=lasting)
        try:
            yield server
        finally:
            server.stop()
