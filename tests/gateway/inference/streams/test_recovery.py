"""What dies, and who does its work: inference workers as real processes, killed and stopped; askers; Redis itself."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audio.asr import AsrJob
from dialogue.connection import connect
from gateway import background
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import InferenceError
from gateway.inference.streams.client import StreamInference
from gateway.inference.streams.recovery import ASKER, GROUP, Recovery, RedisClock
from gateway.inference.streams.server import StreamServer
from gateway.inference.streams.wire import FIELD, Kind, ShardKeys
from gateway.settings import InferenceSettings
from tests.dialogue.valkey import cluster, valkey
from tests.gateway.inference.streams.pool import Models, asking, child, job, pool, serving, until

pytestmark = pytest.mark.redis

OPERATIONS = Path(__file__).parent.parent.parent.parent.parent / "docs" / "operations.md"


async def ask(client: StreamInference, utterance: AsrJob) -> str:
    return (await client.transcribe(utterance, timeout_s=60)).transcript.text


async def test_a_killed_workers_jobs_are_done_by_another_once(redis_url: str) -> None:
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client:
        async with child(redis_url, settings) as victim:
            waiting = [asyncio.create_task(ask(client, job(100 + n))) for n in range(3)]
            await victim.said("102")
            await victim.kill()
            async with serving(redis_url, settings) as models:
                assert await asyncio.gather(*waiting) == ["100", "101", "102"]
                assert sorted(models.asked) == ["100", "101", "102"]
                assert await ask(client, job(400)) == "400"
    assert await nothing_left(redis_url, settings)


async def test_speculations_that_a_worker_holds_keep_it_from_no_dead_ones_job(redis_url: str) -> None:
    settings, models = pool(), Models()
    models.gate.clear()
    async with asking(redis_url, settings, wait=False) as client:
        async with child(redis_url, settings) as victim:
            waiting = asyncio.create_task(ask(client, job(300)))
            await victim.said("300")
            await client.wait_connected()
            await victim.kill()
        speculations = [
            asyncio.create_task(client.transcribe(job(100 + n), errand=Errand(Urgency.SPECULATIVE), timeout_s=60))
            for n in range(8)
        ]
        async with serving(redis_url, settings, models, batch=1):
            await until(lambda: "107" in models.asked)
            await until(lambda: "300" in models.asked)
            models.gate.set()
            assert await waiting == "300"
            await asyncio.gather(*speculations)


async def test_what_a_killed_worker_had_answered_is_not_done_again(redis_url: str) -> None:
    settings = pool()
    both = {"hung": asyncio.Event(), "quick": asyncio.Event()}

    class Halves(Models):
        async def _work(self, what: str, timeout_s: float, errand: Errand) -> None:
            await super()._work(what, timeout_s, errand)
            if what == "101":
                both["hung"].set()
                await asyncio.Event().wait()

    async with asking(redis_url, settings, wait=False) as client:
        waiting = [asyncio.create_task(ask(client, job(100 + n))) for n in range(3)]
        await until(lambda: client._waiting and client._outbox.is_empty)  # they share entries: they came at once
        async with serving(redis_url, settings, Halves()) as first:
            await both["hung"].wait()
            await until(lambda: waiting[0].done() and waiting[2].done())
        async with serving(redis_url, settings) as second:
            assert await asyncio.gather(*waiting) == ["100", "101", "102"]
        assert sorted(first.asked) == ["100", "101", "102"]
        assert second.asked == ["101"]


async def test_a_worker_that_was_only_slow_answers_too_late_and_is_not_heard(redis_url: str) -> None:
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client:
        async with child(redis_url, settings) as slow:
            waiting = asyncio.create_task(ask(client, job(300)))
            await slow.said("300")
            slow.signal(signal.SIGSTOP)
            async with serving(redis_url, settings) as models:
                assert await waiting == "300"
                assert models.asked == ["300"]
                slow.signal(signal.SIGCONT)
                slow.answer()
                await until(lambda: len(client._workers) == 2)  # it is back among the living
                assert sorted(await asyncio.gather(*(ask(client, job(500 + n)) for n in range(8)))) == [
                    str(500 + n) for n in range(8)
                ]
                assert not client._waiting
    assert await nothing_left(redis_url, settings)


async def test_a_request_under_which_two_workers_died_is_given_up(redis_url: str) -> None:
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client:
        waiting = asyncio.create_task(ask(client, job(300)))
        for _ in range(2):
            async with child(redis_url, settings) as victim:
                await victim.said("300")
                await victim.kill()
        async with serving(redis_url, settings) as models:
            with pytest.raises(InferenceError, match="died 2 times under this request"):
                await waiting
            assert await ask(client, job(400)) == "400"
            assert models.asked == ["400"]


async def test_a_worker_that_stops_in_order_leaves_its_jobs_to_others_at_once(redis_url: str) -> None:
    settings = pool(dead_after_s=60)
    async with asking(redis_url, settings, wait=False) as client:
        stuck = Models()
        stuck.gate.clear()
        async with serving(redis_url, settings, stuck):
            waiting = asyncio.create_task(ask(client, job(300)))
            await until(lambda: stuck.asked == ["300"])
        async with serving(redis_url, settings):
            assert await waiting == "300"


async def test_an_asker_that_died_costs_nothing_and_leaves_no_key(redis_url: str) -> None:
    settings = pool()
    async with serving(redis_url, settings, batch=1) as models:
        models.gate.clear()
        dead = StreamInference(redis_url, settings)
        await dead.__aenter__()
        asked = [asyncio.create_task(ask(dead, job(100 + n))) for n in range(40)]
        await until(lambda: models.asked)
        await until(lambda: dead._outbox.is_empty)
        await background.stop(dead._tasks)  # it does nothing any more: no leave, no word about its jobs
        await until(lambda: models.cancelled)
        models.gate.set()
        left = connect(redis_url, timeout_s=5.0)
        keys = ShardKeys(settings.pool, 0)
        async with asyncio.timeout(20):
            while await left.hexists(keys.beats, ASKER + dead.name) or await left.exists(keys.answers(dead.name)):
                await asyncio.sleep(0.01)
            while sum([await left.xlen(stream) for stream in keys.all_jobs]):
                await asyncio.sleep(0.01)
        await background.stop(asked)
        await left.aclose()
        await dead.__aexit__()
        assert len(models.asked) < 40


async def test_entries_that_were_given_and_never_seen_are_found(redis_url: str) -> None:
    """The connection broke under the answer of a read."""
    settings = pool()
    async with serving(redis_url, settings, batch=1) as models, asking(redis_url, settings) as client:
        models.gate.clear()
        waiting = []
        for number in range(3):  # it holds two, and reads no more
            waiting.append(asyncio.create_task(ask(client, job(100 + number))))
            await until(partial(lambda count: len(models.asked) == count, min(2, number + 1)))
        await until(lambda: client._waiting and client._outbox.is_empty)
        lost = connect(redis_url, timeout_s=5.0, decode_responses=False)
        stream = ShardKeys(settings.pool, 0).jobs(Kind.ASR, Urgency.ENDPOINT)
        (worker,) = client._workers
        read: Any = await lost.xreadgroup(GROUP, worker, {stream: ">"}, block=10_000)
        ((_, entries),) = read
        assert len(entries) == 1
        await lost.aclose()
        models.gate.set()
        assert await asyncio.gather(*waiting) == ["100", "101", "102"]


async def nothing_left(url: str, settings: InferenceSettings) -> bool:
    """Whether all entries were done and acknowledged."""
    client = connect(url, timeout_s=5.0)
    try:
        async with asyncio.timeout(20):
            while sum([await client.xlen(stream) for stream in ShardKeys(settings.pool, 0).all_jobs]):
                await asyncio.sleep(0.01)
        return True
    finally:
        await client.aclose()


# The server itself.


async def test_a_server_that_comes_back_without_its_memory_is_asked_again() -> None:
    with valkey(lasting=False) as server:
        settings = pool()
        async with asking(server.url, settings, wait=False) as client, serving(server.url, settings) as models:
            await client.wait_connected()
            models.gate.clear()
            waiting = [asyncio.create_task(ask(client, job(100 + n))) for n in range(3)]
            await until(lambda: len(models.asked) == 3)
            server.kill()
            await until(lambda: not client.connected)
            with pytest.raises(InferenceError, match="no inference worker is connected"):
                await client.transcribe(job(), timeout_s=0.1)
            with pytest.raises(InferenceError, match="for a partial job"):
                await client.transcribe(job(), errand=Errand(Urgency.PARTIAL))
            waiting.append(asyncio.create_task(ask(client, job(103))))
            models.gate.set()
            server.start()
            assert await asyncio.gather(*waiting) == ["100", "101", "102", "103"]
            await until(lambda: not client._waiting)


async def test_memory_that_is_lost_again_and_again_is_asked_again_each_time() -> None:
    with valkey(lasting=False) as server:
        settings = pool(dead_after_s=2)
        async with serving(server.url, settings) as models, asking(server.url, settings) as client:
            models.gate.clear()
            waiting = asyncio.create_task(ask(client, job(300)))
            async with connect(server.url, timeout_s=5.0) as forgetting:
                for times in range(1, 5):
                    await until(partial(lambda count: models.asked == ["300"] * count, times))
                    await forgetting.flushall()
            await until(lambda: len(models.asked) == 5)
            models.gate.set()
            assert await waiting == "300"
            await until(lambda: not client._waiting)


async def test_a_young_asker_whose_replies_are_lost_learns_that_it_was_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server has begun anew, and counts more of its heartbeats than it had answered before."""
    with valkey(lasting=False) as server:
        settings = pool(dead_after_s=2)
        async with serving(server.url, settings) as models, asking(server.url, settings) as client:
            look, lost = client._look_script, [0]

            async def look_in_vain(**arguments: Any) -> Any:
                answer = await look(**arguments)
                if lost[0] > 0:
                    lost[0] -= 1
                    raise ConnectionError
                return answer

            monkeypatch.setattr(client, "_look_script", look_in_vain)
            models.gate.clear()
            waiting = asyncio.create_task(ask(client, job(300)))
            await until(lambda: models.asked)
            async with connect(server.url, timeout_s=5.0) as forgetting:
                count: Any = await forgetting.hget(ShardKeys(settings.pool, 0).beats, ASKER + client.name)
                lost[0] = 5 + int(count)
                await forgetting.flushall()
            await until(lambda: len(models.asked) == 2)
            models.gate.set()
            assert await waiting == "300"


