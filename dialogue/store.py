"""Where dialogue state lives between turns: one atomic write per step, in Redis or (for tests) in memory.

A store holds text and knows nothing of dialogues. Per call it keeps the state with its `version`, the
`epoch` of its owner, and the answers to the last steps by write key. `write` is the only change:

- the same write key again returns the stored answer and changes nothing, whoever asks;
- a writer whose epoch is older than the call's is refused (`FencedError`): another has taken the call over;
- a writer whose version is older gets the present state back (`Conflict`) to step again from there.

In Redis each is one Lua script, so one round trip (`step.lua`, `claim.lua`); `MemoryStore` is its twin
and passes the same tests. Scripts use only what Redis 7.0 has.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol, TypeAlias

import redis.asyncio as redis
from redis.exceptions import RedisError

from dialogue.turns import DialogueError

__all__ = [
    "ANSWERS_KEPT",
    "Claim",
    "Conflict",
    "FencedError",
    "MemoryStore",
    "RedisStore",
    "Repeated",
    "RoundError",
    "StateStore",
    "StepWrite",
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


class FencedError(DialogueError):
    """Another owner took the call over; this one must stop."""


class RoundError(DialogueError):
    """A round that came before the last one and whose answer is no longer kept."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A call taken over: write with this `epoch`. `body` is None for a call with no state."""

    epoch: int
    version: int
    body: str | None


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

    async def claim(self, call_id: str, *, exclusive: bool = True) -> Claim:
        """Take the call over with a new epoch; not `exclusive`: join its present owner, fencing nobody."""
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

    @classmethod
    def connect(
        cls, url: str, *, ttl_s: int = STATE_TTL_S, timeout_s: float = 2.0, max_connections: int = 1024
    ) -> RedisStore:
        """Make a store on `redis://`, `rediss://` or `unix://`; the first command connects.

        Args:
            timeout_s: bound of each command. Nothing here blocks, so a slow answer is a failure.
            max_connections: redis-py's default of 100 raises under 200 concurrent calls.
        """
        return cls(
            redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                max_connections=max_connections,
            ),
            ttl_s=ttl_s,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise `StoreError` unless the server answers."""
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error

    async def claim(self, call_id: str, *, exclusive: bool = True) -> Claim:
        """See `StateStore.claim`."""
        try:
            epoch, version, body = await self._claim(keys=state_keys(call_id), args=[self._ttl_s, int(exclusive)])
        except (RedisError, OSError) as error:
            raise StoreError(_why(error)) from error
        return Claim(epoch, version, body or None)

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


def _why(error: Exception) -> str:
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
    version: int = 0
    round: int = 0
    body: str = ""
    answers: OrderedDict[str, str] = field(default_factory=OrderedDict)


class MemoryStore:
    """The scripts' twin in a dict: for tests and for trying a bot without a server. Keeps calls for ever."""

    def __init__(self) -> None:
        self._calls: dict[str, _Record] = {}

    async def claim(self, call_id: str, *, exclusive: bool = True) -> Claim:
        """See `StateStore.claim`."""
        record = self._calls.setdefault(call_id, _Record())
        record.epoch += exclusive
        return Claim(record.epoch, record.version, record.body or None)

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        """See `StateStore.write`; the same branches in the same order as `step.lua`."""
        record = self._calls.setdefault(call_id, _Record())
        status = "written"
        answer = record.answers.get(step.key, "")
        if answer:
            status = "repeated"
        elif record.epoch > step.epoch:
            status = "fenced"
        elif step.round_id is not None and step.round_id <= record.round:
            status = "stale"
        elif record.version > step.version:
            status = "conflict"
        else:
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
