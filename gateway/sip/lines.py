"""The product's side of each dialect: what a PBX or carrier says to the gateway about one call, and reads from it.

A line is made for one call, holds no socket and no clock, and knows its dialect from the product's own description and
not from `gateway.protocols`, so that a call through it tests the gateway as the product would.

    dialect         stands for                       audio          keys        marks   flush       bot hangs up
    native          a client of voicegate.v1         as the phone   dtmf        yes     clear       hangup, close
    asterisk        chan_websocket, plain texts      as the phone   DTMF_END    yes     FLUSH_MEDIA HANGUP, close
    asterisk-json   the same, JSON texts             as the phone   DTMF_END    yes     FLUSH_MEDIA HANGUP, close
    twilio          Media Streams, bidirectional     PCMU, base64   dtmf        yes     clear       close
    freeswitch      mod_audio_stream and a dialplan  linear 16 bit  send_text   yes     clear       hangup, close
                    script that plays and acts

Source: docs/protocols.md; asterisk/asterisk channels/chan_websocket.c (22.6 to 23.2); Twilio's page on Media Streams
messages; amigniter/mod_audio_stream (1.0.x) and docs/freeswitch.md for what the script does.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from audio.formats import AudioFormat, Encoding
from audio.framing import Framer
from gateway.sip.line import (
    BaseLine,
    CallFacts,
    DropPlayback,
    Line,
    LineOrder,
    LineOver,
    Messages,
    PlayAudio,
    PlayMark,
)

__all__ = ["DIALECTS", "AsteriskLine", "FreeSwitchLine", "NativeLine", "TwilioLine"]

_FRAME_MS: Final = 20


class NativeLine(BaseLine):
    """A client of voicegate.v1, which says in its address what the call is.

    Not in a start message: the gateway waits 50 ms for one, and on a busy machine it may come later.
    """

    path = "/v1/call"
    subprotocols: tuple[str, ...] = ("voicegate.v1",)

    def query(self) -> dict[str, str]:
        fmt = self.format
        return {**super().query(), "encoding": fmt.encoding.value, "sample_rate": str(fmt.sample_rate_hz)}

    def speak(self, audio: bytes) -> Messages:
        return (audio,)

    def press(self, digit: str) -> Messages:
        return (json.dumps({"type": "dtmf", "digit": digit}),)

    def played(self, mark: str) -> Messages:
        return (json.dumps({"type": "mark_reached", "name": mark}),)

    def hang_up(self) -> Messages:
        return ('{"type":"stop"}',)

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        if isinstance(message, bytes):
            return (PlayAudio(message),)
        body = _object(message)
        match body.get("type"):
            case "mark":
                return (PlayMark(str(body.get("name"))),)
            case "clear":
                return (DropPlayback(),)
            case "hangup" | "transfer":
                return (LineOver(),)
        return ()


class AsteriskLine(BaseLine):
    """chan_websocket: raw codec bytes in frames, control in texts of one of two forms."""

    path = "/asterisk"
    subprotocols: tuple[str, ...] = ("media",)
    _CODECS: Final = {Encoding.MULAW: "ulaw", Encoding.ALAW: "alaw"}
    # In frames: MEDIA_XOFF at the first, MEDIA_XON below the second (chan_websocket.c).
    _FULL_MS: Final = 900 * _FRAME_MS
    _ROOM_MS: Final = 800 * _FRAME_MS
    _MAX_COMMAND_BYTES: Final = 128

    def __init__(self, facts: CallFacts, *, as_json: bool = False) -> None:
        super().__init__(facts)
        self._json = as_json
        self._channel = f"sip-{facts.call_id}"
        self._frame_bytes = self.format.bytes_per_ms * _FRAME_MS
        self._full = False
        self._buffer: Framer | None = None
        """While START_MEDIA_BUFFERING holds: messages of any size are cut into frames."""

    def headers(self) -> dict[str, str]:
        if not self._facts.token:
            return {}
        basic = base64.b64encode(f"asterisk:{self._facts.token}".encode()).decode()
        return {"Authorization": f"Basic {basic}"}

    def hello(self) -> Messages:
        return self._event(
            "MEDIA_START",
            connection_id="voicegate",
            channel="WebSocket/voicegate/0x7f",
            channel_id=self._channel,
            format=self._CODECS[self.format.encoding],
            optimal_frame_size=self._frame_bytes,
            ptime=_FRAME_MS,
        )

    def speak(self, audio: bytes) -> Messages:
        return [audio[at : at + self._frame_bytes] for at in range(0, len(audio), self._frame_bytes)]

    def press(self, digit: str) -> Messages:
        return self._event("DTMF_END", digit=digit, channel_id=self._channel)

    def played(self, mark: str) -> Messages:
        if self._json:
            return self._event("MEDIA_MARK_PROCESSED", channel_id=self._channel, correlation_id=mark)
        return (f"MEDIA_MARK_PROCESSED {mark}".rstrip(),)

    def queued(self, ms: int) -> Messages:
        if not self._full and ms >= self._FULL_MS:
            self._full = True
            return self._event("MEDIA_XOFF", channel_id=self._channel)
        if self._full and ms < self._ROOM_MS:
            self._full = False
            return self._event("MEDIA_XON", channel_id=self._channel)
        return ()

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        if isinstance(message, bytes):
            if self._buffer is not None:
                return [PlayAudio(frame) for frame in self._buffer.push(message)]
            whole = len(message) - len(message) % self._frame_bytes
            return (PlayAudio(message[:whole]),)  # the driver throws the rest away
        if len(message.encode()) > self._MAX_COMMAND_BYTES:
            return ()  # and so it does with these
        if message.lstrip().startswith("{"):
            body = _object(message)
            command, argument = str(body.get("command")), str(body.get("correlation_id") or "")
        else:
            command, _, argument = message.strip().partition(" ")
        match command:
            case "MARK_MEDIA":
                return (PlayMark(argument),)
            case "FLUSH_MEDIA":
                self._buffer = None
                return (DropPlayback(),)
            case "START_MEDIA_BUFFERING":
                self._buffer = Framer(self._frame_bytes)
            case "STOP_MEDIA_BUFFERING":
                rest, self._buffer = (self._buffer.carry if self._buffer else b""), None
                return (PlayAudio(rest),)
            case "HANGUP":
                return (LineOver(),)
        return ()

    def _event(self, name: str, **fields: object) -> Messages:
        if self._json:
            return (json.dumps({"event": name, **fields}),)
        if name in ("MEDIA_XOFF", "MEDIA_XON"):
            return (name,)  # bare words
        return (" ".join([name, *(f"{key}:{value}" for key, value in fields.items())]),)


class TwilioLine(BaseLine):
    """Media Streams, bidirectional: everything is JSON text, counters are strings."""

    path = "/twilio"

    def __init__(self, facts: CallFacts) -> None:
        super().__init__(facts)
        self.format = AudioFormat(encoding=Encoding.MULAW)
        digits = uuid.uuid5(uuid.NAMESPACE_OID, facts.call_id).hex
        self._stream, self._account = f"MZ{digits}", f"AC{digits}"
        self._sequence = 0
        self._chunk = 0

    def query(self) -> dict[str, str]:
        return {}

    def url(self, gateway: str) -> str:
        return super().url(urlunsplit(urlsplit(gateway)._replace(query="")))  # Twilio delivers no query

    def headers(self) -> dict[str, str]:
        return {}

    def hello(self) -> Messages:
        facts = self._facts
        known = {"caller": facts.caller, "bot": facts.bot, "token": facts.token, "dialled": facts.dialled}
        start = {
            "accountSid": self._account,
            "streamSid": self._stream,
            "callSid": facts.call_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {key: value for key, value in known.items() if value},
        }
        connected = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        return (connected, *self._event("start", start=start))

    def speak(self, audio: bytes) -> Messages:
        size = self.format.bytes_per_ms * _FRAME_MS
        return [text for at in range(0, len(audio), size) for text in self._media(audio[at : at + size])]

    def press(self, digit: str) -> Messages:
        return self._event("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def played(self, mark: str) -> Messages:
        return self._event("mark", mark={"name": mark})

    def dropped(self, marks: Sequence[str]) -> Messages:
        return [text for mark in marks for text in self.played(mark)]

    def hang_up(self) -> Messages:
        return self._event("stop", stop={"accountSid": self._account, "callSid": self._facts.call_id})

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        body = _object(message)
        if body.get("streamSid") != self._stream:
            return ()
        match body.get("event"):
            case "media":
                audio = _audio(_inner(body, "media").get("payload"))
                return (PlayAudio(audio),) if audio else ()
            case "mark":
                return (PlayMark(str(_inner(body, "mark").get("name"))),)
            case "clear":
                return (DropPlayback(),)
        return ()

    def _media(self, frame: bytes) -> Messages:
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(self._chunk * _FRAME_MS),
            "payload": base64.b64encode(frame).decode(),
        }
        return self._event("media", media=media)

    def _event(self, name: str, **fields: object) -> Messages:
        self._sequence += 1
        body = {"event": name, "sequenceNumber": str(self._sequence), **fields, "streamSid": self._stream}
        return (json.dumps(body),)


class FreeSwitchLine(BaseLine):
    """mod_audio_stream at 8 kHz mono, with a dialplan script that plays, echoes marks and acts on what it is told."""

    path = "/freeswitch"

    def __init__(self, facts: CallFacts) -> None:
        super().__init__(facts)
        self.format = AudioFormat()

    def query(self) -> dict[str, str]:
        facts = self._facts
        known = {"call_id": facts.call_id, "bot": facts.bot or "", "rate": "8k"}
        return {key: value for key, value in known.items() if value}

    def hello(self) -> Messages:
        return (json.dumps({"caller": self._facts.caller, "dialled": self._facts.dialled}),)

    def speak(self, audio: bytes) -> Messages:
        return (audio,)

    def press(self, digit: str) -> Messages:
        return (json.dumps({"type": "dtmf", "digit": digit}),)

    def played(self, mark: str) -> Messages:
        return (json.dumps({"type": "mark_reached", "name": mark}),)

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        if isinstance(message, bytes):
            return (PlayAudio(message[: len(message) // 2 * 2]),)
        body = _object(message)
        match body.get("type"):
            case "streamAudio":
                data = _inner(body, "data")
                if data.get("audioDataType") == "raw" and data.get("sampleRate") == self.format.sample_rate_hz:
                    audio = _audio(data.get("audioData"))
                    return (PlayAudio(audio[: len(audio) // 2 * 2]),)
            case "mark":
                return (PlayMark(str(body.get("name"))),)
            case "clear":
                return (DropPlayback(),)
            case "hangup" | "transfer":
                return (LineOver(),)
        return ()


def _object(message: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _inner(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _audio(text: object) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


DIALECTS: Final[dict[str, Callable[[CallFacts], Line]]] = {
    "native": NativeLine,
    "asterisk": AsteriskLine,
    "asterisk-json": lambda facts: AsteriskLine(facts, as_json=True),
    "twilio": TwilioLine,
    "freeswitch": FreeSwitchLine,
}
"""A line by its dialect's name."""
