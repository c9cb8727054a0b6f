"""Where dialogue state lives between turns: one atomic write per step, in Redis or (for tests) in memory.

A store holds text and knows nothing of dialogues. Per call it keeps the state with its `version`, the
`epoch` of its owner, and the answers to the last steps by write key. `write` is the only change:

- the same write key again returns the stored answer and changes nothing, whoever asks;
- a writer whose epoch is older than the call's is refused (`FencedError`): another has taken the call over;
- a writer whose version is older gets the present state back (`Conflict`) to step again from there.

In Redis each is one Lua script, so one round trip (`step.lua`, `claim.lua`); `MemoryStore` is its twin
and passes the same tests. Scripts use only what Redis 7.0 has. What a store that is away means for calls in progress
is `dialogue.write_back`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol, TypeAlias, cast

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from dialogue.connection import connect
from dialogue.turns import DialogueError

__all__ = [
    "ANSWERS_KEPT",
    "CallStore",
    "Claim",
    "Conflict",
    "FencedError",
    "MemoryStore",
    "RedisStore",
    "Repeated",
    "RoundError",
    "StateStore",
    "StepWrite",
    "StoreAwayError",
    "StoreError",
    "WriteResult",
    "Written",
    "state_keys",
]

ANSWERS_KEPT = 64
"""Answers remembered per call; a round older than these is refused, not answered anew."""

STATE_TTL_S = 3600
"""Longer than a caller takes to ring again; a call keeps some 8 kB until then."""


class StoreError(DialogueError):
    """The store cannot be reached, or answered nonsense. The step may or may not have been written: the
    same step again is safe."""


class StoreAwayError(StoreError):
    """The store is known to be away, and the call cannot go on without it. Asking again at once is of no use."""


class FencedError(DialogueError):
    """Another owner took the call over; this one must stop."""


class RoundError(DialogueError):
    """A round that came before the last one and whose answer is no longer kept."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A call taken over: write with this `epoch`. `body` is None for a call with no state, `round` its last."""

    epoch: int
    version: int
    body: str | None
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWrite:
    """One step to store. `round_id` is None for events that are no caller turn; `key` names the step, the
    same for every retry of it."""

    epoch: int
    version: int
    round_id: int | None
    key: str
    body: str
    answer: str
    owner: str = ""
    """The name under which the call was claimed; empty for one that joined."""


@dataclass(frozen=True, slots=True)
class Written:
    """The step is stored; the state now has this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """The step was there already: its answer, and the state as it is now."""

    version: int
    body: str
    answer: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The state has moved on: step again from this one."""

    version: int
    body: str


WriteResult: TypeAlias = Written | Repeated | Conflict


class StateStore(Protocol):
    """What `DialogueLoop` needs of a store. Every method may raise `StoreError`."""

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        """Take the call over with a new epoch. The same `owner` again has the same epoch: a claim whose answer was
        lost is simply sent again. None: join the present owner, fencing nobody."""
        ...

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        """Store one step, or say why not.

        Raises:
            FencedError: the call has a later epoch.
            RoundError: the round is older than the answers kept.
        """
        ...

    async def read(self, call_id: str) -> str | None:
        """The state's JSON, None where there is none."""
        ...


class CallStore(StateStore, Protocol):
    """What a worker's calls need besides: a store may acknowledge steps that it has yet to write where they last."""

    @property
    def away(self) -> bool:
        """Whether it is known that no call can begin now."""
        ...

    async def settle(self, call_id: str) -> None:
        """Until every step of the call is where it lasts: what is done outside the call waits for that.

        Raises:
            FencedError: another owner took the call over, and they never will be.
        """
        ...

    def release(self, call_id: str, owner: str) -> None:
        """This owner will ask nothing more of the call. What is yet to be written still is."""
        ...


