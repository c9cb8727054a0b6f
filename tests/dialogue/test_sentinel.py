"""A primary that Sentinels name dies, its replica takes its place: the client finds it, the inference seam goes on."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as sync_redis
from redis.asyncio import SSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from dialogue.connection import connect
from gateway.processes.embedded_redis import find_server_binary
from tests.gateway.inference.streams.pool import asking, job, pool, serving
from tests.ports import free_ports

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@dataclass
class Watched:
    """A primary, its replica, and the Sentinel that watches them."""

    url: str
    primary: subprocess.Popen[bytes]
    replica_port: int


@contextmanager
def watched() -> Iterator[Watched]:
    """Running, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        ports = free_ports(3)
        processes: list[subprocess.Popen[bytes]] = []

        def start(port: int, *options: str) -> None:
            (home := Path(folder) / str(port)).mkdir()
            (home / "conf").write_text("\n".join([f"port {port}", "bind 127.0.0.1", f"dir {home}", *options]))
            mode = ["--sentinel"] if "sentinel resolve-hostnames no" in options else []
            command = [str(find_server_binary()), str(home / "conf"), *mode]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

        try:
            start(ports[0], 'save ""')
            start(ports[1], 'save ""', f"replicaof 127.0.0.1 {ports[0]}", "repl-diskless-sync-delay 0")
            replica = sync_redis.Redis(port=ports[1], retry=Retry(NoBackoff(), 0))
            wait(lambda: replica.info("replication")["master_link_status"] == "up")
            start(
                ports[2],
                "sentinel resolve-hostnames no",
                f"sentinel monitor voice 127.0.0.1 {ports[0]} 1",
                "sentinel down-after-milliseconds voice 500",
                "sentinel failover-timeout voice 5000",
            )
            guard = sync_redis.Redis(port=ports[2], decode_responses=True)
            wait(lambda: len(guard.sentinel_slaves("voice")) == 1)
            yield Watched(f"redis+sentinel://127.0.0.1:{ports[2]}/voice/0", processes[0], ports[1])
        finally:
            for process in processes:
                process.kill()
                process.wait()


def wait(condition: object) -> None:
    """Until it is so, and the server answers."""
    assert callable(condition)
    deadline = time.monotonic() + 30
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_a_lost_primary_is_followed_to_its_replica() -> None:
    with watched() as three:
        settings = pool()
        client = connect(three.url, timeout_s=2.0)
        try:
            assert await client.set("kept", "yes")
            assert await client.wait(1, 10_000) == 1
            async with serving(three.url, settings), asking(three.url, settings) as asker:
                assert (await asker.transcribe(job(300), timeout_s=60)).transcript.text == "300"
                three.primary.kill()
                late = asyncio.create_task(asker.transcribe(job(301), timeout_s=60))
                assert (await late).transcript.text == "301"
                assert (await client.get("kept"), await client.set("new", "yes")) == ("yes", True)
            with sync_redis.Redis(port=three.replica_port, decode_responses=True) as replica:
                assert replica.get("new") == "yes"
        finally:
            await client.aclose()


@pytest.mark.parametrize("url", ["redis+sentinel://host:26379", "redis+sentinel://host:26379/"])
def test_an_address_without_a_service_says_so(url: str) -> None:
    with pytest.raises(ValueError, match="ends with the service's name"):
        connect(url, timeout_s=1.0)


async def test_an_address_in_full_gives_every_connection_its_options() -> None:
    url = "rediss+sentinel://ann:p%40ss@one:1,two/voice/3?ssl_cert_reqs=none"
    client = connect(url, timeout_s=1.0)
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("ann", "p@ss", 3)
    pools = [sentinel.connection_pool for sentinel in client.connection_pool.sentinel_manager.sentinels]  # type: ignore[attr-defined]
    assert [(each.connection_kwargs["host"], each.connection_kwargs["port"]) for each in pools] == [
        ("one", 1),
        ("two", 26379),
    ]
    assert all(each.connection_kwargs.get("password") is None for each in pools)
    assert {each.connection_class for each in pools} == {SSLConnection}
    await client.aclose()
