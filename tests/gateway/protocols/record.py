"""Writes docs/transcripts: one call in every dialect, as it went over a real socket.

    python -m tests.gateway.protocols.record docs/transcripts

The peers are the tests' own (peers.py), the bot is the tests' small one, and its recogniser hears what it is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from tests.gateway.harness import rig, silence, speech
from tests.gateway.protocols.peers import MAKERS, LinePeer, dialled

RECORDED = {
    "asterisk-plain": ("asterisk-plain-ulaw", "Asterisk chan_websocket, plain-text control, ulaw"),
    "asterisk-json": ("asterisk-json-slin16", "Asterisk chan_websocket, JSON control, slin16"),
    "freeswitch-json": ("freeswitch-json", "FreeSWITCH mod_audio_stream, JSON playback, 8 kHz"),
    "freeswitch-binary": ("freeswitch-binary", "FreeSWITCH mod_audio_stream, raw binary playback, 8 kHz"),
    "jambonz-stream": ("jambonz-stream", "jambonz listen, streaming playback, 8 kHz"),
    "jambonz-files": ("jambonz-files", "jambonz listen, playAudio, 8 kHz"),
    "twilio": ("twilio", "Twilio Media Streams"),
}
COLUMNS = """
Columns: ms since the 101; C = the peer, the WebSocket client; S = the gateway; the message. Audio is summed up: binary
messages between two texts stand as one line, texts that carry audio are shown once, cut short. The peer is a script
that speaks the dialect; bot and recogniser are the tests' own. A caller speaks over the greeting and over the answer,
presses 1 and #, speaks once more, and the bot says good bye and hangs up.
"""


async def one_call(peer: LinePeer, rate: int, hear: Callable[[str], None]) -> None:
    """Greeting, an utterance, a barge-in, keys, the bot's goodbye; `hear` sets what the recogniser makes of speech."""

    async def spoken() -> None:
        said = np.concatenate([speech(rate), silence(1000, rate)])
        frames = rate // 50
        due = asyncio.get_running_loop().time()
        for at in range(0, len(said), frames):
            if not peer.reader.done():
                await peer.speak(said[at : at + frames])
            due += 0.02
            await asyncio.sleep(due - asyncio.get_running_loop().time())

    await asyncio.sleep(0.1)
    hear("more")
    await spoken()
    await spoken()
    for digit in "1#":
        await peer.send(peer.digit(digit))
    await asyncio.sleep(0.5)
    hear("yes")
    await spoken()
    await peer.closed(10)


def lines(transcript: list[tuple[float, str, str]]) -> list[str]:
    """The transcript with its audio summed up."""
    out: list[str] = []
    binary: dict[str, tuple[int, int]] = {}
    wrapped: dict[str, int] = {}

    def flush(at: float) -> None:
        for who, (count, size) in sorted(binary.items()):
            out.append(f"{at * 1000:7.0f}  {who}  [{count} binary message{'s'[: count != 1]}, {size} bytes]")
        for who, count in sorted(wrapped.items()):
            out.append(f"{at * 1000:7.0f}  {who}  [{count} more message{'s'[: count != 1]} with audio]")
        binary.clear()
        wrapped.clear()

    shown: set[str] = set()
    for at, who, what in transcript:
        if what.startswith("[binary, "):
            count, size = binary.get(who, (0, 0))
            binary[who] = (count + 1, size + int(what.split()[1]))
            continue
        text, audio = shortened(what)
        if audio and who in shown:
            wrapped[who] = wrapped.get(who, 0) + 1
            continue
        if audio:
            shown.add(who)
        flush(at)
        out.append(f"{at * 1000:7.0f}  {who}  {text}")
    flush(transcript[-1][0])
    return out


def shortened(text: str) -> tuple[str, bool]:
    """A text with long base64 cut, and whether it had any."""
    if not text.startswith("{"):
        return text, False
    body = json.loads(text)
    for part in (body.get("media"), body.get("data")):
        for key in ("payload", "audioData", "audioContent"):
            if isinstance(part, dict) and key in part:
                part[key] = part[key][:12] + "..."
                return json.dumps(body, separators=(",", ":")), True
    return text, False


async def vosk(port: int) -> list[tuple[float, str, str]]:
    """A Vosk client in lock-step."""
    loop = asyncio.get_running_loop()
    told: list[tuple[float, str, str]] = []
    async with connect(f"ws://127.0.0.1:{port}/vosk", compression=None, proxy=None) as ws:
        began = loop.time()
        told.append((0.0, "S", "101 Switching Protocols, Sec-WebSocket-Protocol: none"))

        async def say(message: str | bytes) -> None:
            told.append(
                (loop.time() - began, "C", message if isinstance(message, str) else f"[binary, {len(message)} bytes]")
            )
            await ws.send(message)

        async def hear() -> None:
            told.append((loop.time() - began, "S", str(await ws.recv())))

        await say('{ "config" : { "sample_rate" : 8000 } }')
        data = np.concatenate([speech(), silence(1000)]).astype("<i2").tobytes()
        for at in range(0, len(data), 3200):
            await say(data[at : at + 3200])
            await hear()
            await asyncio.sleep(0.2)
        await say('{"eof" : 1}')
        await hear()
        await ws.wait_closed()
        told.append((loop.time() - began, "S", f"close {ws.close_code}"))
    return told


async def of_peer(name: str) -> list[tuple[float, str, str]]:
    """What went over the wire in one call of this kind of peer."""
    words = ["more"]
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder), hear=lambda job: words[-1]) as running:
            peer = await dialled(name, running.port, real_time=True)
            await one_call(peer, MAKERS[name]().fmt.sample_rate_hz, words.append)
            return peer.transcript


async def of_vosk() -> list[tuple[float, str, str]]:
    """What went over the wire between a Vosk client and the gateway."""
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder), hear="yes speaking") as running:
            return await vosk(running.port)


def record(folder: Path) -> None:
    """All of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, (name, title) in RECORDED.items():
        told = lines(asyncio.run(of_peer(name)))
        (folder / f"{file}.txt").write_text("\n".join([f"{title}.", COLUMNS, *told, ""]), encoding="utf-8")
    columns = COLUMNS.split(" A caller speaks")[0]
    told = lines(asyncio.run(of_vosk()))
    (folder / "vosk.txt").write_text("\n".join(["A Vosk client.", columns, "", *told, ""]), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)
