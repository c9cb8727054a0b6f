"""Call records: what came of every call, once, in a Redis stream. `gateway.records.posting` takes them from there.

    opened --ended by bot, caller, transfer--> published
       '--worker died, line lost--> found by a sweep: ended --> published
                                                     going on --> looked at again later
                                                     about to expire, and nobody's --> published as "lost"

One record per call id, whoever publishes it and however often: a Lua script claims the id and appends to the stream in
one step. A call that is resumed after its record was published gets no second one. What is left of a crash between a
call's end and its record is the call's id in the set of open calls, which every worker sweeps.

Clocks. When to look at a call is reckoned by wall clocks, which may be set, or differ from host to host; what it leads
to is not. A worker puts off its own calls with every sweep, so a call is nobody's where that has not happened for
`_SILENT_S` by the observer's monotonic clock: the state of a call in progress may be gone, since a server's clock that
is set an hour ahead ends what had an hour to live. A call that is to be looked at long from now was noted by a clock
that was ahead, and is looked at as well.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from redis.exceptions import RedisError

from dialogue.bots import Bot
from dialogue.codec import CodecError, decode_state
from dialogue.connection import connect
from dialogue.state import DialogueState
from dialogue.store import state_keys
from gateway import background
from gateway.metrics import Metrics
from gateway.outage_log import OutageLog
from gateway.settings import ResultSettings

__all__ = [
    "OPEN_KEY",
    "RECORD_VERSION",
    "CallRecords",
    "Origin",
    "artefact_versions",
    "done_key",
    "origin_of",
    "record_of",
]

log = logging.getLogger(__name__)

RECORD_VERSION: Final = 1

OPEN_KEY: Final = "vg:{results}:open"
_LOOK_AGAIN_S: Final = 120.0
"""An open call is looked at so long after its start, and from then on as often."""
_SKEW_S: Final = 60.0
"""Hosts' clocks that differ by less cost no looks in vain."""
_EXPIRY_MARGIN_S: Final = 300.0
_SWEEP_S: Final = 15.0
_SILENT_S: Final = 2 * _SWEEP_S
"""Longer than a worker lets pass between two sweeps."""
_SWEEP_BATCH: Final = 64
_RENEWED_AT_ONCE: Final = 256
_UNPUBLISHED_MOST: Final = 10_000
_COMMAND_S: Final = 2.0

# KEYS[1]  vg:{results}:open           sorted set of open calls
# KEYS[2]  vg:{results}:done:CALL_ID   there once the call's record is in the stream
# KEYS[3]  the stream
# ARGV[1]  the call's member of the set
# ARGV[2]  call id
# ARGV[3]  the record, JSON
# ARGV[4]  length of the stream, about
# ARGV[5]  seconds for which the call id is remembered
# ARGV[6]  the caller, hashed
#
# Returns 1 where the record was appended, 0 where the call has one.
_PUBLISH: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[5]) then
  return 0
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'call_id', ARGV[2], 'caller', ARGV[6], 'record', ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a call's record comes from: what its state does not hold."""

    call_id: str
    bot: str
    bot_version: str
    language: str
    models: tuple[tuple[str, str], ...] = ()
    caller: str = ""
    """Who called, hashed (`gateway.records.callers.identity`): an entry of the stream names it beside the record."""
    recorded: bool | None = None
    """Whether its sound is written down; None: begun by a gateway that did not say."""

    def member(self) -> str:
        """The call as a member of the set of open calls."""
        told = [self.call_id, self.bot, self.bot_version, self.language, self.models, self.caller]
        return json.dumps(told if self.recorded is None else [*told, self.recorded], ensure_ascii=False)

    @classmethod
    def of_member(cls, member: str) -> Origin:
        """The inverse of `member`."""
        call_id, bot, version, language, models, caller, *more = json.loads(member)
        return cls(
            call_id=call_id,
            bot=bot,
            bot_version=version,
            language=language,
            models=tuple((name, value) for name, value in models),
            caller=caller,
            recorded=more[0] if more else None,
        )


def done_key(call_id: str) -> str:
    """There once the call's record is in the stream."""
    return f"vg:{{results}}:done:{call_id}"