def state_keys(call_id: str) -> tuple[str, str, str]:
    """The Redis keys of a call: state, answers, order. The hash tag keeps them on one cluster node."""
    return (f"vg:{{{call_id}}}:state", f"vg:{{{call_id}}}:answers", f"vg:{{{call_id}}}:order")


def _script(name: str) -> str:
    return files("dialogue").joinpath(name).read_text(encoding="utf-8")


class RedisStore:
    """State in Redis or Valkey. One instance per process and event loop; `close` it at the end."""

    def __init__(self, client: redis.Redis, *, ttl_s: int = STATE_TTL_S) -> None:
        """Use a client that decodes responses (`connect` makes one).

        Args:
            ttl_s: lifetime of a call's keys after its last step, seconds.
        """
        self._client = client
        self._ttl_s = ttl_s
        self._step = client.register_script(_script("step.lua"))
        self._claim = client.register_script(_script("claim.lua"))
        self._forget = client.register_script(_script("forget.lua"))

    @classmethod
    def connect(
        cls, url: str, *, ttl_s: int = STATE_TTL_S, timeout_s: float = 2.0, max_connections: int = 1024
    ) -> RedisStore:
        """Make a store on an address (`dialogue.connection`); the first command connects.

        Args:
            timeout_s: bound of each command. Nothing here blocks, so a slow answer is a failure.
        """
        return cls(connect(url, timeout_s=timeout_s, max_connections=max_connections), ttl_s=ttl_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise `StoreError` unless the server answers."""
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error

    async def server_id(self) -> str:
        """The run of the server, or of a cluster's primaries: another text after a restart or a fail-over.

        Raises:
            StoreError: it does not answer.
        """
        try:
            if isinstance(cast(object, self._client), redis.RedisCluster):
                primaries = redis.RedisCluster.PRIMARIES
                told = await self._client.info("server", target_nodes=primaries)
                nodes = [told] if "run_id" in told else told.values()  # of one primary redis-py gives its answer alone
                return " ".join(sorted(str(node["run_id"]) for node in nodes))
            return str((await self._client.info("server"))["run_id"])
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        """See `StateStore.claim`."""
        return await self._take(call_id, owner or "", "")

    async def reclaim(self, call_id: str, *, owner: str, epoch: int) -> Claim:
        """Take over a call that nobody has taken since `epoch`.

        Raises:
            FencedError: somebody has.
        """
        return await self._take(call_id, owner, str(epoch))

    async def _take(self, call_id: str, owner: str, since: str) -> Claim:
        try:
            status, epoch, version, body, last = await self._claim(
                keys=state_keys(call_id), args=[self._ttl_s, owner, since]
            )
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error
        if status == "fenced":
            raise FencedError(f"since epoch {since} the call was taken over with epoch {epoch}")
        return Claim(epoch, version, body or None, last)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        """See `StateStore.write`."""
        try:
            status, epoch, version, body, answer = await self._step(
                keys=state_keys(call_id),
                args=[
                    step.epoch,
                    step.version,
                    step.round_id or 0,
                    step.key,
                    step.body,
                    step.answer,
                    self._ttl_s,
                    ANSWERS_KEPT,
                    step.owner,
                ],
            )
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error
        return _result(status, step, epoch, version, body, answer)

    async def read(self, call_id: str) -> str | None:
        """See `StateStore.read`."""
        try:
            body = await self._client.hget(state_keys(call_id)[0], "body")
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error
        return None if body is None else str(body)

    async def forget(self, call_id: str) -> int:
        """Delete a call's state and answers, and fence its owner. How many of its keys held any. Raises StoreError."""
        try:
            return int(await self._forget(keys=state_keys(call_id)))
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error

    @property
    def away(self) -> bool:
        """Never known: each command finds out for itself."""
        return False

    async def settle(self, call_id: str) -> None:
        """At once: what is acknowledged is written."""

    def release(self, call_id: str, owner: str) -> None:
        """Nothing is held."""


def _why(error: Exception) -> str:
    if isinstance(error, ResponseError):  # a full disk or memory, a user who may not
        return f"the state store refused a command; Redis says: {error}"
    return f"the state store did not answer ({type(error).__name__}: {error}); is Redis running and reachable?"


def _result(status: str, step: StepWrite, epoch: int, version: int, body: str, answer: str) -> WriteResult:
    """The script's answer as a value or an exception."""
    match status:
        case "written":
            return Written(version)
        case "repeated":
            return Repeated(version, body, answer)
        case "conflict":
            return Conflict(version, body)
        case "fenced":
            raise FencedError(f"epoch {step.epoch} has lost the call to epoch {epoch}")
        case "stale":
            raise RoundError(f"round {step.round_id} is over and its answer is no longer kept; number rounds upwards")
    raise StoreError(f"step.lua answered {status!r}, which this program does not know")


@dataclass(slots=True)
class _Record:
    """What the Redis keys of one call hold."""

    epoch: int = 0
    owner: str = ""
    version: int = 0
    round: int = 0
    body: str = ""
    answers: OrderedDict[str, str] = field(default_factory=OrderedDict)


class MemoryStore:
    """The scripts' twin in a dict: for tests, for trying a bot without a server, and for calls whose server is away.
    Keeps calls until they are dropped."""

    def __init__(self) -> None:
        self._calls: dict[str, _Record] = {}

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        """See `StateStore.claim`."""
        record = self._calls.setdefault(call_id, _Record())
        if owner is not None and owner != record.owner:
            record.epoch, record.owner = record.epoch + 1, owner
        return Claim(record.epoch, record.version, record.body or None, record.round)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        """See `StateStore.write`."""
        return self.apply(call_id, step)

    def apply(self, call_id: str, step: StepWrite) -> WriteResult:
        """`write` without waiting; the same branches in the same order as `step.lua`."""
        record = self._calls.setdefault(call_id, _Record())
        status = "written"
        answer = record.answers.get(step.key, "")
        if answer:
            status = "repeated"
        elif record.epoch > step.epoch or (
            record.epoch == step.epoch and step.owner and record.owner and record.owner != step.owner
        ):
            status = "fenced"
        elif step.round_id is not None and step.round_id <= record.round:
            status = "stale"
        elif record.version > step.version:
            status = "conflict"
        else:
            if record.epoch < step.epoch:
                record.owner = step.owner
            record.epoch, record.version, record.body = step.epoch, step.version + 1, step.body
            record.round = step.round_id or record.round
            record.answers[step.key] = step.answer
            if len(record.answers) > ANSWERS_KEPT:
                record.answers.popitem(last=False)
        return _result(status, step, record.epoch, record.version, record.body, answer)

    async def read(self, call_id: str) -> str | None:
        """See `StateStore.read`."""
        record = self._calls.get(call_id)
        return record.body or None if record else None

    @property
    def away(self) -> bool:
        """Never."""
        return False

    async def settle(self, call_id: str) -> None:
        """At once."""

    def release(self, call_id: str, owner: str) -> None:
        """Kept all the same."""

    def put(self, call_id: str, claim: Claim, owner: str) -> None:
        """Know of a call what a claim of it in another store says."""
        self._calls[call_id] = _Record(claim.epoch, owner, claim.version, claim.round, claim.body or "")

    def note(self, call_id: str, step: StepWrite, result: WriteResult) -> None:
        """Know of a call what another store answered to a step."""
        record = self._calls[call_id]
        record.version = result.version
        record.body = step.body if isinstance(result, Written) else result.body
        if isinstance(result, Conflict):
            return
        record.round = max(record.round, step.round_id or 0)
        record.answers[step.key] = step.answer if isinstance(result, Written) else result.answer
        if len(record.answers) > ANSWERS_KEPT:
            record.answers.popitem(last=False)

    def drop(self, call_id: str) -> None:
        """Forget a call."""
        self._calls.pop(call_id, None)
