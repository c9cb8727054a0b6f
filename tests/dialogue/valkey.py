"""Servers of a test's own, that may be stopped, killed and started again: one Valkey, or a cluster of three."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from gateway.processes.embedded_redis import EmbeddedRedis, find_server_binary
from tests.ports import free_ports

__all__ = ["Cluster", "Valkey", "cluster", "valkey"]


class Valkey:
    """Keeps its data in an append-only file, or (`lasting` false) in memory only.

    The file is synced with every command: synced every second, it may be behind where the disk is busy.
    """

    def __init__(self, folder: Path, *, lasting: bool) -> None:
        self._folder = folder
        self._state = folder / "state" if lasting else None
        self.start()

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
        with redis.Redis(unix_socket_path=str(self._server.socket_path)) as client:
            client.config_set("appendfsync", "always")

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


class Cluster:
    """Primaries on loopback, each with an append-only file. Whoever has the machine's loopback can reach them."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.ports = free_ports(size)
        self._nodes = [self._start(port) for port in self.ports]
        self._join()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.ports[0]}"

    def kill(self, node: int) -> None:
        """One primary dies as if by the kernel: its share of the calls cannot be served."""
        self._nodes[node].kill()
        self._nodes[node].wait()

    def start(self, node: int) -> None:
        """Again, with what it kept."""
        self._nodes[node] = self._start(self.ports[node])
        self._wait()

    def stop(self) -> None:
        for process in self._nodes:
            process.kill()
            process.wait()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1000",
            "appendonly": "yes",
            "save": "",
            "dir": str(folder),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return subprocess.Popen([str(find_server_binary()), *words], stdout=subprocess.DEVNULL)

    def _join(self) -> None:
        size = len(self.ports)
        slots = [(n * 16384 // size, (n + 1) * 16384 // size - 1) for n in range(size)]
        for port, (first, last) in zip(self.ports, slots, strict=True):
            self._ask(port, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for port in self.ports[1:]:
            self._ask(self.ports[0], "CLUSTER", "MEET", "127.0.0.1", port)
        self._wait()

    def _wait(self) -> None:
        """Until every node says that all slots are served, by all."""
        deadline = time.monotonic() + 30
        while True:
            told = [str(self._ask(port, "CLUSTER", "INFO")) for port in self.ports]
            size = f"cluster_size:{len(self.ports)}"
            if all("cluster_state:ok" in text and size in text for text in told):
                return
            assert time.monotonic() < deadline, told
            time.sleep(0.05)

    def _ask(self, port: int, *words: str | int) -> object:
        deadline = time.monotonic() + 10
        while True:
            try:
                with redis.Redis(port=port, decode_responses=True) as client:
                    return client.execute_command(*words)
            except redis.ConnectionError:  # it is starting, or loads its file
                assert time.monotonic() < deadline
                time.sleep(0.02)


@contextmanager
def cluster(size: int = 3) -> Iterator[Cluster]:
    """A running cluster, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        made = Cluster(Path(folder), size)
        try:
            yield made
        finally:
            made.stop()