def origin_of(
    bot: Bot, call_id: str, models: Mapping[str, str], *, caller: str = "", recorded: bool | None = None
) -> Origin:
    """The origin of a call served by `bot`; `models` are versions by kind ("asr", "nlu"), `caller` is hashed."""
    return Origin(
        call_id=call_id,
        bot=bot.name,
        bot_version=bot.version,
        language=bot.language,
        models=tuple(sorted(models.items())),
        caller=caller,
        recorded=recorded,
    )


def artefact_versions(bots: Iterable[Bot]) -> dict[str, str]:
    """Version of each bot's model as its folder says, by the bot's name, without loading any: the first 12 digits of
    the checksum in its config. It reads files, so before calls come; a bot without a readable artefact has none."""
    found: dict[str, str] = {}
    for bot in bots:
        if bot.nlu_path is None:
            continue
        try:
            config = json.loads((bot.nlu_path / "config.json").read_text(encoding="utf-8"))
            found[bot.name] = str(config["checksum"])[:12]
        except (OSError, ValueError, KeyError) as error:
            log.info("bot %s: its model's version is not known yet: %s", bot.name, type(error).__name__)
    return found


def record_of(origin: Origin, state: DialogueState | None, *, ended_by: str, now: float) -> dict[str, Any]:
    """The record of one call, as it stands in the stream and is posted.

    Args:
        state: the dialogue at its end; None where it had expired.
        now: seconds since the epoch, for a call whose end nobody noted.
    """
    state = state or DialogueState()
    started = state.started_at or None
    ended = state.ended_at or now
    return {
        "version": RECORD_VERSION,
        "call_id": origin.call_id,
        "bot": origin.bot,
        "bot_version": origin.bot_version,
        "language": origin.language,
        "models": dict(origin.models),
        "ended_by": ended_by,
        "disposition": state.disposition or state.outcome,
        "outcome": state.outcome,
        "node": state.node,
        "continues": None if state.returning else state.continues,
        "slots": {name: slot.value for name, slot in state.slots.items()},
        "promises": [{"node": promise.node, "slots": dict(promise.slots)} for promise in state.promises],
        "callback": dict(state.callback) or None,
        "turns": state.turns,
        "no_match": state.total_no_match,
        "no_input": state.total_no_input,
        "sources": dict(state.sources),
        "recorded": origin.recorded,
        "started_at": started,
        "ended_at": ended,
        # Of a call that was resumed, the two may be of different hosts' clocks.
        "duration_s": round(max(0.0, ended - started), 3) if started else None,
    }


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended whose record is yet to be made."""

    origin: Origin
    state: DialogueState
    nlu_version: str


@dataclass(frozen=True, slots=True)
class _Sight:
    """An open call whose state is gone or about to go: when it is to be looked at, as it stands in the set, and since
    when that has not changed (monotonic seconds)."""

    due: float
    since: float


class CallRecords:
    """One per worker: `opened`, `ended` and `left` are for its calls. As an async context it also sweeps."""

    def __init__(self, redis_url: str, settings: ResultSettings, metrics: Metrics, *, ttl_s: int) -> None:
        """The first command connects.

        Args:
            ttl_s: how long a call's state outlives its last step.
        """
        client = self._client = connect(redis_url, timeout_s=_COMMAND_S)
        self._settings = settings
        self._metrics = metrics
        self._ttl_s = ttl_s
        self._publish = client.register_script(_PUBLISH)
        self._own: dict[str, str] = {}
        """Members of the set of open calls by call id: those in progress here."""
        self._unpublished: dict[str, _End] = {}
        self._sights: dict[str, _Sight] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> CallRecords:
        self._tasks = [asyncio.create_task(self._sweep_for_ever(), name="record sweep")]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def opened(self, origin: Origin) -> None:
        """A call has begun; from now on it gets a record, whatever becomes of us. Where the server is away, from when
        it is back."""
        member = self._own[origin.call_id] = origin.member()
        try:
            await self._client.zadd(OPEN_KEY, {member: time.time() + _LOOK_AGAIN_S})
        except (RedisError, OSError) as error:
            log.warning("the call is not among the open ones: %s", type(error).__name__)

    def left(self, origin: Origin) -> None:
        """A call is not in progress here any more, however that came."""
        self._own.pop(origin.call_id, None)

    async def ended(self, origin: Origin, state: DialogueState, *, nlu_version: str = "") -> None:
        """A call has ended and its end is stored. Where the server is away the record is made when it is back.

        Args:
            nlu_version: of the model that answered the call's last turn, which may not be the one it began with.
        """
        self.left(origin)
        self._unpublished[origin.call_id] = _End(origin, state, nlu_version)
        if len(self._unpublished) > _UNPUBLISHED_MOST:
            del self._unpublished[next(iter(self._unpublished))]  # left to a sweep of the stored calls
        try:
            await self._publish_end(origin.call_id)
        except (RedisError, OSError) as error:
            log.warning("no record yet: %s; a sweep will make it", type(error).__name__)

    async def _publish_end(self, call_id: str) -> None:
        end = self._unpublished.get(call_id)
        if end is None:
            return  # the call's own end was quicker than the sweep
        ended_by = end.state.ended_by or "error"
        await self._record(end.origin, end.state, ended_by=ended_by, nlu_version=end.nlu_version)
        self._unpublished.pop(call_id, None)

    async def _record(
        self, origin: Origin, state: DialogueState | None, *, ended_by: str, nlu_version: str = ""
    ) -> None:
        models = {**dict(origin.models), **({"nlu": nlu_version} if nlu_version else {})}
        told = replace(origin, models=tuple(sorted(models.items())))  # the set of open calls knows it by `origin`
        record = record_of(told, state, ended_by=ended_by, now=time.time())
        appended = await self._publish(
            keys=[OPEN_KEY, done_key(origin.call_id), self._settings.stream],
            args=[
                origin.member(),
                origin.call_id,
                json.dumps(record, ensure_ascii=False),
                self._settings.stream_length,
                2 * self._ttl_s,
                origin.caller,
            ],
        )
        self._metrics.records.labels("published" if appended else "repeated").inc()

    # Calls that ended without a word.

    async def _sweep_for_ever(self) -> None:
        outage = OutageLog(log, "the sweep for open calls")
        while True:
            await asyncio.sleep(_SWEEP_S * random.uniform(0.5, 1.5))  # workers take turns
            try:
                await self.sweep(time.time(), time.monotonic())
                outage.over()
            except (RedisError, OSError) as error:
                self._sights.clear()  # nobody could put off anything
                outage.failed(error)

    async def sweep(self, wall: float, now: float) -> None:
        """Put off this worker's own calls, and publish what could not be when calls ended. Then look at the open calls
        that are due: publish the ended and the lost, put off the others.

        Args:
            wall: seconds since the epoch.
            now: monotonic seconds.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        own = list(self._own.values())
        for first in range(0, len(own), _RENEWED_AT_ONCE):
            members = own[first : first + _RENEWED_AT_ONCE]
            await self._client.zadd(OPEN_KEY, dict.fromkeys(members, wall + _LOOK_AGAIN_S))
        for call_id in list(self._unpublished):
            await self._publish_end(call_id)
        due = await self._open_calls("-inf", wall)
        due |= await self._open_calls(wall + _LOOK_AGAIN_S + _SKEW_S, "+inf")
        self._sights = {member: sight for member, sight in self._sights.items() if due.get(member) == sight.due}
        for member, at in due.items():
            await self._look_at(member, at, wall, now)

    async def _open_calls(self, since: float | str, until: float | str) -> dict[str, float]:
        """The first that are to be looked at in that time, with when."""
        found: Any = await self._client.zrangebyscore(
            OPEN_KEY, since, until, start=0, num=_SWEEP_BATCH, withscores=True
        )
        return {str(member): float(at) for member, at in found}

    async def _look_at(self, member: str, due: float, wall: float, now: float) -> None:
        origin = Origin.of_member(member)
        key = state_keys(origin.call_id)[0]
        state = _decoded(origin, cast("str | None", await self._client.hget(key, "body")))
        left_s = await self._client.pttl(key) / 1000
        if state is not None and state.ended_by in ("bot", "caller", "transfer"):
            await self._record(origin, state, ended_by=state.ended_by)
        elif state is not None and left_s >= min(_EXPIRY_MARGIN_S, self._ttl_s / 2):
            await self._client.zadd(OPEN_KEY, {member: wall + _LOOK_AGAIN_S}, xx=True)
        elif now - self._sights.setdefault(member, _Sight(due, now)).since >= _SILENT_S:
            await self._record(origin, state, ended_by="lost")


def _decoded(origin: Origin, body: str | None) -> DialogueState | None:
    try:
        return None if body is None else decode_state(body)
    except CodecError as error:
        log.error("the state of call %s cannot be read for its record: %s", origin.call_id, error)
        return None
