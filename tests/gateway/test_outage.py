"""The store goes away under calls: those in progress go on, new ones are told so, acts outside wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from dialogue.loop import DialogueLoop
from dialogue.store import RedisStore
from dialogue.write_back import KeptStep, WriteBackStore
from tests.dialogue.valkey import Valkey, valkey
from tests.gateway.harness import Peer, Rig, rig
from tests.gateway.operator import operator

pytestmark = pytest.mark.redis

FLOW = """
start: first
no_input: {after_ms: never}
webhooks:
  note: {url: "http://127.0.0.1:9/crm"}
nodes:
  first: {ask: First, keys: {"1": second}}
  second: {ask: Second, keys: {"1": noted, "2": third}}
  noted: {say: One moment, webhook: note, then: third, failed: not_noted}
  not_noted: {say: Not noted, then: third}
  third: {ask: Third, keys: {"1": bye}}
  bye: {say: Good bye, hang_up: done}
"""


@asynccontextmanager
async def outage(
    folder: Path,
    server: Valkey,
    *,
    keep_s: float = 60.0,
    grace_s: float = 20.0,
    timeout_s: float = 0.2,
    flow: str = FLOW,
    environ: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Rig, RedisStore, list[KeptStep]]]:
    """A worker over a server of its own, whose store is away after `timeout_s` without an answer."""
    lasting = RedisStore.connect(server.url, timeout_s=timeout_s)
    steps: list[KeptStep] = []
    quiet = {"VOICEGATE_TURNS_FILLER_MS": "0", **(environ or {})}
    store = WriteBackStore(lasting, keep_s=keep_s, grace_s=grace_s, on_step=steps.append)
    try:
        async with store, rig(folder, store=store, flow=flow, environ=quiet) as running:
            yield running, lasting, steps
    finally:
        await lasting.close()


async def until_away(running: Rig, away: bool = True) -> None:
    """The watch sees it by itself."""
    async with asyncio.timeout(20):
        while running.services.store.away != away:
            await asyncio.sleep(0.01)


async def prompts(peer: Peer, count: int) -> list[str]:
    """The texts of the first `count` prompts, waited for."""
    await peer.event("prompt", count=count, timeout_s=20)
    return [event["text"] for event in peer.events if event["type"] == "prompt"]


async def node_of(store: RedisStore, running: Rig, call_id: str) -> str:
    loop = DialogueLoop(running.services.bots["tester"], store, call_id)
    await loop.open(exclusive=False)
    return loop.state.node


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_calls_in_progress_go_on_and_are_written_back(tmp_path: Path, how: str) -> None:
    with valkey() as server:
        async with outage(tmp_path, server) as (running, lasting, steps):
            peers = [await running.peer(start={"call_id": f"on-{n}"}) for n in range(6)]
            await asyncio.gather(*(prompts(peer, 1) for peer in peers))
            server.pause() if how == "paused" else server.kill()
            await asyncio.gather(*(peer.say(type="dtmf", digit="1") for peer in peers))
            assert (await asyncio.gather(*(prompts(peer, 2) for peer in peers))) == [["First", "Second"]] * 6
            # One loses its line, comes back, and goes on where it was.
            peers[0].abort()
            peers[0] = await running.peer(start={"call_id": "on-0"})
            assert (await peers[0].event("ready", timeout_s=20))["resumed"] is True
            assert (await prompts(peers[0], 1))[-1] == "Second"
            await asyncio.gather(*(peer.say(type="dtmf", digit="2") for peer in peers))
            for peer, count in zip(peers, [2, 3, 3, 3, 3, 3], strict=True):
                assert (await prompts(peer, count))[-1] == "Third"
            server.go_on() if how == "paused" else server.start()
            await until_away(running, False)
            assert {await node_of(lasting, running, f"on-{n}") for n in range(6)} == {"third"}
            assert KeptStep.LOST not in steps and KeptStep.WRITTEN in steps
            for peer in peers:
                await peer.say(type="dtmf", digit="1")
                assert (await peer.event("hangup", timeout_s=20))["reason"] == "done"


async def test_new_calls_are_told_and_ended(tmp_path: Path) -> None:
    with valkey() as server:
        async with outage(tmp_path, server, grace_s=0.2, timeout_s=1.5) as (running, _, _steps):
            server.pause()
            await until_away(running)
            peer = await running.peer(start={"call_id": "new"})
            assert "technical problem" in (await prompts(peer, 1))[0]
            assert (await peer.event("hangup", timeout_s=20))["reason"] == "unavailable"
            assert await peer.closed(20) == 1000
            assert len(peer.audio) > 0
            assert running.metric("voicegate_refused_total", reason="store_away") == 1
            assert running.metric("voicegate_calls_ended_total", ended_by="error") == 1
            server.go_on()
            await until_away(running, False)
            again = await running.peer(start={"call_id": "new"})
            assert await prompts(again, 1) == ["First"]


async def test_new_calls_are_refused_where_that_is_set(tmp_path: Path) -> None:
    with valkey() as server:
        environ = {"VOICEGATE_REDIS_NEW_CALLS_AWAY": "refuse"}
        async with outage(tmp_path, server, environ=environ) as (running, _, _steps):
            server.kill()
            await until_away(running)
            with pytest.raises(InvalidStatus) as refused:
                await running.peer()
            assert refused.value.response.status_code == 503
            assert "Retry-After" in refused.value.response.headers
            assert running.metric("voicegate_refused_total", reason="store_away") == 1


async def test_a_call_that_outlasts_its_time_from_memory_ends_politely(tmp_path: Path) -> None:
    with valkey() as server:
        async with outage(tmp_path, server, keep_s=0.0, timeout_s=1.0) as (running, lasting, _steps):
            peer = await running.peer(start={"call_id": "too-long"})
            await prompts(peer, 1)
            server.pause()
            await peer.say(type="dtmf", digit="1")
            assert "technical problem" in (await prompts(peer, 2))[1]
            assert (await peer.event("hangup", timeout_s=20))["reason"] == "unavailable"
            server.go_on()
            await until_away(running, False)
            assert await node_of(lasting, running, "too-long") in ("first", "second")  # it may have landed late


@pytest.mark.parametrize("wait_s", ["30", "0.3"])
async def test_an_act_waits_for_its_step_or_is_not_done(tmp_path: Path, wait_s: str) -> None:
    with valkey() as server, operator() as crm:
        flow = FLOW.replace("http://127.0.0.1:9/crm", crm.url)
        environ = {"VOICEGATE_WEBHOOKS_HOSTS": "127.0.0.1", "VOICEGATE_WEBHOOKS_TOTAL_S": wait_s}
        async with outage(tmp_path, server, flow=flow, environ=environ) as (running, _, _steps):
            peer = await running.peer(start={"call_id": "act"})
            await prompts(peer, 1)
            server.pause()
            await peer.say(type="dtmf", digit="1")
            await prompts(peer, 2)
            await peer.say(type="dtmf", digit="1")
            await prompts(peer, 3)
            if wait_s == "30":
                server.go_on()
                assert await prompts(peer, 4) == ["First", "Second", "One moment", "Third"]
                assert [posted.headers["Idempotency-Key"] for posted in crm.posted] == ["act/1"]
            else:
                assert await prompts(peer, 5) == ["First", "Second", "One moment", "Not noted", "Third"]
                server.go_on()
                await until_away(running, False)
                assert crm.posted == []
                assert running.metric("voicegate_webhooks_total", outcome="store_away") == 1
