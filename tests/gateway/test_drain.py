"""Draining, reloading and stopping a real gateway, under calls that must not notice."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.gateway.harness import FLOW, Peer, silence, write_bot
from tests.gateway.test_end_to_end import VOICEGATE, Server, serve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GREETING = "Hello this is the test bot"
LATER = "Welcome to what was reloaded"
BOT_FLOW = FLOW.replace("NO_INPUT", "never").replace(
    "Hello this is the test bot speaking to you now and for quite a while", GREETING
)


def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """`voicegate WORDS` against this gateway."""
    return subprocess.run(
        [*VOICEGATE, *words, "--url", server.control], capture_output=True, text=True, check=False, timeout=120
    )


def ask(server: Server, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and document of one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.control + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def processes(server: Server) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(server.get("/v1/processes"))["processes"]
    return listed


def generations(server: Server) -> dict[str, int]:
    """The newest in each place; who leaves is listed too."""
    newest: dict[str, int] = {}
    for one in processes(server):
        newest[one["name"]] = max(one["generation"], newest.get(one["name"], 0))
    return newest


def fresh_places(server: Server, old: set[int]) -> set[str]:
    """Where another process is than one of these."""
    return {one["name"] for one in processes(server) if one["pid"] not in old}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)


@asynccontextmanager
async def call(server: Server) -> AsyncIterator[Peer]:
    """A call that stays, with a silent caller."""
    peer = Peer(await connect(f"{server.url}?bot=tester", compression=None, proxy=None))
    microphone = asyncio.create_task(speak_silence(peer))
    try:
        await peer.event("prompt")
        yield peer
    finally:
        microphone.cancel()
        peer.abort()


async def speak_silence(peer: Peer) -> None:
    frame = silence(100)
    while True:
        await peer.send(frame, size=1600)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[Server]:
    bot = write_bot(folder / "tester", flow=BOT_FLOW)
    (bot / "bot.yaml").write_text((bot / "bot.yaml").read_text().replace("nlu: nlu\n", ""))
    config = folder / "voicegate.toml"
    config.write_text(f'workers = 2\nbot = "{bot}"\nbots = []\n')
    server = await asyncio.to_thread(
        serve, folder / "log", "--config", str(config), environ={"VOICEGATE_LIMITS_DRAIN_S": "60"}
    )
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


async def test_a_gateway_is_drained_reloaded_and_stopped_under_its_calls(tmp_path: Path) -> None:
    async with gateway(tmp_path) as server, call(server) as lasting:
        await drained_worker_by_worker(server, lasting)
        await reloaded(server, tmp_path, lasting)
        await refused_while_it_goes_down(server, lasting)


async def drained_worker_by_worker(server: Server, lasting: Peer) -> None:
    pids = {one["name"]: one["pid"] for one in processes(server)}
    drains = [asyncio.create_task(asyncio.to_thread(command, server, "drain", index, "--json")) for index in "01"]
    served = 0
    while not fresh_places(server, set(pids.values())) >= {"worker 0", "worker 1"} or served < 5:
        async with call(server):  # who calls meanwhile is served, every one
            served += 1
    # One of the two is done, the other waits for the lasting call.
    done, waiting = await asyncio.wait(drains, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    assert len(done) == len(waiting) == 1
    assert lasting.close == (None, None)
    (result,) = [task.result() for task in done]
    assert result.returncode == 0, result.stderr
    (fresh,) = json.loads(result.stdout)["processes"]
    assert fresh["state"] == "serving" and fresh["pid"] not in pids.values() and fresh["died_of"] == ""
    async with asyncio.timeout(20):  # a worker's state is told once a second
        while not (draining := [one for one in processes(server) if one["state"] == "draining"]):
            await asyncio.sleep(0.1)
    assert [one["calls"] for one in draining] == [1] and draining[0]["pid"] in pids.values()
    assert json.loads(server.get("/readyz"))["calls"] == 1
    # An operator has patience for as long as they like: a drain that nobody waits for goes on.
    waiting.pop().cancel()


async def reloaded(server: Server, folder: Path, lasting: Peer) -> None:
    config, flow = folder / "voicegate.toml", folder / "tester" / "flow.yaml"
    sound = config.read_text()
    config.write_text(sound + "[limits]\ncalls_per_worker = 0\n")
    refused = await asyncio.to_thread(command, server, "reload")
    assert refused.returncode == 1
    assert "calls_per_worker: Input should be greater than or equal to 1" in refused.stderr
    assert "Nothing has changed" in refused.stderr
    flow.write_text(BOT_FLOW.replace(GREETING, LATER).replace("hang_up: done", "hang_up: done\n    to: nowhere"))
    config.write_text(sound)
    status, refusal = await asyncio.to_thread(ask, server, "/v1/reload", {})
    assert status == 422 and "flow.yaml" in refusal["message"]
    assert set(generations(server).values()) == {1}
    flow.write_text(BOT_FLOW.replace(GREETING, LATER))
    config.write_text(f'{sound}[turns]\nfiller_ms = 1234\n[redis]\nstate_dir = "elsewhere"\n')
    done = await asyncio.to_thread(command, server, "reload", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["state"] == "done"
    assert any(name == "turns.filler_ms" for name in told["changed"])
    assert any(kept.startswith("redis.state_dir: stays as it was") for kept in told["kept"])
    assert "redis.state_dir" not in told["changed"]
    async with call(server) as fresh:
        assert (await fresh.event("prompt"))["text"] == LATER
    # Who called before hears the bot that was there then, from models of then.
    await lasting.say(type="dtmf", digit="1")
    assert lasting.close == (None, None) and (await lasting.event("prompt"))["text"] == GREETING
    assert generations(server)["control"] == 2
    status, nothing = await asyncio.to_thread(ask, server, "/v1/reload", {})
    assert status == 202 and nothing["reload"]["changed"] == []


async def refused_while_it_goes_down(server: Server, lasting: Peer) -> None:
    server.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        while True:  # from the moment that the workers know, a clear answer and no reset
            try:
                async with connect(f"{server.url}?bot=tester", compression=None, proxy=None):
                    await asyncio.sleep(0.05)
            except InvalidStatus as refusal:
                answer = refusal.response
                break
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert lasting.close == (None, None)
    await until(lambda: "draining" in ask(server, "/readyz")[1]["workers"])
    server.process.send_signal(signal.SIGTERM)  # once more: now
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    await lasting.closed()
