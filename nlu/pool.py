"""Which loaded version of a bot's model answers whom: a pure core with the clock as an argument.

    loaded --> shadow --> canary --promote--> live --another goes live--> retiring --> unloaded
                  |         '-------------rollback----------------------------^
                  '---------------------> live

| state    | answers                                      | ends with                                             |
| -------- | -------------------------------------------- | ----------------------------------------------------- |
| shadow   | nobody; it is being warmed up                | `make_live`, `make_canary`, `discard`                 |
| canary   | a share of the calls, always the same ones   | `promote`, `rollback`, another canary                 |
| live     | everybody else                               | another version going live                            |
| retiring | the turns that it has begun                  | `handle_timer`, after a while without a request; or   |
|          |                                              | `rollback`, which makes it live again                 |

A turn is answered by one version: who asked it first in a turn is asked again in the same turn (the speculation and
the endpoint, a retry), whatever went live in between. Odd cases: a turn whose version was unloaded or has failed goes
to whoever answers now; `rollback` with a canary sends the canary away, without one it brings the version before the
live one back, so that twice is forth and back.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from nlu.meaning import OUT_OF_SCOPE, Meaning, NluError

__all__ = ["Former", "LoadedVersion", "ModelPool", "PoolError", "TurnId", "VersionState", "VersionStatus", "call_share"]

E = TypeVar("E")

_MAX_PINS = 10_000
"""Turns remembered: many times what one process has under way at once."""


class PoolError(NluError):
    """A change that the versions loaded do not allow, such as promoting without a canary; with the mend."""


class VersionState(StrEnum):
    """Where a loaded version stands."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class TurnId:
    """A caller turn: its call, and its number there."""

    call_id: str
    round_id: int


@dataclass(frozen=True, slots=True)
class Former:
    """The version that was live before, and where it came from."""

    version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """One loaded version, for people. Figures are since it was loaded; means are None before the first answer."""

    bot: str
    version: str
    path: str
    state: VersionState
    share: float
    """Of the calls that it answers now, 0..1."""
    requests: int
    errors: int
    mean_ms: float | None
    mean_score: float | None
    oos_share: float | None
    """Of its answers, those out of scope."""
    loaded_s: float
    """Seconds since it was loaded."""


@dataclass(slots=True, eq=False, kw_only=True)
class LoadedVersion(Generic[E]):
    """One version in memory. `engine` is what answers; times are monotonic seconds. Changed by its pool alone."""

    version: str
    path: str
    engine: E
    since: float
    state: VersionState = VersionState.SHADOW
    last_used: float = 0.0
    in_flight: int = 0
    answers: int = 0
    errors: int = 0
    seconds: float = 0.0
    scores: float = 0.0
    out_of_scope: int = 0


