"""One batcher in front of one model: jobs of many calls, in batches, in threads of its own.

    submit -> queued --engine free--> running --> result | failure to every waiter
                 |--cancelled or past its deadline--> skipped, before it costs anything
                 |--queue full--> refused at once (Overloaded)
                 |--not urgent, and the wait is long; a partial that takes long itself--> shed at once (Shed)

A batch is sent off when an engine is free and it is full or its oldest job has waited `max_wait_ms`. Which jobs it
holds is decided by the pure `gateway.inference.job_queue.JobQueue`. The engines of a batcher are threads that run one
model side by side: it is immutable, and what takes its time lets go of the interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway import background, logs
from gateway.inference.job_queue import Errand, JobQueue, QueuedJob, Urgency

__all__ = ["BatchReport", "Batcher", "BatcherSettings", "BatcherStats", "DeadlinePassed", "Done", "Overloaded", "Shed"]

log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")


class Overloaded(Exception):
    """The queue is full; nothing was queued."""


class Shed(Overloaded):
    """The job was not urgent enough for the wait there is, or that it would make; nothing was queued."""


class DeadlinePassed(Exception):
    """The job was still queued when its deadline came; it was not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherSettings:
    """Limits of one batcher."""

    max_queue: int = 512
    max_batch: int = 16
    max_cost: int = 48_000
    """Padded cost of one batch (longest x count), in the engine's units: mel frames for ASR (10 ms), tokens for NLU.
    On a padded engine one long job makes every short one beside it pay."""
    max_wait_ms: float = 0.0
    """How long the oldest job may wait for company while the engine is free. 0 is right on a CPU, where a batch
    of n costs n times one; a GPU wants a few milliseconds."""
    max_padding: float = math.inf
    """Share of the jobs' own cost that padding may add to a batch. 0: only jobs of one cost share a batch, for engines
    that pad to lengths of their own."""
    batch_cost: int = 0
    """What a batch costs besides its jobs, in the same units: so much padding is cheaper than another batch."""
    max_ride_cost: float = math.inf
    """What less urgent jobs may add to a batch of more urgent ones. On a CPU each makes the others' answer later."""
    engines: int = 1
    """Batches that run side by side."""
    shed_speculative_ms: float = 300.0
    """Expected wait at which speculations are refused: between pause and endpoint there are 550 ms."""
    shed_partial_ms: float = 100.0
    """Expected wait at which partials are refused, with what they take themselves: a batch that runs is not
    interrupted, so a caller whose endpoint comes meanwhile waits for all of it. The bundled recogniser needs 0.06 to
    0.09 ms for a frame of 10 ms, on one core: more than this from about 12 s of speech on."""

    def sheds(self, urgency: Urgency, wait_s: float, run_s: float = 0.0) -> bool:
        """Whether a job of this urgency is refused rather than begun so late; an endpoint's never is.

        Args:
            wait_s: before it runs.
            run_s: what it takes itself; 0 where that is not known. Counts for partials alone: a speculation is mostly
                the endpoint's own work, which is done the sooner the earlier it begins.
        """
        if urgency is Urgency.PARTIAL:
            wait_s += run_s
        limit_ms = {
            Urgency.ENDPOINT: math.inf,
            Urgency.SPECULATIVE: self.shed_speculative_ms,
            Urgency.PARTIAL: self.shed_partial_ms,
        }[urgency]
        return wait_s * 1000 > limit_ms


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A result with what it took, in milliseconds."""

    result: R
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that was run: for metrics."""

    batcher: str
    urgencies: tuple[Urgency, ...]
    queue_s: tuple[float, ...]
    compute_s: float
    left_waiting: int


@dataclass(slots=True)
class BatcherStats:
    """Counts since start."""

    jobs: int = 0
    batches: int = 0
    refused: int = 0
    shed: int = 0
    cancelled: int = 0
    late: int = 0
    failed: int = 0


