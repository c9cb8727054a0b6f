"""Call records: what came of every call, once, in a Redis stream and, if set, at the operator's address.

    opened --ended by bot, caller, transfer--> published
       '--worker died, line lost--> found by a sweep: ended --> published
                                                     going on --> looked at again later
                                                     about to expire --> published as "lost"

One record per call id, whoever publishes it and however often: a Lua script claims the id and appends to the stream in
one step. A call that is resumed after its record was published gets no second one. What is left of a crash between a
call's end and its record is the call's id in the set of open calls, which every worker sweeps.

Posting reads the stream as a consumer group and acknowledges after a 2xx: a record is posted until it is taken or
`results.post_for_s` is over, by whichever worker lives. The receiver may see one twice (the answer was lost) and knows
it by its `Idempotency-Key`, the call id.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from redis.exceptions import RedisError, ResponseError

from dialogue.bots import Bot
from dialogue.codec import CodecError, decode_state
from dialogue.connection import connect
from dialogue.state import DialogueState
from dialogue.store import state_keys
from gateway import background
from gateway.metrics import Metrics
from gateway.outside.webhooks import PostError, Webhooks
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
_GROUP: Final = "webhook"
_LOOK_AGAIN_S: Final = 120.0
"""An open call is looked at so long after its start, and from then on as often."""
_EXPIRY_MARGIN_S: Final = 300.0
_SWEEP_S: Final = 15.0
_SWEEP_BATCH: Final = 64
_UNPUBLISHED_MOST: Final = 10_000
_READ_BLOCK_MS: Final = 5_000
_POST_BATCH: Final = 5
_POST_TIMEOUT_S: Final = 10.0
_CLAIM_IDLE_MS: Final = round(1000 * (_POST_BATCH * _POST_TIMEOUT_S + 10.0))
"""Longer than a batch may take: what waits in it at a slow receiver is not posted by another worker too."""
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
        "duration_s": round(ended - started, 3) if started else None,
    }


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended whose record is yet to be made."""

    origin: Origin
    state: DialogueState
    nlu_version: str


