"""Scripted peers, one per dialect: each says and reads what the product does, over a real socket.

Written from the products' own descriptions and not with `gateway.protocols`, so that both sides cannot share a mistake.
Every peer keeps a transcript of what went over the wire.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import encode

__all__ = [
    "MAKERS",
    "AsteriskPeer",
    "FreeSwitchPeer",
    "JambonzPeer",
    "LinePeer",
    "TwilioPeer",
    "dialled",
]

MULAW = AudioFormat(encoding=Encoding.MULAW)
ALAW = AudioFormat(encoding=Encoding.ALAW)
LINEAR = AudioFormat()
WIDE = AudioFormat(sample_rate_hz=16000)


@dataclass
class LinePeer:
    """What all peers have in common. `audio` is what the bot said, in the call's encoding."""

    path: str
    fmt: AudioFormat = LINEAR
    subprotocols: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    audio: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    clears: int = 0
    largest: int = 0
    """Of all messages, in bytes."""
    hung_up: bool = False
    """The bot ended the call in the dialect's own words."""
    texts: list[str] = field(default_factory=list)
    transcript: list[tuple[float, str, str]] = field(default_factory=list)
    started_at: float = 0.0
    first_audio_at: float = 0.0
    real_time: bool = False
    """Marks are echoed when they would have been played, and not at once."""
    play_end: float = 0.0
    protocol = ""

    async def dial(self, port: int) -> None:
        """Connect and say what the call is."""
        self.news = asyncio.Condition()
        self.played: list[asyncio.Task[None]] = []
        offered = [Subprotocol(name) for name in self.subprotocols] or None
        self.ws: ClientConnection = await connect(
            f"ws://127.0.0.1:{port}{self.path}",
            subprotocols=offered,
            additional_headers=self.headers,
            compression=None,
            max_size=None,
            proxy=None,
        )
        self._began = time.monotonic()
        self.note("S", f"101 Switching Protocols, Sec-WebSocket-Protocol: {self.ws.subprotocol or 'none'}")
        self.reader = asyncio.create_task(self._read())
        self.started_at = time.monotonic()
        for message in self.hello():
            await self.send(message)

    def note(self, who: str, what: str) -> None:
        self.transcript.append((time.monotonic() - self._began, who, what))

    async def send(self, message: str | bytes) -> None:
        self.note("C", message if isinstance(message, str) else f"[binary, {len(message)} bytes]")
        await self.ws.send(message)

    async def _read(self) -> None:
        try:
            async for message in self.ws:
                self.note("S", message if isinstance(message, str) else f"[binary, {len(message)} bytes]")
                self.largest = max(self.largest, len(message.encode() if isinstance(message, str) else message))
                async with self.news:
                    if isinstance(message, str):
                        self.texts.append(message)
                    clears = self.clears
                    for answer in self.heard(message):
                        if self.real_time:
                            wait_s = max(0.0, self.play_end - time.monotonic())
                            self.played.append(asyncio.create_task(self._answer_later(answer, wait_s)))
                        else:
                            await self.send(answer)
                    if self.clears > clears:
                        self.play_end = 0.0
                        for task in self.played:
                            task.cancel()
                    self.news.notify_all()
        except ConnectionClosed:
            pass
        for task in self.played:
            task.cancel()
        self.note("S", f"close {self.ws.close_code}")
        async with self.news:
            self.news.notify_all()

    async def _answer_later(self, answer: str | bytes, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await self.send(answer)

    def take(self, audio: bytes) -> None:
        now = time.monotonic()
        self.first_audio_at = self.first_audio_at or now
        self.play_end = max(self.play_end, now) + len(audio) / self.fmt.bytes_per_ms / 1000
        self.audio += audio
        self.sizes.append(len(audio))

    async def speak(self, pcm: Pcm16, *, ms: int = 20) -> None:
        """Audio in the messages that the product would send, as fast as it goes."""
        data, size = encode(self.fmt, pcm), self.fmt.bytes_per_ms * ms
        for at in range(0, len(data), size):
            await self.send(self.spoken(data[at : at + size]))

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
        try:
            async with asyncio.timeout(timeout_s), self.news:
                while not condition():
                    if self.reader.done():
                        raise AssertionError(f"closed {self.ws.close_code} before {what}; got {self.shown}")
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what}; got {self.shown}, {len(self.audio)} bytes of audio") from None

    @property
    def shown(self) -> list[str]:
        return [text[:100] for text in self.texts]

    async def closed(self, timeout_s: float = 20.0) -> int | None:
        async with asyncio.timeout(timeout_s):
            await self.reader
        return self.ws.close_code

    # What a product says and how it reads.

    def hello(self) -> list[str | bytes]:
        return []

    def spoken(self, audio: bytes) -> str | bytes:
        return audio

    def heard(self, message: str | bytes) -> list[str | bytes]:
        raise NotImplementedError

    def digit(self, digit: str) -> str:
        raise NotImplementedError

    async def hang_up(self) -> None:
        """As the product does when the caller is gone."""
        await self.ws.close(1000)


