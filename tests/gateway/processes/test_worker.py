"""Who is let in: a worker's answers to requests, seen from a bare socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from websockets.frames import Opcode

from gateway.access.auth import Scope, mint
from gateway.processes.lifeline import Handover
from tests.gateway.harness import rig
from tests.gateway.raw_peer import Answer, RawPeer, dial, frame, upgrade

pytestmark = pytest.mark.unit

SECRET = "x" * 40


async def ask(port: int, request: bytes) -> Answer:
    async with dial(port) as peer:
        peer.send(request)
        answer = await peer.answer()
        return answer if answer.status == 101 else Answer(answer.status, answer.headers, await peer.end())


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/call", 101), ("/v1/call?x=1", 101), ("/v1/calls", 404), ("//[", 404), ("/v1/call/", 404)],
)
async def test_calls_come_to_one_path(tmp_path: Path, path: str, status: int) -> None:
    async with rig(tmp_path) as running:
        answer = await ask(running.port, upgrade(path))
        assert answer.status == status
        if status == 404:
            assert b"/v1/call" in answer.body
            assert running.metric("voicegate_refused_total", reason="unknown_path") == 1


@pytest.mark.parametrize(
    ("offered", "named"),
    [
        ([], None),
        (["Sec-WebSocket-Protocol: voicegate.v1"], "voicegate.v1"),
        (["Sec-WebSocket-Protocol: strange"], None),
        (["Sec-WebSocket-Protocol: strange, voicegate.v1"], "voicegate.v1"),
        (["Sec-WebSocket-Protocol: strange", "Sec-WebSocket-Protocol: voicegate.v1"], "voicegate.v1"),
    ],
)
async def test_no_subprotocol_is_invented(tmp_path: Path, offered: list[str], named: str | None) -> None:
    async with rig(tmp_path) as running:
        answer = await ask(running.port, upgrade("/v1/call", *offered))
        assert answer.status == 101
        assert answer.headers.get("sec-websocket-protocol") == named
        assert "sec-websocket-extensions" not in answer.headers


async def test_tokens_decide_before_the_101(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as running:
        call, monitor = mint(SECRET, "c", [Scope.CALL], 60), mint(SECRET, "m", [Scope.MONITOR], 60)
        none = await ask(running.port, upgrade())
        assert (none.status, none.headers["www-authenticate"]) == (401, 'Bearer realm="voicegate"')
        wrong = await ask(running.port, upgrade("/v1/call", "Authorization: Bearer wrong"))
        assert wrong.status == 401 and wrong.body == b"Unauthorized\n", "why is our log's to know"
        assert (await ask(running.port, upgrade("/v1/call", f"Authorization: Bearer {monitor}"))).status == 403
        assert (await ask(running.port, upgrade("/v1/call", f"Authorization: Bearer {call}"))).status == 101
        assert (await ask(running.port, upgrade(f"/v1/call?token={call}"))).status == 101
        twice = upgrade("/v1/call", f"Authorization: Bearer {call}", f"Authorization: Bearer {call}")
        assert (await ask(running.port, twice)).status == 401
        assert running.metric("voicegate_refused_total", reason="unauthorized") == 4


async def test_no_token_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with rig(tmp_path, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as running:
        await ask(running.port, upgrade("/v1/call?token=hunter2", "Authorization: Bearer hunter3"))
        await ask(running.port, upgrade("/v1/call?token=hunter2"))
        await ask(running.port, b"GET /?token=hunter2 HTTP/1.1\r\nX: hunter3\r\nContent-Length: 3\r\n\r\nabc")
    assert "refused a connection" in caplog.text
    assert "hunter" not in caplog.text


async def test_a_full_worker_says_when_to_come_back(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_CALLS_PER_WORKER": "1"}) as running:
        first = await running.peer(start={})
        await first.event("ready")
        answer = await ask(running.port, upgrade())
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert running.metric("voicegate_refused_total", reason="full") == 1
        first.abort()
        await running.no_calls()
        assert (await ask(running.port, upgrade())).status == 101


async def test_no_call_begins_while_utterances_wait_long_for_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_MODEL_WAIT_S": "2"}) as running:
        monkeypatch.setattr(running.services.inference, "expected_wait_s", lambda urgency: 2.5)
        answer = await ask(running.port, upgrade())
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert running.metric("voicegate_refused_total", reason="models_busy") == 1
        monkeypatch.setattr(running.services.inference, "expected_wait_s", lambda urgency: 1.5)
        assert (await ask(running.port, upgrade())).status == 101


async def test_a_draining_worker_takes_no_more(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start={})
        await peer.event("ready")
        async with dial(running.port) as late:  # connected before, asks after
            await asyncio.sleep(0.01)
            draining = asyncio.create_task(running.worker.drain(5))
            await asyncio.sleep(0)
            late.send(upgrade())
            answer = await late.answer(whole=True)
            assert (answer.status, answer.body) == (503, b"shutting down\n")
        assert not draining.done(), "the call in progress goes on"
        await peer.say(type="stop")
        await asyncio.wait_for(draining, 5)


@pytest.mark.parametrize("how", [Handover.HAND_OVER, Handover.CLOSE])
async def test_who_had_connected_to_a_worker_that_is_drained_alone_is_served_by_it(
    tmp_path: Path, how: Handover
) -> None:
    async with rig(tmp_path) as running, dial(running.port) as late:
        waiting = socket.create_connection(
            ("127.0.0.1", running.port)
        )  # in the socket's queue: the loop has not turned
        draining = asyncio.create_task(running.worker.drain(60, how))
        await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection(sock=waiting)
        for peer in (late, RawPeer(reader, writer)):
            peer.send(upgrade())
            assert (await peer.answer()).status == 101
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), timeout=5).close()
        assert not draining.done(), "their calls go on"
        writer.close()
        draining.cancel()


async def test_a_worker_that_is_drained_ends_with_its_last_call_and_not_with_silent_connections(tmp_path: Path) -> None:
    async with rig(tmp_path, environ={"VOICEGATE_LIMITS_HANDSHAKE_S": "0.3"}) as running, dial(running.port):
        peer = await running.peer(start={})
        await peer.event("ready")
        draining = asyncio.create_task(running.worker.drain(60, Handover.HAND_OVER))
        await peer.say(type="stop")
        await asyncio.wait_for(draining, 20)


async def test_calls_that_outlast_the_deadline_of_a_drain_may_be_resumed_elsewhere(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = await running.peer(start={})
        await peer.event("ready")
        await asyncio.wait_for(running.worker.drain(0.05, Handover.HAND_OVER), 20)
        assert await peer.closed() == 1001


async def test_a_plain_get_opens_no_call(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        assert (await ask(running.port, b"GET /v1/call HTTP/1.1\r\nHost: x\r\n\r\n")).status == 426
        assert running.worker.calls == 0


@pytest.mark.parametrize("path", ["/v1/call", "/freeswitch", "/vosk", "/"])
async def test_a_call_that_ends_with_its_first_bytes_leaves_nothing(tmp_path: Path, path: str) -> None:
    """Request, start and goodbye in one segment: the call's task is cancelled before it has run."""
    async with rig(tmp_path) as running:
        async with dial(running.port) as peer:
            words = [b'{"type":"start"}', b'{"type":"stop"}', b'{"eof":1}']
            peer.send(upgrade(path), *(frame(Opcode.TEXT, text) for text in words), frame(Opcode.CLOSE, b"\x03\xe8"))
            await peer.end()
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


async def test_a_browsers_close_without_a_code_is_a_hang_up(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        async with dial(running.port) as peer:
            peer.send(upgrade())
            await peer.answer()
            peer.send(b"\x88\x80\x00\x00\x00\x00")
            await peer.end()
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1
