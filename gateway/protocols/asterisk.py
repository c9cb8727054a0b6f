"""Asterisk's `chan_websocket`: binary messages are raw codec bytes, texts are control in one of two forms.

    connected --MEDIA_START | 2 s--> started --close--> over          (there is no message for a hang-up)
    taking --MEDIA_XOFF--> full --MEDIA_XON--> taking

The form, plain words or JSON, is the peer's: that of its first text, and ours for the whole call. A text of ours is
128 bytes at most, since the driver drops longer ones without a word. Audio goes out in whole multiples of
`optimal_frame_size`, one frame a message: the driver throws the rest of an uneven message away.

Odd cases: audio that comes before MEDIA_START (asterisk issue #1712) is kept, 2 s of it, until the format is known;
a peer that is full gets its audio later, in order, with the marks in it; a flush makes the driver forget its marks,
so none is waited for; in passthrough the driver refuses marks and flushes, so none are sent.

Source: asterisk/asterisk channels/chan_websocket.c and its documentation, versions 20.16, 21.11, 22.6, 23.0 and later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from audio.formats import AudioFormat, Encoding
from audio.framing import silence
from gateway.protocols.early_audio import EarlyAudio
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
from gateway.protocols.outgoing import Backlog, FrameCutter
from gateway.protocols.seam import (
    AudioMessage,
    CallStart,
    ClearPlayout,
    CloseCode,
    Command,
    EndCall,
    JsonObject,
    MarkReached,
    MessageIgnored,
    PeerFault,
    ReplyDue,
    SendMark,
    SessionReady,
    WireEvent,
    WireMessage,
)

__all__ = ["MAX_COMMAND_BYTES", "SUBPROTOCOL", "AsteriskProtocol"]

SUBPROTOCOL: Final = "media"
MAX_COMMAND_BYTES: Final = 128

_FORMATS: Final = {
    "ulaw": AudioFormat(encoding=Encoding.MULAW),
    "alaw": AudioFormat(encoding=Encoding.ALAW),
    "slin": AudioFormat(),
    "slin16": AudioFormat(sample_rate_hz=16000),
    "sln16": AudioFormat(sample_rate_hz=16000),  # so spelled in one of Asterisk's own examples
}
# Builds before `format` was announced: their frame's size tells linear audio from G.711, though not its two laws.
_FORMAT_BY_FRAME: Final = {320: "slin", 640: "slin16"}
_PTIME_MS: Final = 20
_MAX_FRAME_BYTES: Final = 16384
_START_WITHIN_MS: Final = 2000
_BACKLOG_MS: Final = 60_000
# MEDIA_XON comes below 800 frames queued, MEDIA_XOFF at 900, and what arrives at 1000 is dropped: so many at once
# bring a peer that was full back to 950, which says XOFF again if more must wait.
_BURST_FRAMES: Final = 150
_OWN_KEYS: Final = frozenset({"bot", "language", "caller", "call_id", "token", "format", "answer"})
_NOTHING_TO_DO: Final = frozenset({"QUEUE_DRAINED", "MEDIA_BUFFERING_COMPLETED", "STATUS"})


class AsteriskProtocol:
    """One connection's state: form of the texts, format, what waits on either side."""

    name = "asterisk"
    starts_within_ms: int | None = _START_WITHIN_MS
    ptime_ms: int | None = None  # any: audio is cut into the driver's own frames
    pauses = False
    binary_is_audio = False  # what came early is heard first

    def __init__(self, query: Mapping[str, str] | None = None) -> None:
        """`query`: the URI's parameters, from websocket_client.conf or the dial option `v(...)`.

        `bot`, `language`, `caller` and `call_id` say what they say; `format` is the codec of a driver that does not
        announce it; `answer=1` answers the channel, for the dial option `n`; others are metadata.
        """
        self._query = dict(query or {})
        self._json = False
        self._form_known = False
        self._passthrough = False
        self._early = EarlyAudio()
        self._backlog = Backlog(0)
        self._frame_bytes = 0
        self._cutter = FrameCutter(1, b"")

    def default_start(self) -> CallStart:
        """A driver that never says: the query's `format`, else μ-law."""
        name = word_of(self._query.get("format"))
        return self._started(name if name in _FORMATS else "ulaw", {})

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message of the driver."""
        if not isinstance(message, str):
            return self._early.hear(message)
        text = message.strip()
        if not self._form_known and text:
            self._json, self._form_known = text.startswith("{"), True
        fields = parse_object(text) if text.startswith("{") else _plain_fields(text)
        if fields is None:
            return (MessageIgnored("bad_json"),)
        match fields.get("event"):
            case "MEDIA_START":
                return self._media_start(fields)
            case "DTMF_END":
                return (digit_of(fields.get("digit")),)
            case "MEDIA_XOFF":
                self._backlog.closed = True
                return ()
            case "MEDIA_XON":
                self._backlog.closed = False
                return (ReplyDue(due),) if (due := self._backlog.take(_BURST_FRAMES * self._frame_bytes)) else ()
            case "MEDIA_MARK_PROCESSED":
                name = text_of(fields.get("correlation_id"))
                return (MarkReached(name),) if name else ()
            case "ERROR":
                return (MessageIgnored("peer_error"),)
            case str(event) if event in _NOTHING_TO_DO:
                return ()
        return (MessageIgnored("unknown_event"),)

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command; what the driver has no word for is not sent."""
        match command:
            case SessionReady() if word_of(self._query.get("answer")) in ("1", "yes", "true"):
                return (self._command("ANSWER"),)
            case SendMark():
                rest = self._cutter.finish()
                mark = () if self._passthrough else (self._command("MARK_MEDIA", command.name),)
                messages = (rest, *mark) if rest else mark
                return self._behind_backlog(messages) if self._backlog.waiting else messages
            case ClearPlayout():
                self._cutter.drop()
                self._backlog.drop()
                return () if self._passthrough else (self._command("FLUSH_MEDIA"),)
            case EndCall():
                return (self._command("HANGUP"),)
        return ()

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """Whole frames, one a message; none while the driver is full."""
        frames = self._cutter.push(audio)
        return self._behind_backlog(frames) if self._backlog.waiting else frames

    # From the driver.

    def _media_start(self, fields: JsonObject) -> Sequence[WireEvent]:
        if self._early.begun:
            return (MessageIgnored("late_start"),)
        frame = number_of(fields.get("optimal_frame_size"), 0)
        guess = word_of(self._query.get("format")) or _FORMAT_BY_FRAME.get(frame, "ulaw")
        name = word_of(fields.get("format")) or guess
        if name not in _FORMATS:
            known = ", ".join(known for known in _FORMATS if known != "sln16")
            mend = f"the codec must be one of {known}; dial with c(ulaw)"
            return (PeerFault("bad_start", mend, CloseCode.BAD_START, f"{name!r:.40}"),)
        self._passthrough = word_of(fields.get("passthrough")) == "true" or fields.get("passthrough") is True
        return (self._started(name, fields, frame), *self._early.release())

    def _started(self, name: str, fields: JsonObject, frame_bytes: int = 0) -> CallStart:
        fmt = _FORMATS[name]
        self._early.begin(fmt)
        usual = fmt.bytes_per_ms * _PTIME_MS
        usable = 0 < frame_bytes <= _MAX_FRAME_BYTES and frame_bytes % fmt.bytes_per_sample == 0
        size = self._frame_bytes = frame_bytes if usable else usual
        self._cutter = FrameCutter(size, silence(fmt, size // fmt.bytes_per_sample))
        self._backlog = Backlog(fmt.bytes_per_ms * _BACKLOG_MS)
        query = self._query
        names = {key: fields.get(key) for key in ("channel", "channel_id", "connection_id")}
        return CallStart(
            format=fmt,
            # The driver's own connection id is the name of a section of its settings: not one of a call.
            call_id=call_id_of(query.get("call_id")),
            bot=text_of(query.get("bot")),
            language=text_of(query.get("language")),
            caller=text_of(query.get("caller")),
            metadata=metadata_of(
                names,
                object_of(fields.get("channel_variables")),
                {key: value for key, value in query.items() if key not in _OWN_KEYS},
            ),
        )

    # To the driver.

    def _behind_backlog(self, messages: Sequence[AudioMessage]) -> Sequence[WireMessage]:
        """Queue `messages`; what comes out is a little of what waits longest, if the driver takes any."""
        self._backlog.put(messages)
        return () if self._backlog.closed else self._backlog.take(4 * self._frame_bytes)

    def _command(self, name: str, argument: str = "") -> str:
        """One command in the peer's form, of 128 bytes at most: an argument too long is left out."""
        body = {"command": name, "correlation_id": argument} if argument else {"command": name}
        text = dump(body) if self._json else f"{name} {argument}".rstrip()
        return text if len(text.encode()) <= MAX_COMMAND_BYTES else self._command(name)


def _plain_fields(text: str) -> JsonObject:
    """A plain text's fields as JSON would name them: `EVENT key:value ...`, or `EVENT id` for marks.

    Values may hold colons (channel ids, UUIDs); an error's text goes to the end of the line.
    """
    event, _, rest = text.partition(" ")
    fields: JsonObject = {"event": event}
    if event == "ERROR":
        return fields  # its text may look like fields
    for word in rest.split():
        key, colon, value = word.partition(":")
        if colon and event not in ("MEDIA_MARK_PROCESSED", "MEDIA_BUFFERING_COMPLETED"):
            fields.setdefault(key, value)
        else:
            fields.setdefault("correlation_id", word)
    fields["event"] = event
    return fields
