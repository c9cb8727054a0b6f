"""What every wire protocol translates to and from. One pure file per protocol stands beside this one.

A protocol object lives as long as its connection, holds no socket and no clock, and never raises on a peer's
input. What cannot be understood becomes a `PeerFault` where the dialect has a way to say so, and a `MessageIgnored`
in a product's own dialect, whose next version may send what this one does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from audio.formats import AudioFormat
from nlu.meaning import Meaning

__all__ = [
    "AudioMessage",
    "AudioReceived",
    "CallStart",
    "ClearPlayout",
    "CloseCode",
    "Command",
    "DigitReceived",
    "EndCall",
    "MarkReached",
    "MessageIgnored",
    "PeerFault",
    "PromptStarted",
    "ReplyDue",
    "ReportFault",
    "SendMark",
    "SessionReady",
    "SpeechEdge",
    "StartAwaited",
    "StopReceived",
    "TransferCall",
    "TurnHeard",
    "TurnUnderstood",
    "WireEvent",
    "WireMessage",
    "WireProtocol",
]

WireMessage: TypeAlias = str | bytes
"""One WebSocket message, text or binary."""

AudioMessage: TypeAlias = str | bytes | memoryview
"""One outgoing message that carries audio: binary as a rule, text where a dialect wraps audio in JSON."""


class CloseCode(IntEnum):
    """Why a connection is closed; from 4000 on the codes are ours to define (RFC 6455 section 7.4.2)."""

    NORMAL = 1000
    """The call is over: the bot or the caller hung up, or it was transferred."""
    GOING_AWAY = 1001
    """This worker goes down; the call may be resumed with its id."""
    INTERNAL = 1011
    """A fault of the gateway's, or a model or store that does not answer."""
    BAD_MESSAGE = 4400
    """A message that makes no sense where nothing else was said, or too many of them."""
    UNAUTHORIZED = 4401
    """A start without the token that it was to bring, or with a wrong one."""
    TIMEOUT = 4408
    """No start or no audio for too long, or a call that lasted too long."""
    TAKEN_OVER = 4409
    """Another connection came with the same call id."""
    BAD_START = 4415
    """A start with a format, bot or key that cannot be used."""
    FLOODING = 4429
    """Audio too far ahead of real time."""


# From the peer.


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStart:
    """The peer said what the call is. None: the peer did not say, the gateway chooses."""

    format: AudioFormat
    call_id: str | None = None
    bot: str | None = None
    language: str | None = None
    caller: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    """What the peer shows to be let in, where its dialect cannot do so with the request."""


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """Bytes in the call's own encoding, any number of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DigitReceived:
    """One DTMF key: 0-9, *, #, A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class MarkReached:
    """The peer has played everything sent before the mark of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class StopReceived:
    """The caller hung up, said in the protocol's own words."""


@dataclass(frozen=True, slots=True)
class PeerFault:
    """The peer broke its protocol. `close_code`: the call cannot go on; None: told, and the call goes on."""

    code: str
    reason: str
    """What is wanted, in our own words: it may be logged."""
    close_code: int | None = None
    given: str | None = field(default=None, repr=False)
    """What came instead, quoted for the peer alone."""

    @property
    def message(self) -> str:
        """What the peer is told."""
        return self.reason if self.given is None else f"{self.reason}, not {self.given}"


@dataclass(frozen=True, slots=True)
class MessageIgnored:
    """A message, or part of one, without meaning here. Counted under `code`, not told, never the end of a call."""

    code: str


@dataclass(frozen=True, slots=True)
class ReplyDue:
    """What the dialect itself owes the peer at once: an answer, or what the peer was not ready for until now."""

    messages: tuple[WireMessage, ...]


@dataclass(frozen=True, slots=True)
class StartAwaited:
    """Audio has come before the start. Where that is not behind it within so long, the call starts without."""

    within_ms: int


WireEvent: TypeAlias = (
    CallStart
    | AudioReceived
    | DigitReceived
    | MarkReached
    | StopReceived
    | PeerFault
    | MessageIgnored
    | ReplyDue
    | StartAwaited
)


# To the peer. Audio itself goes past these: `WireProtocol.send_audio`.


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReady:
    """The call is accepted and known by this id."""

    call_id: str
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEdge:
    """The caller began (`started`) or ended speaking, `at_ms` of the call's audio."""

    started: bool
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHeard:
    """The words of a caller turn. `supersedes` is the round whose words they begin with, and which is withdrawn."""

    round_id: int
    text: str
    final: bool = True
    supersedes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnUnderstood:
    """The meaning of a caller turn."""

    round_id: int
    meaning: Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStarted:
    """A prompt's first sound has been written; `timing` in ms, by the budgets' names. `source` says where its words are
    from, if not from the bot's flow (`dialogue.turns.Say`)."""

    round_id: int
    text: str
    node: str
    timing: dict[str, float]
    source: str | None = None


@dataclass(frozen=True, slots=True)
class SendMark:
    """Follows the last audio of a prompt."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearPlayout:
    """Drop what was sent and not played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCall:
    """Hand the caller over."""

    target: str
    context: dict[str, str]


@dataclass(frozen=True, slots=True)
class EndCall:
    """The bot hangs up."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReportFault:
    """Tell the peer what was wrong."""

    code: str
    message: str


Command: TypeAlias = (
    SessionReady
    | SpeechEdge
    | TurnHeard
    | TurnUnderstood
    | PromptStarted
    | SendMark
    | ClearPlayout
    | TransferCall
    | EndCall
    | ReportFault
)


class WireProtocol(Protocol):
    """One dialect, for one connection."""

    name: str
    """For reports and metrics."""

    starts_within_ms: int | None
    """Grace after the 101 until a call is taken to have started without its start message; None: it must come.

    Audio before the start ends the grace, so a dialect whose start may come later keeps such audio to itself; with the
    first of it, `StartAwaited` may shorten the grace. The peer's first word is a round trip away, the 101 not yet
    there: a grace that peers' starts must meet is long enough for that.
    """

    ptime_ms: int | None
    """Audio in one outgoing frame where the dialect asks for a certain size; None: the gateway's setting."""

    pauses: bool
    """Whether the peer may stop sending audio while the call goes on: no limit is set to it then."""

    binary_is_audio: bool
    """Whether, once the call has started, a binary message is audio as it is: it is heard without `receive` then."""

    def receive(self, message: WireMessage) -> Sequence[WireEvent]:
        """Translate one message. Never raises on peer input."""
        ...

    def default_start(self) -> CallStart:
        """What the call is when the peer never says."""
        ...

    def send(self, command: Command) -> Sequence[WireMessage]:
        """Translate one command; empty where the dialect has no such thing."""
        ...

    def send_audio(self, audio: bytes | memoryview) -> Sequence[AudioMessage]:
        """Wrap one frame of audio, already in the call's encoding; the last frame of a prompt may be shorter.

        Empty where the dialect keeps it until there is more: a `SendMark` follows the last audio of a prompt.
        """
        ...


JsonObject: TypeAlias = dict[str, Any]
"""A parsed JSON object; goes no further than the parser that read it."""