async def test_an_asker_that_was_taken_for_dead_is_answered_all_the_same(redis_url: str) -> None:
    """Its jobs were dropped, and its stream: it was stopped for too long, or cut off."""
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client, serving(redis_url, settings) as models:
        await client.wait_connected()
        models.gate.clear()
        waiting = asyncio.create_task(ask(client, job(300)))
        await until(lambda: models.asked)
        undertaker = connect(redis_url, timeout_s=5.0)
        keys = ShardKeys(settings.pool, 0)
        await undertaker.hdel(keys.beats, ASKER + client.name)
        await undertaker.delete(keys.answers(client.name))
        await undertaker.aclose()
        await until(lambda: len(models.asked) == 2)  # again
        models.gate.set()
        assert await waiting == "300"
        await until(lambda: not client._waiting)


async def test_an_asker_that_the_workers_missed_first_is_answered_when_it_is_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again with its next heartbeat, before they look for it the next time."""
    settings = pool(dead_after_s=8)  # a look every half second
    async with asking(redis_url, settings, wait=False) as client, serving(redis_url, settings) as models:
        await client.wait_connected()
        look, may_look = client._look_script, asyncio.Event()

        async def look_later(**arguments: Any) -> Any:
            await may_look.wait()
            return await look(**arguments)

        monkeypatch.setattr(client, "_look_script", look_later)
        models.gate.clear()
        waiting = asyncio.create_task(ask(client, job(300)))
        await until(lambda: models.asked)
        async with connect(redis_url, timeout_s=5.0) as undertaker:
            await undertaker.hdel(ShardKeys(settings.pool, 0).beats, ASKER + client.name)
        await until(lambda: models.cancelled)  # they have seen that it is gone
        may_look.set()
        await until(lambda: len(models.asked) == 2)
        models.gate.set()
        assert await waiting == "300"
        await until(lambda: not client._waiting)


async def test_a_server_that_hangs_is_waited_for() -> None:
    with valkey(lasting=False) as server:
        settings = pool(dead_after_s=1)
        async with asking(server.url, settings, wait=False) as client:
            async with serving(server.url, settings) as models:
                await client.wait_connected()
                server.pause()
                waiting = asyncio.create_task(ask(client, job(300)))
                await until(lambda: not client.connected)
                server.go_on()
                assert await waiting == "300"
                assert await ask(client, job(301)) == "301"
                assert "301" in models.asked


async def test_a_user_with_no_more_rights_than_the_documents_say() -> None:
    rights = re.search(r"An ACL user needs `([^`]+)`", OPERATIONS.read_text(encoding="utf-8"))
    assert rights is not None
    with valkey(lasting=False) as server:
        admin: Any = connect(server.url, timeout_s=5.0)
        await admin.execute_command("ACL", "SETUSER", "models", "on", ">secret", *rights[1].split())
        await admin.execute_command("ACL", "SETUSER", "default", "off")
        await admin.aclose()
        url, settings = server.url.replace("unix://", "unix://models:secret@"), pool()
        async with asking(url, settings, wait=False) as client:
            async with child(url, settings) as victim:
                waiting = asyncio.create_task(ask(client, job(300)))
                await victim.said("300")
                await victim.kill()
            async with serving(url, settings) as models:
                assert await waiting == "300"
                models.gate.clear()
                withdrawn = asyncio.create_task(ask(client, job(400)))
                await until(lambda: client._waiting and client._outbox.is_empty)
                withdrawn.cancel()
                await until(lambda: client._outbox.is_empty)


async def test_shards_of_a_cluster() -> None:
    with cluster() as three:
        settings = pool(shards=3, dead_after_s=20)
        clients = [StreamInference(three.url, settings) for _ in range(3)]
        async with serving(three.url, settings) as models, AsyncExitStack() as stack, asyncio.timeout(60):
            for client in clients:
                await stack.enter_async_context(client)
            heard = await asyncio.gather(*(ask(clients[n % 3], job(100 + n)) for n in range(30)))
            assert heard == [str(100 + n) for n in range(30)]
            assert sorted(models.asked) == heard


# Its clock.


def test_ages_are_by_the_servers_clock_and_never_negative() -> None:
    clock = RedisClock()
    assert clock.age_ms(b"1000-0", now=5.0) == 0  # nothing is known yet
    clock.told(10_000, now=5.0)
    assert clock.age_ms(b"9000-3", now=5.0) == pytest.approx(1000)
    assert clock.age_ms(b"9000-3", now=5.5) == pytest.approx(1500)
    assert clock.age_ms(b"20000-0", now=5.5) == 0
    clock.told(9_000, now=6.0)  # it was set back
    assert clock.age_ms(b"9000-3", now=6.0) == 0


def test_entries_from_before_the_clock_was_set_ahead_are_as_old_as_they_were() -> None:
    clock, minutes_ms = RedisClock(), 300_000
    clock.told(10_000, now=5.0)
    clock.told(10_500 + minutes_ms, now=5.5)
    assert clock.age_ms(b"9900-0", now=5.5) == pytest.approx(600)
    assert clock.age_ms(b"%d-0" % (10_400 + minutes_ms), now=6.5) == pytest.approx(1100)
    clock.told(12_000, now=7.0)  # set right again
    assert clock.age_ms(b"11900-0", now=7.0) == pytest.approx(100)


def test_an_entry_whose_id_stood_still_looks_new_when_the_clock_is_set_ahead_again() -> None:
    """Set back, the server gives new entries the id of the newest from before: here of five seconds ago."""
    clock, hour_ms = RedisClock(), 3_600_000
    clock.told(hour_ms, now=100.0)
    newest = b"%d-0" % (hour_ms + 1000)
    clock.told(hour_ms + 6000, now=106.0)
    assert clock.age_ms(newest, now=106.0) == pytest.approx(5000)
    clock.told(8000, now=108.0)  # an hour back
    stuck = b"%d-7" % (hour_ms + 1000)
    assert clock.age_ms(stuck, now=108.0) == 0
    clock.told(hour_ms + 10_000, now=110.0)  # and ahead again
    assert clock.age_ms(stuck, now=110.0) == 0
    assert clock.age_ms(b"9000-0", now=110.0) == pytest.approx(1000)
    assert clock.age_ms(b"%d-0" % (hour_ms + 9000), now=112.0) == pytest.approx(3000)


async def test_an_age_of_more_than_a_second_is_told_by_the_server(redis_url: str) -> None:
    """Its clock may have been set back meanwhile, and the id be that of an older entry."""
    async with connect(redis_url, timeout_s=5.0, decode_responses=False) as client:
        recovery = Recovery(client, ShardKeys(pool().pool, 0), name="told", dead_after_s=3)
        seconds, _ = await client.time()
        recovery.clock.told(seconds * 1000 + 5000, time.monotonic())  # it was five seconds ahead just now
        stuck = b"%d-0" % (seconds * 1000 + 3000)
        assert recovery.clock.age_ms(stuck, time.monotonic()) >= 2000
        assert await recovery.age_ms(stuck) == 0
        await recovery.leave()


def test_a_clock_that_is_only_told_late_was_not_set() -> None:
    clock = RedisClock()
    clock.told(10_000, now=5.0)
    clock.told(11_000, now=5.5)  # the reply took half a second
    assert clock.age_ms(b"9500-0", now=5.5) == pytest.approx(1500)


@pytest.mark.parametrize("set_by_ms", [-600_000, -60_000, 60_000, 600_000])
async def test_a_clock_that_was_set_ends_no_job_and_keeps_none(redis_url: str, set_by_ms: int) -> None:
    """Workers and askers still reckon by the clock of before. Ids never fall: where it was set back, a new entry has
    that of the newest before, which may have come a while ago."""
    settings = pool(dead_after_s=2)
    stream, models = ShardKeys(settings.pool, 0).jobs(Kind.ASR, Urgency.ENDPOINT), Models()
    server = StreamServer(redis_url, settings, models, batches=dict.fromkeys(Kind, 64))
    await server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, drain_s=0.05)
        client = await stack.enter_async_context(asking(redis_url, settings))
        async with connect(redis_url, timeout_s=5.0) as setting:
            now_s, microseconds = await setting.time()
            now_ms = now_s * 1000 + microseconds // 1000
            if set_by_ms < 0:
                newest = await setting.xadd(stream, {FIELD: "no jobs"}, id=f"{now_ms - set_by_ms // 2}-0")
                assert newest
        for clock in (*(shard._recovery.clock for shard in server._shards), client._clock):
            clock.told(now_ms - set_by_ms, time.monotonic())
        assert (await client.transcribe(job(300), timeout_s=60)).transcript.text == "300"
        assert models.timeouts_s[0] > 20
        models.gate.clear()
        with pytest.raises(InferenceError, match=r"asr within 0\.2 s"):
            await client.transcribe(job(400), timeout_s=0.2)
        await until(lambda: models.cancelled == models.asked.count("400"))
        models.gate.set()
        assert await ask(client, job(500)) == "500"
    assert await nothing_left(redis_url, settings)
