"""`voicegate.v1`: our own wire protocol. Binary messages are audio, text messages are JSON objects with a `type`.

    connected --start message | query keys | first audio | 50 ms--> started --stop--> stopped

Odd cases: a second `start` is a fault that changes nothing; audio may come in messages of any size, empty ones
included; an unknown `type` is told to the peer and ignored; text that is no JSON object ends the call when it is
the first thing said (the peer speaks something else) and is told and ignored later.
docs/protocols.md has the whole of it with examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audio.formats import AudioFormat, UnsupportedFormatError
from gateway.protocols.fields import CALL_ID, DIGIT, MAX_METADATA, MAX_VALUE_CHARS, dump, parse_object
from gateway.protocols.seam import (
    AudioMessage,
    AudioReceived,
    CallStart,
    ClearPlayout,
    CloseCode,
    Command,
    DigitReceived,
    EndCall,
    JsonObject,
    MarkReached,
    PeerFault,
    PromptStarted,
    ReportFault,
    SendMark,
    SessionReady,
    SpeechEdge,
    StopReceived,
    TransferCall,
    TurnHeard,
    TurnUnderstood,
    WireEvent,
    WireMessage,
)

__all__ = ["SUBPROTOCOL", "NativeProtocol"]

SUBPROTOCOL = "voicegate.v1"

_START_KEYS = ("call_id", "bot", "language", "caller", "encoding", "sample_rate", "channels")


class _BadField(Exception):
    """A field of a start message that cannot be used: what is wanted, and what came instead where that says more."""

    def __init__(self, reason: str, given: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.given = given


class NativeProtocol:
    """One connection's protocol state: has the call started, has it stopped."""

    name = "native"
    ptime_ms: int | None = None
    pauses = False
    binary_is_audio = True

    def __init__(self, query: Mapping[str, str] | None = None) -> None:
        """`query` are the URL's parameters: the start message's keys work there as well.

        Raises nothing: a bad value is reported by `default_start`.
        """
        self._query = {key: value for key, value in (query or {}).items() if key in _START_KEYS}
        self._started = False
        # With keys in the query the start is known at once; else the peer has a moment to send its start message.
        self.starts_within_ms: int | None = 0 if self._query else 50

    def default_start(self) -> CallStart:
        """The call as the query describes it, or plain 8 kHz PCM16.

        Raises:
            UnsupportedFormatError: the query names a format we do not speak.
        """
        try:
            start = _parse_start(dict(self._query))
        except _BadField as exc:
            raise UnsupportedFormatError(exc.reason, exc.given) from None
        self._started = True
        return start

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message of the peer."""
        if not isinstance(message, str):
            self._started = True
            return (AudioReceived(message),)
        parsed = parse_object(message)
        if parsed is None:
            return (self._fault("bad_json", 'a text message must be one JSON object with a "type"'),)
        kind = parsed.get("type")
        if kind == "start":
            return (self._start(parsed),)
        if kind == "dtmf":
            digit = parsed.get("digit")
            if isinstance(digit, str) and DIGIT.fullmatch(digit):
                return (DigitReceived(digit.upper()),)
            return (PeerFault("bad_dtmf", 'dtmf needs "digit": one of 0-9 * # A-D'),)
        if kind == "stop":
            return (StopReceived(),)
        if kind == "mark_reached":
            name = parsed.get("name")
            if isinstance(name, str):
                return (MarkReached(name),)
            return (PeerFault("bad_mark", 'mark_reached needs "name", as sent in the mark'),)
        named = f"{kind!r:.40}" if isinstance(kind, str) else type(kind).__name__
        return (PeerFault("unknown_type", "type must be one of start, dtmf, stop, mark_reached", given=named),)

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command into JSON text."""
        match command:
            case SessionReady():
                body: JsonObject = {"type": "ready", "call_id": command.call_id, "resumed": command.resumed}
            case SpeechEdge():
                kind = "speech_started" if command.started else "speech_ended"
                body = {"type": kind, "at_ms": command.at_ms}
            case TurnHeard():
                body = {
                    "type": "transcript",
                    "round_id": command.round_id,
                    "text": command.text,
                    "final": command.final,
                    "supersedes": command.supersedes,
                }
            case TurnUnderstood():
                meaning = command.meaning
                body = {
                    "type": "intent",
                    "round_id": command.round_id,
                    "intent": meaning.intent,
                    "score": round(meaning.score, 4),
                    "slots": [{"name": s.name, "value": s.text, "start": s.start, "end": s.end} for s in meaning.slots],
                }
            case PromptStarted():
                body = {
                    "type": "prompt",
                    "round_id": command.round_id,
                    "text": command.text,
                    "node": command.node,
                    "timing": command.timing,
                    "source": command.source,
                }
            case SendMark():
                body = {"type": "mark", "name": command.name}
            case ClearPlayout():
                body = {"type": "clear"}
            case TransferCall():
                body = {"type": "transfer", "target": command.target, "context": command.context}
            case EndCall():
                body = {"type": "hangup", "reason": command.reason}
            case ReportFault():
                body = {"type": "error", "code": command.code, "message": command.message}
        return (dump(body),)

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """Audio travels as it is."""
        return (audio,)

    def _start(self, parsed: JsonObject) -> WireEvent:
        if self._started:
            return PeerFault("late_start", "the call has started already; start must be the first message")
        try:
            start = _parse_start(parsed)
        except (_BadField, UnsupportedFormatError) as exc:
            return PeerFault("bad_start", exc.reason, CloseCode.BAD_START, exc.given)
        self._started = True
        return start

    def _fault(self, code: str, reason: str) -> PeerFault:
        return PeerFault(code, reason, None if self._started else CloseCode.BAD_MESSAGE)


def _parse_start(keys: JsonObject) -> CallStart:
    """Raises _BadField or UnsupportedFormatError, naming the key and what would do."""
    metadata = keys.get("metadata") or {}
    if not isinstance(metadata, dict) or len(metadata) > MAX_METADATA:
        raise _BadField(f"metadata must be an object of at most {MAX_METADATA} strings")
    call_id = _text(keys, "call_id")
    if call_id is not None and not CALL_ID.fullmatch(call_id):
        raise _BadField("call_id may hold letters, digits and . _ : @ + - and at most 128 of them")
    return CallStart(
        format=AudioFormat.parse(
            _text(keys, "encoding") or "pcm_s16le",
            _number(keys, "sample_rate", 8000),
            _number(keys, "channels", 1),
        ),
        call_id=call_id,
        bot=_text(keys, "bot"),
        language=_text(keys, "language"),
        caller=_text(keys, "caller"),
        metadata={key[:MAX_VALUE_CHARS]: _plain(key, value) for key, value in metadata.items()},
    )


def _plain(key: str, value: object) -> str:
    """One metadata value as text. Peers send numbers where they mean text, and the other way round."""
    if isinstance(value, dict | list):
        raise _BadField("the values of metadata must be strings", f"{type(value).__name__} at {key[:40]!r}")
    return ("" if value is None else str(value))[:MAX_VALUE_CHARS]


def _text(keys: JsonObject, key: str) -> str | None:
    value = keys.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS:
        raise _BadField(f"{key} must be a string of at most {MAX_VALUE_CHARS} characters")
    return value


def _number(keys: JsonObject, key: str, default: int) -> int:
    value = keys.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _BadField(f"{key} must be a whole number")
    try:
        return int(value)
    except ValueError:
        raise _BadField(f"{key} must be a whole number", repr(str(value)[:20])) from None
