"""What happens in calls, as values: what watchers see, sinks get and recordings keep beside their audio.

An event leaves as one flat JSON object, the common keys first:

    {"v": 1, "type": "turn_heard", "call_id": "a1b2", "seq": 7, "at_ms": 4210, "time": 1795262404.312,
     "epoch": 1, "round_id": 1, "text": "yes speaking", "supersedes": null}

`seq` counts a call's events from 1 while somebody gets them: a gap is an event that was dropped on its way. A call that
is resumed on a new connection, perhaps at another worker, has the next `epoch` and counts anew; what still comes of an
earlier one is of a connection that has lost the call. `at_ms` is the position in the caller's audio, `time` the wall
clock in seconds since 1970, as it stood when the connection began and counted on from there
(`gateway.calls.call_clock`).

A field of type `Label` is a word of ours (a node, an intent, a code) and leaves as it is. Every other text may hold
what somebody said, and leaves through `gateway.monitoring.redaction` alone: a new field is redacted unless it is
declared not to need it.

`SCHEMA_VERSION` changes when a reader of an older one would misunderstand; new types and new keys do not change it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias

__all__ = [
    "EVENT_TYPES",
    "SCHEMA_VERSION",
    "BargedIn",
    "BudgetMissed",
    "CallEnded",
    "CallEvent",
    "CallPresent",
    "CallStarted",
    "CallerSilent",
    "FaultTold",
    "KeysPressed",
    "Label",
    "NodeEntered",
    "PartialHeard",
    "PastTurn",
    "PromptEnded",
    "PromptHeld",
    "PromptStarted",
    "Published",
    "Redact",
    "SlotsFilled",
    "SpeechEnded",
    "SpeechStarted",
    "Supervised",
    "TransferStarted",
    "TurnHeard",
    "TurnIgnored",
    "TurnSuperseded",
    "TurnUnderstood",
    "to_json",
]

SCHEMA_VERSION: Final = 1

Label: TypeAlias = str
"""A word of ours, never a caller's."""

Redact: TypeAlias = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTurn:
    """A turn from before the watcher came."""

    round_id: int
    node: Label
    said: str
    intent: Label
    score: float
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallFacts:
    bot: Label
    bot_version: Label
    protocol: Label
    language: Label
    caller: str | None
    """Who calls, as the peer said; mostly a telephone number."""
    models: Mapping[Label, Label]
    """Version by kind, "asr" and "nlu"."""
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(_CallFacts):
    """A call was accepted; `resumed` where its dialogue goes on."""

    type: ClassVar = "call_started"
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPresent(_CallFacts):
    """A call that began before the watcher came, and where it stands. A watcher may get it more than once."""

    type: ClassVar = "call_present"
    started_at: float
    """Seconds since the epoch."""
    node: Label
    slots: Mapping[Label, str]
    turns: int
    opening: str
    """The bot's first words; empty where they were said on an earlier connection."""
    history: tuple[PastTurn, ...]
    """The last turns, oldest first."""
    taken_over_by: Label | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call is over. `ended_by` as in its record: bot, caller, transfer, lost or error."""

    type: ClassVar = "call_ended"
    ended_by: Label
    disposition: Label | None
    """The bot's word for how it went."""
    duration_s: float
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The caller began to speak at `speech_ms` of the caller's audio."""

    type: ClassVar = "speech_started"
    speech_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEnded:
    """The caller's last speech was at `speech_ms`; the tail lies between that and `at_ms`."""

    type: ClassVar = "speech_ended"
    speech_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialHeard:
    """The words so far of a turn in progress; the next partial or the turn itself takes their place."""

    type: ClassVar = "partial_heard"
    round_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHeard:
    """The words of a caller turn. `supersedes` is the round whose words they begin with."""

    type: ClassVar = "turn_heard"
    round_id: int
    text: str
    supersedes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSuperseded:
    """A round was withdrawn: its caller went on, and `by_round_id` holds all of the words."""

    type: ClassVar = "turn_superseded"
    round_id: int
    by_round_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnIgnored:
    """Speech that became no turn: `why` is no_words, backchannel or hello."""

    type: ClassVar = "turn_ignored"
    why: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnUnderstood:
    """The meaning of a turn. `slots` are values as they were said, by name."""

    type: ClassVar = "turn_understood"
    round_id: int
    intent: Label
    score: float
    slots: tuple[tuple[Label, str], ...]
    model: Label
    """Version of the model that answered; empty where the bot has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntered:
    """The dialogue moved to another node."""

    type: ClassVar = "node_entered"
    round_id: int
    node: Label
    before: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsFilled:
    """What the dialogue has learnt, in normal form: the slots that are new or changed."""

    type: ClassVar = "slots_filled"
    round_id: int
    slots: Mapping[Label, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysPressed:
    """A keypad entry. What was keyed is not told: it may be a PIN."""

    type: ClassVar = "keys_pressed"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSilent:
    """The caller said nothing for as long as the node waits."""

    type: ClassVar = "caller_silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStarted:
    """The first sound of a prompt was sent. `timing` in ms by the budgets' and stages' names: a turn's waterfall.
    `source` says where the words are from, if not from the flow: "faq/ENTRY", "assistant"."""

    type: ClassVar = "prompt_started"
    round_id: int
    node: Label
    text: str
    timing: Mapping[Label, float]
    source: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptHeld:
    """The caller speaks over a prompt: it waits until the words are known. `after_ms` of speech."""

    type: ClassVar = "prompt_held"
    after_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BargedIn:
    """What speech over a prompt turned out to be: interruption, backchannel, hello or no_words."""

    type: ClassVar = "barged_in"
    verdict: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEnded:
    """The caller has heard all that was being said; or, interrupted, the words in `heard`."""

    type: ClassVar = "prompt_ended"
    heard: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetMissed:
    """A figure was over its budget."""

    type: ClassVar = "budget_missed"
    budget: Label
    took_ms: float
    limit_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStarted:
    """The bot hands the caller over."""

    type: ClassVar = "transfer_started"
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultTold:
    """The peer was told of an error: its own, or one that ends the call."""

    type: ClassVar = "fault_told"
    code: Label
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """Somebody listens or acts: `act` is listen, unlisten, whisper, take_over, hand_back or hang_up."""

    type: ClassVar = "supervised"
    act: Label
    by: Label


CallEvent: TypeAlias = (
    CallStarted
    | CallPresent
    | CallEnded
    | SpeechStarted
    | SpeechEnded
    | PartialHeard
    | TurnHeard
    | TurnSuperseded
    | TurnIgnored
    | TurnUnderstood
    | NodeEntered
    | SlotsFilled
    | KeysPressed
    | CallerSilent
    | PromptStarted
    | PromptHeld
    | BargedIn
    | PromptEnded
    | BudgetMissed
    | TransferStarted
    | FaultTold
    | Supervised
)

EVENT_TYPES: Final[Mapping[str, type[CallEvent]]] = {kind.type: kind for kind in CallEvent.__args__}


@dataclass(frozen=True, slots=True)
class Published:
    """One event, with whose it is and when."""

    event: CallEvent
    call_id: str
    seq: int
    at_ms: int
    time: float
    epoch: int = 0
    """Which of the call's connections it is of; 0 before its dialogue is open."""


