"""Which dialect a connection speaks: paths, subprotocols, headers, first messages; and what comes of it on a socket."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from websockets.frames import Opcode

from gateway.calls import recognised
from gateway.calls.dialects import (
    ASTERISK,
    FREESWITCH,
    JAMBONZ,
    NATIVE,
    TWILIO,
    VOSK,
    Dialect,
    Route,
    by_request,
    offered_subprotocols,
    recognise,
    route,
)
from tests.gateway.harness import rig, silence
from tests.gateway.protocols.peers import MAKERS
from tests.gateway.raw_peer import dial, frame, upgrade

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/call", Route(NATIVE)),
        ("/asterisk", Route(ASTERISK)),
        ("/asterisk/", Route(ASTERISK)),
        ("/asterisk/a.b-c", Route(ASTERISK, "a.b-c")),
        ("/twilio/a%2Fb", Route(TWILIO, "a/b")),
        ("/vosk/t/", Route(VOSK, "t")),
        ("/", Route(None)),
        ("/auto", Route(None)),
        ("/auto/t", Route(None, "t")),
        ("/asterisk/a/b", None),
        ("/v1/call/t", None),
        ("/v1/call/", None),
        ("/asterisks", None),
        ("", None),
        ("//", None),
        ("/v1", None),
    ],
)
def test_paths(path: str, found: Route | None) -> None:
    assert route(path) == found


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        ([], None),
        (["media"], ASTERISK),
        (["strange, audio.drachtio.org"], JAMBONZ),
        (["strange", "audio.jambonz.org"], JAMBONZ),
        (["voicegate.v1"], NATIVE),
        (["ari"], None),
    ],
)
def test_subprotocols(headers: list[str], dialect: Dialect | None) -> None:
    assert by_request(offered_subprotocols(headers), signed_by_twilio=False) is dialect
    assert by_request(offered_subprotocols(headers), signed_by_twilio=True) is TWILIO


@pytest.mark.parametrize(
    ("message", "dialect"),
    [
        (b"", None),
        ("MEDIA_START connection_id:x", ASTERISK),
        ('{"event":"MEDIA_START"}', ASTERISK),
        ('{"event":"connected","protocol":"Call"}', TWILIO),
        ('{"config":{"sample_rate":16000}}', VOSK),
        ('{"eof" : 1}', VOSK),
        ('{"sampleRate":8000,"mixType":"mono","callSid":"x"}', JAMBONZ),
        ('{"sampleRate":8000,"mixType":"mono","callSid":"cut of', JAMBONZ),
        ('{"type":"start","bot":"x"}', NATIVE),
        ('{"type":"stop"}', NATIVE),
        ('{"caller":"x"}', FREESWITCH),
        ("caller=x", FREESWITCH),
        ("", FREESWITCH),
    ],
)
def test_first_messages(message: str | bytes, dialect: Dialect | None) -> None:
    assert recognise(message) is dialect


@pytest.mark.parametrize(
    "name", ["asterisk-plain-ulaw", "asterisk-json-alaw", "twilio", "freeswitch-json", "jambonz-stream"]
)
async def test_every_product_is_served_on_the_root(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as running:
        peer = MAKERS[name]()
        peer.path = "/" if name != "twilio" else "/auto"
        await peer.dial(running.port)
        await peer.until(lambda: len(peer.sizes) > 3 or len(peer.audio) > 5000, "audio")
        assert running.metric("voicegate_calls", protocol=peer.protocol) == 1
        peer.ws.transport.abort()
        await peer.reader


async def test_audio_before_the_first_text_is_not_lost_in_recognising(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = MAKERS["asterisk-plain-ulaw"]()
        peer.path, peer.subprotocols = "/", ()
        hello = peer.hello()
        peer.hello = lambda: [b"\xff" * 160] * 3 + hello  # type: ignore[method-assign]
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "greeting")
        assert running.metric("voicegate_calls", protocol="asterisk") == 1
        await peer.hang_up()
        await running.no_calls()
        assert running.metric("voicegate_frames_total") == 3


async def test_audio_alone_is_taken_for_our_own_protocol(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        async with dial(running.port) as peer:
            peer.send(upgrade("/"))
            assert (await peer.answer()).status == 101
            begun = time.monotonic()
            peer.send(frame(Opcode.BINARY, bytes(320)))
            await peer.frame()  # after a moment: `ready`
            assert 0.15 < time.monotonic() - begun < 1.5, "200 ms behind the audio, not the two seconds of silence"
            assert running.metric("voicegate_calls", protocol="native") == 1
        await running.no_calls()
        assert running.metric("voicegate_frames_total") == 1


async def test_a_peer_that_says_nothing_waits_for_the_greeting_of_our_own_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognised, "_DECIDE_S", 0.4)
    async with rig(tmp_path) as running:
        async with dial(running.port) as peer:
            peer.send(upgrade("/"))
            assert (await peer.answer()).status == 101
            begun = time.monotonic()
            await peer.frame()
            assert time.monotonic() - begun > 0.3
            assert running.metric("voicegate_calls", protocol="native") == 1
        await running.no_calls()


@pytest.mark.parametrize("said", [b"", frame(Opcode.BINARY, bytes(320))])
async def test_a_peer_that_leaves_before_it_is_recognised_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(recognised, "_DECIDE_S", 0.3)
    async with rig(tmp_path) as running:
        async with dial(running.port) as peer:
            peer.send(upgrade("/"))
            await peer.answer()
            peer.send(said)
            await asyncio.sleep(0.02)
            peer.reset()
        await asyncio.sleep(0.6)  # past the moment at which it would have been taken for one of ours
        assert running.worker.calls == 0
        assert running.metric("voicegate_first_utterance_seconds_count") == 0
        assert running.metric("voicegate_calls_ended_total", ended_by="error") == 0


async def test_a_flood_before_recognition_is_one_of_the_call_it_becomes(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = MAKERS["freeswitch-binary"]()
        peer.path, peer.metadata = "/", None  # type: ignore[attr-defined]
        peer.heard = lambda message: []  # type: ignore[method-assign]
        await peer.dial(running.port)
        await peer.speak(silence(9000), ms=1000)
        assert await peer.closed() == 4429
        assert json.loads(peer.texts[-1])["code"] == "flooding"
