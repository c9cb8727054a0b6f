"""jambonz `listen` and the module under it, FreeSWITCH's `mod_audio_fork`, by drachtio or by jambonz.

    connected --first text | 100 ms after the first audio | 2 s--> started --close--> over

Binary messages are linear 16-bit audio, everything since the socket was last writable: 20 ms as a rule, seconds after a
stall. One text may hold two JSON objects, and the first may be cut off at 8 KiB. An empty binary message says that no
more audio comes, while the socket stays open for what we still have to say.

Audio goes out in one of two ways. `stream` (jambonz: `bidirectionalAudio` with `streaming`): raw L16. The module holds
back a tail shorter than 80 ms, so silence follows each prompt. Its marks are samples of value -1 in the audio, so we
send none of our own: -1 becomes 0. A mark takes effect in front of the next binary message: it is sent before that
silence. `files`: messages `playAudio`, each answered by a `playDone` with its id.

Odd cases: at most 30 marks are outstanding, since the module drops more; marks of `cleared` audio are no news;
`killAudio` ends both kinds of playing.

Source: drachtio/drachtio-freeswitch-modules, jambonz/freeswitch-modules `mod_audio_fork`,
jambonz/jambonz-feature-server `lib/tasks/listen.js`, docs.jambonz.org verb listen; July 2026.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from audio.formats import AudioFormat
from gateway.protocols.early_audio import EarlyAudio
from gateway.protocols.fields import digit_of, dump, object_of, objects_of, text_of, word_of
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
    TransferCall,
    WireEvent,
    WireMessage,
)

__all__ = ["SUBPROTOCOLS", "JambonzProtocol"]

SUBPROTOCOLS: Final = ("audio.jambonz.org", "audio.drachtio.org")

_TAIL_MS: Final = 80
_MAX_MARKS: Final = 30


class JambonzProtocol:
    """One connection's state: whether the call has started, its format, marks and files on their way."""

    name = "jambonz"
    pauses = True
    binary_is_audio = False  # what came early is heard first

    def __init__(self, query: Mapping[str, str] | None = None) -> None:
        """`query`: the URL's parameters.

        `rate`, `mix` (mono, mixed, stereo), `bot`, `language`, `caller` and `call_id` say what the call is;
        `playback` is stream or files, `chunk_ms` the audio of one file; others are metadata.
        """
        self._query = dict(query or {})
        self._format = AudioFormat()
        self._early = EarlyAudio(start_within_ms=TEXT_BEHIND_AUDIO_MS)
        self.starts_within_ms: int | None = STARTS_WITHIN_MS
        self._files = word_of(self._query.get("playback")) == "files"
        self.ptime_ms: int | None = chunk_ms_of(self._query) if self._files else None
        self._outstanding = 0
        self._last_file = 0
        self._mark_behind: dict[str, str] = {}  # id of a prompt's last file -> its mark

    def default_start(self) -> CallStart:
        """The call as the query describes it, or plain 8 kHz mono.

        Raises:
            UnsupportedFormatError: the query names a rate or channel count that calls cannot use.
        """
        return self._started({})

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message."""
        if not isinstance(message, str):
            # An empty message is the graceful shutdown: no more audio comes, and none is missed.
            return self._early.hear(message) if message else ()
        if not self._early.begun:
            return first_text(message, self._started, self._early, self._text, where=" in the listen verb")
        found, rest = objects_of(message)
        events = [event for text in found for event in self._text(text)]
        if rest:
            events.append(MessageIgnored("bad_json"))
        return events

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command."""
        match command:
            case SendMark():
                return self._mark(command.name)
            case ClearPlayout():
                self._outstanding = 0
                self._mark_behind.clear()
                kill = dump({"type": "killAudio"})
                return (kill,) if self._files else (kill, dump({"type": "clearMarks"}))
            case TransferCall():
                body = {"target": command.target, "context": command.context}
                return (dump({"type": "transfer", "data": body}),)
            case EndCall():
                return (dump({"type": "disconnect", "data": {"reason": command.reason}}),)
            case ReportFault():
                return (dump({"type": "error", "data": {"code": command.code, "message": command.message}}),)
        return ()

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """Raw with no sample of -1, or as one `playAudio`."""
        if not self._files:
            return (_without_marks(audio),)
        self._last_file += 1
        data = {
            "audioContentType": "raw",
            "sampleRate": self._format.sample_rate_hz,
            "audioContent": binascii.b2a_base64(audio, newline=False).decode(),
            "id": str(self._last_file),
            "queuePlay": True,
        }
        return (dump({"type": "playAudio", "data": data}),)

    def _started(self, metadata: JsonObject) -> CallStart:
        """Raises UnsupportedFormatError."""
        start = start_of(self._query, metadata)
        self._format = start.format
        self._early.begin(start.format)
        return start

    def _text(self, fields: JsonObject) -> Sequence[WireEvent]:
        data = object_of(fields.get("data"))
        match word_of(fields.get("type") or fields.get("event")):
            case "dtmf":
                return (digit_of(fields.get("dtmf"), fields.get("digit")),)
            case "mark":
                return self._mark_returned(data)
            case "playdone":
                mark = self._mark_behind.pop(text_of(data.get("id")) or "", None)
                return (MarkReached(mark),) if mark is not None else ()
        return (MessageIgnored("unknown_event"),)

    def _mark(self, name: str) -> Sequence[WireMessage]:
        if self._files:
            self._mark_behind[str(self._last_file)] = name
            return ()
        tail = bytes(self._format.samples(_TAIL_MS) * self._format.bytes_per_sample)
        if self._outstanding >= _MAX_MARKS:
            return (tail,)
        self._outstanding += 1
        return (dump({"type": "mark", "data": {"name": name}}), tail)

    def _mark_returned(self, data: Mapping[str, object]) -> Sequence[WireEvent]:
        name = text_of(data.get("name"))
        if name is None:
            return (MessageIgnored("bad_mark"),)
        self._outstanding = max(0, self._outstanding - 1)
        return (MarkReached(name),) if data.get("event") == "playout" else ()


def _without_marks(audio: bytes | memoryview) -> bytes | memoryview:
    """The audio with 0 for every sample of -1, uncopied where it has none."""
    if b"\xff\xff" not in bytes(audio):  # the usual case, at a tenth of the price; may also lie across two samples
        return audio
    pcm = np.frombuffer(audio, "<i2")
    marks = pcm == -1
    return np.where(marks, np.int16(0), pcm).astype("<i2").tobytes() if marks.any() else audio
