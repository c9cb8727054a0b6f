"""A Redis behind TLS, with a user who may do what docs/operations.md allows and no more: everything of ours works."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry
from redis.exceptions import NoPermissionError

from dialogue.connection import connect
from dialogue.store import RedisStore
from gateway.access.own_certificate import host_name, issue
from gateway.http.answer_store import AnswerStore
from gateway.metrics import Metrics
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.processes.presence import Presence, present_workers
from gateway.records.call_archive import CallArchive
from gateway.records.callers import Callers
from gateway.records.results import CallRecords
from gateway.settings import load
from tests.gateway.harness import rig
from tests.gateway.inference.streams.pool import asking, job, pool, serving
from tests.gateway.monitoring.floor import floor

pytestmark = pytest.mark.redis

OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"
PASSWORD = "correct-horse"


def documented_user() -> list[str]:
    """Of ACL SETUSER, as operators are told it."""
    (line,) = re.findall(r"^ACL SETUSER (.+)$", OPERATIONS.read_text(encoding="utf-8"), flags=re.M)
    return [str(word) for word in line.replace("PASSWORD", PASSWORD).split()]


class Front:
    """TLS in front of a server's socket: the bundled Valkey is built without."""

    def __init__(self, inside: Path) -> None:
        self._inside = inside
        self._lines: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        there, back = await asyncio.open_unix_connection(self._inside)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    async def over(self) -> None:
        """Until nobody is connected any more."""
        async with asyncio.timeout(20):
            while self._lines:
                await asyncio.wait(self._lines)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def guarded(folder: Path, server: EmbeddedRedis) -> AsyncIterator[str]:
    """The server's address, as that user has it."""
    made = issue([host_name("127.0.0.1")], days=1, now=datetime.now(UTC))
    files = {"key.pem": made.key, "certificate.pem": made.certificate, "authority.pem": made.authority}
    for name, pem in files.items():
        await asyncio.to_thread((folder / name).write_bytes, pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    front = Front(server.socket_path)
    listener = await asyncio.start_server(front.answer, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"rediss://voicegate:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={folder / 'authority.pem'}"
    finally:
        listener.close()
        await front.over()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """For a worker each."""
    made = (tmp_path / "calls", tmp_path / "watched")
    for folder in made:
        folder.mkdir()
    return made


async def test_everything_works_that_has_to_with_a_redis(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="vg-") as short, EmbeddedRedis(None, Path(short)) as server:
        async with redis.Redis(unix_socket_path=str(server.socket_path), decode_responses=True) as owner:
            await owner.execute_command("ACL", "SETUSER", *documented_user())
            async with guarded(tmp_path, server) as url:
                await calls_and_records(url, folders[0])
                await jobs_over_streams(url)
                await supervisors(url, folders[1])
                assert await owner.acl_log() == []
                async with connect(url, timeout_s=5) as client:
                    for command in (("GET", "others"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "vg:*")):
                        with pytest.raises(NoPermissionError):
                            await client.execute_command(*command)


async def calls_and_records(url: str, folder: Path) -> None:
    """A call that is written down, its caller's next, a worker that is there, an answer kept."""
    settings = load(environ={})
    records = CallRecords(url, settings.results, Metrics(CollectorRegistry()), ttl_s=120)
    store, client = RedisStore.connect(url, ttl_s=120), connect(url, timeout_s=5)
    callers = Callers(client, come_back_s=60, ttl_s=120, worker_key="vg:worker:{here}:1")
    presence = Presence(url, gateway="here", name="1", calls=lambda: 0)
    async with records, presence, rig(folder, store=store, records=records, callers=callers) as running:
        peer = await running.peer(start={"call_id": "guarded", "caller": "+15550100"})
        await peer.event("ready", timeout_s=20)
        await peer.say(type="stop")
        await peer.closed(20)
        await running.no_calls(20)
        await records.sweep(time.time() + 1000, 0.0)
        async with asyncio.timeout(20):
            while not (await present_workers(client, "here")).serving:
                await asyncio.sleep(0.01)
        assert await AnswerStore(client, ttl_s=60).keep("guarded", "intent:1", "{}") == "{}"
        archive = CallArchive(client, records=settings.results.stream)
        (stored,) = await archive.find(["guarded"])
        assert stored.state is not None and [record["ended_by"] for record in stored.records] == ["caller"]
        assert (await archive.forget(["guarded"])).records == 1
    await store.close()
    await client.aclose()


async def jobs_over_streams(url: str) -> None:
    settings = pool()
    async with serving(url, settings) as models, asking(url, settings) as client:
        heard = await client.transcribe(job(400), timeout_s=20)
        assert heard.transcript.text == "400" and models.asked == ["400"]


async def supervisors(url: str, folder: Path) -> None:
    """One watches a call, and listens."""
    async with floor(url, folder, keeps=True) as at:
        watcher = await at.watch()
        peer = await at.calls.peer(start={"call_id": "watched"})
        await watcher.until("call_started", call_id="watched")
        ear = await at.listen("watched")
        await ear.text("listening")
        await peer.say(type="stop")
        await watcher.until("call_ended", call_id="watched")