def to_json(published: Published, redact: Redact | None) -> str:
    """One line of JSON. `redact` None: the caller's words as they are, for those who may see them."""
    event = published.event
    pieces = [
        f'{{"v":{SCHEMA_VERSION},"type":"{event.type}","call_id":{_encode(published.call_id)},"seq":{published.seq},'
        f'"at_ms":{published.at_ms},"time":{round(published.time, 3)},"epoch":{published.epoch}'
    ]
    for name, is_label in _LAYOUTS[type(event)]:
        value = getattr(event, name)
        if not is_label and redact is not None:
            value = _through(value, redact)
        pieces.append(f',"{name}":{_WRITERS.get(type(value), _write)(value)}')
    return "".join((*pieces, "}"))


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _write(value: Any) -> str:
    return _encode(_plain(value))


# The encoder sets itself up anew for each value that is no text: ten times the cost of writing a number.
_WRITERS: Final[Mapping[type[Any], Callable[[Any], str]]] = {str: _encode, int: repr, type(None): lambda _: "null"}


_SAFE: Final = frozenset(
    {
        "Label",
        "Label | None",
        "int",
        "int | None",
        "float",
        "bool",
        "Mapping[Label, Label]",
        "Mapping[Label, float]",
    }
)
"""Kinds of fields, as they are written above, that hold nothing that somebody said."""


def _layout_of(kind: type[Any]) -> tuple[tuple[str, bool], ...]:
    """A type's fields, and whether each is free of what people say."""
    return tuple((each.name, each.type in _SAFE) for each in fields(kind))


_LAYOUTS: Final[Mapping[type[Any], tuple[tuple[str, bool], ...]]] = {
    kind: _layout_of(kind) for kind in (*EVENT_TYPES.values(), PastTurn)
}


def _through(value: Any, redact: Redact) -> Any:
    """A value with each of its texts redacted; the names in a mapping or a pair are ours."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {name: _through(inner, redact) for name, inner in value.items()}
        case (str() as name, str() as inner):
            return (name, redact(inner))
        case tuple():
            return tuple(_through(inner, redact) for inner in value)
        case PastTurn():
            return {
                name: getattr(value, name) if is_label else _through(getattr(value, name), redact)
                for name, is_label in _LAYOUTS[PastTurn]
            }
    return value


def _plain(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case Mapping():
            return dict(value)
        case tuple():
            return [_plain(inner) for inner in value]
        case PastTurn():
            return {name: getattr(value, name) for name, _ in _LAYOUTS[PastTurn]}
    return value
