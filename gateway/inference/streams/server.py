"""An inference worker's side of the Redis streams: jobs in, answers out, nothing held that another could do sooner.

    a stream of jobs --XREADGROUP, while there is room--> held --> answered --> acknowledged and deleted
                                                           |--withdrawn, or its asker is gone--> skipped
                                                           |--past its asker's patience--> "late"
    a dead worker's entries --claimed at a heartbeat-------'

There is a reader for each kind and urgency, and each reads only while there is room for its urgency: a few batches for
endpoints, one for speculations, less for partials. Less urgent jobs take none of a more urgent one's room: an endpoint
left in its stream for them would let them go before it. What is not read waits at the server, where any worker can
take it; within a worker `gateway.inference.job_queue.JobQueue` has the word. An entry is acknowledged when all its jobs
are done, in one script with the last answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from dialogue.connection import connect
from gateway import background
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.messages import ATTEMPTS, Answering, Body
from gateway.inference.model_commands import ModelAdministration
from gateway.inference.seam import Inference
from gateway.inference.streams.recovery import GROUP, Claimed, Recovery, beat_every_s
from gateway.inference.streams.replies import Replies
from gateway.inference.streams.wire import (
    ENTRY_JOBS,
    FIELD,
    Answered,
    Kind,
    ShardKeys,
    WireJob,
    Word,
    unpack_jobs,
    unpack_request,
    unpack_words,
)
from gateway.persist import persist
from gateway.settings import InferenceSettings

__all__ = ["Room", "StreamServer"]

log = logging.getLogger(__name__)

_COMMAND_S: Final = 2.0
_BLOCK_MS: Final = 2000
_READ_ENTRIES: Final = 8
_CLAIM_ENTRIES: Final = 16
_WORDS_REMEMBERED: Final = 8192


class Room:
    """How many jobs of one kind a worker may hold. It keeps their errands: a job that becomes urgent is counted as such
    from then on."""

    def __init__(self, batch: int) -> None:
        """`batch`: jobs that its engines work on at once. One more batch of endpoints waits ready behind them."""
        self._limits = {Urgency.ENDPOINT: 2 * batch, Urgency.SPECULATIVE: batch, Urgency.PARTIAL: max(1, batch // 2)}
        self._most = sum(self._limits.values()) + len(Urgency) * ENTRY_JOBS
        """What reading can come to: an entry is taken whole, so each urgency may pass its limit by one."""
        self._held: set[Errand] = set()
        self._freed = asyncio.Event()

    def free(self, urgency: Urgency) -> int:
        """Room left for jobs of this urgency; negative where more were taken. What is less urgent takes none of it."""
        return self._limits[urgency] - sum(errand.urgency <= urgency for errand in self._held)

    def spare(self) -> int:
        """Room for a dead worker's jobs, as for endpoints: by the time it counts as dead, callers wait for them or
        nobody does. Nobody read these for want of more, so they are bounded by all that is held, too."""
        return max(0, min(self.free(Urgency.ENDPOINT), self._most - len(self._held)))

    def take(self, errand: Errand) -> None:
        """One more is held."""
        self._held.add(errand)

    def give(self, errand: Errand) -> None:
        """One less is held."""
        self._held.discard(errand)
        self._freed.set()

    async def wait(self, urgency: Urgency) -> int:
        """Until there is room; how much."""
        while (free := self.free(urgency)) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return free


class StreamServer:
    """Answers askers of any host from an `Inference` of this process."""

    def __init__(
        self,
        redis_url: str,
        settings: InferenceSettings,
        inference: Inference,
        models: ModelAdministration | None = None,
        *,
        batches: Mapping[Kind, int],
    ) -> None:
        """
        Args:
            models: None: commands about models are no requests here.
            batches: jobs of each kind that the engines work on at once.
        """
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        rooms = {kind: Room(batches[kind]) for kind in Kind}
        answering = Answering(inference, models)
        self._client = connect(redis_url, timeout_s=_COMMAND_S, decode_responses=False)
        self._reader = connect(redis_url, timeout_s=None, decode_responses=False)  # its reads block
        self._shards = [
            _Shard(
                self._client,
                self._reader,
                ShardKeys(settings.pool, shard),
                self.name,
                answering,
                rooms,
                dead_after_s=settings.dead_after_s,
            )
            for shard in range(settings.shards)
        ]

    async def start(self) -> None:
        """Begin to take jobs; where the server is away, when it is back."""
        for shard in self._shards:
            shard.start()

    async def stop(self, *, drain_s: float = 3.0) -> None:
        """Take no more jobs, give those that are held so long to end, and leave the rest to others."""
        await asyncio.gather(*(shard.stop(drain_s) for shard in self._shards))
        await self._client.aclose()
        await self._reader.aclose()


@dataclass(slots=True, eq=False)
class _Held:
    """An entry that is worked on."""

    left: int


@dataclass(slots=True, eq=False)
class _Running:
    """A job that is worked on."""

    task: asyncio.Task[None]
    errand: Errand


class _Shard:
    """One shard's streams."""

    def __init__(
        self,
        client: redis.Redis,
        reader: redis.Redis,
        keys: ShardKeys,
        name: str,
        answering: Answering,
        rooms: Mapping[Kind, Room],
        *,
        dead_after_s: float,
    ) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._name = name
        self._answering = answering
        self._rooms = rooms
        self._replies = Replies(client, keys)
        self._recovery = Recovery(client, keys, name=name, dead_after_s=dead_after_s)
        self._beat_s = beat_every_s(dead_after_s)
        self._held: dict[tuple[str, bytes], _Held] = {}
        self._running: dict[tuple[str, int], _Running] = {}
        self._missed: set[tuple[str, bytes]] = set()
        self._said: OrderedDict[tuple[str, int], Word] = OrderedDict()
        self._heard: tuple[int, int] | None = None
        self._commands: set[asyncio.Task[None]] = set()
        self._alive = asyncio.Event()  # who takes jobs before it has shown that it lives is taken for dead
        self._informed = asyncio.Event()  # what was withdrawn so far is known
        self._leaving = False
        self._readers: list[asyncio.Task[None]] = []
        self._senders: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._senders = [_task(self._replies.send, "sending answers"), _task(self._look_after, "looking after others")]
        self._readers = [_task(self._listen, "hearing of jobs")]
        for kind in Kind:
            for urgency in Urgency:
                read = partial(self._read, kind, urgency)
                self._readers.append(_task(read, f"taking {urgency.name.lower()} jobs of {kind}"))

    async def stop(self, drain_s: float) -> None:
        """See `StreamServer.stop`."""
        self._leaving = True
        await background.stop(self._readers)
        try:
            async with asyncio.timeout(drain_s):
                if tasks := [running.task for running in self._running.values()]:
                    await asyncio.wait(tasks)
                await self._replies.sent()
        except TimeoutError:
            log.warning("%d entries are left to other inference workers", len(self._held))
        await background.stop([*self._senders, *self._commands])
        await background.stop([running.task for running in self._running.values()])
        try:
            await self._recovery.leave()
        except (RedisError, OSError) as exc:
            log.info("no leave taken of the others (%s); they will see it", type(exc).__name__)

    async def _make_groups(self) -> None:
        """From the beginning: jobs that came before any worker are done too."""
        for stream in self._keys.all_jobs:
            try:
                await self._client.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as exc:
                if "BUSYGROUP" not in str(exc):
                    raise

    # Jobs in.

    async def _read(self, kind: Kind, urgency: Urgency) -> None:
        """Take what comes, as far as there is room. Raises RedisError or OSError."""
        await self._informed.wait()
        stream = self._keys.jobs(kind, urgency)
        free = await self._rooms[kind].wait(urgency)
        count = min(_READ_ENTRIES, 1 + free // ENTRY_JOBS)
        try:
            async with asyncio.timeout(_BLOCK_MS / 1000 + _COMMAND_S):  # a server that hangs says nothing at all
                new: Any = {stream: ">"}
                read: Any = await self._reader.xreadgroup(GROUP, self._name, new, count=count, block=_BLOCK_MS)
        except ResponseError as exc:
            if "NOGROUP" not in str(exc):
                raise
            await self._make_groups()  # the server has lost its memory
            return
        for entry_id, fields in (entry for _, entries in read or () for entry in entries):
            await self._accept(stream, entry_id, fields.get(FIELD.encode(), b""))

    async def _accept(self, stream: str, entry_id: bytes, data: bytes, done: Collection[int] = ()) -> None:
        """Begin the jobs of an entry, but for those that are `done`, withdrawn, or begun. Raises RedisError or OSError;
        then the entry is found among those that were given and never seen."""
        place = (stream, entry_id)
        kind, urgency = _of_stream(stream)
        try:
            entry = unpack_jobs(data)
        except ValueError as exc:
            log.error("a gateway worker sent what are no jobs: %s", exc)
            self._finish(place)
            return
        is_gone = await self._recovery.is_gone(entry.asker)
        age_ms = await self._recovery.age_ms(entry_id)
        if place in self._held:
            return
        self._missed.discard(place)
        jobs = [
            job
            for job in entry.jobs
            if job.ident not in done
            and not is_gone
            and self._said.get((entry.asker, job.ident)) is not Word.WITHDRAW
            and (entry.asker, job.ident) not in self._running
        ]
        self._held[place] = held = _Held(len(jobs))
        for job in jobs:
            key = (entry.asker, job.ident)
            errand = Errand(Urgency.ENDPOINT if self._said.get(key) is Word.PROMOTE else urgency)
            self._rooms[kind].take(errand)
            task = asyncio.create_task(self._work(entry.asker, job, errand, age_ms))
            self._running[key] = _Running(task, errand)

            def ended(_: object, key: tuple[str, int] = key, errand: Errand = errand) -> None:
                del self._running[key]
                self._rooms[kind].give(errand)
                held.left -= 1
                if not held.left:
                    self._finish(place)

            task.add_done_callback(ended)
        if not jobs:
            self._finish(place)

    async def _work(self, asker: str, job: WireJob, errand: Errand, age_ms: float) -> None:
        left_s = (job.budget_ms - age_ms) / 1000
        if left_s <= 0:
            answer: Body = {"late": True}
        else:
            try:
                body = unpack_request(job.request)
            except ValueError as exc:
                answer = {"error": f"malformed request: {exc}"}
            else:
                answer = await self._answering.answer({**body, "timeout_s": left_s}, errand)
        if "queue_ms" in answer.get("ok", ()):
            answer["ok"]["queue_ms"] += age_ms
        self._reply(asker, job.ident, answer)

    def _finish(self, place: tuple[str, bytes]) -> None:
        """Nothing is left to do of an entry."""
        self._held.pop(place, None)
        self._replies.acknowledge(place)

    def _reply(self, asker: str, ident: int, answer: Body) -> None:
        self._replies.answer(asker, Answered(ident, self._name, answer))

    # Words.

    async def _listen(self) -> None:
        """Hear what is said about jobs, first all that is kept: jobs may have been withdrawn before we came. Commands
        of then are not for us."""
        await self._alive.wait()
        kept: Any = await self._client.xrange(self._keys.words)
        if self._heard is None:
            self._heard = _order(kept[-1][0]) if kept else (0, 0)
        read_from = self._hear(kept, b"0-0")
        self._informed.set()
        while True:
            async with asyncio.timeout(_BLOCK_MS / 1000 + _COMMAND_S):
                read: Any = await self._reader.xread({self._keys.words: read_from}, count=256, block=_BLOCK_MS)
            read_from = self._hear([entry for _, entries in read or () for entry in entries], read_from)

    def _hear(self, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]], read_from: bytes) -> bytes:
        """Heed words; the id of the last."""
        for entry_id, fields in entries:
            read_from = entry_id
            is_new = self._heard is not None and _order(entry_id) > self._heard
            if is_new:
                self._heard = _order(entry_id)
            try:
                asker, words = unpack_words(fields[FIELD.encode()])
            except (ValueError, KeyError) as exc:
                log.error("a gateway worker sent what are no words: %s", exc)
                continue
            for spoken in words:
                if spoken.word is not Word.COMMAND:
                    self._heed((asker, spoken.ident), spoken.word)
                elif is_new and spoken.request is not None:
                    task = asyncio.create_task(self._carry_out(asker, spoken.ident, spoken.request))
                    self._commands.add(task)
                    task.add_done_callback(self._commands.discard)
        return read_from

    def _heed(self, key: tuple[str, int], word: Word) -> None:
        """What is said of a job holds for when it comes, too."""
        self._said[key] = word
        if len(self._said) > _WORDS_REMEMBERED:
            self._said.popitem(last=False)
        if (running := self._running.get(key)) is not None:
            if word is Word.WITHDRAW:
                running.task.cancel()
            else:
                running.errand.promote(Urgency.ENDPOINT)

    async def _carry_out(self, asker: str, ident: int, request: Body) -> None:
        self._reply(asker, ident, await self._answering.answer(request, Errand()))

    # The others.

    async def _look_after(self) -> None:
        """One heartbeat, and what it tells."""
        if not self._alive.is_set():
            await self._make_groups()
        begun = list(self._running.items())  # what comes while we look is of askers that are there again
        await self._recovery.beat(time.monotonic())
        self._alive.set()
        for (asker, _), running in begun:
            if asker in self._recovery.gone:
                running.task.cancel()
        spare = 0 if self._leaving else min(room.spare() for room in self._rooms.values())
        claimed, own = await self._recovery.claim(min(spare, _CLAIM_ENTRIES))
        for entry in claimed:
            await self._take_over(entry)
        # Entries that we were given and never saw: the answer was lost on its way. Those of this very moment may come.
        missing = own - self._held.keys() - self._replies.acknowledging
        for stream, entry_id in missing & self._missed:
            if (data := await self._recovery.fetch(stream, entry_id)) is not None:
                await self._accept(stream, entry_id, data)
        self._missed = missing
        await asyncio.sleep(self._beat_s)

    async def _take_over(self, entry: Claimed) -> None:
        """Do a dead worker's entry, but for what it has answered; or give it up."""
        try:
            jobs = unpack_jobs(entry.data)
            idents = {job.ident for job in jobs.jobs}
            done = idents & await self._recovery.answered(jobs.asker, entry.entry_id)
        except ValueError as exc:
            log.error("a dead inference worker leaves what are no jobs: %s", exc)
            self._finish((entry.stream, entry.entry_id))
            return
        if entry.deliveries < ATTEMPTS:
            log.warning("taking over %d jobs of a dead inference worker", len(jobs.jobs) - len(done))
            await self._accept(entry.stream, entry.entry_id, entry.data, done)
            return
        for job in jobs.jobs:
            if job.ident not in done:
                died = f"the inference worker died {entry.deliveries} times under this request"
                self._reply(jobs.asker, job.ident, {"error": died})
        self._finish((entry.stream, entry.entry_id))


def _task(step: Callable[[], Awaitable[None]], doing: str) -> asyncio.Task[None]:
    return asyncio.create_task(persist(step, doing=doing), name=doing)


def _of_stream(stream: str) -> tuple[Kind, Urgency]:
    kind, urgency = stream.rsplit(":", 2)[1:]
    return Kind(kind), Urgency(int(urgency))


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)
