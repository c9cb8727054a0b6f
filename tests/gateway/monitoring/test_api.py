"""Watching over HTTP and WebSockets: a real worker, a real Valkey, a real control plane."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from gateway.access.auth import Identity, Scope, mint
from gateway.monitoring import bridge, hub, sockets
from gateway.monitoring.admission import Visitor
from gateway.monitoring.audit import AuditLog
from gateway.monitoring.events import CallerSilent, Published
from gateway.monitoring.sockets import CallSocket, EventSocket
from tests.gateway.harness import silence, speech
from tests.gateway.monitoring.floor import floor

pytestmark = pytest.mark.redis

SECRET = "x" * 40


async def test_a_watcher_sees_a_call_from_start_to_end(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path, hear="yes") as at:
        watcher = await at.watch()
        peer = await at.calls.peer(start={"call_id": "seen", "caller": "+1 555 123 4567"})
        started = await watcher.until("call_started", call_id="seen")
        assert (started["v"], started["seq"], started["bot"], started["caller"]) == (1, 1, "tester", "[phone]")
        await watcher.until("prompt_started", call_id="seen")
        await peer.send(silence(100))
        await peer.send(speech())
        await peer.send(silence(2000))
        ended = await watcher.until("call_ended", call_id="seen")
        assert ended["ended_by"] == "bot"
        seqs = [line["seq"] for line in watcher.lines if line.get("call_id") == "seen"]
        assert seqs == list(range(1, len(seqs) + 1))
        assert (await watcher.until("turn_heard"))["text"] == "yes"


async def test_one_who_comes_later_gets_the_calls_in_progress_and_then_what_happens(
    redis_url: str, tmp_path: Path
) -> None:
    async with floor(redis_url, tmp_path, hear="more") as at:
        peer = await at.calls.peer(start={"call_id": "going-on"})
        await peer.event("prompt")
        watcher = await at.watch("?call=going-on")
        present = await watcher.until("call_present")
        assert (present["node"], present["turns"], present["history"]) == ("greet", 0, [])
        assert present["opening"].startswith("Hello this is the test bot")
        await peer.send(silence(100))
        await peer.send(speech())
        await peer.send(silence(2000))
        assert (await watcher.until("turn_understood"))["intent"] == "more"
        assert {line["call_id"] for line in watcher.lines if "call_id" in line} == {"going-on"}
        await watcher.until("prompt_started", node="greet")
        listed = (await at.api.client.get("/v1/calls")).json()
        assert (listed["complete"], [call["call_id"] for call in listed["calls"]]) == (True, ["going-on"])
        one = (await at.api.client.get("/v1/calls/going-on")).json()
        assert [(turn["said"], turn["intent"]) for turn in one["history"]] == [("more", "more")]
        missing = await at.api.client.get("/v1/calls/nobody")
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_call")


async def test_a_watcher_may_ask_for_some_types_alone(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        watcher = await at.watch("?types=call_started,call_ended")
        peer = await at.calls.peer(start={"call_id": "few"})
        await watcher.until("call_started")
        await peer.event("prompt")
        await peer.say(type="stop")
        await watcher.until("call_ended", ended_by="caller")
        assert {line["type"] for line in watcher.lines} == {"watching", "call_started", "call_ended"}


async def test_a_call_that_is_resumed_on_another_worker_counts_its_events_anew(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        first = await at.watch()
        await at.calls.peer(start={"call_id": "moved"})
        await first.until("prompt_started")
        second = await at.watch()
        assert (await second.until("call_present"))["seq"] >= 3
        at.calls.services.bus.publish(Published(CallerSilent(), "moved", 1, 0, time.time(), epoch=2))
        assert (await second.until("caller_silent"))["seq"] == 1


async def test_a_call_whose_worker_died_is_told_as_lost(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_STOCK_S", 0.1)
    async with floor(redis_url, tmp_path) as at:
        await at.calls.peer(start={"call_id": "orphan"})
        await at.calls.peer(start={"call_id": "other"})
        watcher = await at.watch("?types=call_ended,call_started")
        await at.calls.peer(start={"call_id": "last"})
        await watcher.until("call_started", call_id="last")
        at.calls.worker._calls.by_id.pop("orphan")  # as if it had been another worker's
        ended = await watcher.until("call_ended")
        assert (ended["call_id"], ended["ended_by"], ended["turns"]) == ("orphan", "lost", 0)
        assert ended["duration_s"] > 0


async def test_without_any_worker_there_are_no_calls(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them may have died together."""
    monkeypatch.setattr(hub, "_STOCK_S", 0.05)
    async with hub.MonitorHub(redis_url) as all_calls, asyncio.timeout(20):
        with all_calls.watching(raw=False) as watcher:
            while hub.Stock(()) not in await watcher.some():
                pass


