"""Call records on a real Valkey: one per call, whoever dies when, and whatever clocks say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from dialogue.loop import DialogueLoop
from dialogue.slots import SlotValue
from dialogue.state import DialogueState, Promise
from dialogue.store import RedisStore, state_keys
from gateway.metrics import Metrics
from gateway.records.results import CallRecords, Origin, artefact_versions, origin_of, record_of
from gateway.settings import SettingsError, load
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, said
from tests.dialogue.valkey import valkey
from tests.gateway.harness import rig, silence, speech

pytestmark = pytest.mark.redis

TTL_S = 3600
_streams = count(1)


class Desk:
    """Records with a stream of their own, those of another worker, a store, and what is in the stream."""

    def __init__(self, url: str, made: Callable[[], CallRecords], stream: str, registry: CollectorRegistry) -> None:
        self.records, self.others, self.stream, self._registry = made(), made(), stream, registry
        self.store = RedisStore.connect(url, ttl_s=TTL_S)
        self.client = redis.Redis.from_url(url, decode_responses=True)

    async def found(self) -> list[dict[str, Any]]:
        return [json.loads(fields["record"]) for _, fields in await self.client.xrange(self.stream)]

    def counted(self, outcome: str) -> float:
        return self._registry.get_sample_value("voicegate_records_total", {"outcome": outcome}) or 0.0

    async def sweep(self, seconds: float) -> None:
        """What another worker sees so many seconds from now, looking twice."""
        for now in (0.0, 31.0):
            await self.others.sweep(later(seconds), now)

    async def call(self, call_id: str, *, ended_by: str = "") -> Origin:
        """A call that was begun, said yes, and perhaps ended; nobody has told its record, and its worker is dead."""
        origin = origin_of(BILL_REMINDER, call_id, {"asr": "bundled"})
        await self.records.opened(origin)
        loop = DialogueLoop(BILL_REMINDER, self.store, call_id, today=lambda: TODAY)
        await loop.open()
        await loop.handle(said("affirm", "yes"))
        if ended_by:
            await loop.close(ended_by)
        self.records.left(origin)
        return origin


@asynccontextmanager
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    stream = f"test:{{results}}:{next(_streams)}"
    settings, registry = load(environ={}, flags={"results.stream": stream}), CollectorRegistry()
    worker = partial(CallRecords, redis_url, settings.results, Metrics(registry), ttl_s=TTL_S)
    made = Desk(redis_url, worker, stream, registry)
    await made.client.delete("vg:{results}:open")
    try:
        yield made
    finally:
        await made.records.aclose()
        await made.others.aclose()
        await made.store.close()
        await made.client.aclose()


def later(seconds: float) -> float:
    return time.time() + seconds


@pytest.mark.unit
def test_what_a_record_says() -> None:
    state = DialogueState(
        node="goodbye",
        slots={"day": SlotValue("on friday", "2026-11-27")},
        turns=4,
        no_match=1,
        total_no_match=3,
        total_no_input=1,
        outcome="promised",
        disposition="promised",
        ended_by="bot",
        started_at=1000.0,
        ended_at=1062.5,
        promises=(Promise(node="promised", slots=(("day", "2026-11-27"),)),),
        callback={"date": "2026-11-30"},
        sources={"faq": 1, "none": 2},
    )
    models = (("asr", "bundled"), ("nlu", "8c0"))
    older = Origin(call_id="c", bot="b", bot_version="7", language="en", models=models, caller="e3b0")
    origin = replace(older, recorded=False)
    for one in (older, origin):
        assert Origin.of_member(one.member()) == one
    assert len(json.loads(older.member())) == 6, "as a gateway wrote it that did not say"
    assert record_of(origin, state, ended_by="bot", now=0.0) == {
        "version": 1,
        "call_id": "c",
        "bot": "b",
        "bot_version": "7",
        "language": "en",
        "models": {"asr": "bundled", "nlu": "8c0"},
        "ended_by": "bot",
        "disposition": "promised",
        "outcome": "promised",
        "node": "goodbye",
        "continues": None,
        "slots": {"day": "2026-11-27"},
        "promises": [{"node": "promised", "slots": {"day": "2026-11-27"}}],
        "callback": {"date": "2026-11-30"},
        "turns": 4,
        "no_match": 3,
        "no_input": 1,
        "sources": {"faq": 1, "none": 2},
        "recorded": False,
        "started_at": 1000.0,
        "ended_at": 1062.5,
        "duration_s": 62.5,
    }


@pytest.mark.unit
def test_the_record_of_a_call_whose_state_has_expired() -> None:
    record = record_of(Origin(call_id="c", bot="b", bot_version="1", language="en"), None, ended_by="lost", now=5.0)
    assert (record["ended_at"], record["duration_s"], record["slots"]) == (5.0, None, {})


@pytest.mark.unit
def test_no_call_lasts_less_than_nothing_where_the_host_that_ended_it_has_a_clock_behind() -> None:
    state = DialogueState(started_at=5000.0, ended_at=1400.0, ended_by="bot")
    record = record_of(Origin(call_id="c", bot="b", bot_version="1", language="en"), state, ended_by="bot", now=0.0)
    assert (record["started_at"], record["ended_at"], record["duration_s"]) == (5000.0, 1400.0, 0.0)


@pytest.mark.unit
def test_a_models_version_is_read_from_its_artefact_and_a_bot_without_one_has_none(tmp_path: Path) -> None:
    untrained = replace(BILL_REMINDER, name="untrained", nlu_path=tmp_path)
    versions = artefact_versions([BILL_REMINDER, untrained, replace(BILL_REMINDER, name="deaf", nlu_path=None)])
    assert set(versions) == {BILL_REMINDER.name} and len(versions[BILL_REMINDER.name]) == 12


async def test_a_record_names_the_model_that_answered_last_and_its_call_is_no_longer_open(redis_url: str) -> None:
    async with desk(redis_url) as at:
        origin = origin_of(BILL_REMINDER, "exchanged", {"asr": "bundled", "nlu": "old"})
        await at.records.opened(origin)
        await at.records.ended(origin, DialogueState(ended_by="bot"), nlu_version="new")
        await at.sweep(1e6)
        (record,) = await at.found()
        assert record["models"] == {"asr": "bundled", "nlu": "new"}
        assert at.counted("published") == 1
        assert await at.client.zcard("vg:{results}:open") == 0


async def test_a_call_has_one_record_however_often_it_is_told(redis_url: str) -> None:
    async with desk(redis_url) as at:
        origin = await at.call("once", ended_by="bot")
        state = DialogueState(ended_by="bot", disposition="promised")
        await asyncio.gather(*(at.records.ended(origin, state) for _ in range(8)))
        await at.sweep(1e6)
        (record,) = await at.found()
        assert (record["call_id"], record["disposition"], record["ended_by"]) == ("once", "promised", "bot")
        assert (at.counted("published"), at.counted("repeated")) == (1, 7)
        assert await at.client.zcard("vg:{results}:open") == 0


async def test_an_end_that_was_stored_but_never_told_is_found(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.call("untold", ended_by="caller")
        await at.sweep(0)
        assert await at.found() == []  # not yet due: its worker may be about to tell it
        await at.sweep(121)
        (record,) = await at.found()
        assert (record["call_id"], record["ended_by"], record["turns"]) == ("untold", "caller", 1)
        assert record["duration_s"] is not None and record["node"] == "check_account"


async def test_a_call_that_goes_on_is_looked_at_again(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.call("going-on")
        for at_s in (121, 300, 900):
            await at.sweep(at_s)
        assert await at.found() == [] and await at.client.zcard("vg:{results}:open") == 1


async def test_a_lost_call_is_told_before_its_state_is_gone(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.call("lost")
        await at.client.expire(state_keys("lost")[0], 200)
        await at.sweep(121)
        (record,) = await at.found()
        assert (record["ended_by"], record["node"], record["slots"]["amount"]) == ("lost", "check_account", "84.50")


@pytest.mark.parametrize("ahead_s", [3600.0, 86_400.0])
async def test_a_clock_ahead_that_ends_the_state_of_a_call_in_progress_does_not_lose_the_call(
    redis_url: str, ahead_s: float
) -> None:
    """The server's clock and the workers' were set: what had an hour to live is gone, and every call is due."""
    async with desk(redis_url) as at:
        call_id = f"ahead-{ahead_s:.0f}"
        origin = await at.call(call_id)
        await at.records.opened(origin)  # its worker lives
        await at.client.delete(*state_keys(call_id))
        for now in (0.0, 15.0, 30.0, 45.0, 60.0):
            await at.others.sweep(later(ahead_s), now)
            await at.records.sweep(later(ahead_s + 1), now + 1)
            ahead_s += 130.0  # due again each time
        assert await at.found() == []
        at.records.left(origin)
        await at.others.sweep(later(ahead_s), 75.0)
        assert await at.found() == []  # its worker may have had no time to put it off
        await at.others.sweep(later(ahead_s), 106.0)
        assert [record["ended_by"] for record in await at.found()] == ["lost"]


async def test_a_call_noted_by_a_clock_that_was_ahead_is_found_without_waiting_for_that_time(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.call("noted-ahead", ended_by="caller")
        await at.sweep(-7200)  # two hours back
        (record,) = await at.found()
        assert (record["call_id"], record["ended_by"]) == ("noted-ahead", "caller")


async def test_a_call_that_began_while_the_server_was_away_is_known_when_it_is_back() -> None:
    with valkey() as server:
        async with desk(server.url) as at:
            server.kill()
            await at.records.opened(origin_of(BILL_REMINDER, "unknown", {}))
            server.start()
            await at.records.sweep(time.time(), 0.0)
            assert await at.client.zcard("vg:{results}:open") == 1


async def test_even_a_call_without_state_has_a_record(redis_url: str) -> None:
    async with desk(redis_url) as at:
        await at.call("gone")
        await at.client.delete(*state_keys("gone"))
        await at.sweep(121)
        (record,) = await at.found()
        assert (record["call_id"], record["ended_by"], record["bot"]) == ("gone", "lost", "bill-reminder")


async def test_a_server_that_is_away_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    records = CallRecords("redis://127.0.0.1:9", load(environ={}).results, Metrics(CollectorRegistry()), ttl_s=TTL_S)
    origin = origin_of(BILL_REMINDER, "away", {})
    await records.opened(origin)
    await records.ended(origin, DialogueState(ended_by="bot"))
    assert [record.message for record in caplog.records] == [
        "the call is not among the open ones: ConnectionError",
        "no record yet: ConnectionError; a sweep will make it",
    ]
    await records.aclose()


async def test_a_sweep_among_calls_that_end_just_then_leaves_each_one_record(redis_url: str) -> None:
    async with desk(redis_url) as at:
        origins = [origin_of(BILL_REMINDER, f"just-then-{n}", {}) for n in range(8)]
        state = DialogueState(ended_by="caller")
        ends = [asyncio.create_task(at.records.ended(origin, state)) for origin in origins]
        await asyncio.sleep(0)  # each is on its way
        await at.records.sweep(time.time(), 0.0)
        await asyncio.gather(*ends)
        assert sorted(record["call_id"] for record in await at.found()) == [origin.call_id for origin in origins]


@pytest.mark.parametrize("by", ["bot", "caller"])
async def test_a_call_through_a_real_socket_leaves_its_record(redis_url: str, tmp_path: Path, by: str) -> None:
    async with desk(redis_url) as at, rig(tmp_path, records=at.records) as gateway:
        peer = await gateway.peer(start={"call_id": f"socket-{by}"})
        await peer.event("ready")
        if by == "bot":
            await peer.send(speech())
            await peer.send(silence(1500))
        else:
            await peer.say(type="stop")
        await peer.closed(timeout_s=10)
        await gateway.no_calls()
        (record,) = await at.found()
        assert (record["call_id"], record["ended_by"], record["bot"]) == (f"socket-{by}", by, "tester")
        assert record["disposition"] == ("done" if by == "bot" else None)
        assert record["turns"] == (by == "bot") and 0 < record["duration_s"] < 30


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "value", "why"), [("stream", "results", "must hold"), ("webhook", "ftp://x", "must begin with")]
)
def test_settings_that_cannot_work(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"results.{name}: {why}"):
        load(environ={}, flags={f"results.{name}": value})


async def test_a_record_that_could_not_be_made_is_made_when_redis_is_back() -> None:
    with valkey() as server:
        async with desk(server.url) as at:
            origin = await at.call("late", ended_by="bot")
            state = DialogueState(node="goodbye", ended_by="bot", disposition="promised")
            server.kill()
            await at.records.ended(origin, state)
            server.start()
            await at.records.sweep(time.time(), 0.0)
            await at.sweep(1000)  # nor does the stored state give another
            (record,) = await at.found()
            assert (record["call_id"], record["disposition"], record["ended_by"]) == ("late", "promised", "bot")
            assert at.counted("published") == 1
