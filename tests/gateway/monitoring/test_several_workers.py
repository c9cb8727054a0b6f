"""What watchers see of calls at several workers, while Redis or a worker is away and once it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLostError

from dialogue.store import MemoryStore
from gateway.monitoring import channels, hub, sockets
from gateway.monitoring.board import CallBoard
from gateway.monitoring.bridge import MonitorBridge
from tests.dialogue.valkey import Valkey, valkey
from tests.gateway.harness import Peer, Rig, rig, silence, speech
from tests.gateway.http_harness import Api, api
from tests.gateway.monitoring.floor import Floor, MonitorSocket

pytestmark = pytest.mark.redis

ENVIRON = {"VOICEGATE_LIMITS_FLOOD_S": "60"}  # tests speak faster than callers


class Site:
    """Two workers that share a store, and a control plane."""

    def __init__(self, workers: list[Rig], bridges: list[MonitorBridge], control: Api) -> None:
        self.workers = workers
        self.bridges = bridges
        self.control = control
        self.desk = Floor(workers[0], control)

    async def call(self, worker: int, call_id: str) -> Peer:
        """A call at a worker, whose greeting is being heard."""
        peer = await self.workers[worker].peer(start={"call_id": call_id})
        await peer.event("prompt")
        return peer

    async def listed(self) -> dict[str, Any]:
        answer = await self.control.client.get("/v1/calls")
        return dict(answer.json()) if answer.status_code == 200 else {}

    async def until_workers(self, count: int) -> None:
        async with asyncio.timeout(20):
            while (await self.listed()).get("workers") != count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def bridged(redis_url: str, worker: Rig, name: str) -> AsyncIterator[MonitorBridge]:
    services = worker.services
    monitoring = services.settings.monitoring
    async with MonitorBridge(
        redis_url,
        services.bus,
        lambda: worker.worker.sessions,
        monitoring,
        services.metrics,
        services.webhooks,
        name=name,
    ) as bridge:
        yield bridge


@asynccontextmanager
async def site(redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for module, name in ((channels, "_RETRY_S"), (sockets, "_SNAPSHOT_EVERY_S"), (hub, "_DOUBT_S")):
        monkeypatch.setattr(module, name, 0.05)
    store = MemoryStore()
    async with (
        rig(folder / "1", hear="more", store=store, environ=ENVIRON) as one,
        rig(folder / "2", hear="more", store=store, environ=ENVIRON) as two,
        bridged(redis_url, one, "one") as first,
        bridged(redis_url, two, "two") as second,
        api(redis_url, one.services.bots["tester"].directory, environ=ENVIRON) as control,
    ):
        made = Site([one, two], [first, second], control)
        await made.until_workers(2)
        try:
            yield made
        finally:
            for ws in made.desk._open:
                await ws.close()


async def turn(peer: Peer) -> None:
    """The caller says something, and the bot answers."""
    before = peer.kinds().count("prompt")
    await peer.send(silence(100))
    await peer.send(speech())
    await peer.send(silence(2000))
    await peer.event("prompt", count=before + 1)


async def behind(watcher: MonitorSocket, line: dict[str, Any], kind: str, **fields: Any) -> dict[str, Any]:
    """The first line of a kind that comes behind another one."""
    at = next(index for index, one in enumerate(watcher.lines) if one is line)

    def found() -> list[dict[str, Any]]:
        return [one for one in watcher.lines[at + 1 :] if one["type"] == kind and fields.items() <= one.items()]

    async with asyncio.timeout(20):
        while not found():
            await watcher.more()
    return found()[0]


async def until_live(watcher: MonitorSocket, call_ids: set[str]) -> None:
    """Until a board of what the watcher was told has these calls in progress, and no others."""
    board, taken = CallBoard(), 0
    async with asyncio.timeout(20):
        while True:
            for line in watcher.lines[taken:]:
                board.apply(line, time.monotonic())
            taken = len(watcher.lines)
            if {row.call_id for row in board.rows(0.0) if not row.ended_at} == call_ids:
                return
            await watcher.more()


@pytest.mark.parametrize("worker", [0, 1])
async def test_one_call_s_stream_begins_with_all_of_it_whichever_worker_has_it(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: int
) -> None:
    async with site(redis_url, tmp_path, monkeypatch) as at:
        await at.call(1 - worker, "other")
        peer = await at.call(worker, "mine")
        await turn(peer)
        watcher = await at.desk.watch("?call=mine")
        watching = await watcher.until("watching")
        assert (watching["calls"], watching["complete"]) == (1, True)
        present = await watcher.until("call_present")
        assert (present["call_id"], [past["said"] for past in present["history"]]) == ("mine", ["more"])
        await turn(peer)
        await watcher.until("turn_understood")
        await watcher.until("prompt_started")
        seqs = [line["seq"] for line in watcher.lines if "seq" in line]
        assert seqs == list(range(present["seq"], present["seq"] + len(seqs)))  # no gap, nothing twice


async def test_a_call_that_is_resumed_at_another_worker_goes_on_for_who_watches_it(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(redis_url, tmp_path, monkeypatch) as at:
        first = await at.call(0, "moved")
        await turn(first)
        watcher = await at.desk.watch("?call=moved")
        present = await watcher.until("call_present")
        second = await at.workers[1].peer(start={"call_id": "moved"})
        started = await watcher.until("call_started", resumed=True)
        assert started["epoch"] == present["epoch"] + 1
        late = await at.desk.watch("?call=moved")  # while the first worker still believes that it has the call
        assert (await late.until("call_present"))["epoch"] == started["epoch"]
        first.abort()  # the line that was lost is noticed behind that
        await at.workers[0].no_calls()
        await second.event("prompt")
        await turn(second)
        await watcher.until("turn_understood", epoch=started["epoch"])
        await second.say(type="stop")
        await watcher.until("call_ended", ended_by="caller")
        assert [line["epoch"] for line in watcher.lines if line["type"] == "call_ended"] == [started["epoch"]]


async def test_events_that_a_worker_could_not_send_are_told_where_they_are_missing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(redis_url, tmp_path, monkeypatch) as at:
        peer = await at.call(1, "gappy")
        watcher = await at.desk.watch("?call=gappy")
        present = await watcher.until("call_present")
        send, lost = at.bridges[1]._send, 0

        async def lose(events: list[Any]) -> None:
            nonlocal lost
            lost += len(events)
            raise ConnectionLostError

        monkeypatch.setattr(at.bridges[1], "_send", lose)
        await turn(peer)
        async with asyncio.timeout(20):
            while lost < 4:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(at.bridges[1], "_send", send)
        fresh = await behind(watcher, present, "call_present")  # before anything else happens
        dropped = await watcher.until("dropped")
        assert dropped["call_id"] == "gappy" and dropped["after_seq"] >= present["seq"]
        assert watcher.lines.index(dropped) < watcher.lines.index(fresh)
        await turn(peer)
        async with asyncio.timeout(20):
            while watcher.lines[-1]["type"] != "call_present" or len(watcher.lines[-1]["history"]) < 2:
                at.bridges[1]._told_too_little = True  # so that the whole may be counted at the end
                await watcher.more()
        # Every event was told, or is in the place where it is missing.
        at_seq = present["seq"]
        for line in watcher.lines[watcher.lines.index(present) + 1 :]:
            if line["type"] == "dropped":
                assert line["after_seq"] == at_seq
                at_seq += line["count"]
            elif "seq" in line:
                at_seq += line["type"] != "call_present"
                assert line["seq"] == at_seq
        assert sum(line["count"] for line in watcher.lines if line["type"] == "dropped") >= lost


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_when_redis_is_back_watchers_see_the_calls_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(channels, "_SILENT_S", 0.3)
    with valkey(lasting=False) as server:
        async with site(server.url, tmp_path, monkeypatch) as at:
            await at.call(0, "goes-on")
            leaves = await at.call(1, "leaves")
            watcher, one = await at.desk.watch(), await at.desk.watch("?call=comes")
            await until_live(watcher, {"goes-on", "leaves"})
            await _away(server, how)
            await leaves.say(type="stop")
            await leaves.closed()
            await at.call(1, "comes")
            await _back(server, how)
            await until_live(watcher, {"goes-on", "comes"})
            await until_live(one, {"comes"})
            await at.call(0, "later")
            await until_live(watcher, {"goes-on", "comes", "later"})


async def test_who_listens_while_redis_goes_away_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "RENEW_S", 0.1)
    monkeypatch.setattr(sockets, "LEASE_S", 0.5)
    with valkey(lasting=False) as server:
        async with site(server.url, tmp_path, monkeypatch) as at:
            await at.call(0, "heard")
            ear = await at.desk.listen("heard")
            await ear.text("listening")
            server.kill()
            async with asyncio.timeout(20):
                await ear.ws.wait_closed()
            assert ear.ws.close_code == 1013
            server.start()


async def _away(server: Valkey, how: str) -> None:
    if how == "killed":
        server.kill()
    else:
        server.pause()


async def _back(server: Valkey, how: str) -> None:
    if how == "killed":
        server.start()
    else:
        server.go_on()


async def test_a_worker_that_starts_is_heard_of_at_once(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first calls are not those that nobody was told of, while a lease waits to be renewed."""
    monkeypatch.setattr(hub, "RENEW_S", 60.0)
    async with site(redis_url, tmp_path, monkeypatch) as at:
        watcher = await at.desk.watch()
        async with rig(tmp_path / "3", environ=ENVIRON) as third, bridged(redis_url, third, "three"):
            await watcher.until("watching", workers=3)
            await third.peer(start={"call_id": "early"})
            await watcher.until("call_started", call_id="early")


async def test_a_lease_that_was_not_renewed_in_time_raises_a_doubt(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers have stopped to count events by then, so that no gap in them would tell."""
    monkeypatch.setattr(hub, "RENEW_S", 0.1)
    async with site(redis_url, tmp_path, monkeypatch) as at:
        watcher = await at.desk.watch()
        first = await watcher.until("watching")
        monkeypatch.setattr(hub, "LEASE_S", 0.0)  # every renewal is late now
        await behind(watcher, first, "watching")