class Batcher(Generic[J, R]):
    """Owns the threads of its engines. Start with `async with`."""

    def __init__(
        self,
        name: str,
        run: Callable[[list[J]], list[R]],
        settings: BatcherSettings,
        *,
        cost: Callable[[J], int] = lambda job: 1,
        observe: Callable[[BatchReport], None] = lambda report: None,
        on_shed: Callable[[str, Urgency], None] = lambda batcher, urgency: None,
    ) -> None:
        """`run` is the engine's batch function: blocking, results in the order of its jobs. `observe` is told of
        every batch, `on_shed` of every job that was refused or shed."""
        self.name = name
        self.stats = BatcherStats()
        self._run = run
        self._settings = settings
        self._cost = cost
        self._observe = observe
        self._on_shed = on_shed
        self._queue: JobQueue[J, asyncio.Future[Done[R]]] = JobQueue(
            max_batch=settings.max_batch,
            max_cost=settings.max_cost,
            max_padding=settings.max_padding,
            batch_cost=settings.batch_cost,
            max_ride_cost=settings.max_ride_cost,
            engines=settings.engines,
        )
        self._wake = asyncio.Event()
        self._running: set[float] = set()  # when each batch that runs was begun
        self._executor = ThreadPoolExecutor(max_workers=settings.engines, thread_name_prefix=name)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Batcher[J, R]:
        engines = range(self._settings.engines)
        self._tasks = [asyncio.create_task(self._serve(), name=f"batcher {self.name}") for _ in engines]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks, self._tasks = self._tasks, []  # each holds us in its traceback: a cycle would keep the model in memory
        await background.stop(tasks)
        for waiting in self._queue.clear():
            waiting.ticket.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def depth(self) -> int:
        """Jobs waiting now."""
        return len(self._queue)

    @property
    def running_s(self) -> float:
        """For how long the batch has run that has run longest; 0.0 where none does. An engine that hangs never ends."""
        return time.monotonic() - min(self._running, default=time.monotonic())

    def expected_wait_s(self, urgency: Urgency) -> float:
        """How long a job of this urgency that came now would wait before it runs."""
        return self._queue.expected_wait_s(urgency, time.monotonic())

    async def submit(self, job: J, *, timeout_s: float = 30.0, errand: Errand | None = None) -> Done[R]:
        """Queue one job and wait for its result.

        Args:
            errand: its urgency, which may rise while it waits; an endpoint's unless given.

        Raises:
            Overloaded: the queue is full; Shed: the wait is too long for a job of this urgency, or a partial is.
            DeadlinePassed: it was not begun within `timeout_s`.
            Exception: what the engine raised for the batch it was in.
        """
        errand = errand or Errand()
        now = time.monotonic()
        cost = self._cost(job)
        self._admit(errand.urgency, cost, now)
        future: asyncio.Future[Done[R]] = asyncio.get_running_loop().create_future()
        waiting = QueuedJob(job, future, cost, errand, now, now + timeout_s)
        self._queue.push(waiting)
        self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            waiting.gone = True
            raise

    def _admit(self, urgency: Urgency, cost: int, now: float) -> None:
        """Refuse what there is no room or no time for."""
        if len(self._queue) >= self._settings.max_queue:
            self.stats.refused += 1
            self._on_shed(self.name, urgency)
            raise Overloaded(f"{self.name}: {len(self._queue)} jobs are waiting already")
        if urgency is Urgency.ENDPOINT:
            return
        wait_s, run_s = self._queue.expected_wait_s(urgency, now), self._queue.expected_run_s(cost)
        if self._settings.sheds(urgency, wait_s, run_s):
            self.stats.shed += 1
            self._on_shed(self.name, urgency)
            raise Shed(f"{self.name}: too busy for a {urgency.name.lower()} job")

    async def _serve(self) -> None:
        """One engine's life."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            await self._gather()
            batch = self._take()
            if not len(self._queue):
                self._wake.clear()
            if not batch:
                continue
            begun = time.monotonic()
            self._running.add(begun)
            try:
                results = await loop.run_in_executor(self._executor, self._run_batch, [w.job for w in batch])
            except asyncio.CancelledError:  # the batcher closes; the engine ends this batch for nobody
                for waiting in batch:
                    waiting.ticket.cancel()
                raise
            except Exception as exc:  # the engine's failure belongs to its waiters; the batcher goes on
                log.error("%s failed on a batch of %d: %s", self.name, len(batch), logs.where(exc))
                self.stats.failed += len(batch)
                self._queue.failed(batch)
                for waiting in batch:
                    if not waiting.ticket.done():
                        waiting.ticket.set_exception(exc)
                continue
            finally:
                self._running.discard(begun)
            compute_s = time.monotonic() - begun
            self._queue.ran(batch, compute_s)
            self.stats.batches += 1
            self.stats.jobs += len(batch)
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.ticket.done():
                    waiting.ticket.set_result(Done(result, (begun - waiting.since) * 1000, compute_s * 1000))
            urgencies = tuple(waiting.errand.urgency for waiting in batch)
            waits = tuple(begun - waiting.since for waiting in batch)
            self._observe(BatchReport(self.name, urgencies, waits, compute_s, len(self._queue)))

    def _run_batch(self, jobs: list[J]) -> list[R]:
        """In the engine's thread."""
        try:
            results = self._run(jobs)
        except StopIteration as exc:  # a future cannot carry it, and would never be done
            raise RuntimeError(f"{self.name}: the engine raised StopIteration") from exc
        if len(results) != len(jobs):
            raise AssertionError(f"{self.name} gave {len(results)} results for {len(jobs)} jobs")
        return results

    async def _gather(self) -> None:
        """Give the oldest job's company a moment to arrive."""
        wait_s = self._settings.max_wait_ms / 1000
        while wait_s and len(self._queue) < self._settings.max_batch:
            since = self._queue.oldest_since
            if since is None or (left := since + wait_s - time.monotonic()) <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                self._wake.set()
                return

    def _take(self) -> list[QueuedJob[J, asyncio.Future[Done[R]]]]:
        """The next batch, without what nobody waits for any more."""
        before = len(self._queue)
        batch, late = self._queue.take(time.monotonic())
        self.stats.late += len(late)
        self.stats.cancelled += before - len(self._queue) - len(batch) - len(late)
        for waiting in late:
            if waiting.ticket.done():  # cancelled in this very turn of the loop, and `gone` is not set yet
                continue
            waiting.ticket.set_exception(DeadlinePassed(f"{self.name}: waited past its deadline"))
        return batch