@dataclass
class AsteriskPeer(LinePeer):
    """chan_websocket: queues frames, plays 50 a second is left out, marks are processed as they come."""

    as_json: bool = False
    codec: str = "ulaw"
    mark_replies: bool = True
    protocol = "asterisk"

    def hello(self) -> list[str | bytes]:
        frame = self.fmt.bytes_per_ms * 20
        if self.as_json:
            return [
                self.event(
                    "MEDIA_START",
                    connection_id="media_connection1",
                    channel="WebSocket/media_connection1/0x7f",
                    channel_id="pbx-1750000000.42",
                    format=self.codec,
                    optimal_frame_size=frame,
                    ptime=20,
                    channel_variables={"DIALEDPEERNUMBER": "voicegate/c(ulaw)"},
                )
            ]
        return [
            "MEDIA_START connection_id:media_connection1 channel:WebSocket/media_connection1/0x7f "
            f"channel_id:pbx-1750000000.42 format:{self.codec} optimal_frame_size:{frame} ptime:20"
        ]

    def event(self, name: str, **fields: Any) -> str:
        return json.dumps({"event": name, **fields})

    def heard(self, message: str | bytes) -> list[str | bytes]:
        if isinstance(message, bytes):
            assert len(message) % (self.fmt.bytes_per_ms * 20) == 0, "the driver would throw the rest away"
            self.take(message)
            return []
        assert len(message.encode()) <= 128, "the driver drops it"
        if self.as_json:
            body = json.loads(message)
            command, argument = body["command"], body.get("correlation_id", "")
        else:
            assert not message.startswith("{"), "the peer speaks plain"
            command, _, argument = message.partition(" ")
        match command:
            case "MARK_MEDIA":
                self.marks.append(argument)
                if self.mark_replies:
                    return [self.mark_processed(argument)]
            case "FLUSH_MEDIA":
                self.clears += 1
            case "HANGUP":
                self.hung_up = True
            case _:
                raise AssertionError(f"no such command: {message}")
        return []

    def mark_processed(self, name: str) -> str:
        if self.as_json:
            return self.event("MEDIA_MARK_PROCESSED", channel_id="pbx-1750000000.42", correlation_id=name)
        return f"MEDIA_MARK_PROCESSED {name}"

    def digit(self, digit: str) -> str:
        if self.as_json:
            return self.event("DTMF_END", channel_id="pbx-1750000000.42", digit=digit)
        return f"DTMF_END digit:{digit} channel_id:pbx-1750000000.42"


