"""Hosts on one Linux machine: network namespaces, each with an address of its own, joined by a bridge.

    callers (this process) 10.77.0.254 ── bridge ──┬── redis  10.77.0.1
                                                   ├── calls1 10.77.0.11
                                                   └── ...

All of it is in a network namespace of this process's own (`isolated`), and gone with it. A host that is cut off is so
as if its cable were pulled: what is sent to it vanishes, and nobody is told.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final

__all__ = ["Host", "Network", "NoNamespacesError", "isolated"]

CALLERS: Final = "10.77.0.254"
_INSIDE: Final = "BENCH_ISOLATED"
_STOP_S: Final = 20.0


class NoNamespacesError(Exception):
    """Namespaces cannot be made here; the message says why and what to do."""


def isolated(command: Sequence[str]) -> int | None:
    """Run this command again with a network of its own, unless this is that run.

    Returns:
        Its exit code; None where this process is the one that has the network.

    Raises:
        NoNamespacesError: the kernel will not have it.
    """
    if os.environ.get(_INSIDE):
        return None
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise NoNamespacesError("`unshare` is not here; install util-linux") from exc
    if tried.returncode:
        raise NoNamespacesError(
            f"no network namespace can be made ({tried.stderr.strip()}); be root, or allow unprivileged user namespaces"
        )
    return subprocess.run([*unshare, *command], env={**os.environ, _INSIDE: "1"}, check=False).returncode


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
    except FileNotFoundError as exc:
        raise NoNamespacesError("`ip` is not here; install iproute2") from exc
    except subprocess.CalledProcessError as exc:
        raise NoNamespacesError(f"ip {' '.join(words)}: {exc.stderr.strip()}") from exc


class Host:
    """One host; it lives as long as its network."""

    def __init__(self, name: str, address: str) -> None:
        """Raises NoNamespacesError."""
        self.name = name
        self.address = address
        # Holds the namespace, and says when it is in it: a link can only be moved there then.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
            preexec_fn=_die_with_us,
        )
        self._running: list[subprocess.Popen[bytes]] = []
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        _ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        _ip("link", "set", self._port, "master", "hosts", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    @property
    def _port(self) -> str:
        return f"to-{self.name}"[:15]  # IFNAMSIZ

    def run(self, *command: str) -> None:
        """Run a command there, to its end. Raises NoNamespacesError."""
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoNamespacesError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")

    def start(
        self, *command: str, environ: dict[str, str] | None = None, quiet: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start a program there; it is ended with the host."""
        sink = subprocess.DEVNULL if quiet else None
        process = subprocess.Popen(
            [*self._enter, *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(environ or {})},
            preexec_fn=_die_with_us,
        )
        self._running.append(process)
        return process

    def cut_off(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self._port, "down")

    def join_again(self) -> None:
        """And put it back."""
        _ip("link", "set", self._port, "up")

    def take_address(self, address: str) -> None:
        """Answer under another address too, and tell the neighbours, as a fail-over with a floating address does."""
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")

    def end(self) -> None:
        """Stop what runs there, and the host."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._holder.pid), "--net"]


class Network:
    """The bridge and its hosts. Use as a context, in an isolated process."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []

    def __enter__(self) -> Network:
        """Raises NoNamespacesError."""
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "hosts", "type", "bridge")
        _ip("address", "add", f"{CALLERS}/24", "dev", "hosts")
        _ip("link", "set", "hosts", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in reversed(self._hosts):
            host.end()

    def host(self, name: str, address: str) -> Host:
        """Add a host. Raises NoNamespacesError."""
        made = Host(name, address)
        self._hosts.append(made)
        return made

    def forget(self, address: str) -> None:
        """Have everybody ask anew who has an address."""
        for where in (None, *self._hosts):
            words = ["ip", "neigh", "flush", "to", address]
            if where is None:
                subprocess.run(words, capture_output=True, check=False)
            else:
                where.run(*words)


def _die_with_us() -> None:
    """In a child between fork and exec: gone with this process, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9)
