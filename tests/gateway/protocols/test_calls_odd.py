"""Calls that go as one product alone makes them go: a full driver, marks lost in a flush, audio ahead of the start."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.processes import worker
from gateway.protocols import freeswitch
from tests.gateway.harness import rig, silence, speech
from tests.gateway.protocols.peers import (
    MAKERS,
    MULAW,
    WIDE,
    AsteriskPeer,
    FreeSwitchPeer,
    LinePeer,
    TwilioPeer,
    dialled,
)

pytestmark = pytest.mark.unit


def asterisk(**options: object) -> AsteriskPeer:
    return AsteriskPeer("/asterisk", fmt=MULAW, **options)  # type: ignore[arg-type]


async def test_xoff_stops_the_bot_within_a_frame_and_xon_loses_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        reference, peer = asterisk(), asterisk()
        for one in (reference, peer):
            await one.dial(running.port)
        await peer.until(lambda: len(peer.sizes) >= 15, "audio")
        await peer.send("MEDIA_XOFF")
        pong = await peer.ws.ping()  # answered behind what was on its way
        await pong
        held = len(peer.sizes)
        await asyncio.sleep(0.2)
        assert len(peer.sizes) <= held + 1
        await peer.send("MEDIA_XON")
        await reference.until(lambda: reference.marks, "mark")
        await peer.until(lambda: peer.marks, "mark")
        assert peer.audio == reference.audio and set(peer.sizes) == {160}
        for one in (reference, peer):
            await one.hang_up()
            await one.reader


async def test_marks_that_a_flush_swallowed_are_not_waited_for(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="more", no_input="200") as running:
        peer = asterisk(mark_replies=False)
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "first words")
        await peer.speak(np.concatenate([speech(), silence(1000)]))
        await peer.until(lambda: peer.clears and peer.marks, "answer")
        at = len(peer.audio)
        # No mark ever comes back; the bot still knows that it was heard, and asks whether anybody is there.
        await peer.until(lambda: len(peer.audio) > at + 160, "are you there")
        await peer.hang_up()
        await peer.reader


async def test_audio_ahead_of_media_start_is_heard(tmp_path: Path) -> None:
    """asterisk issue 1712: one call in ten on a loaded host."""
    async with rig(tmp_path, hear="more") as running:
        peer = asterisk()
        hello = peer.hello()
        peer.hello = lambda: []  # type: ignore[method-assign]
        await peer.dial(running.port)
        await peer.speak(speech())
        await peer.send(hello[0])
        await peer.speak(silence(1000))
        await peer.until(lambda: running.metric("voicegate_turns_total", outcome="words") >= 1, "answer")
        assert len(running.asr.jobs[-1].pcm) > 0.6 * 8000
        await peer.hang_up()
        await peer.reader


async def test_a_driver_that_never_says_media_start_is_greeted(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = asterisk()
        peer.hello = lambda: []  # type: ignore[method-assign]
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "first words")
        assert set(peer.sizes) == {160}
        await peer.hang_up()
        await peer.reader


async def test_a_codec_that_is_not_spoken_ends_the_call_with_4415(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = asterisk(codec="opus")
        await peer.dial(running.port)
        assert await peer.closed() == 4415
        assert not peer.audio and not peer.texts


async def test_twilio_may_close_without_a_stop(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = TwilioPeer("/twilio", fmt=MULAW)
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "first words")
        await peer.ws.close(1000)
        await peer.reader
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


async def test_a_stop_and_then_the_close_end_the_call_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = TwilioPeer("/twilio", fmt=MULAW)
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "first words")
        await peer.hang_up()
        await peer.ws.close(1000)
        await peer.reader
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


async def streaming(peer: LinePeer, ms: int) -> None:
    """Silence as a line brings it: 20 ms every 20 ms."""
    begun, frame = time.monotonic(), silence(20, peer.fmt.sample_rate_hz)
    for sent in range(1, ms // 20 + 1):
        await peer.speak(frame)
        await asyncio.sleep(max(0.0, begun + sent * 0.02 - time.monotonic()))


@pytest.mark.parametrize(
    ("name", "no_audio_s"),
    [("freeswitch-binary", 1), ("jambonz-stream", 1), ("twilio", 20), ("asterisk-plain-ulaw", 20)],
)
async def test_a_line_that_is_paused_or_stalls_is_not_asked_whether_anybody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, no_audio_s: int
) -> None:
    """FreeSWITCH and jambonz may pause for as long as they like; in the others it is the network."""
    monkeypatch.setattr(worker, "_SWEEP_S", 0.2)
    limit = {"VOICEGATE_LIMITS_NO_AUDIO_S": str(no_audio_s)}
    async with rig(tmp_path, no_input="1000", environ=limit) as running:
        peer = await dialled(name, running.port)
        await streaming(peer, 1400)  # the greeting lasts 840 ms
        if name == "jambonz-stream":
            await peer.send(b"")
        said = len(peer.audio)
        await asyncio.sleep(2.5)
        assert len(peer.audio) == said and running.worker.calls == 1
        assert running.metric("voicegate_turns_total", outcome="no_input") == 0
        line = asyncio.create_task(streaming(peer, 5000))
        await peer.until(lambda: len(peer.audio) > said, "are you there")
        assert running.metric("voicegate_turns_total", outcome="no_input") == 1
        line.cancel()
        peer.ws.transport.abort()
        await peer.reader


@pytest.mark.parametrize("name", ["freeswitch-binary", "twilio"])
async def test_a_caller_of_whom_no_audio_comes_is_asked(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path, no_input="200") as running:
        peer = await dialled(name, running.port)
        await peer.closed()  # asked, and taken leave of
        assert running.metric("voicegate_turns_total", outcome="no_input") == 2


async def dialled_from_afar(peer: LinePeer, port: int, messages: list[str | bytes], *, after_s: float) -> None:
    """Our 101 and what the peer then says take `after_s`, and what follows a window full of audio as long again."""
    peer.hello = lambda: []  # type: ignore[method-assign]
    await peer.dial(port)
    for message in messages:
        await asyncio.sleep(after_s)
        await peer.send(message)


FAR = {"rate": "16k", "caller": "+15551234567", "uuid": "far-away", "bot": "tester"}


@pytest.mark.parametrize("path", ["/freeswitch", "/"])
@pytest.mark.parametrize("early", [b"", bytes(640)])
async def test_freeswitch_from_afar_says_what_the_call_is(tmp_path: Path, path: str, early: bytes) -> None:
    async with rig(tmp_path) as running:
        peer = FreeSwitchPeer(path, fmt=WIDE)
        await dialled_from_afar(peer, running.port, [*filter(None, [early]), json.dumps(FAR)], after_s=0.3)
        await peer.until(lambda: peer.audio, "greeting")
        (session,) = running.worker.sessions
        assert session.call_id == "far-away" and session.audio_format == WIDE
        assert running.metric("voicegate_calls", protocol="freeswitch") == 1
        assert running.metric("voicegate_peer_faults_total", code="unknown_event") == 0
        await peer.hang_up()
        await peer.reader


@pytest.mark.parametrize("name", ["jambonz-stream-16k", "twilio", "asterisk-json-alaw"])
@pytest.mark.parametrize("path", ["", "/"])
async def test_every_product_from_afar_says_what_the_call_is(tmp_path: Path, name: str, path: str) -> None:
    async with rig(tmp_path) as running:
        peer = MAKERS[name]()
        peer.path = path or peer.path
        await dialled_from_afar(peer, running.port, peer.hello(), after_s=0.3)
        await peer.until(lambda: peer.audio, "greeting")
        (session,) = running.worker.sessions
        assert session.audio_format == peer.fmt
        assert running.metric("voicegate_calls", protocol=peer.protocol) == 1
        peer.ws.transport.abort()
        await peer.reader


async def test_without_metadata_a_call_starts_soon_behind_its_first_audio(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        peer = FreeSwitchPeer("/freeswitch", metadata=None, early=bytes(320))
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "greeting")
        assert peer.first_audio_at - peer.started_at < 1.0, "not the two seconds of a peer that says nothing"
        await peer.hang_up()
        await peer.reader


async def test_a_module_that_says_nothing_at_all_is_greeted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeswitch, "STARTS_WITHIN_MS", 200)
    async with rig(tmp_path) as running:
        peer = FreeSwitchPeer("/freeswitch", metadata=None)
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "greeting")
        await peer.hang_up()
        await peer.reader