@dataclass
class TwilioPeer(LinePeer):
    """Media Streams, bidirectional."""

    parameters: dict[str, str] = field(default_factory=dict)
    protocol = "twilio"

    stream = "MZ" + "1" * 32
    call = "CA" + "2" * 32
    account = "AC" + "3" * 32

    def __post_init__(self) -> None:
        self.sequence = 0
        self.chunk = 0
        self.waiting: list[str] = []

    def event(self, name: str, **fields: Any) -> str:
        self.sequence += 1
        return json.dumps({"event": name, "sequenceNumber": str(self.sequence), **fields, "streamSid": self.stream})

    def hello(self) -> list[str | bytes]:
        start = {
            "accountSid": self.account,
            "streamSid": self.stream,
            "callSid": self.call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
        }
        return [
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self.event("start", start=start),
        ]

    def spoken(self, audio: bytes) -> str:
        self.chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self.chunk),
            "timestamp": str(self.chunk * 20),
            "payload": base64.b64encode(audio).decode(),
        }
        return self.event("media", media=media)

    def heard(self, message: str | bytes) -> list[str | bytes]:
        assert isinstance(message, str), "Twilio sends and reads text alone"
        body = json.loads(message)
        assert body["streamSid"] == self.stream
        match body["event"]:
            case "media":
                self.take(base64.b64decode(body["media"]["payload"], validate=True))
            case "mark":
                self.marks.append(body["mark"]["name"])
                return [self.event("mark", mark={"name": body["mark"]["name"]})]
            case "clear":
                self.clears += 1
            case event:
                raise AssertionError(f"no such event: {event}")
        return []

    def digit(self, digit: str) -> str:
        return self.event("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    async def hang_up(self) -> None:
        await self.send(self.event("stop", stop={"accountSid": self.account, "callSid": self.call}))


@dataclass
class FreeSwitchPeer(LinePeer):
    """mod_audio_stream with a dialplan script that plays what comes and passes keys on."""

    metadata: str | None = field(
        default_factory=lambda: json.dumps({"caller": "+15551234567", "uuid": str(uuid.uuid4())})
    )
    binary: bool = False
    early: bytes = b""
    protocol = "freeswitch"

    def hello(self) -> list[str | bytes]:
        early: list[str | bytes] = [self.early] if self.early else []
        return [*early, self.metadata] if self.metadata is not None else early

    def heard(self, message: str | bytes) -> list[str | bytes]:
        if isinstance(message, bytes):
            assert self.binary, "this build does not play binary"
            self.take(message)
            return []
        body = json.loads(message)
        match body["type"]:
            case "streamAudio":
                data = body["data"]
                assert set(data) == {"audioDataType", "sampleRate", "audioData"}
                assert data["audioDataType"] == "raw"
                assert data["sampleRate"] in (8000, 16000, 24000, 32000, 48000, 64000)
                audio = base64.b64decode(data["audioData"], validate=True)
                assert len(audio) % 2 == 0 and len(message) <= 16384
                self.take(audio)
            case "mark":
                self.marks.append(body["name"])
                return [json.dumps({"type": "mark_reached", "name": body["name"]})]
            case "clear":
                self.clears += 1
            case "hangup":
                self.hung_up = True
            case kind:
                raise AssertionError(f"unexpected: {kind}")
        return []

    def digit(self, digit: str) -> str:
        return json.dumps({"event": "dtmf", "digit": digit})


@dataclass
class JambonzPeer(LinePeer):
    """jambonz listen, with streaming playback or with files."""

    files: bool = False
    mix: str = "mono"
    protocol = "jambonz"

    def hello(self) -> list[str | bytes]:
        return [
            json.dumps(
                {
                    "sampleRate": self.fmt.sample_rate_hz,
                    "mixType": self.mix,
                    "callSid": str(uuid.uuid4()),
                    "direction": "inbound",
                    "from": "+15551234567",
                    "to": "+15557654321",
                    "callId": "f0e1d2c3-b4a5-1234-9876-0123456789ab",
                    "sipStatus": 200,
                    "callStatus": "in-progress",
                    "accountSid": "9351f46a-678c-43f5-b8a6-d4eb58d131af",
                    "applicationSid": "0e0681b0-d49f-4fb8-b973-b5a3c6758de1",
                }
            )
        ]

    def heard(self, message: str | bytes) -> list[str | bytes]:
        if isinstance(message, bytes):
            assert not self.files
            assert not (np.frombuffer(message, "<i2") == -1).any(), "the module would take it for a mark"
            self.take(message)
            return []
        body = json.loads(message)
        match body["type"]:
            case "playAudio":
                data = body["data"]
                assert self.files and data["audioContentType"] == "raw" and data["queuePlay"] is True
                assert data["sampleRate"] == self.fmt.sample_rate_hz and len(message) < 665_600
                self.take(base64.b64decode(data["audioContent"], validate=True))
                done = {"id": data["id"], "variable_playback_samples": "2560"}
                return [json.dumps({"type": "playDone", "data": done})]
            case "mark":
                self.marks.append(body["data"]["name"])
                event = {"name": body["data"]["name"], "event": "playout"}
                return [json.dumps({"type": "mark", "data": event})]
            case "killAudio":
                self.clears += 1
            case "disconnect":
                self.hung_up = True
            case "clearMarks":
                pass
            case kind:
                raise AssertionError(f"unexpected: {kind}")
        return []

    def digit(self, digit: str) -> str:
        return json.dumps({"event": "dtmf", "dtmf": digit, "duration": "1600"})


MAKERS: dict[str, Callable[[], LinePeer]] = {
    "asterisk-plain-ulaw": lambda: AsteriskPeer("/asterisk", fmt=MULAW, subprotocols=("media",)),
    "asterisk-json-alaw": lambda: AsteriskPeer("/asterisk", fmt=ALAW, codec="alaw", as_json=True),
    "asterisk-plain-slin": lambda: AsteriskPeer("/asterisk", codec="slin"),
    "asterisk-json-slin16": lambda: AsteriskPeer(
        "/asterisk?bot=tester", fmt=WIDE, codec="slin16", as_json=True, subprotocols=("media",)
    ),
    "twilio": lambda: TwilioPeer("/twilio", fmt=MULAW),
    "freeswitch-json": lambda: FreeSwitchPeer("/freeswitch"),
    "freeswitch-json-16k": lambda: FreeSwitchPeer("/freeswitch?rate=16k", fmt=WIDE),
    "freeswitch-binary": lambda: FreeSwitchPeer("/freeswitch?playback=binary", binary=True),
    "jambonz-stream": lambda: JambonzPeer("/jambonz", subprotocols=("audio.jambonz.org",)),
    "jambonz-stream-16k": lambda: JambonzPeer("/jambonz", fmt=WIDE, subprotocols=("audio.drachtio.org",)),
    "jambonz-files": lambda: JambonzPeer("/jambonz?playback=files", files=True),
}
"""A fresh peer of every kind by name."""


async def dialled(name: str, port: int, *, real_time: bool = False) -> LinePeer:
    """A peer of this kind, connected."""
    peer = MAKERS[name]()
    peer.real_time = real_time
    await peer.dial(port)
    return peer
