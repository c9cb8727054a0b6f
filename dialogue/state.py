"""One call's dialogue state: immutable, replaced by each step, kept in the store as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dialogue.slots import SlotValue

__all__ = ["HISTORY_TURNS", "DialogueState", "Promise", "Turn"]

HISTORY_TURNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One caller turn and the bot's reply, for whoever reads the call later.

    `heard` is what the caller had heard of the prompts before, where they spoke over them (None: all of it).
    `supersedes` is the withdrawn round whose words this turn begins with; that one is no longer in the history.
    `source` says where the answer is from, if not from the flow: "faq/ENTRY", "assistant"; `unanswered`: there were
    words, and nothing that answers them.
    """

    round_id: int
    node: str
    said: str
    intent: str
    score: float
    reply: str
    heard: str | None = None
    supersedes: int | None = None
    source: str | None = None
    unanswered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the caller agreed to at a node: slots and their values then."""

    node: str
    slots: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueState:
    """Where a call stands.

    `node` is "" before the call has started. `today` (ISO) is the day it started, against which "friday" is
    read. `no_input` and `no_match` count failures in a row, `total_no_input` and `total_no_match` those of the whole
    call; `visits` counts the turns that ended at each node since more slots were filled than ever before
    (`most_slots`). `outcome` is the bot's word for what was
    achieved so far; `disposition` is set once the bot has ended or transferred the call, `ended_by` once
    the call itself is over. `slots`, `visits`, `callback` and `sources` are never mutated. `started_at` and `ended_at`
    are seconds since the epoch, 0 before. `acts` counts the requests to the operator's system. `callback` is the call
    back agreed on: "date", "time", ... and their values. `sources` counts the turns with words that the flow did not
    answer, by what did: "faq", "assistant", "none". `continues` is the id of the same caller's earlier call that this
    one takes up; while `returning` the caller has yet to say whether to, and `node` is where that call stood.
    """

    node: str = ""
    today: str = ""
    slots: Mapping[str, SlotValue] = field(default_factory=dict)
    round_id: int = 0
    turns: int = 0
    no_input: int = 0
    no_match: int = 0
    total_no_input: int = 0
    total_no_match: int = 0
    visits: Mapping[str, int] = field(default_factory=dict)
    most_slots: int = 0
    outcome: str | None = None
    disposition: str | None = None
    ended_by: str | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    acts: int = 0
    promises: tuple[Promise, ...] = ()
    callback: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Turn, ...] = ()
    sources: Mapping[str, int] = field(default_factory=dict)
    continues: str | None = None
    returning: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be said: the bot has finished, or the call is over."""
        return self.disposition is not None or self.ended_by is not None
