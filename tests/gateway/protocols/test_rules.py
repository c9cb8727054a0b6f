"""Rules that hold for every dialect (PROTOCOLS.md section 0), each over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audio.formats import AudioFormat, Pcm16
from audio.framing import encode
from dialogue.store import Claim, MemoryStore
from gateway.calls.dialects import DIALECTS
from tests.gateway.harness import Rig, rig, silence, speech
from tests.gateway.protocols.peers import (
    LINEAR,
    WIDE,
    AsteriskPeer,
    FreeSwitchPeer,
    JambonzPeer,
    LinePeer,
    dialled,
)
from tests.gateway.raw_peer import dial, upgrade

pytestmark = pytest.mark.unit

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9"
ONE_OF_EACH = ["asterisk-plain-ulaw", "twilio", "freeswitch-json", "jambonz-stream"]
KNOWN = {dialect.path: dialect.subprotocols for dialect in DIALECTS}
SAID = np.concatenate([speech(), silence(1000)])


class SlowStore(MemoryStore):
    """A store that answers when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        self.asked.set()
        await self.let.wait()
        return await super().claim(call_id, owner=owner)


async def greeted(peer: LinePeer, running: Rig) -> None:
    """On the line, until the bot's first words."""
    await peer.dial(running.port)
    await peer.until(lambda: peer.audio, "first words")


async def heard(running: Rig, peer: LinePeer) -> Pcm16:
    """What the recogniser was given last, once the caller's words were understood and answered."""
    await peer.until(lambda: running.metric("voicegate_turns_total", outcome="words") >= 1, "answer")
    return running.asr.jobs[-1].pcm


@pytest.mark.parametrize("path", [*KNOWN, "/", "/auto"])
async def test_no_subprotocol_a_known_one_or_a_strange_one_and_never_an_extension(tmp_path: Path, path: str) -> None:
    known = KNOWN.get(path, ())
    offers: dict[tuple[str, ...], str | None] = {(): None, ("strange",): None}
    offers |= {("strange", name): name for name in known}
    async with rig(tmp_path) as running:
        for offered, named in offers.items():
            header = [f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else []
            async with dial(running.port) as peer:
                peer.send(upgrade(path, DEFLATE, *header))
                answer = await peer.answer()
                assert answer.status == 101
                assert answer.headers.get("sec-websocket-protocol") == named
                assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize("name", ONE_OF_EACH)
async def test_the_101_waits_for_nothing(tmp_path: Path, name: str) -> None:
    """libwsc gives up after a second, Asterisk after one and a half."""
    store = SlowStore()
    async with rig(tmp_path, store=store) as running:
        peer = await dialled(name, running.port)
        async with asyncio.timeout(20):
            await store.asked.wait()
        assert peer.ws.response is not None and peer.ws.response.status_code == 101 and not peer.audio
        store.let.set()
        await peer.until(lambda: peer.audio, "first words")
        peer.ws.transport.abort()
        await peer.reader


@pytest.mark.parametrize("name", ONE_OF_EACH)
async def test_reading_goes_on_while_the_recogniser_hangs(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await dialled(name, running.port)
        await peer.until(lambda: peer.audio, "first words")
        running.asr.gate.clear()
        await peer.speak(np.concatenate([SAID[: len(SAID) // 160 * 160], silence(1000)]))
        pong = await peer.ws.ping()  # answered behind all of it
        async with asyncio.timeout(20):
            await pong
        assert running.worker.frames_seen == len(SAID) // 160 + 50
        running.asr.gate.set()
        await heard(running, peer)
        peer.ws.transport.abort()
        await peer.reader


@pytest.mark.parametrize(
    "peer_of",
    [
        lambda: AsteriskPeer("/asterisk", codec="slin"),
        lambda: FreeSwitchPeer("/freeswitch"),
        lambda: JambonzPeer("/jambonz"),
    ],
)
async def test_half_samples_and_empty_messages_change_nothing(tmp_path: Path, peer_of: Callable[[], LinePeer]) -> None:
    given = []
    for size in (320, 77):
        async with rig(tmp_path / str(size), hear="more") as running:
            peer = peer_of()
            await greeted(peer, running)
            data = encode(LINEAR, SAID)
            for number, at in enumerate(range(0, len(data), size)):
                await peer.send(data[at : at + size])
                if size == 77 and number % 50 == 0:
                    await peer.send(b"")
            given.append(await heard(running, peer))
            peer.ws.transport.abort()
            await peer.reader
    assert np.array_equal(given[0], given[1])


@pytest.mark.parametrize("name", ONE_OF_EACH)
async def test_a_tenth_of_the_frames_may_be_missing(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path, hear="more") as running:
        peer = await dialled(name, running.port)
        await peer.until(lambda: peer.audio, "first words")
        frames = SAID[: len(SAID) // 160 * 160].reshape(-1, 160)
        await peer.speak(np.delete(frames, np.s_[::10], axis=0).ravel())
        await peer.speak(silence(200))
        assert len(await heard(running, peer)) > 3000
        peer.ws.transport.abort()
        await peer.reader


@pytest.mark.parametrize("fmt", [LINEAR, WIDE])
@pytest.mark.parametrize("product", ["freeswitch", "jambonz"])
async def test_of_two_channels_the_first_is_the_caller(tmp_path: Path, product: str, fmt: AudioFormat) -> None:
    rate = fmt.sample_rate_hz
    caller = np.concatenate([speech(rate), silence(1000, rate)])
    other = np.tile(speech(rate)[::-1], 2)[: len(caller)]
    given = []
    for channels in (1, 2):
        async with rig(tmp_path / str(channels), hear="more") as running:
            mix = "mono" if channels == 1 else "stereo"
            peer: LinePeer = JambonzPeer("/jambonz", fmt=fmt, mix=mix)
            if product == "freeswitch":
                peer = FreeSwitchPeer(f"/freeswitch?rate={rate}&mix={mix}", fmt=fmt)
            await greeted(peer, running)
            legs = caller if channels == 1 else np.stack([caller, other], axis=1).ravel()
            data, size = encode(LINEAR, legs), fmt.bytes_per_ms * 20 * channels
            for at in range(0, len(data), size):
                await peer.send(data[at : at + size])
            given.append(await heard(running, peer))
            peer.ws.transport.abort()
            await peer.reader
    assert np.array_equal(given[0], given[1])
