"""One call's dialogue as the gateway drives it: events in, steps out, each stored before it is returned.

`step` decides, a `StateStore` remembers; this is the thin shell between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from dialogue.bots import Bot
from dialogue.codec import CodecError, decode_actions, decode_state, encode_actions, encode_state
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
    DigitsPressed,
    Event,
)

__all__ = ["DialogueLoop", "Step"]

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


class DialogueLoop:
    """One call's dialogue. Events are handled one at a time, in the order of the calls to `handle`."""

    def __init__(self, bot: Bot, store: StateStore, call_id: str, *, today: Callable[[], date] = date.today) -> None:
        self._flow = bot.flow
        self._store = store
        self._call_id = call_id
        self._today = today
        self._lock = asyncio.Lock()
        self._epoch = 0
        self._version = 0
        self._events = 0
        self._unsure: Event | None = None
        self.state = DialogueState()

    async def open(
        self,
        *,
        caller: str | None = None,
        metadata: Mapping[str, str] | None = None,
        exclusive: bool = True,
    ) -> Step:
        """Start the call, or go on with it where its stored state is.

        Args:
            metadata: values for the flow's variables, by name; other keys are ignored.
            exclusive: take the call over and fence its earlier owner (a phone call has one). False for
                request/response clients, whose requests may reach several processes at once: nobody is
                fenced, a call in progress gives no actions, and writes that cross are put in order.

        Raises:
            MetadataError: a value that a variable refuses.
            StoreError: the store did not answer.
        """
        async with self._lock:
            claim = await self._store.claim(self._call_id, exclusive=exclusive)
            self._unsure = None
            self._epoch, self._version = claim.epoch, claim.version
            if claim.body is None:
                given = tuple(sorted((metadata or {}).items()))
                started = CallStarted(today=self._today().isoformat(), caller=caller, metadata=given)
                # Not the epoch's own key: two that start the same call at once must agree on one start.
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
            if not isinstance(event, CallerSaid | DigitsPressed):
                key = self._event_key() if self._unsure is None else f"e{self._epoch}.{self._events}"
                return await self._apply(event, None, key)
            number = self.state.round_id + 1 if round_id is None else round_id
            return await self._apply(event, number, f"r{number}")

    def preview(self, event: Event) -> Step:
        """What `handle` would answer now, with nothing written or changed."""
        state, actions = step(self._flow, self.state, event)
        return Step(round_id=state.round_id, actions=actions, state=state)

    async def close(self, by: str) -> None:
        """Note the call's end: "caller", "bot", "transfer" or "error". The state stays until its TTL."""
        await self.handle(CallEnded(by=by))

    def _event_key(self) -> str:
        self._events += 1
        return f"e{self._epoch}.{self._events}"

    async def _reload(self) -> None:
        claim = await self._store.claim(self._call_id, exclusive=False)
        if claim.epoch == self._epoch and claim.version > self._version and claim.body:
            self._version, self.state = claim.version, _decode(claim.body)
        self._unsure = None

    async def _apply(self, event: Event, round_id: int | None, key: str) -> Step:
        """Step from the known state and write it; where the stored state is newer, step again from that."""
        resumed = isinstance(event, CallResumed)
        for _ in range(_MAX_CONFLICTS):
            state, actions = step(self._flow, self.state, event, round_id=round_id)
            write = StepWrite(
                epoch=self._epoch,
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
                    self._version, self.state = version, state
                    return Step(round_id=state.round_id, actions=actions, state=state, resumed=resumed)
                case Repeated(version, body, answer):
                    self._version, self.state = version, _decode(body)
                    return Step(
                        round_id=round_id or self.state.round_id,
                        actions=_decode_answer(answer),
                        state=self.state,
                        resumed=resumed,
                        repeated=True,
                    )
                case Conflict(version, body):
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