def call_share(call_id: str) -> float:
    """Where a call stands in 0..1: evenly spread, and the same in every process.

    A call is a canary's where this is below the canary's share; so with a greater share the calls that it has remain.
    """
    digest = hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class ModelPool(Generic[E]):
    """The versions of one bot's model."""

    def __init__(self, bot: str, live: LoadedVersion[E], *, retire_after_s: float = 30.0) -> None:
        """`retire_after_s`: how long a version that was replaced stays after its last request."""
        live.state = VersionState.LIVE
        self.bot = bot
        self._live = live
        self._canary: LoadedVersion[E] | None = None
        self._share = 0.0
        self._former: Former | None = None
        self._versions = [live]
        self._retire_after_s = retire_after_s
        self._pins: OrderedDict[str, tuple[int, LoadedVersion[E]]] = OrderedDict()

    @property
    def live(self) -> LoadedVersion[E]:
        """Who answers all that are not the canary's."""
        return self._live

    @property
    def canary(self) -> LoadedVersion[E] | None:
        """The version on trial."""
        return self._canary

    @property
    def share(self) -> float:
        """The canary's share of the calls, 0..1."""
        return self._share

    @property
    def versions(self) -> tuple[LoadedVersion[E], ...]:
        """All in memory, in the order they were loaded."""
        return tuple(self._versions)

    def find(self, version: str) -> LoadedVersion[E] | None:
        """A version in memory by its name, the newest where it was loaded twice."""
        return next((loaded for loaded in reversed(self._versions) if loaded.version == version), None)

    # Requests.

    def begin(self, turn: TurnId | None, now: float) -> LoadedVersion[E]:
        """Who answers a request of this turn; each `begin` ends with `answered`, `failed` or `gave_up`.

        Args:
            turn: None: of no call, so the live version answers.
        """
        version = self._live if turn is None else self._of_turn(turn)
        version.in_flight += 1
        version.last_used = now
        return version

    def _of_turn(self, turn: TurnId) -> LoadedVersion[E]:
        round_id, version = self._pins.get(turn.call_id, (None, self._live))
        if round_id != turn.round_id:
            on_trial = self._canary is not None and call_share(turn.call_id) < self._share
            version = self._canary if on_trial and self._canary is not None else self._live
        self._pins[turn.call_id] = turn.round_id, version
        self._pins.move_to_end(turn.call_id)
        if len(self._pins) > _MAX_PINS:
            self._pins.popitem(last=False)
        return version

    def answered(self, version: LoadedVersion[E], now: float, *, seconds: float, meaning: Meaning) -> None:
        """A request was answered, `seconds` after it came."""
        self.gave_up(version, now)
        version.answers += 1
        version.seconds += seconds
        version.scores += meaning.score
        version.out_of_scope += meaning.intent == OUT_OF_SCOPE

    def failed(self, version: LoadedVersion[E], turn: TurnId | None, now: float) -> bool:
        """The version's engine failed on a request.

        Returns:
            Whether another answers this turn from now on: the live version, unless that is who failed.
        """
        self.gave_up(version, now)
        version.errors += 1
        if version is self._live:
            return False
        if turn is not None:
            self._pins[turn.call_id] = turn.round_id, self._live
        return True

    def gave_up(self, version: LoadedVersion[E], now: float) -> None:
        """A request has ended and says nothing about the version: refused for load, or its asker went away."""
        version.in_flight -= 1
        version.last_used = now

    # Changes.

    def add_shadow(self, version: LoadedVersion[E]) -> None:
        """A version was loaded; nobody is answered by it yet."""
        version.state = VersionState.SHADOW
        self._versions.append(version)

    def discard(self, version: LoadedVersion[E]) -> None:
        """A shadow is not fit to answer."""
        assert version.state is VersionState.SHADOW, version.state
        self._forget(version)

    def make_live(self, version: LoadedVersion[E], now: float) -> None:
        """Swap: from the next turn on `version` answers, and the live one before it retires."""
        if version is self._live:
            return
        before = self._live
        if version is self._canary:
            self._canary, self._share = None, 0.0
        self._live = version
        version.state = VersionState.LIVE
        self._former = Former(before.version, before.path)
        self._retire(before, now)

    def make_canary(self, version: LoadedVersion[E], share: float, now: float) -> None:
        """Give `version` a share of the calls; a canary before it retires.

        Raises:
            PoolError: it is live already, or the share is not within 0..1.
        """
        if not 0.0 <= share <= 1.0:
            raise PoolError(f"{self.bot}: a share of {share:g}; give one from 0 to 1")
        if version is self._live:
            raise PoolError(f"{self.bot}: version {version.version} is live already; load another to try")
        if self._canary is not None and self._canary is not version:
            self._retire(self._canary, now)
        self._canary, self._share = version, share
        version.state = VersionState.CANARY

    def promote(self, now: float) -> None:
        """The canary goes live.

        Raises:
            PoolError: there is none.
        """
        if self._canary is None:
            raise PoolError(f"{self.bot}: no version is on trial; begin with `voicegate models canary`")
        self.make_live(self._canary, now)

    def rollback(self, now: float) -> Former | None:
        """Send the canary away; without one, bring the version before the live one back.

        Returns:
            The version to load and make live first, where it is no longer in memory; else None, and it is done.

        Raises:
            PoolError: there is neither.
        """
        if self._canary is not None:
            self._retire(self._canary, now)
            self._canary, self._share = None, 0.0
            return None
        if self._former is None:
            raise PoolError(f"{self.bot}: no version is on trial, and none was live before this one")
        version = self.find(self._former.version)
        if version is None:
            return self._former
        self.make_live(version, now)
        return None

    def _retire(self, version: LoadedVersion[E], now: float) -> None:
        version.state = VersionState.RETIRING
        version.last_used = now

    # Time.

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called next."""
        retiring = (v.last_used for v in self._versions if v.state is VersionState.RETIRING)
        return min((last + self._retire_after_s for last in retiring), default=None)

    def handle_timer(self, now: float) -> list[LoadedVersion[E]]:
        """Versions to unload now; the pool has forgotten them."""
        done: list[LoadedVersion[E]] = []
        for version in self.versions:
            if version.state is not VersionState.RETIRING:
                continue
            if version.in_flight:
                version.last_used = now
            elif version.last_used + self._retire_after_s <= now:
                self._forget(version)
                done.append(version)
        return done

    def _forget(self, version: LoadedVersion[E]) -> None:
        self._versions.remove(version)
        for call_id in [call_id for call_id, (_, pinned) in self._pins.items() if pinned is version]:
            del self._pins[call_id]

    # For people.

    def statuses(self, now: float) -> list[VersionStatus]:
        """All versions in memory, in the order they were loaded."""
        shares = {id(self._live): 1.0 - self._share}
        if self._canary is not None:
            shares[id(self._canary)] = self._share
        return [
            VersionStatus(
                bot=self.bot,
                version=v.version,
                path=v.path,
                state=v.state,
                share=shares.get(id(v), 0.0),
                requests=v.answers + v.errors,
                errors=v.errors,
                mean_ms=1000 * v.seconds / v.answers if v.answers else None,
                mean_score=v.scores / v.answers if v.answers else None,
                oos_share=v.out_of_scope / v.answers if v.answers else None,
                loaded_s=now - v.since,
            )
            for v in self._versions
        ]
