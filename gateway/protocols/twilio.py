"""Twilio Media Streams, bidirectional (`<Connect><Stream>`): every message is JSON text with an `event`.

    connected --start--> started --stop | close--> over

Audio is base64 of bare 8 kHz μ-law in both directions. Twilio sends every mark back: when it was played, or at once
when a clear threw it away; the latter are no news and are dropped here. Counters come as strings.

Odd cases: media before the start is ignored, and so is the track `outbound`, our own voice; a payload that is no
base64 is passed over; gaps in the sequence are counted. There is no word for hanging up: the close ends the stream,
and TwiML goes on. Ending or transferring the call itself is a REST request (`gateway.outside.carriers`).

Source: www.twilio.com/docs/voice/media-streams/websocket-messages, read November 2026.
"""

from __future__ import annotations

import binascii
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from audio.formats import AudioFormat, Encoding
from gateway.protocols.fields import (
    call_id_of,
    digit_of,
    dump,
    metadata_of,
    number_of,
    object_of,
    parse_object,
    text_of,
    word_of,
)
from gateway.protocols.seam import (
    AudioMessage,
    AudioReceived,
    CallStart,
    ClearPlayout,
    CloseCode,
    Command,
    JsonObject,
    MarkReached,
    MessageIgnored,
    PeerFault,
    SendMark,
    StopReceived,
    WireEvent,
    WireMessage,
)

__all__ = ["TwilioProtocol"]

_FORMAT: Final = AudioFormat(encoding=Encoding.MULAW)
_OWN_PARAMETERS: Final = frozenset({"bot", "language", "caller", "token"})


class TwilioProtocol:
    """One stream's state: its id, the next sequence number, the marks on their way."""

    name = "twilio"
    starts_within_ms: int | None = None
    ptime_ms: int | None = None
    pauses = False
    binary_is_audio = False  # it is text

    def __init__(self) -> None:
        """Twilio delivers no query: what the call is stands in `<Parameter>` elements."""
        self._started = False
        self._stopped = False
        self._head = ""
        self._stream_sid = ""
        self._next_sequence = 0
        self._on_their_way: Counter[str] = Counter()
        self._thrown_away: Counter[str] = Counter()

    def default_start(self) -> CallStart:
        """μ-law; never asked for, since a stream without `start` has no id to answer to."""
        return CallStart(format=_FORMAT)

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message of Twilio's."""
        if not isinstance(message, str):
            return (MessageIgnored("unexpected_binary"),)
        try:
            parsed = json.loads(message)
        except (ValueError, RecursionError):
            return (MessageIgnored("bad_json"),)
        if not isinstance(parsed, dict):
            return (MessageIgnored("bad_json"),)
        event = parsed.get("event")
        if event == "media":
            return self._media(parsed)
        if event == "start":
            return self._start(message)
        gap = self._gap(parsed)
        match event:
            case "connected":
                return ()
            case "mark":
                return (*gap, *self._mark(object_of(parsed.get("mark"))))
            case "dtmf":
                return (*gap, digit_of(object_of(parsed.get("dtmf")).get("digit")))
            case "stop":
                self._stopped = True
                return (*gap, StopReceived())
        return (MessageIgnored("unknown_event"),)

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command: Twilio knows marks and clears alone, and both need the stream's id."""
        if not self._started:
            return ()
        match command:
            case SendMark():
                self._on_their_way[command.name] += 1
                return (dump({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": command.name}}),)
            case ClearPlayout():
                self._thrown_away += self._on_their_way
                self._on_their_way.clear()
                return (dump({"event": "clear", "streamSid": self._stream_sid}),)
        return ()

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """One frame as base64."""
        return (f'{self._head}{binascii.b2a_base64(audio, newline=False).decode()}"}}}}',)

    def _media(self, parsed: JsonObject) -> Sequence[WireEvent]:
        if not self._started or self._stopped:
            return (MessageIgnored("media_out_of_call"),)
        gap = self._gap(parsed)
        media = object_of(parsed.get("media"))
        if media.get("track", "inbound") != "inbound":
            return gap
        try:
            audio = binascii.a2b_base64(media["payload"], strict_mode=True)
        except (KeyError, TypeError, ValueError):
            return (*gap, MessageIgnored("bad_media"))
        return (*gap, AudioReceived(audio)) if gap else (AudioReceived(audio),)

    def _start(self, message: str) -> Sequence[WireEvent]:
        if self._started:
            return (MessageIgnored("late_start"),)
        parsed = parse_object(message)  # once more: these texts go further than here
        if parsed is None:
            return (MessageIgnored("bad_json"),)
        start = object_of(parsed.get("start"))
        stream_sid = text_of(start.get("streamSid")) or text_of(parsed.get("streamSid"))
        if stream_sid is None:
            return (PeerFault("bad_start", "start needs a streamSid", CloseCode.BAD_START),)
        media_format = object_of(start.get("mediaFormat"))
        encoding = word_of(media_format.get("encoding")) or "audio/x-mulaw"
        rate = number_of(media_format.get("sampleRate"), 8000)
        if (encoding, rate) != ("audio/x-mulaw", 8000):
            given = f"{encoding!r:.40} at {rate!s:.20} Hz"
            return (PeerFault("bad_start", "mediaFormat must be audio/x-mulaw at 8000 Hz", CloseCode.BAD_START, given),)
        self._started = True
        self._stream_sid = stream_sid
        self._head = dump({"event": "media", "streamSid": stream_sid})[:-1] + ',"media":{"payload":"'
        self._gap(parsed)
        parameters = object_of(start.get("customParameters"))
        sids = {key: start.get(key) for key in ("accountSid", "callSid", "streamSid")}
        return (
            CallStart(
                format=_FORMAT,
                call_id=call_id_of(start.get("callSid")),
                bot=text_of(parameters.get("bot")),
                language=text_of(parameters.get("language")),
                caller=text_of(parameters.get("caller")),
                metadata=metadata_of(sids, {k: v for k, v in parameters.items() if k not in _OWN_PARAMETERS}),
                token=text_of(parameters.get("token")),
            ),
        )

    def _mark(self, mark: Mapping[str, object]) -> Sequence[WireEvent]:
        name = text_of(mark.get("name"))
        if name is None:
            return (MessageIgnored("bad_mark"),)
        if self._thrown_away[name] > 0:
            self._thrown_away[name] -= 1
            return ()
        if self._on_their_way[name] > 0:
            self._on_their_way[name] -= 1
            return (MarkReached(name),)
        return (MessageIgnored("bad_mark"),)

    def _gap(self, parsed: JsonObject) -> tuple[MessageIgnored, ...]:
        """Whether messages are missing before this one. WebSocket loses none: Twilio itself dropped them."""
        sequence = number_of(parsed.get("sequenceNumber"), 0)
        if sequence <= 0:
            return ()
        expected, self._next_sequence = self._next_sequence, sequence + 1
        return (MessageIgnored("sequence_gap"),) if 0 < expected < sequence else ()
