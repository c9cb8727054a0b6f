"""Hearing, prompting, taking over, handing back, hanging up: from a supervisor's socket to the caller's ear."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from websockets.exceptions import ConnectionClosed

from audio.formats import Pcm16
from gateway.access.auth import Identity, Scope, mint
from gateway.metrics import Metrics
from gateway.monitoring import admission, sockets, supervision
from gateway.monitoring.admission import Visitor
from gateway.monitoring.bus import EventBus
from gateway.monitoring.call_watch import CallWatch
from gateway.monitoring.hub import HubError, MonitorHub
from gateway.monitoring.supervision import Supervision
from gateway.monitoring.wire import Act, Answer, Order, OrderKind
from tests.gateway.harness import Peer, silence, speech
from tests.gateway.monitoring.floor import AudioSocket, Floor, floor

pytestmark = pytest.mark.redis

SECRET = "x" * 40
TONE = (8000 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)).astype(np.int16)
OTHER_TONE = (8000 * np.sin(np.arange(8000) * 2 * np.pi * 550 / 8000)).astype(np.int16)


PEOPLE = (("ann", Scope.SUPERVISE), ("bob", Scope.SUPERVISE), ("root", Scope.ADMIN))


def bearer(who: str, scope: Scope, *, lifetime_s: float = 600) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(SECRET, who, [scope], lifetime_s)}"}


async def audited(at: Floor, call_id: str, act: str) -> list[tuple[str, str]]:
    """Who did this to a call, newest first, with what the audit says beside it."""
    entries = (await at.api.client.get("/v1/audit?count=20")).json()["entries"]
    return [(one["who"], one["detail"]) for one in entries if (one["call_id"], one["act"]) == (call_id, act)]


async def streaming(peer: Peer, pcm: Pcm16) -> None:
    """As a telephone does: 20 ms every 20 ms."""
    begun = asyncio.get_running_loop().time()
    for index in range(0, len(pcm) // 160):
        await peer.ws.send(pcm[index * 160 : (index + 1) * 160].tobytes())
        await asyncio.sleep(max(0.0, begun + (index + 1) * 0.02 - asyncio.get_running_loop().time()))


def found_in(sound: Pcm16, wanted: Pcm16) -> bool:
    """Whether `wanted` stands in `sound`, sample for sample."""
    return wanted.astype("<i2").tobytes() in sound.astype("<i2").tobytes()


async def call(at: Floor, call_id: str) -> Peer:
    """A call whose greeting is being heard."""
    peer = await at.calls.peer(start={"call_id": call_id})
    await peer.event("prompt", timeout_s=15)
    return peer


async def test_a_listener_hears_both_sides_sample_for_sample(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        peer = await at.calls.peer(start={"call_id": "heard"})
        await peer.event("ready")
        ear = await at.listen("heard")
        told = await ear.text("listening")
        assert (told["sample_rate"], told["channels"], told["encoding"]) == (8000, 2, "pcm_s16le")
        await streaming(peer, np.concatenate([silence(200), TONE, silence(400)]))
        await ear.until(lambda: found_in(ear.stereo[:, 0], TONE[800:]))
        # What the caller was sent from then on, as it was sent.
        sent = np.frombuffer(bytes(peer.audio), "<i2")
        await ear.until(lambda: bool(np.abs(ear.stereo[:, 1]).max() > 0))
        heard = ear.stereo[:, 1]
        loud = np.flatnonzero(heard)
        assert found_in(sent, heard[loud[0] : loud[0] + 4000])


async def test_a_call_costs_a_tap_only_while_somebody_listens(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        await call(at, "tapped")
        (session,) = at.calls.worker.sessions
        assert session.watch.tap is None
        watcher = await at.watch()
        ear = await at.listen("tapped")
        await ear.text("listening")
        assert session.watch.tap is not None
        assert (await watcher.until("supervised", act="listen"))["by"] == "loopback"
        await ear.ws.close()
        await watcher.until("supervised", act="unlisten")
        assert session.watch.tap is None


async def test_who_listens_in_sees_words_as_they_are_said_and_the_peer_does_not(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        peer = await at.calls.peer(start={"call_id": "heard"})
        await peer.say(type="mark_reached", name=(await peer.event("mark"))["name"])  # the greeting is over
        watcher = await at.watch()
        ear = await at.listen("heard")
        await ear.text("listening")
        await peer.send(speech())
        assert (await watcher.until("partial_heard"))["text"] == "yes"
        await peer.send(silence(1000))
        assert (await peer.event("transcript"))["final"] is True
        await ear.ws.close()
        await watcher.until("supervised", act="unlisten")
        (session,) = at.calls.worker.sessions
        assert not session.watch.listened_to


async def test_a_listener_to_no_call_is_told_so(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        ear = await at.listen("nobody")
        assert (await ear.text("error"))["code"] == "not_found"
        await ear.ws.wait_closed()
        assert ear.ws.close_code == 4404


async def test_a_whisper_is_what_the_bot_says_next(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        peer = await call(at, "whispered")
        answer = await at.api.post("/v1/calls/whispered/whisper", {"text": "Offer the ten percent"})
        assert answer.status_code == 200, answer.text
        prompt = await peer.event("prompt", count=2, timeout_s=15)
        assert (prompt["text"], prompt["node"]) == ("Offer the ten percent", "greet")
        empty = await at.api.post("/v1/calls/whispered/whisper", {"text": ""})
        assert empty.status_code == 422
        gone = await at.api.post("/v1/calls/nobody/whisper", {"text": "Hello"})
        assert (gone.status_code, gone.json()["code"]) == (404, "unknown_call")


async def take_over(at: Floor, call_id: str, **options: Any) -> AudioSocket:
    """A supervisor's socket that has the call."""
    desk = await at.listen(call_id, **options)
    await desk.text("listening")
    await desk.say(type="take_over")
    await desk.text("taken_over")
    return desk