async def test_a_worker_builds_nothing_once_the_last_watcher_has_gone(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LEASE_S", 0.5)
    async with floor(redis_url, tmp_path) as at:
        bus = at.calls.services.bus
        assert not bus.listening
        watcher = await at.watch()
        assert bus.listening
        await watcher._ws.close()
        async with asyncio.timeout(20):
            while bus.listening:  # the lease runs out, and the next event is the last
                peer = await at.calls.peer()
                await peer.event("ready")
                await peer.say(type="stop")
                await at.calls.no_calls()


async def test_words_are_hidden_but_from_those_who_may_see_them_and_that_is_audited(
    redis_url: str, tmp_path: Path
) -> None:
    secret = {"VOICEGATE_AUTH_SECRET": SECRET}
    async with floor(redis_url, tmp_path, hear="call five five five one two three four", environ=secret) as at:
        headers = {scope: {"Authorization": f"Bearer {mint(SECRET, f'of-{scope}', [scope], 60)}"} for scope in Scope}
        with pytest.raises(InvalidStatus) as refused:
            await at.watch(additional_headers=headers[Scope.CALL])
        assert refused.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            await at.watch("?raw=1", additional_headers=headers[Scope.MONITOR])
        assert refused.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            await at.watch()
        assert refused.value.response.status_code == 401

        watcher = await at.watch(additional_headers=headers[Scope.MONITOR])
        trusted = await at.watch("?raw=1", additional_headers=headers[Scope.MONITOR_RAW])
        caller = {"Authorization": headers[Scope.CALL]["Authorization"]}
        peer = await at.calls.peer(start={"call_id": "private"}, additional_headers=caller)
        await watcher.until("prompt_started")
        await peer.send(silence(100))
        await peer.send(speech())
        await peer.send(silence(2000))
        assert (await watcher.until("turn_heard"))["text"] == "call [phone]"
        assert (await trusted.until("turn_heard"))["text"] == "call five five five one two three four"
        assert not any("five" in str(line) for line in watcher.lines)

        client = at.api.client
        assert (await client.get("/v1/calls", headers=headers[Scope.CHAT])).status_code == 403
        assert (await client.get("/v1/calls?raw=1", headers=headers[Scope.SUPERVISE])).status_code == 403
        assert (await client.get("/v1/calls?raw=1", headers=headers[Scope.MONITOR_RAW])).status_code == 200
        assert (await client.get("/v1/audit", headers=headers[Scope.MONITOR])).status_code == 403
        entries = (await client.get("/v1/audit", headers=headers[Scope.ADMIN])).json()["entries"]
        mine = [(entry["who"], entry["act"]) for entry in entries if entry["who"] == "of-monitor:raw"]
        assert mine[:2] == [("of-monitor:raw", "raw_calls"), ("of-monitor:raw", "raw_events")]


async def test_a_call_s_id_writes_no_line_of_its_own_into_the_log(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.monitoring.audit")
    async with floor(redis_url, tmp_path) as at:
        assert (await at.api.client.post("/v1/calls/x%0Aaudit:%20erased/hang-up")).status_code == 404
    (told,) = (record.getMessage() for record in caplog.records if "hang_up" in record.getMessage())
    assert told.splitlines() == [told]


class Gone:
    """A socket whose peer has gone, and nobody has noticed."""

    async def send_text(self, text: str) -> None:
        raise WebSocketDisconnect(1006)

    async def receive(self) -> dict[str, Any]:
        return await asyncio.Future()

    async def close(self, code: int, reason: str) -> None:
        raise RuntimeError("closed already")


async def test_a_watcher_who_goes_before_the_first_word_is_no_fault(redis_url: str) -> None:
    """What a socket's route raises is a fault, with its traceback, in the log."""
    peer: Any = Gone()
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    visitor = Visitor(Identity("ann", frozenset(Scope)))
    async with hub.MonitorHub(redis_url) as all_calls:
        await EventSocket(peer, all_calls, visitor, call_id="", types=frozenset(), raw=False).serve()
        await CallSocket(peer, all_calls, AuditLog(client), visitor, "c").serve()
    await client.aclose()


class StandsStill(Gone):
    """A peer that is there and takes nothing of what it is sent."""

    async def send_text(self, text: str) -> None:
        await asyncio.Future()

    async def close(self, code: int, reason: str) -> None:
        await asyncio.Future()


async def test_a_peer_that_takes_nothing_is_let_go(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SEND_S", "_CLOSE_S"):
        monkeypatch.setattr(sockets, name, 0.1)
    peer: Any = StandsStill()
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    visitor = Visitor(Identity("ann", frozenset(Scope)))
    async with hub.MonitorHub(redis_url) as all_calls, asyncio.timeout(20):
        await EventSocket(peer, all_calls, visitor, call_id="", types=frozenset(), raw=False).serve()
        await CallSocket(peer, all_calls, AuditLog(client), visitor, "c").serve()
        assert not all_calls._watchers and not all_calls._ears
    await client.aclose()


async def test_pages_of_strangers_may_not_watch_though_the_browser_is_here(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        own = f"http://127.0.0.1:{at.api.port}"
        await at.watch(origin=own)
        for origin, host in (("http://evil.example", None), ("http://evil.example", "evil.example")):
            more = {"additional_headers": {"Host": host}} if host else {}
            with pytest.raises(InvalidStatus) as refused:
                await at.watch(origin=origin, **more)
            assert refused.value.response.status_code == 403
        answer = await at.api.client.get("/v1/calls", headers={"Origin": "http://evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")


async def test_the_schema_describes_what_comes(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        schema = (await at.api.client.get("/v1/monitor/schema")).json()
        kinds = {kind["title"]: kind for kind in schema["oneOf"]}
        watcher = await at.watch()
        await at.calls.peer(start={"call_id": "described"})
        await watcher.until("prompt_started")
        for line in watcher.lines[1:]:
            assert set(kinds[line["type"]]["required"]) == set(line)


async def test_voicegate_watch_ends_with_its_token() -> None:
    async def expire(ws: ServerConnection) -> None:
        await ws.close(sockets.EXPIRED, "token expired")

    async with serve(expire, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        program = [sys.executable, "-c", "from gateway.cli import main; main()"]
        watch = await asyncio.create_subprocess_exec(
            *program, "watch", "--json", "--url", f"http://127.0.0.1:{port}", stdout=PIPE, stderr=PIPE
        )
        async with asyncio.timeout(60):
            _, told = await watch.communicate()
    assert watch.returncode == 1 and b"the token has expired" in told


async def test_voicegate_watch_tails_the_stream_for_programs_and_for_people(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path, hear="yes") as at:
        url = f"http://127.0.0.1:{at.api.port}"
        program = [sys.executable, "-c", "from gateway.cli import main; main()", "watch", "--url", url]

        async def tail(*options: str) -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(*program, *options, stdout=PIPE, stderr=PIPE)

        async def until(lines: asyncio.StreamReader | None, wanted: str) -> str:
            assert lines is not None
            async with asyncio.timeout(30):
                while wanted not in (line := (await lines.readline()).decode()):
                    assert line, "ended"
            return line

        programs = await tail("--json"), await tail("--call", "tailed")
        try:
            await until(programs[0].stdout, '"watching"')
            await until(programs[1].stderr, "watching 0 calls of 1 workers")
            peer = await at.calls.peer(start={"call_id": "tailed"})
            assert json.loads(await until(programs[0].stdout, "call_started"))["call_id"] == "tailed"
            await peer.event("prompt")
            await peer.say(type="stop")
            await until(programs[0].stdout, '"call_ended"')
            await until(programs[1].stdout, "ended by caller")
        finally:
            for one in programs:
                one.terminate()
                await one.wait()
