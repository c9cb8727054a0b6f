"""What goes into a dialogue and what comes out: events (past tense) and actions (imperative).

The gateway translates a call into these events and carries these actions out; nothing here knows
of audio, sockets or Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from dialogue.state import DialogueState
from nlu.meaning import Meaning

__all__ = [
    "Action",
    "CallEnded",
    "CallResumed",
    "CallStarted",
    "CallWebhook",
    "CallerSaid",
    "CallerSilent",
    "DialogueError",
    "DigitsPressed",
    "EarlierCall",
    "Event",
    "HangUp",
    "Listen",
    "Say",
    "TimeRanOut",
    "Transfer",
    "WebhookAnswered",
]


class DialogueError(Exception):
    """Root of this folder's exceptions.

    DialogueError
    ├── BotError        a bot folder with faults, each with file and line (dialogue.bots)
    ├── MetadataError   a call's metadata hold a value that the flow's variable refuses (dialogue.variables)
    ├── RoundError      a round older than the answers kept (dialogue.store)
    ├── StoreError      the state store cannot be reached or answered nonsense (dialogue.store)
    └── FencedError     another owner took the call over; this one must stop (dialogue.store)
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCall:
    """A call of the same caller that was cut off before the bot had finished, and where it stood."""

    call_id: str
    state: DialogueState


# Events. `today` is the call's day as ISO date, so that "next Friday" means the same in a replay.


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A call with no earlier state. `at` is when, seconds since the epoch."""

    today: str
    at: float = 0.0
    caller: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    earlier: EarlierCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResumed:
    """A call whose state was found in the store: a reconnect, or our own restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSaid:
    """One caller turn. `text` is empty where speech was heard but no words."""

    text: str
    meaning: Meaning
    heard: str | None = None
    """What the caller had heard of the prompts before, where they spoke over them; None: all of it."""
    supersedes: int | None = None
    """The round before, where its caller went on with the same thought: `text` holds the words of both, and the
    round is withdrawn (`DialogueLoop.withdrawable`)."""
    assistant: tuple[str, ...] = ()
    """What the bot's second track says to it, sentence by sentence: said where nothing else answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSilent:
    """The no-input timer of the last `Listen` ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsPressed:
    """DTMF digits, already collected into one entry."""

    digits: str
    heard: str | None = None
    """As in `CallerSaid`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRanOut:
    """The call has lasted as long as one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswered:
    """The operator's system has answered the request numbered `act`: texts by key, or None where it failed."""

    webhook: str
    act: int
    answer: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """The call is over: "caller", "bot", "transfer" or "error". `at` is when, seconds since the epoch."""

    by: str
    at: float = 0.0


Event: TypeAlias = (
    CallStarted | CallResumed | CallerSaid | CallerSilent | DigitsPressed | WebhookAnswered | TimeRanOut | CallEnded
)


# Actions, carried out in order.


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Speak one prompt. `recording` is a file of the bot's own to play instead; `text` is its transcript."""

    text: str
    node: str
    recording: str | None = None
    interruptible: bool = True
    question: bool = False
    """Whether it asks what the next `Listen` waits for: words of agreement over it can be an answer."""
    source: str | None = None
    """Where the words are from, if not from the flow: "faq/ENTRY", "assistant"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Wait for the caller, once the prompts before it have been heard."""

    node: str
    no_input_ms: int | None = None
    """None: wait without end (a load bot)."""
    tail_ms: int | None = None
    """Silence that ends the utterance; None: the gateway's default."""
    expect: str | None = None
    """What the node waits for ("digits", "number", "yes_no", "amount", "date"), a hint to the recogniser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Hand the caller to `target`; `context` are slots worth telling whoever answers."""

    target: str
    context: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWebhook:
    """Ask the operator's system, then come back with `WebhookAnswered`.

    `act` numbers the call's requests: the same number again, after a reconnect or a crash, is the same request.
    `send` are slots and their normalised values.
    """

    webhook: str
    node: str
    act: int
    send: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the call once the prompts before it were heard. `disposition` is the bot's word for how it went."""

    disposition: str


Action: TypeAlias = Say | Listen | CallWebhook | Transfer | HangUp
