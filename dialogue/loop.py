"""One call's dialogue as the gateway drives it: events in, steps out, each stored before it is returned.

`step` decides, a `StateStore` remembers; this is the thin shell between them.

**Withdrawing a round.** A caller who goes on with the same thought after the reply has begun is heard whole: an event
that `supersedes` the last round steps from the state before it, under a number of its own, and so replaces what the
round did. Only the last event can be withdrawn, only by the loop that handled it (the state before is kept in memory),
and only where its actions were words: what was done outside the call is done. Where it cannot be withdrawn (another
writer was faster), the event is an ordinary turn: no words are lost, and nothing of the other's is undone.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from dialogue.bots import Bot
from dialogue.codec import CodecError, decode_actions, decode_state, encode_actions, encode_state
from dialogue.coming_back import AFRESH_KEY, GO_ON_KEY
from dialogue.draft import StepDraft
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import (
    Conflict,
    FencedError,
    Repeated,
    RoundError,
    StateStore,
    StepWrite,
    StoreError,
    Written,
)
from dialogue.turns import (
    Action,
    CallEnded,
    CallerSaid,
    CallResumed,
    CallStarted,
    CallWebhook,
    DigitsPressed,
    EarlierCall,
    Event,
    Listen,
    Say,
    WebhookAnswered,
)

__all__ = ["DialogueLoop", "KeyEntries", "Step"]

_MAX_CONFLICTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The answer to one event.

    `round_id` is the caller turn it belongs to (0 before the first). `resumed`: the call went on from a
    stored state. `repeated`: this round had been answered before; `actions` are that answer and nothing
    was changed.
    """

    round_id: int
    actions: tuple[Action, ...]
    state: DialogueState
    resumed: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntries:
    """What may be keyed in at a node.

    `entries` have a meaning of their own. `most_digits` is the length of the longest number that is asked for, 0 where
    none is.
    """

    entries: frozenset[str] = frozenset()
    most_digits: int = 0


@dataclass(frozen=True, slots=True)
class _Withdrawable:
    """The last caller round, while it may be withdrawn, and the state from which it was stepped."""

    round_id: int
    before: DialogueState


