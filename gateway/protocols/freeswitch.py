"""FreeSWITCH's `mod_audio_stream`: binary messages are linear 16-bit audio, the first text is the deployer's metadata.

    connected --first text | 100 ms after the first audio | 2 s--> started --close--> over

The module announces neither rate nor channels, flushes audio captured while it connected before the metadata, and may
leave the metadata out altogether. So binary first, text late or never, and text that is no JSON all begin a call. The
module says nothing before our 101 has reached it, and its words take as long to come: the 100 ms in which metadata must
follow audio count from that audio. Later texts are what a dialplan sends with `uuid_audio_stream send_text`: our own
words for keys, marks and the end are understood.

What we say is JSON that the module hands on as events, and audio in one of two ways: `json`, messages `streamAudio`
with the audio in base64 (the community edition writes each into a file and tells where; later builds play it), or
`binary`, raw L16 for builds that play that.

Odd cases: two channels hold the caller first; a `pause` just stops the audio, so its absence ends no call; resampling
modules send messages of any size.

Source: amigniter/mod_audio_stream (1.0.x, January 2026) README and sources; its issues 72, 87, 90, 119.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence

from gateway.protocols.early_audio import EarlyAudio
from gateway.protocols.fields import digit_of, dump, objects_of, text_of, word_of
from gateway.protocols.linear import STARTS_WITHIN_MS, TEXT_BEHIND_AUDIO_MS, chunk_ms_of, first_text, start_of
from gateway.protocols.seam import (
    AudioMessage,
    CallStart,
    ClearPlayout,
    Command,
    EndCall,
    JsonObject,
    MarkReached,
    MessageIgnored,
    ReportFault,
    SendMark,
    StopReceived,
    TransferCall,
    WireEvent,
    WireMessage,
)

__all__ = ["FreeSwitchProtocol"]


class FreeSwitchProtocol:
    """One connection's state: whether the call has started, its format, how it wants its audio."""

    name = "freeswitch"
    pauses = True
    binary_is_audio = False  # what came early is heard first

    def __init__(self, query: Mapping[str, str] | None = None) -> None:
        """`query`: the URL's parameters.

        `rate`, `mix` (mono, mixed, stereo), `bot`, `language`, `caller` and `call_id` say what the call is;
        `playback` is json or binary, `chunk_ms` the audio of one JSON message; others are metadata.
        """
        self._query = dict(query or {})
        self._early = EarlyAudio(start_within_ms=TEXT_BEHIND_AUDIO_MS)
        self.starts_within_ms: int | None = STARTS_WITHIN_MS
        self._binary = word_of(self._query.get("playback")) == "binary"
        self.ptime_ms: int | None = None if self._binary else chunk_ms_of(self._query)
        self._head, self._tail = "", '"}}'

    def default_start(self) -> CallStart:
        """The call as the query describes it, or plain 8 kHz mono.

        Raises:
            UnsupportedFormatError: the query names a rate or channel count that calls cannot use.
        """
        return self._started({})

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message of the module or the dialplan behind it."""
        if not isinstance(message, str):
            return self._early.hear(message)
        if not self._early.begun:
            return first_text(message, self._started, self._early, self._text)
        found, rest = objects_of(message)
        if not found or rest:
            return (MessageIgnored("bad_json"),)
        return [event for text in found for event in self._text(text)]

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command into JSON; the module makes an event of it that a dialplan or script may act on."""
        match command:
            case SendMark():
                return (dump({"type": "mark", "name": command.name}),)
            case ClearPlayout():
                return (dump({"type": "clear"}),)
            case TransferCall():
                return (dump({"type": "transfer", "target": command.target, "context": command.context}),)
            case EndCall():
                return (dump({"type": "hangup", "reason": command.reason}),)
            case ReportFault():
                return (dump({"type": "error", "code": command.code, "message": command.message}),)
        return ()

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """Raw, or as one JSON message."""
        if self._binary:
            return (audio,)
        return (f"{self._head}{binascii.b2a_base64(audio, newline=False).decode()}{self._tail}",)

    def _started(self, metadata: JsonObject) -> CallStart:
        """Raises UnsupportedFormatError."""
        start = start_of(self._query, metadata)
        self._early.begin(start.format)
        if "playback" not in self._query and word_of(metadata.get("playback")) == "binary":
            self._binary = True
        self.ptime_ms = None if self._binary else chunk_ms_of(self._query, metadata)
        data = {"audioDataType": "raw", "sampleRate": start.format.sample_rate_hz, "audioData": ""}
        self._head = dump({"type": "streamAudio", "data": data}).removesuffix(self._tail)
        return start

    def _text(self, fields: JsonObject) -> Sequence[WireEvent]:
        """A text that the dialplan sent."""
        match word_of(fields.get("type") or fields.get("event")):
            case "dtmf":
                return (digit_of(fields.get("digit"), fields.get("dtmf")),)
            case "mark_reached":
                name = text_of(fields.get("name"))
                return (MarkReached(name) if name else MessageIgnored("bad_mark"),)
            case "stop" | "hangup":
                return (StopReceived(),)
        return (MessageIgnored("unknown_event"),)
