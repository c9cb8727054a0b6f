"""The inference seam over Redis streams, a gateway worker's side: inference workers of any host answer.

    ask --> outbox --one script for all that is there--> a stream of its kind and urgency --> an inference worker
    answer <-- by number, the first of each <-- this asker's own stream <--------------------------'

What is collected while one message is on its way travels together in the next: at low load nothing waits, at high load
entries are shared. How long the oldest job of each stream has waited is looked at with every heartbeat; by that
speculations and partials are shed here, before they cost anything, by the same limits as at an engine.

Time. A job says how long its asker would wait; only the asker's own clock decides that it is over. Inference workers
judge by the server's clock whether a job is worth beginning. Where that clock was set, one that was not there to see it
may say "late" too soon: then it is asked again, but found late `ATTEMPTS` times it is over.

Away. While the server does not answer, requests wait for it until their time is up. The server notes which heartbeat of
an asker was the first that it knows of. Where that is another than before, its memory was lost, or this asker was taken
for dead: all that is waited for is asked again, however often it happens. That is safe, since models change nothing and
the first answer is taken.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from redis.exceptions import RedisError

from audio.asr import AsrJob
from dialogue.connection import connect
from gateway import background
from gateway.inference.batching import BatcherSettings
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.messages import (
    ATTEMPTS,
    Body,
    administration,
    content,
    heard_in,
    transcription,
    understanding,
    understood_in,
    versions_in,
)
from gateway.inference.model_commands import ModelCommand, ModelError
from gateway.inference.seam import Heard, InferenceError, TurnId, Understood
from gateway.inference.streams.outbox import Outbox, StreamRequest
from gateway.inference.streams.recovery import (
    ASKER,
    BORN,
    GROUP,
    WORKER,
    RedisClock,
    beat_every_s,
    beats_of,
)
from gateway.inference.streams.wire import (
    FIELD,
    Answered,
    Kind,
    ShardKeys,
    Word,
    pack_request,
    shard_of,
    unpack_answers,
)
from gateway.persist import persist
from gateway.processes.liveness import Liveness
from gateway.settings import InferenceSettings
from nlu.pool import VersionStatus

__all__ = ["StreamInference"]

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
_MAX_WAITING: Final = 4096
_COMMAND_S: Final = 2.0
_BLOCK_MS: Final = 2000

# KEYS[1]   the heartbeats
# KEYS[1+i] a stream of jobs
# ARGV[1]   this asker's field of the heartbeats
# ARGV[2]   the consumer group
# ARGV[3]   the field that says which heartbeat was the first
# ARGV[4]   this heartbeat
#
# Returns the first heartbeat, all counts, for each stream the oldest entry that no worker has ('' where there is none),
# and the server's time in ms.
_LOOK: Final = """
if redis.call('HINCRBY', KEYS[1], ARGV[1], 1) == 1 then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
local time = redis.call('TIME')
local oldest = {}
for i = 2, #KEYS do
  local from = '-'
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])
  for _, group in ipairs(groups.err and {} or groups) do
    if group[2] == ARGV[2] then
      from = '(' .. group[8]
    end
  end
  local first = redis.call('XRANGE', KEYS[i], from, '+', 'COUNT', 1)[1]
  oldest[i - 1] = first and first[1] or ''
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {redis.call('HGET', KEYS[1], ARGV[3]), redis.call('HGETALL', KEYS[1]), oldest, now}
"""


@dataclass(slots=True, eq=False)
class _Command:
    """One command to all inference workers, with what they have answered."""

    answers: dict[str, Body] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class StreamInference:
    """Satisfies `Inference` and `ModelAdministration`. Use as an async context."""

    def __init__(
        self,
        redis_url: str,
        settings: InferenceSettings,
        *,
        shedding: BatcherSettings | None = None,
        on_shed: Callable[[str, Urgency], None] = lambda kind, urgency: None,
    ) -> None:
        """
        Args:
            shedding: whose limits say what is refused at which wait.
            on_shed: told of every job that was refused for it.
        """
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._keys = ShardKeys(settings.pool, shard_of(self.name, settings.shards))
        self._field = ASKER + self.name
        self._born_field = BORN + self._field
        self._client = connect(redis_url, timeout_s=_COMMAND_S, decode_responses=False)
        self._reader = connect(redis_url, timeout_s=None, decode_responses=False)  # its reads block
        self._look_script = self._client.register_script(_LOOK)
        self._beat_s = beat_every_s(settings.dead_after_s)
        self._liveness = Liveness(dead_after_s=settings.dead_after_s)
        self._shedding = shedding or BatcherSettings()
        self._on_shed = on_shed
        self._idents = itertools.count(1)
        self._waiting: dict[int, StreamRequest] = {}
        self._outbox = Outbox(self._client, self._keys, self.name, limit=settings.queue_entries, ask_again=self._put)
        self._commands: dict[int, _Command] = {}
        self._read_from: bytes = b"0-0"
        self._looks = itertools.count(1)
        self._born = b"1"
        """The first heartbeat that the server knew of when it last answered one."""
        self._clock = RedisClock()
        self._workers: set[str] = set()
        self._ages_s: dict[tuple[Kind, Urgency], float] = {}
        self._connected = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> StreamInference:
        self._tasks = [
            asyncio.create_task(persist(step, doing=doing), name=doing)
            for step, doing in (
                (self._beat, "looking for inference workers"),
                (self._outbox.send, "asking inference workers"),
                (self._read, "reading answers of inference workers"),
            )
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        try:
            await self._client.hdel(self._keys.beats, self._field, self._born_field)
            await self._client.delete(self._keys.answers(self.name))
        except (RedisError, OSError) as exc:
            log.info("no leave taken of the inference workers (%s); they will see it", type(exc).__name__)
        await self._client.aclose()
        await self._reader.aclose()

    @property
    def connected(self) -> bool:
        """Whether the server answers and an inference worker is alive."""
        return self._connected.is_set()

    async def wait_connected(self) -> None:
        """Until a worker is there."""
        await self._connected.wait()

    async def ping(self, *, timeout_s: float = 2.0) -> None:
        """Raises InferenceError unless an inference worker with loaded models is alive."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise InferenceError(f"no answer to ping within {timeout_s:g} s: no inference worker is alive") from None

    def expected_wait_s(self, urgency: Urgency) -> float:
        """See `Inference.expected_wait_s`."""
        return max(self._wait_s(kind, urgency) for kind in Kind)

    def _wait_s(self, kind: Kind, urgency: Urgency) -> float:
        """How long the oldest job waits that goes before one of this urgency."""
        return max(self._ages_s.get((kind, before), 0.0) for before in Urgency if before <= urgency)

    async def transcribe(self, job: AsrJob, *, timeout_s: float = 30.0, errand: Errand | None = None) -> Heard:
        """See `Inference.transcribe`."""
        return heard_in(await self._ask(Kind.ASR, transcription(job, timeout_s), timeout_s, errand or Errand()))

    async def understand(
        self,
        model: str,
        text: str,
        *,
        timeout_s: float = 30.0,
        errand: Errand | None = None,
        turn: TurnId | None = None,
    ) -> Understood:
        """See `Inference.understand`. Inference workers may have different versions while they are exchanged."""
        body = understanding(model, text, turn, timeout_s)
        return understood_in(await self._ask(Kind.NLU, body, timeout_s, errand or Errand()))

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        """See `gateway.inference.model_commands.ModelAdministration.administer`: every inference worker that is alive
        carries it out. Where one refuses, the others may have done it; its name is in the message."""
        ident = next(self._idents)
        collected = self._commands[ident] = _Command()
        self._outbox.say(Word.COMMAND, ident, administration(command, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
                while not collected.answers or self._workers - collected.answers.keys():
                    await collected.news.wait()
                    collected.news.clear()
        except TimeoutError:
            silent = ", ".join(sorted(self._workers - collected.answers.keys())) or "any inference worker"
            raise InferenceError(f"no answer to models within {timeout_s:g} s of {silent}") from None
        finally:
            del self._commands[ident]
        loaded: list[list[VersionStatus]] = []
        for worker, answer in sorted(collected.answers.items()):
            try:
                loaded.append(versions_in(content(answer)))
            except ModelError as exc:
                raise ModelError(exc.fault, f"inference worker {worker}: {exc}") from None
        return _merged(itertools.chain.from_iterable(loaded))

    # Asking.

    async def _ask(self, kind: Kind, body: Body, timeout_s: float, errand: Errand) -> Body:
        self._admit(kind, errand.urgency)
        try:
            request = pack_request(body)
        except (ValueError, TypeError) as exc:
            raise InferenceError(f"{kind}: a request that cannot be sent: {type(exc).__name__}") from exc
        if len(request) > _MAX_REQUEST_BYTES:
            raise InferenceError(f"{kind}: a request of {len(request)} bytes; at most {_MAX_REQUEST_BYTES}")
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        waiting = StreamRequest(kind, request, errand, time.monotonic() + timeout_s, answer)
        self._put(waiting)
        errand.on_promotion(lambda urgency: self._outbox.promote(waiting))
        try:
            async with asyncio.timeout(timeout_s):
                return content(await answer)
        except TimeoutError:
            why = "" if self.connected else ": no inference worker is connected"
            raise InferenceError(f"no answer to {kind} within {timeout_s:g} s{why}") from None
        finally:
            errand.on_promotion(None)
            self._leave(waiting)

    def _admit(self, kind: Kind, urgency: Urgency) -> None:
        """Refuse what there is no room or no time for."""
        if len(self._waiting) >= _MAX_WAITING:
            refusal = f"{len(self._waiting)} requests are waiting already"
        elif urgency is not Urgency.ENDPOINT and not self.connected:
            refusal = f"no inference worker is connected for a {urgency.name.lower()} job"
        elif self._shedding.sheds(urgency, self._wait_s(kind, urgency)):
            refusal = f"too busy for a {urgency.name.lower()} job"
        else:
            return
        self._on_shed(kind.value, urgency)
        raise InferenceError(f"{kind}: {refusal}")

    def _put(self, waiting: StreamRequest) -> None:
        """Have it sent under a number of its own; again, where it was sent before."""
        ident = next(self._idents)
        waiting.idents.append(ident)
        self._waiting[ident] = waiting
        self._outbox.put(waiting)

    def _leave(self, waiting: StreamRequest) -> None:
        """Nobody waits for it any more: answered, late, or its caller went away."""
        for ident in waiting.idents:
            del self._waiting[ident]
        self._outbox.withdraw(waiting)

    # Answers.

    async def _read(self) -> None:
        """Wait for answers, and hand them out. Raises RedisError or OSError."""
        async with asyncio.timeout(_BLOCK_MS / 1000 + _COMMAND_S):  # a server that hangs says nothing at all
            stream = self._keys.answers(self.name)
            read: Any = await self._reader.xread({stream: self._read_from}, count=64, block=_BLOCK_MS)
        for entry_id, fields in (entry for _, entries in read or () for entry in entries):
            self._read_from = entry_id
            try:
                for answered in unpack_answers(fields[FIELD.encode()]):
                    self._answered(answered)
            except (ValueError, KeyError) as exc:
                log.error("an inference worker sent what is no answer: %s", exc)

    def _answered(self, answered: Answered) -> None:
        if (command := self._commands.get(answered.ident)) is not None:
            command.answers[answered.worker] = answered.answer
            command.news.set()
        waiting = self._waiting.pop(answered.ident, None)
        if waiting is None:
            return  # another worker was first, or nobody waits for it any more
        waiting.idents.remove(answered.ident)
        if waiting.answer.done():
            return
        if "late" not in answered.answer:
            waiting.answer.set_result(answered.answer)
        elif not waiting.idents:  # else it was asked again already
            waiting.late += 1
            if waiting.late < ATTEMPTS:
                self._put(waiting)
            else:
                waiting.answer.set_result({"error": f"{waiting.kind}: waited past its deadline"})

    # Heartbeats.

    async def _beat(self) -> None:
        """One heartbeat: show that we live, see who else does and how long jobs wait. Raises RedisError or OSError."""
        try:
            await self._look()
        except BaseException:
            self._workers = set()
            self._connected.clear()
            raise
        finally:
            for command in self._commands.values():
                command.news.set()
        await asyncio.sleep(self._beat_s)

    async def _look(self) -> None:
        keys = [self._keys.beats, *self._keys.all_jobs]
        args: list[str | int] = [self._field, GROUP, self._born_field, next(self._looks)]
        born, flat, oldest, time_ms = await self._look_script(keys=keys, args=args)
        now = time.monotonic()
        if born != self._born:
            self._born = born
            self._forgotten()
        self._liveness.look(beats_of(flat, WORKER), now)
        self._workers = self._liveness.alive(now)
        streams = itertools.product(Kind, Urgency)
        self._clock.told(time_ms, now)
        self._ages_s = {
            stream: self._clock.age_ms(entry_id, now) / 1000 if entry_id else 0.0
            for stream, entry_id in zip(streams, oldest, strict=True)
        }
        if self._workers:
            self._connected.set()
        else:
            self._connected.clear()

    def _forgotten(self) -> None:
        """The server knows nothing of what was sent to it."""
        self._read_from = b"0-0"
        lost = [waiting for waiting in set(self._waiting.values()) if waiting.sent and not waiting.answer.done()]
        if lost:  # none where the server was only late to be there
            log.warning("the server has forgotten this gateway worker; asking again for %d answers", len(lost))
        for waiting in lost:
            self._put(waiting)


def _merged(loaded: Iterable[VersionStatus]) -> list[VersionStatus]:
    """What several workers have loaded, each version once: the counts of all, the rest of the busiest."""
    found: dict[tuple[str, str, str], VersionStatus] = {}
    for status in loaded:
        key = (status.bot, status.version, status.state)
        other = found.get(key)
        if other is None:
            found[key] = status
            continue
        busiest = max(other, status, key=lambda each: each.requests)
        found[key] = replace(busiest, requests=other.requests + status.requests, errors=other.errors + status.errors)
    return list(found.values())
