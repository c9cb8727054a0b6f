"""Calls in progress go on while the store is away: their steps are kept here and written when it is back.

    here --a command fails | the server was started anew--> away --probe answered, all written back--> here

| while away          |                                                                                      |
| ------------------- | ------------------------------------------------------------------------------------ |
| a step              | acknowledged from memory, for `keep_s` from when the store went; then `StoreAwayError` |
| a reconnect here    | goes on from memory                                                                  |
| a call not ours     | waits `grace_s` for the store, then `StoreAwayError`                                  |
| an act outside      | `settle` waits until the step that decided it is written: what nobody else knows of    |
|                     | would be done again by whoever takes the call over                                   |

Why nothing is written twice or over another's: a kept step is written with its own key, so one that had landed (its
answer was lost, or a stopped server carries it out later) is `Repeated`; with its own epoch, so it is fenced where
another worker has taken the call over meanwhile; and a take-over from memory is a claim that holds only where nobody
else has claimed since (`reclaim`), under a name by which a claim that landed late is known to be the same.

A server that comes back may have lost what it had acknowledged (no append-only file, a fail-over to a replica that was
behind). So the last steps of every call in progress are sent again, those of `_LOST_AT_MOST_S` and the last in any
case; where they are there already, nothing changes.

What is lost: steps taken while the store was away, if this process dies before it is back; all of a call's steps since
then, if another worker that can reach the store has taken the call over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from dialogue.store import (
    Claim,
    Conflict,
    FencedError,
    MemoryStore,
    Repeated,
    RoundError,
    StateStore,
    StepWrite,
    StoreAwayError,
    StoreError,
    WriteResult,
    Written,
)

__all__ = ["KeptStep", "LastingStore", "WriteBackStore"]

log = logging.getLogger(__name__)

_LOST_AT_MOST_S: Final = 5.0
"""An append-only file synced every second may be two seconds behind, a replica some more."""


class LastingStore(StateStore, Protocol):
    """The store behind: what it acknowledges lasts. `RedisStore` is one."""

    async def reclaim(self, call_id: str, *, owner: str, epoch: int) -> Claim:
        """Take over a call that nobody has taken since `epoch`; else FencedError."""
        ...

    async def server_id(self) -> str:
        """Another text whenever the server may know less than it did: it was started anew, or is another one."""
        ...


class KeptStep(StrEnum):
    """What became of a step while the store was away."""

    KEPT = "kept"
    WRITTEN = "written_back"
    LOST = "lost"
    """Another owner has the call."""


@dataclass(frozen=True, slots=True)
class _TakeOver:
    """A claim made in memory, of a call whose epoch was `since`."""

    owner: str
    since: int


_Kept: TypeAlias = StepWrite | _TakeOver


@dataclass(slots=True)
class _Held:
    """A call that this process owns, and what of it is yet to be written, in order."""

    owner: str
    backlog: deque[_Kept] = field(default_factory=deque)
    recent: deque[tuple[float, StepWrite]] = field(default_factory=deque)
    """The last steps that were written, and when (monotonic seconds)."""
    released: bool = False
    lost: bool = False
    writers: int = 0
    """Steps on their way: a call that ends is let go while its last one is, where the store is slow."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class WriteBackStore:
    """A `CallStore` over one that may go away. As an async context it watches the store; one per worker."""

    def __init__(
        self,
        store: LastingStore,
        *,
        keep_s: float = 60.0,
        grace_s: float = 1.0,
        probe_s: float = 0.25,
        on_away: Callable[[bool], None] = lambda away: None,
        on_step: Callable[[KeptStep], None] = lambda outcome: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            store: what lasts; bounds its own commands in time.
            keep_s: how long calls go on without it.
            grace_s: how long a call that is not known here waits for it.
            probe_s: between two looks whether the store is there.
            on_away: told when the store goes away and when it is back.
            on_step: told what becomes of each step.
        """
        self._store = store
        self._keep_s = keep_s
        self._grace_s = grace_s
        self._probe_s = probe_s
        self._on_away = on_away
        self._on_step = on_step
        self._clock = clock
        self._memory = MemoryStore()
        self._held: dict[str, _Held] = {}
        self._here = asyncio.Event()
        self._here.set()
        self._away_since = 0.0
        self._server: str | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WriteBackStore:
        self._watch = asyncio.create_task(self._watch_for_ever(), name="store watch")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._watch is not None
        while not self._watch.done():  # redis-py may swallow a cancellation in Python 3.11
            self._watch.cancel()
            await asyncio.wait([self._watch], timeout=self._probe_s)
        if self.away and self._held:
            try:
                await self._write_back()
            except StoreError:
                left = sum(len(held.backlog) for held in self._held.values())
                log.error("the store is still away: %d steps of %d calls are lost", left, len(self._held))

    @property
    def away(self) -> bool:
        """See `CallStore.away`."""
        return not self._here.is_set()

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        """See `StateStore.claim`.

        Raises:
            StoreAwayError: the store is away, and the call is not known here.
        """
        until = self._clock() + self._grace_s
        while True:
            if not self.away:
                try:
                    claim = await self._store.claim(call_id, owner=owner)
                except StoreError as error:
                    self._went_away(str(error))
                else:
                    if owner is not None:
                        before = self._held.get(call_id)
                        self._held[call_id] = _Held(owner, recent=before.recent if before is not None else deque())
                        self._memory.put(call_id, claim, owner)
                    return claim
            held = self._held.get(call_id)
            if held is not None and not held.lost:
                async with held.lock:
                    return await self._claim_here(call_id, held, owner)
            await self._wait_for_store(until)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        """See `StateStore.write`.

        Raises:
            StoreAwayError: the store has been away for longer than calls go on without it.
        """
        held = self._held.get(call_id)
        if held is None:
            return await self._store.write(call_id, step)
        held.writers += 1
        try:
            async with held.lock:
                return await self._write_or_keep(call_id, held, step)
        finally:
            held.writers -= 1
            self._let_go(call_id, held)

    async def _write_or_keep(self, call_id: str, held: _Held, step: StepWrite) -> WriteResult:
        if held.lost:
            raise FencedError(f"epoch {step.epoch} lost the call while the store was away")
        if not self.away:
            try:
                result = await self._store.write(call_id, step)
            except StoreError as error:
                self._went_away(str(error))
            else:
                self._memory.note(call_id, step, result)
                if isinstance(result, Written):
                    self._remember(held, step)
                return result
        return self._keep(call_id, held, step)

    async def read(self, call_id: str) -> str | None:
        """See `StateStore.read`."""
        held = self._held.get(call_id)
        return await (self._store if held is None or not self.away else self._memory).read(call_id)

    async def settle(self, call_id: str) -> None:
        """See `CallStore.settle`."""
        held = self._held.get(call_id)
        if held is None:
            return
        if held.backlog:
            await self._here.wait()
        if held.lost:
            raise FencedError("another owner took the call over while the store was away")

    def release(self, call_id: str, owner: str) -> None:
        """See `CallStore.release`."""
        held = self._held.get(call_id)
        if held is None or held.owner != owner:
            return
        held.released = True
        self._let_go(call_id, held)

    # Away.

    def _went_away(self, why: str) -> None:
        if not self.away:
            self._here.clear()
            self._away_since = self._clock()
            self._on_away(True)
            log.error("%s; calls in progress go on from memory for %g s", why, self._keep_s)

    async def _wait_for_store(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._here.wait()
        except TimeoutError:
            raise StoreAwayError("the state store is away; is Redis running and reachable?") from None

    async def _claim_here(self, call_id: str, held: _Held, owner: str | None) -> Claim:
        before = await self._memory.claim(call_id, owner=None)
        claim = await self._memory.claim(call_id, owner=owner)
        if owner is not None and claim.epoch > before.epoch:
            held.owner, held.released = owner, False
            held.backlog.append(_TakeOver(owner, before.epoch))
        return claim

    def _keep(self, call_id: str, held: _Held, step: StepWrite) -> WriteResult:
        if self._clock() - self._away_since >= self._keep_s:
            raise StoreAwayError(f"the state store has been away for {self._keep_s:g} s; the call cannot go on")
        try:
            result = self._memory.apply(call_id, step)
        except RoundError:  # of another worker's time: only the store knows what was answered
            raise StoreAwayError(f"round {step.round_id} was answered, and the state store is away") from None
        if isinstance(result, Written):
            held.backlog.append(step)
            self._on_step(KeptStep.KEPT)
        return result

    def _remember(self, held: _Held, step: StepWrite) -> None:
        now = self._clock()
        held.recent.append((now, step))
        while len(held.recent) > 1 and now - held.recent[0][0] > _LOST_AT_MOST_S:
            held.recent.popleft()

    # Back.

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                server = await self._store.server_id()
                if server != self._server and self._server is not None:
                    self._went_away("the store was started anew, or is another one")
                self._server = server
                if self.away:
                    await self._write_back()
            except StoreError as error:
                self._went_away(str(error))
            except Exception:  # the watch must not end: away without it is away for good
                log.exception("the watch over the store failed; it tries again in %g s", self._probe_s)
            await asyncio.sleep(self._probe_s)

    async def _write_back(self) -> None:
        """Write what was kept, and each call's last step again. Raises StoreError where the store is away still."""
        for held in self._held.values():
            held.backlog.extendleft(step for _, step in reversed(held.recent))
            held.recent.clear()
        while waiting := [call_id for call_id, held in self._held.items() if held.backlog]:  # more may come meanwhile
            for call_id in waiting:
                held = self._held[call_id]
                async with held.lock:
                    await self._catch_up(call_id, held)
        self._here.set()
        for call_id, held in tuple(self._held.items()):
            self._let_go(call_id, held)
        self._on_away(False)
        log.warning("the store is back after %.1f s; %d calls go on", self._clock() - self._away_since, len(self._held))

    async def _catch_up(self, call_id: str, held: _Held) -> None:
        """What is yet to be written of a call, in order. What is cut short is sent again."""
        while held.backlog:
            kept = held.backlog[0]
            try:
                if isinstance(kept, _TakeOver):
                    await self._store.reclaim(call_id, owner=kept.owner, epoch=kept.since)
                else:
                    result = await self._store.write(call_id, kept)
                    # A round of this number that says something else is another owner's.
                    if isinstance(result, Conflict) or (isinstance(result, Repeated) and result.answer != kept.answer):
                        raise FencedError("another has answered in its place")
                    self._remember(held, kept)
                    if isinstance(result, Written):
                        self._on_step(KeptStep.WRITTEN)
            except (FencedError, RoundError) as error:
                log.error("what call %s did while the store was away is lost: %s", call_id, error)
                held.lost = True
                for _ in held.backlog:
                    self._on_step(KeptStep.LOST)
                held.backlog.clear()
                return
            held.backlog.popleft()

    def _let_go(self, call_id: str, held: _Held) -> None:
        """Forget a released call of which nothing is left to be written."""
        if held.released and not held.writers and not self.away and self._held.get(call_id) is held:
            del self._held[call_id]
            self._memory.drop(call_id)
