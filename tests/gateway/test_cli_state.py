"""`voicegate state` on a real Valkey with every kind of key: shown, exported, forgotten to the last one."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from dialogue.connection import connect
from dialogue.loop import DialogueLoop
from dialogue.store import FencedError, RedisStore, state_keys
from gateway.cli import state
from gateway.http.answer_store import AnswerStore
from gateway.records.call_archive import CallArchive
from gateway.records.callers import Callers, identity
from gateway.records.results import OPEN_KEY, done_key
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, said
from tests.dialogue.valkey import Valkey, valkey

pytestmark = pytest.mark.redis

STREAM = "vg:{results}:stream"
NUMBER = "+1 555 010 9988"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(lasting=False) as running:
        asyncio.run(fill(running.url))
        yield running


async def talk(store: RedisStore, call_id: str) -> DialogueLoop:
    loop = DialogueLoop(BILL_REMINDER, store, call_id, today=lambda: TODAY)
    await loop.open()
    await loop.handle(said("affirm", "yes speaking"))
    await loop.handle(said("inform", "[four four one seven](digits)"))
    return loop


async def fill(url: str) -> None:
    """Two calls of one caller, one of another, a chat; a record and an event of each."""
    client, store = connect(url, timeout_s=5), RedisStore.connect(url)
    callers = Callers(client, come_back_s=900, ttl_s=3600, worker_key="w")
    answers = AnswerStore(client, ttl_s=3600)
    for call_id, number in (
        ("a-1", NUMBER),
        ("a-2", NUMBER),
        ("b-1", "+1 555 7"),
        ("chat/b/a-1", None),
        ("a-1*", None),
    ):
        await talk(store, call_id)
        who = identity(number, None)
        if who is not None:
            await callers.seen(who, call_id, "bill-reminder")
        await answers.keep(call_id, "intent:1", '{"intent": "affirm"}')
        record = {"ended_by": "caller", "disposition": None, "ended_at": 1.8e9, "slots": {"who": call_id}}
        await client.xadd(STREAM, {"call_id": call_id, "caller": who or "", "record": json.dumps(record)})
        await client.zadd(OPEN_KEY, {json.dumps([call_id, "b", "1", "en", [], who or ""]): 1.0})
        await client.set(done_key(call_id), "1", ex=60)
        await client.xadd("events", {"event": json.dumps({"type": "turn", "call_id": call_id})})
    await store.close()
    await client.aclose()


async def keys_with(url: str, text: str) -> set[str]:
    client = connect(url, timeout_s=5)
    found = {str(key) async for key in client.scan_iter() if text in str(key)}
    await client.aclose()
    return found


def run(server: Valkey, *words: str, **environ: str) -> Result:
    app = typer.Typer()
    state.register(app)
    settings = {"REDIS_URL": server.url, "VOICEGATE_MONITORING_STREAM": "events", **environ}
    return CliRunner().invoke(app, ["state", *words], env=settings)


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_show_says_where_a_call_stands(server: Valkey) -> None:
    result = run(server, "show", "b-1")
    assert result.exit_code == 0
    assert result.stdout.startswith("b-1: at tell_bill, 2 turns, not ended; expires in ")
    for part in (
        "account_check 4417",
        "'yes speaking'",
        "ended by caller, nothing reached",
        "1 answers over HTTP, 1 events",
    ):
        assert part in result.stdout
    (call,) = document(run(server, "show", "b-1", "--json"))["calls"]
    assert (call["node"], call["turns"], call["slots"]["account_check"]) == ("tell_bill", 2, "4417")


def test_export_holds_every_part(server: Valkey) -> None:
    (call,) = document(run(server, "export", "b-1"))["calls"]
    assert call["state"]["node"] == "tell_bill" and call["epoch"] == 1 and call["version"] == 3
    assert list(call["answers"]) == ["start", "r1", "r2"]
    assert call["http_answers"] == {"intent:1": {"intent": "affirm"}}
    assert [record["slots"] for record in call["records"]] == [{"who": "b-1"}]
    assert [event["call_id"] for event in call["events"]] == ["b-1"]
    (chat,) = document(run(server, "export", "chat/b/a-1", "--json"))["calls"]
    assert chat["call_id"] == "chat/b/a-1" and chat["state"] is not None


def test_a_name_is_no_pattern(server: Valkey) -> None:
    (call,) = document(run(server, "export", "a-1*"))["calls"]
    assert [record["slots"] for record in call["records"]] == [{"who": "a-1*"}]
    assert list(call["http_answers"]) == ["intent:1"]


def test_a_caller_is_forgotten_with_all_calls_and_nobody_else(server: Valkey) -> None:
    shown = document(run(server, "show", "--caller", "+1-555-010-9988", "--json"))["calls"]
    assert [call["call_id"] for call in shown] == ["a-1", "a-2"]
    done = document(run(server, "forget", "--caller", NUMBER, "--json"))
    assert (done["calls"], done["records"], done["events"]) == (2, 2, 2)
    who = identity(NUMBER, None)
    assert who is not None and asyncio.run(keys_with(server.url, who)) == set()
    left = asyncio.run(keys_with(server.url, "a-"))
    assert left == {state_keys("a-1")[0], state_keys("a-2")[0]} | {key for key in left if "chat" in key or "*" in key}
    again = run(server, "forget", "--caller", NUMBER)
    assert again.exit_code == 1 and "holds nothing about +1 555 010 9988" in again.stderr
    for kept in ("b-1", "chat/b/a-1", "a-1*"):
        assert len(document(run(server, "show", kept, "--json"))["calls"]) == 1


async def test_many_calls_are_looked_for_in_one_walk(server: Valkey) -> None:
    client = connect(server.url, timeout_s=5)
    archive = CallArchive(client, records=STREAM, events="events")

    async def walks(*call_ids: str) -> tuple[int, int]:
        await client.config_resetstat()
        found = await archive.find(call_ids)
        assert [call.call_id for call in found] == list(call_ids)
        counted = await client.info("commandstats")
        return counted["cmdstat_scan"]["calls"], counted["cmdstat_xrange"]["calls"]

    assert await walks("b-1", "chat/b/a-1", "a-1*") == await walks("b-1")
    one, chat, strange, nobody = await archive.find(["b-1", "chat/b/a-1", "a-1*", "nobody"])
    for call in (one, chat, strange):
        assert list(call.http_answers) == ["intent:1"] and len(call.events) == 1
        assert [record["slots"] for record in call.records] == [{"who": call.call_id}]
    assert nobody.empty and await archive.find([]) == []
    await client.aclose()


async def test_a_call_in_progress_that_is_forgotten_writes_nothing_more(redis_url: str) -> None:
    store = RedisStore.connect(redis_url)
    loop = await talk(store, "in-progress")
    assert await store.forget("in-progress")
    with pytest.raises(FencedError):
        await loop.handle(said("affirm", "yes"))
    assert await store.read("in-progress") is None
    assert not await store.forget("in-progress")
    fresh = DialogueLoop(BILL_REMINDER, store, "in-progress", today=lambda: TODAY)
    assert not (await fresh.open()).resumed  # the id may be used again
    await store.close()


@pytest.mark.parametrize(
    ("words", "environ", "said_"),
    [
        (["show", "never-was"], {}, "Redis holds nothing about never-was"),
        (["forget", "never-was"], {}, "Redis holds nothing about never-was"),
        (["show", "--caller", "anonymous"], {}, "are nobody's"),
        (["show", "x", "--redis-url", "unix:///nowhere/redis.sock"], {}, "Redis did not answer"),
        (["show", "x", "--redis-url", "http://here"], {}, "does not parse"),
        (["show", "x"], {"VOICEGATE_PORT": "x"}, "Settings that cannot be used"),
        (["show"], {}, "name one call, or one caller with --caller"),
        (["export", "x", "--caller", "y"], {}, "name one call, or one caller with --caller"),
    ],
)
def test_what_is_wrong_is_said(server: Valkey, words: list[str], environ: dict[str, str], said_: str) -> None:
    result = run(server, *words, **environ)
    assert result.exit_code != 0
    assert said_ in " ".join(result.stderr.replace("│", " ").split())


def test_an_address_that_does_not_parse_is_not_told_with_its_password(server: Valkey) -> None:
    result = run(server, "show", "x", REDIS_URL="redis://:hush@here:port/0")
    assert result.exit_code == 1 and "does not parse" in result.stderr and "hush" not in result.stderr


def test_the_embedded_server_of_a_running_gateway_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="vg-") as folder, valkey(lasting=False) as one:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        none = run(one, "show", "x", REDIS_URL="")
        assert "no gateway with an embedded one runs here" in none.stderr
        (home := Path(folder, "voicegate-1")).mkdir()
        (home / "redis.sock").symlink_to(one.url.removeprefix("unix://"))
        assert "holds nothing about x" in run(one, "show", "x", REDIS_URL="").stderr
        (Path(folder, "voicegate-2")).mkdir()
        Path(folder, "voicegate-2", "redis.sock").symlink_to(one.url.removeprefix("unix://"))
        assert "Several gateways run here" in run(one, "show", "x", REDIS_URL="").stderr