@asynccontextmanager
async def open_microphone(desk: AudioSocket) -> AsyncIterator[None]:
    """Silence from the supervisor, as long as the context lasts."""
    microphone = asyncio.create_task(desk.keep_silent())
    yield
    microphone.cancel()


async def test_a_supervisor_who_is_not_heard_for_long_has_lost_the_call(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that has gone without a word: its connection looks open for much longer."""
    monkeypatch.setattr(sockets, "LEASE_S", 0.1)
    monkeypatch.setattr(sockets, "RENEW_S", 0.2)
    async with floor(redis_url, tmp_path) as at:
        await call(at, "silent")
        desk = await take_over(at, "silent")
        await desk.text("handed_back")
        assert (await at.api.client.get("/v1/calls/silent")).json()["taken_over_by"] is None
        assert await audited(at, "silent", "hand_back") == [("loopback", "was not heard of any more")]


async def test_a_supervisor_speaks_in_the_bots_place_and_hands_back(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path, hear="more") as at:
        peer = await call(at, "taken")
        watcher = await at.watch("?call=taken")
        desk = await take_over(at, "taken")
        await peer.event("clear")  # the greeting was cut
        await watcher.until("supervised", act="take_over")
        assert (await at.api.client.get("/v1/calls/taken")).json()["taken_over_by"] == "loopback"
        heard = len(peer.audio)
        for start in range(0, 8000, 800):
            await desk.ws.send(TONE[start : start + 800].tobytes())
            await asyncio.sleep(0.05)
        async with asyncio.timeout(15):
            while not found_in(np.frombuffer(bytes(peer.audio[heard // 2 * 2 :]), "<i2"), TONE[:4000]):
                await asyncio.sleep(0.02)
        async with open_microphone(desk):
            # What the caller says meanwhile is no turn.
            await peer.send(np.concatenate([silence(100), speech(), silence(2000)]))
            await watcher.until("speech_ended")
            # A second supervisor is refused.
            other = await at.listen("taken")
            await other.text("listening")
            await other.say(type="take_over")
            assert (await other.text("error"))["code"] == "taken_over"
            refused = await at.api.post("/v1/calls/taken/whisper", {"text": "Hello"})
            assert (refused.status_code, refused.json()["code"]) == (409, "taken_over")

        await desk.say(type="hand_back")
        await desk.text("handed_back")
        await watcher.until("supervised", act="hand_back")
        assert not any(line["type"] == "turn_heard" for line in watcher.lines)
        await peer.send(np.concatenate([silence(100), speech(), silence(2000)]))
        assert (await peer.event("prompt", count=2, timeout_s=20))["text"] == "Tell me more about that"
        acts = [entry["act"] for entry in (await at.api.client.get("/v1/audit?count=20")).json()["entries"]]
        assert {"listen", "take_over", "hand_back"} <= set(acts)


async def test_a_supervisor_whose_browser_goes_away_leaves_the_call_to_the_bot(redis_url: str, tmp_path: Path) -> None:
    async with floor(redis_url, tmp_path) as at:
        await call(at, "left")
        watcher = await at.watch("?call=left")
        desk = await take_over(at, "left")
        desk.ws.transport.abort()
        await watcher.until("supervised", act="hand_back")
        assert (await at.api.client.get("/v1/calls/left")).json()["taken_over_by"] is None


async def test_a_worker_that_is_slow_to_answer_once_takes_a_call_from_nobody(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "RENEW_S", 0.1)
    order = MonitorHub.order
    renewals = list[OrderKind]()

    async def late_once(hub: MonitorHub, kind: OrderKind, call_id: str, **more: Any) -> Answer | None:
        if kind is OrderKind.KEEP:
            renewals.append(kind)
            if len(renewals) == 1:
                raise HubError("1 of 1 workers do not answer")
        return await order(hub, kind, call_id, **more)

    monkeypatch.setattr(MonitorHub, "order", late_once)
    async with floor(redis_url, tmp_path) as at:
        await call(at, "kept")
        desk = await take_over(at, "kept")
        async with open_microphone(desk):
            async with asyncio.timeout(20):
                while len(renewals) < 3:
                    await asyncio.sleep(0.02)
            await desk.say(type="hand_back")
            assert await desk.text("handed_back") == {"type": "handed_back"}, "as was asked"


async def test_a_hiccup_of_redis_costs_a_supervisor_words_and_not_the_call(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak = MonitorHub.speak
    refused = list[bytes]()

    async def away_at_first(hub: MonitorHub, session: str, data: bytes) -> None:
        if len(refused) < 3:
            refused.append(data)
            raise HubError("Redis does not answer (ConnectionError)")
        await speak(hub, session, data)

    monkeypatch.setattr(MonitorHub, "speak", away_at_first)
    async with floor(redis_url, tmp_path) as at:
        peer = await call(at, "hiccup")
        desk = await take_over(at, "hiccup")
        await peer.event("clear")
        heard = len(peer.audio)
        for start in range(0, 8000, 800):
            await desk.ws.send(TONE[start : start + 800].tobytes())
            await asyncio.sleep(0.05)
        async with asyncio.timeout(15):
            while not found_in(np.frombuffer(bytes(peer.audio[heard // 2 * 2 :]), "<i2"), TONE[2400:4800]):
                await asyncio.sleep(0.02)
        assert len(refused) == 3
        await desk.say(type="hand_back")
        assert await desk.text("handed_back") == {"type": "handed_back"}, "it still had the call"


async def test_each_piece_of_voice_that_redis_refuses_is_counted() -> None:
    class Refusing:
        async def speak(self, session: str, data: bytes) -> None:
            raise HubError("Redis does not answer (ConnectionError)")

    said = iter([{"type": "websocket.receive", "bytes": bytes(320)}] * 3 + [{"type": "websocket.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(said)

    lost = list[None]()
    peer: Any = SimpleNamespace(receive=receive)
    nothing: Any = Refusing()
    visitor = Visitor(Identity("ann", frozenset(Scope)))
    desk = sockets.CallSocket(peer, nothing, nothing, visitor, "c", on_voice_lost=lambda: lost.append(None))
    desk._speaking = True
    await desk._obey()
    assert len(lost) == 3


async def test_a_supervisor_whose_control_plane_is_gone_leaves_the_call_to_the_bot(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LEASE_S", 0.5)
    monkeypatch.setattr(sockets, "RENEW_S", 60.0)  # nobody renews, and nobody says that it is over
    async with floor(redis_url, tmp_path) as at:
        await call(at, "orphaned")
        watcher = await at.watch("?call=orphaned")
        async with open_microphone(await take_over(at, "orphaned")):
            await watcher.until("supervised", act="hand_back")
        async with asyncio.timeout(20):
            while ("loopback", "was not heard of any more") not in await audited(at, "orphaned", "hand_back"):
                await asyncio.sleep(0.02)


async def test_what_was_taken_over_is_its_connection_s_unless_it_is_taken_from_them_by_name(
    redis_url: str, tmp_path: Path
) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET}
    async with floor(redis_url, tmp_path, environ=environ) as at, AsyncExitStack() as stack:
        ann, bob, admin = (bearer(who, scope) for who, scope in PEOPLE)
        peer = await at.calls.peer(start={"call_id": "bound"}, additional_headers=bearer("pbx", Scope.CALL))
        await peer.event("prompt")
        watcher = await at.watch("?call=bound", additional_headers=ann)
        first = await take_over(at, "bound", additional_headers=ann)
        await stack.enter_async_context(open_microphone(first))
        second = await at.listen("bound", additional_headers=bob)
        await second.text("listening")

        # Neither gives it back, nor takes it unawares, nor from the wrong one.
        for message in ({"type": "hand_back"}, {"type": "take_over"}, {"type": "take_over", "from": "cid"}):
            before = len(second.texts)
            await second.say(**message)
            await second.until(lambda before=before: len(second.texts) > before)
            assert second.texts[-1]["code"] == "taken_over" and "ann" in second.texts[-1]["message"]
        hand_back = "/v1/calls/bound/hand-back"
        refused = await at.api.client.post(hand_back, headers=bob)
        assert (refused.status_code, refused.json()["code"]) == (409, "taken_over")
        assert (await at.api.client.get("/v1/calls/bound", headers=ann)).json()["taken_over_by"] == "ann"

        # By name it is taken; the voice of the one before is heard no more, and they are told.
        await second.say(**{"type": "take_over", "from": "ann"})
        await second.text("taken_over")
        heard = len(peer.audio) // 2 * 2
        await first.ws.send(TONE[:4000].tobytes())
        await second.ws.send(OTHER_TONE[:4000].tobytes())
        async with asyncio.timeout(20):
            while not found_in(np.frombuffer(bytes(peer.audio[heard:]), "<i2"), OTHER_TONE[:2000]):
                await asyncio.sleep(0.02)
        assert not found_in(np.frombuffer(bytes(peer.audio[heard:]), "<i2"), TONE[800:1600])
        await stack.enter_async_context(open_microphone(second))
        assert "bob" in (await first.text("handed_back"))["message"]

        # An old connection's end, or its word, ends nothing.
        await first.say(type="hand_back")
        assert (await first.text("error"))["code"] == "taken_over"
        await first.ws.close()
        await watcher.until("supervised", act="unlisten", by="ann")
        assert (await at.api.client.get("/v1/calls/bound", headers=bob)).json()["taken_over_by"] == "bob"

        # By name, from outside; and one's own without a name.
        assert (await at.api.client.post(f"{hand_back}?from=bob", headers=ann)).status_code == 200
        await second.text("handed_back")
        acts = (await at.api.client.get("/v1/audit?count=100", headers=admin)).json()["entries"]
        done = [(one["who"], one["act"], one["detail"]) for one in acts if one["call_id"] == "bound"]
        assert ("bob", "take_over", "from ann") in done and ("ann", "hand_back", "from bob") in done


class Conversation:
    """A conversation that notes who has it."""

    talking = True
    bot_speaks = True

    def take_over(self) -> None:
        self.bot_speaks = False

    def hand_back(self) -> None:
        self.bot_speaks = True


async def test_a_connection_that_is_over_lets_go_what_it_had_whether_or_not_it_was_told() -> None:
    """The order may have been carried out as the connection was lost."""
    conversation: Any = Conversation()
    one: Any = SimpleNamespace(call_id="c", watch=CallWatch(EventBus()), conversation=conversation)
    acts = Supervision(lambda: [one], Metrics(CollectorRegistry()))
    acts.act(one, Order(kind=OrderKind.ACT, sender="s", call_id="c", act=Act.TAKE_OVER, by="ann", session="1"), 0.0)
    acts.leave("c", "2")
    assert not conversation.bot_speaks and acts.speaking == {"1"}
    acts.leave("c", "1")
    assert conversation.bot_speaks and one.watch.taken_over_by is None and not acts.speaking


async def test_what_a_token_opened_ends_with_it(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(time=time.time)
    monkeypatch.setattr(admission, "time", clock)
    monkeypatch.setattr(sockets, "_LOOK_S", 0.05)
    async with floor(redis_url, tmp_path, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as at:
        peer = await at.calls.peer(start={"call_id": "timed"}, additional_headers=bearer("pbx", Scope.CALL))
        await peer.event("prompt")
        lasting = bearer("eve", Scope.SUPERVISE, lifetime_s=7200)
        other = await at.watch("?call=timed", additional_headers=lasting)
        watcher = await at.watch(additional_headers=bearer("ann", Scope.MONITOR))
        ear = await at.listen("timed", additional_headers=bearer("bob", Scope.MONITOR))
        await ear.text("listening")
        desk = await take_over(at, "timed", additional_headers=bearer("cid", Scope.SUPERVISE))
        async with open_microphone(desk):
            clock.time = lambda: time.time() + 3600
            for ws in (watcher._ws, ear.ws, desk.ws):
                async with asyncio.timeout(20):
                    with suppress(ConnectionClosed):
                        while True:
                            await ws.recv()
                assert (ws.close_code, ws.close_reason) == (sockets.EXPIRED, "token expired") == (4401, "token expired")
        await other.until("supervised", act="hand_back", by="cid")  # the bot has the call, which goes on
        assert (await at.api.client.get("/v1/calls/timed", headers=lasting)).json()["taken_over_by"] is None


async def test_a_token_s_end_is_waited_for_to_the_moment() -> None:
    visitor = Visitor(Identity("ann", frozenset(Scope), time.time() + 0.2))
    begun = time.time()
    async with asyncio.timeout(20):
        await sockets._until_expired(visitor)
    assert time.time() - begun >= 0.19
    assert Visitor(Identity("loopback", frozenset(Scope))).left_s == math.inf


async def test_the_bots_hanging_up_waits_for_the_supervisor(redis_url: str, tmp_path: Path) -> None:
    """The turn that ends the call was under way as it was taken over."""
    async with floor(redis_url, tmp_path, hear="yes") as at:
        peer = await call(at, "kept")
        at.calls.asr.gate.clear()
        await peer.send(np.concatenate([silence(100), speech(), silence(2000)]))
        await peer.event("speech_ended", timeout_s=15)  # the recogniser has the turn, and hangs
        desk = await take_over(at, "kept")
        async with open_microphone(desk):
            at.calls.asr.gate.set()
            watcher = await at.watch("?call=kept")
            await peer.event("intent", timeout_s=15)
            assert "hangup" not in peer.kinds()
            await desk.say(type="hand_back")
            await watcher.until("call_ended", ended_by="bot")


async def test_no_word_of_anybody_reaches_a_log(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for chatty in ("websockets.client", "httpx", "httpcore"):  # the test's own
        caplog.set_level(logging.WARNING, chatty)
    caplog.set_level(logging.WARNING, "uvicorn.error")  # as gateway.http.control.main does: it would log every frame
    caplog.set_level(logging.DEBUG)  # last: it is the handler's level too
    words = "aardvark five five five one two three four five"
    environ = {"VOICEGATE_MONITORING_WEBHOOK": "http://127.0.0.1:1/", "VOICEGATE_WEBHOOKS_HOSTS": "127.0.0.1"}
    async with floor(redis_url, tmp_path, hear=words, environ=environ) as at:
        peer = await at.calls.peer(start={"call_id": "logged", "caller": "+1 555 123 4567"})
        await peer.event("prompt", timeout_s=15)
        watcher, trusted = await at.watch(), await at.watch("?raw=1")
        desk = await at.listen("logged")
        await desk.text("listening")
        await desk.ws.send("aardvark")
        await desk.text("error")
        await at.api.post("/v1/calls/logged/whisper", {"text": "aardvark"})
        await at.api.post("/v1/calls/logged/whisper", {"text": "aardvark" * 100})
        await peer.send(np.concatenate([silence(100), speech(), silence(2000)]))
        assert (await trusted.until("turn_heard"))["text"] == words
        assert (await watcher.until("turn_heard"))["text"] == "aardvark [phone]"
        await at.api.client.post("/v1/calls/logged/hang-up")
        await watcher.until("call_ended")
    assert any("audit: whisper" in record.getMessage() for record in caplog.records)
    told = "\n".join(caplog.handler.format(record) for record in caplog.records)
    assert not [word for word in ("aardvark", "five five", "555 123", "5551") if word in told]


@pytest.mark.parametrize("taken", [False, True])
async def test_a_supervisor_ends_a_call(redis_url: str, tmp_path: Path, taken: bool) -> None:
    async with floor(redis_url, tmp_path) as at, AsyncExitStack() as stack:
        peer = await call(at, "ended")
        if taken:
            await stack.enter_async_context(open_microphone(await take_over(at, "ended")))
        watcher = await at.watch("?call=ended")
        answer = await at.api.client.post("/v1/calls/ended/hang-up")
        assert (answer.status_code, answer.json()) == (200, {"call_id": "ended", "act": "hang_up"})
        assert (await peer.event("hangup", timeout_s=15))["reason"] == "supervisor"
        assert (await watcher.until("call_ended"))["ended_by"] == "bot"
        assert await peer.closed(timeout_s=15) == 1000


async def test_a_call_that_could_not_be_ended_is_still_the_supervisors(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(redis_url, tmp_path) as at:
        await call(at, "full")
        desk = await take_over(at, "full")
        (session,) = at.calls.worker.sessions
        monkeypatch.setattr(session.conversation, "hang_up", lambda: False)
        async with open_microphone(desk):
            answer = await at.api.client.post("/v1/calls/full/hang-up")
            assert (answer.status_code, answer.json()["code"]) == (409, "busy")
            assert (await at.api.client.post("/v1/calls/full/hand-back")).status_code == 200


async def test_acting_needs_more_than_watching(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "RENEW_S", 0.2)
    async with floor(redis_url, tmp_path, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as at:

        def bearer(scope: Scope) -> dict[str, str]:
            return {"Authorization": f"Bearer {mint(SECRET, 'ann', [scope], 60)}"}

        peer = await at.calls.peer(start={"call_id": "guarded"}, additional_headers=bearer(Scope.CALL))
        await peer.event("prompt", timeout_s=15)
        for act in ("hang-up", "hand-back"):
            answer = await at.api.client.post(f"/v1/calls/guarded/{act}", headers=bearer(Scope.MONITOR))
            assert answer.status_code == 403
        desk = await at.listen("guarded", additional_headers=bearer(Scope.MONITOR))
        await desk.text("listening")
        await desk.say(type="take_over")
        assert (await desk.text("error"))["code"] == "forbidden"
        await desk.ws.send("nonsense")
        await desk.until(lambda: desk.texts[-1].get("code") == "bad_message")
        boss = await at.listen("guarded", additional_headers=bearer(Scope.SUPERVISE))
        await boss.text("listening")
        await boss.say(type="take_over")
        await boss.text("taken_over")
        again = await at.api.client.post("/v1/calls/guarded/hand-back", headers=bearer(Scope.SUPERVISE))
        assert again.status_code == 200
        await boss.text("handed_back")
        nothing = await at.api.client.post("/v1/calls/guarded/hand-back", headers=bearer(Scope.SUPERVISE))
        assert (nothing.status_code, nothing.json()["code"]) == (409, "not_taken_over")
