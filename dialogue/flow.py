"""A dialogue's definition: nodes, prompts, slots, transitions. Immutable, shared by all calls of a bot.

Built by `dialogue.flow_yaml`, which has checked every reference; `dialogue.step` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dialogue.conditions import Condition
from dialogue.slots import SlotSpec

__all__ = [
    "ANY_INTENT",
    "Branch",
    "ComeBack",
    "Faq",
    "FaqEntry",
    "FaqPlace",
    "Flow",
    "Node",
    "Patience",
    "Prompt",
    "Stay",
    "Transition",
    "Webhook",
]

ANY_INTENT = "*"
"""Key of a transition for every caller turn that no other one takes, words or not."""

_SLOT_IN_TEXT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One thing to say. `{slot}` in `text` is replaced by the slot's spoken value.

    `needs` names a slot without whose value the prompt is left out, as it is where `when` does not hold.
    `recording` is a file of the bot's folder to play instead of synthesis, and then `text` is what it says.
    """

    text: str
    recording: str | None = None
    interruptible: bool = True
    needs: str | None = None
    when: tuple[Condition, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots in the text."""
        return tuple(_SLOT_IN_TEXT.findall(self.text))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with each `{slot}` replaced."""
        return _SLOT_IN_TEXT.sub(lambda m: values[m[1]], self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaqEntry:
    """What callers ask beside the matter of the call, in several wordings, and the answer to it.

    Without `when` holding it is not answered.
    """

    questions: tuple[str, ...]
    answer: tuple[Prompt, ...]
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faq:
    """A bot's questions and answers by name. `threshold` is the likeness from which one is answered, 0 to 1; None: as
    measured for the language (`nlu.sentences`)."""

    entries: Mapping[str, FaqEntry] = field(default_factory=dict)
    threshold: float | None = None


class FaqPlace(StrEnum):
    """Where the FAQ stands among what can answer a turn at a node. A question's very wording always comes first."""

    LAST = "last"
    """After intents and slots: for what would not be understood."""
    FIRST = "first"
    """Before them."""
    NEVER = "never"


class Stay(StrEnum):
    """What a transition that stays at its node does after its own prompts."""

    REPEAT = "repeat"
    """Say the whole node again."""
    ASK = "ask"
    """Ask the node's question again."""
    LISTEN = "listen"
    """Only listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where an intent or a key leads: to node `to`, or (`to` None) nowhere, answering as `stay` says.

    Taken only where slot `needs` has a value, `when` holds, and the turn names another value for one of the filled
    slots `changes` (if there are any), which is then replaced. `forget` empties slots on the way.
    """

    to: str | None = None
    stay: Stay = Stay.ASK
    say: tuple[Prompt, ...] = ()
    needs: str | None = None
    when: tuple[Condition, ...] = ()
    changes: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A next node for where its conditions hold."""

    to: str
    when: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A request to the operator's system: `send` are slots in its body, `take` slots by their key in the answer.

    `timeout_ms` and `retries` None: the gateway's own.
    """

    url: str
    send: tuple[str, ...] = ()
    take: Mapping[str, str] = field(default_factory=dict)
    timeout_ms: int | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What to say to the first, second, ... failure in a row, and the node to go to when they are spent.

    `give_up` None: the last prompt for ever, as a load bot wants.
    """

    prompts: tuple[Prompt, ...] = ()
    give_up: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One place in the dialogue.

    On entry it says `say`, then exactly one of: passes on to `then`; ends in `hang_up` or `transfer`; asks the
    operator's system (`webhook`) and goes on to `then` or, without a good answer, to `failed`; or asks `ask` and
    listens. With `collect` it listens for that slot (passed over where it is filled), takes the `optional` ones if
    they are mentioned, and goes on to `then`. With `confirm` another value for one of those slots replaces it and the
    question is asked again. Where the conditions of one of `branches` hold, its node comes instead of `then`.

    On entry it also notes `outcome`, the slots that are now promised (`promise`), and a call back (`callback`: the
    slots of its "date", "time" and the like).

    Where nothing answers the caller, the bot's second track may, if it has one and the node lets it (`assistant`).

    What a flow file leaves to the flow's own settings (patience, `no_input_ms`, `expect`) is filled in here.
    """

    name: str
    say: tuple[Prompt, ...] = ()
    ask: tuple[Prompt, ...] = ()
    collect: str | None = None
    optional: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()
    invalid: tuple[Prompt, ...] = ()
    on: Mapping[str, tuple[Transition, ...]] = field(default_factory=dict)
    keys: Mapping[str, tuple[Transition, ...]] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    then: str | None = None
    webhook: str | None = None
    failed: str | None = None
    hang_up: str | None = None
    transfer: str | None = None
    outcome: str | None = None
    promise: tuple[str, ...] = ()
    callback: Mapping[str, str] = field(default_factory=dict)
    no_match: Patience = Patience()
    no_input: Patience = Patience()
    no_input_ms: int | None = None
    tail_ms: int | None = None
    expect: str | None = None
    faq: FaqPlace = FaqPlace.LAST
    assistant: bool = True

    @property
    def listens(self) -> bool:
        """Whether the node waits for the caller."""
        return not self.ends and self.webhook is None and (self.then is None or self.collect is not None)

    @property
    def successors(self) -> tuple[str, ...]:
        """Nodes to which it passes on without a word of the caller's, or after a slot is filled."""
        failed = self.failed if self.webhook is not None else None
        return tuple(to for to in (*(branch.to for branch in self.branches), self.then, failed) if to is not None)

    @property
    def ends(self) -> bool:
        """Whether the call is over for the bot here."""
        return self.hang_up is not None or self.transfer is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComeBack:
    """What a caller hears who was cut off and calls again: whether to go on, and then one of the other two.

    With `forget` those slots are emptied and the call goes on from the start, where what is filled is passed over.
    """

    ask: tuple[Prompt, ...]
    go_on: tuple[Prompt, ...] = ()
    afresh: tuple[Prompt, ...] = ()
    forget: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A whole dialogue. `anywhere` and `keys` hold at every listening node that has no transition of its own.

    `slots` holds variables too. Sub-flows are not here: each use of one has become nodes of its own. `min_score` is
    the intent probability below which a turn counts as not understood. After `max_turns` caller turns (None: no limit)
    the call goes to node `give_up`, and so it does after `max_repeats` turns that ended at one node while no more slots
    were filled. `filler` is said while a reply is slow, `time_up` before the call is ended for its length,
    `unavailable` before one is ended that the gateway cannot serve. `come_back` None: a caller who was cut off and
    calls again begins afresh.
    """

    language: str
    start: str
    nodes: Mapping[str, Node]
    slots: Mapping[str, SlotSpec]
    anywhere: Mapping[str, tuple[Transition, ...]]
    keys: Mapping[str, tuple[Transition, ...]]
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    faq: Faq = Faq()
    give_up: str | None = None
    resume: tuple[Prompt, ...] = ()
    min_score: float = 0.0
    max_turns: int | None = None
    max_repeats: int | None = None
    filler: tuple[Prompt, ...] = ()
    time_up: tuple[Prompt, ...] = ()
    unavailable: tuple[Prompt, ...] = ()
    come_back: ComeBack | None = None

    def transitions(self) -> Iterator[Transition]:
        """Every transition of the flow."""
        for table in (self.anywhere, self.keys, *(t for n in self.nodes.values() for t in (n.on, n.keys))):
            for options in table.values():
                yield from options

    def prompts(self) -> Iterator[Prompt]:
        """Every prompt of the flow, the start node's first."""
        yield from self.nodes[self.start].say
        for node in self.nodes.values():
            yield from (*node.say, *node.ask, *node.invalid)
            yield from (*node.no_input.prompts, *node.no_match.prompts)
        yield from (*self.resume, *self.filler, *self.time_up, *self.unavailable)
        if self.come_back is not None:
            yield from (*self.come_back.ask, *self.come_back.go_on, *self.come_back.afresh)
        for transition in self.transitions():
            yield from transition.say
        for entry in self.faq.entries.values():
            yield from entry.answer