class DialogueLoop:
    """One call's dialogue. Events are handled one at a time, in the order of the calls to `handle`."""

    def __init__(
        self,
        bot: Bot,
        store: StateStore,
        call_id: str,
        *,
        today: Callable[[], date] = date.today,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flow = bot.flow
        self._store = store
        self._call_id = call_id
        self._today = today
        self._clock = clock
        self._lock = asyncio.Lock()
        self._owner = secrets.token_hex(6)  # names this loop in the store: its claims, and its steps that are no rounds
        self._exclusive = True
        self._epoch = 0
        self._version = 0
        self._events = 0
        self._unsure: Event | None = None
        self._last: _Withdrawable | None = None
        self.state = DialogueState()

    async def open(
        self,
        *,
        caller: str | None = None,
        metadata: Mapping[str, str] | None = None,
        earlier: EarlierCall | None = None,
        exclusive: bool = True,
    ) -> Step:
        """Start the call, or go on with it where its stored state is.

        Args:
            metadata: values for the flow's variables, by name; other keys are ignored.
            earlier: a call of the same caller's that was cut off, to be offered where this one is new.
            exclusive: take the call over and fence its earlier owner (a phone call has one). False for
                request/response clients, whose requests may reach several processes at once: nobody is
                fenced, a call in progress gives no actions, and writes that cross are put in order.

        Raises:
            MetadataError: a value that a variable refuses.
            StoreError: the store did not answer.
        """
        async with self._lock:
            claim = await self._store.claim(self._call_id, owner=self._owner if exclusive else None)
            self._unsure = None
            self._exclusive = exclusive
            self._epoch, self._version = claim.epoch, claim.version
            if claim.body is None:
                given = tuple(sorted((metadata or {}).items()))
                day, at = self._today().isoformat(), self._clock()
                started = CallStarted(today=day, at=at, caller=caller, metadata=given, earlier=earlier)
                # Not this loop's own key: two that start the same call at once must agree on one start.
                return await self._apply(started, None, "start")
            self.state = _decode(claim.body)
            if not exclusive:
                return Step(round_id=self.state.round_id, actions=(), state=self.state, resumed=True)
            return await self._apply(CallResumed(), None, self._event_key())

    async def handle(self, event: Event, *, round_id: int | None = None) -> Step:
        """Advance by one event; stored in one round trip before it is returned.

        Caller turns (`CallerSaid`, `DigitsPressed`) are numbered here. After a `StoreError` the same event
        again is the same turn, written once however often it is tried.

        Args:
            round_id: the client's own number of this caller turn, 1 or more. A number seen before returns
                the stored answer and changes nothing.

        Raises:
            FencedError: another owner took the call over.
            RoundError: a round that is over and whose answer is no longer kept.
            StoreError: the store did not answer.
        """
        if round_id is not None and round_id < 1:
            raise RoundError(f"round {round_id} is not a round number; count from 1")
        async with self._lock:
            if self._unsure is not None and self._unsure is not event:
                # The last write may have landed: number this event after it, not instead of it.
                await self._reload()
            if isinstance(event, WebhookAnswered):  # by its own number: a request is answered once, whoever asked it
                return await self._apply(event, None, f"a{event.act}")
            if not isinstance(event, CallerSaid | DigitsPressed):
                key = self._event_key() if self._unsure is None else f"e{self._owner}.{self._events}"
                return await self._apply(event, None, key)
            number = self.state.round_id + 1 if round_id is None else round_id
            return await self._apply(event, number, f"r{number}")

    @property
    def owner(self) -> str:
        """The name under which the call is claimed."""
        return self._owner

    @property
    def epoch(self) -> int:
        """Which of the call's owners this one is, counted by the store; 0 before it has the call."""
        return self._epoch

    @property
    def withdrawable(self) -> int | None:
        """The last round, where the next `CallerSaid` may supersede it."""
        return None if self._last is None else self._last.round_id

    def answers(self, intent: str) -> bool:
        """Whether the present node waits for this intent."""
        node = self._flow.nodes.get(self.state.node)
        return node is not None and intent in node.on

    @property
    def asks(self) -> CallWebhook | None:
        """The request whose answer the dialogue waits for, under its number; None where it waits for the caller."""
        node = self._flow.nodes.get(self.state.node)
        if node is None or node.webhook is None or self.state.ended:
            return None
        draft = StepDraft(self._flow, self.state, "", ())
        draft.call_webhook(node, node.webhook, again=True)
        return next(action for action in draft.actions if isinstance(action, CallWebhook))

    @property
    def key_entries(self) -> KeyEntries:
        """What may be keyed in at the present node."""
        if self.state.returning:
            return KeyEntries(entries=frozenset((GO_ON_KEY, AFRESH_KEY)))
        node = self._flow.nodes.get(self.state.node)
        if node is None:
            return KeyEntries()
        spec = self._flow.slots[node.collect] if node.collect else None
        return KeyEntries(
            entries=frozenset((*node.keys, *self._flow.keys)),
            most_digits=spec.most_keys if spec is not None else 0,
        )

    def preview(self, event: Event) -> Step:
        """What `handle` would answer now, with nothing written or changed."""
        state, actions = self._step(event, None)
        return Step(round_id=state.round_id, actions=actions, state=state)

    async def close(self, by: str) -> None:
        """Note the call's end: "caller", "bot", "transfer" or "error". The state stays until its TTL."""
        await self.handle(CallEnded(by=by, at=self._clock()))

    def _event_key(self) -> str:
        self._events += 1
        return f"e{self._owner}.{self._events}"

    async def _reload(self) -> None:
        claim = await self._store.claim(self._call_id, owner=None)
        if claim.epoch == self._epoch and claim.version > self._version and claim.body:
            self._version, self.state, self._last = claim.version, _decode(claim.body), None
        self._unsure = None

    def _withdrawable_after(
        self, event: Event, actions: tuple[Action, ...], round_id: int | None
    ) -> _Withdrawable | None:
        """The round just written, where the next one may supersede it."""
        if round_id is None or not all(isinstance(action, Say | Listen) for action in actions):
            return None
        last = self._last
        superseded = last is not None and isinstance(event, CallerSaid) and event.supersedes == last.round_id
        return _Withdrawable(round_id, last.before if last is not None and superseded else self.state)

    def _step(self, event: Event, round_id: int | None) -> tuple[DialogueState, tuple[Action, ...]]:
        """Step from the present state, or from the one before the round that the event supersedes."""
        if not isinstance(event, CallerSaid) or event.supersedes is None:
            return step(self._flow, self.state, event, round_id=round_id)
        if event.supersedes != self.withdrawable:
            return step(self._flow, self.state, replace(event, supersedes=None), round_id=round_id)
        assert self._last is not None
        number = self.state.round_id + 1 if round_id is None else round_id
        return step(self._flow, self._last.before, event, round_id=number)

    async def _apply(self, event: Event, round_id: int | None, key: str) -> Step:
        """Step from the known state and write it; where the stored state is newer, step again from that."""
        resumed = isinstance(event, CallResumed)
        for _ in range(_MAX_CONFLICTS):
            state, actions = self._step(event, round_id)
            write = StepWrite(
                epoch=self._epoch,
                owner=self._owner if self._exclusive else "",
                version=self._version,
                round_id=round_id,
                key=key,
                body=encode_state(state),
                answer=encode_actions(actions),
            )
            self._unsure = event  # until the store has answered: also through a cancellation
            try:
                result = await self._store.write(self._call_id, write)
            except (FencedError, RoundError):
                self._unsure = None
                raise
            self._unsure = None
            match result:
                case Written(version):
                    self._last = self._withdrawable_after(event, actions, round_id)
                    self._version, self.state = version, state
                    return Step(round_id=state.round_id, actions=actions, state=state, resumed=resumed)
                case Repeated(version, body, answer):
                    self._last = None
                    self._version, self.state = version, _decode(body)
                    return Step(
                        round_id=round_id or self.state.round_id,
                        actions=_decode_answer(answer),
                        state=self.state,
                        resumed=resumed,
                        repeated=True,
                    )
                case Conflict(version, body):
                    self._last = None
                    self._version, self.state = version, _decode(body)
        raise StoreError(f"{_MAX_CONFLICTS} writers in a row were faster; is one call_id used for many calls?")


def _decode(body: str) -> DialogueState:
    try:
        return decode_state(body)
    except CodecError as error:
        raise StoreError(str(error)) from error


def _decode_answer(answer: str) -> tuple[Action, ...]:
    try:
        return decode_actions(answer)
    except CodecError as error:
        raise StoreError(str(error)) from error