class CallRecords:
    """One per worker: `opened` and `ended` are for its calls. As an async context it also sweeps and posts."""

    def __init__(
        self, redis_url: str, settings: ResultSettings, metrics: Metrics, webhooks: Webhooks, *, ttl_s: int
    ) -> None:
        """The first command connects.

        Args:
            ttl_s: how long a call's state outlives its last step.
        """
        client = self._client = connect(redis_url, timeout_s=_COMMAND_S)
        self._reader = connect(redis_url, timeout_s=None)  # its reads block
        self._settings = settings
        self._metrics = metrics
        self._webhooks = webhooks
        self._ttl_s = ttl_s
        self._publish = client.register_script(_PUBLISH)
        # A name of its own for each worker: what one was posting when it died is claimed by another.
        self._consumer = secrets.token_hex(6)
        self._unpublished: dict[str, _End] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> CallRecords:
        self._tasks = [asyncio.create_task(self._sweep_for_ever(), name="record sweep")]
        if self._settings.webhook is not None:
            posts = self._post_for_ever(self._settings.webhook)
            self._tasks.append(asyncio.create_task(posts, name="record posts"))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._reader.aclose()

    async def opened(self, origin: Origin) -> None:
        """A call has begun; from now on it gets a record, whatever becomes of us. A server that is away is logged:
        `ended` publishes all the same."""
        try:
            await self._client.zadd(OPEN_KEY, {origin.member(): time.time() + _LOOK_AGAIN_S})
        except (RedisError, OSError) as error:
            log.warning("the call is not among the open ones: %s", type(error).__name__)

    async def ended(self, origin: Origin, state: DialogueState, *, nlu_version: str = "") -> None:
        """A call has ended and its end is stored. Where the server is away the record is made when it is back.

        Args:
            nlu_version: of the model that answered the call's last turn, which may not be the one it began with.
        """
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
        while True:
            await asyncio.sleep(_SWEEP_S * random.uniform(0.5, 1.5))  # workers take turns
            try:
                await self.sweep(time.time())
            except (RedisError, OSError) as error:
                log.warning("no sweep for open calls: %s; trying again", type(error).__name__)

    async def sweep(self, now: float) -> None:
        """Publish what could not be when calls ended. Then look at the open calls that are due: publish the ended and
        the lost, put off the others.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        for call_id in list(self._unpublished):
            await self._publish_end(call_id)
        due = cast("list[str]", await self._client.zrangebyscore(OPEN_KEY, "-inf", now, start=0, num=_SWEEP_BATCH))
        for member in due:
            origin = Origin.of_member(member)
            key = state_keys(origin.call_id)[0]
            state = _decoded(origin, cast("str | None", await self._client.hget(key, "body")))
            left_s = await self._client.pttl(key) / 1000
            if state is not None and state.ended_by in ("bot", "caller", "transfer"):
                await self._record(origin, state, ended_by=state.ended_by)
            elif state is None or left_s < min(_EXPIRY_MARGIN_S, self._ttl_s / 2):
                await self._record(origin, state, ended_by="lost")
            else:
                await self._client.zadd(OPEN_KEY, {member: now + _LOOK_AGAIN_S}, xx=True)

    # Posting.

    async def _post_for_ever(self, url: str) -> None:
        while True:
            try:
                await self.join_group()
                while True:
                    await self.post_some(url, block_ms=_READ_BLOCK_MS)
            except (RedisError, OSError) as error:
                log.warning("no record can be posted: %s; trying again", type(error).__name__)
                await asyncio.sleep(_SWEEP_S)

    async def join_group(self) -> None:
        """Take part in posting; the first to do so sets where it begins: with what comes from now on."""
        try:
            await self._client.xgroup_create(self._settings.stream, _GROUP, id="$", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def post_some(self, url: str, *, block_ms: int, idle_ms: int = _CLAIM_IDLE_MS) -> int:
        """Post the records that nobody has had for `idle_ms`, and new ones. How many were seen.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        stream = self._settings.stream
        entries = (await self._client.xautoclaim(stream, _GROUP, self._consumer, idle_ms, count=_POST_BATCH))[1]
        if not entries:
            async with asyncio.timeout(block_ms / 1000 + _COMMAND_S):  # a server that hangs says nothing at all
                read: Any = await self._reader.xreadgroup(
                    _GROUP, self._consumer, {stream: ">"}, count=_POST_BATCH, block=block_ms
                )
            entries = [entry for _, found in read or () for entry in found]
        for entry_id, fields in entries:
            await self._post(url, entry_id, fields)
        return len(entries)

    async def _post(self, url: str, entry_id: str, fields: Mapping[str, str]) -> None:
        call_id = fields["call_id"]
        try:
            record = json.loads(fields["record"])
            await self._webhooks.post(url, record, key=call_id, timeout_s=_POST_TIMEOUT_S)
            outcome = "posted"
        except (PostError, TimeoutError) as error:
            age_s = time.time() - int(entry_id.partition("-")[0]) / 1000
            given_up = age_s > self._settings.post_for_s  # a refusal may be a mistake that will be mended
            outcome = "given_up" if given_up else "failed"
            what = "was given up" if given_up else "failed and will be tried again"
            log.warning("posting the record of call %s %s: %s", call_id, what, error or "no answer in time")
        self._metrics.records.labels(outcome).inc()
        if outcome != "failed":
            await self._client.xack(self._settings.stream, _GROUP, entry_id)


def _decoded(origin: Origin, body: str | None) -> DialogueState | None:
    try:
        return None if body is None else decode_state(body)
    except CodecError as error:
        log.error("the state of call %s cannot be read for its record: %s", origin.call_id, error)
        return None
