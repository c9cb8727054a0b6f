"""One batcher in front of one engine: jobs of many calls, a batch at a time, in a thread of its own.

    submit -> queued --engine free--> running --> result | failure to every waiter
                 |--cancelled or past its deadline--> skipped, before it costs anything
                 |--queue full--> refused at once (Overloaded)

A batch is sent off when the engine is free and it is full or its oldest job has waited `max_wait_ms`. It is capped
by padded cost (longest x count), because on a padded engine one long job makes every short one beside it pay.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Batcher", "BatcherSettings", "BatcherStats", "DeadlinePassed", "Done", "Overloaded"]

log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")


class Overloaded(Exception):
    """The queue is full; nothing was queued."""


class DeadlinePassed(Exception):
    """The job was still queued when its deadline came; it was not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherSettings:
    """Limits of one batcher."""

    max_queue: int = 512
    max_batch: int = 16
    max_cost: int = 48_000
    """Padded cost of one batch, in the engine's units: mel frames for ASR (10 ms), tokens for NLU."""
    max_wait_ms: float = 0.0
    """How long the oldest job may wait for company while the engine is free. 0 is right on a CPU, where a batch
    of n costs n times one; a GPU wants a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A result with what it took, in milliseconds."""

    result: R
    queue_ms: float
    compute_ms: float


@dataclass(slots=True)
class BatcherStats:
    """Counts since start."""

    jobs: int = 0
    batches: int = 0
    refused: int = 0
    cancelled: int = 0
    late: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Waiting(Generic[J, R]):
    job: J
    cost: int
    future: asyncio.Future[Done[R]]
    since: float
    deadline: float


class Batcher(Generic[J, R]):
    """Owns one engine thread. Start with `async with`."""

    def __init__(
        self,
        name: str,
        run: Callable[[list[J]], list[R]],
        settings: BatcherSettings,
        *,
        cost: Callable[[J], int] = lambda job: 1,
    ) -> None:
        """`run` is the engine's batch function: blocking, results in the order of its jobs."""
        self.name = name
        self.stats = BatcherStats()
        self._run = run
        self._settings = settings
        self._cost = cost
        self._queue: deque[_Waiting[J, R]] = deque()
        self._wake = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher[J, R]:
        self._task = asyncio.create_task(self._serve(), name=f"batcher {self.name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._queue:
            waiting.future.cancel()
        self._queue.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def depth(self) -> int:
        """Jobs waiting now."""
        return len(self._queue)

    async def submit(self, job: J, *, timeout_s: float = 30.0) -> Done[R]:
        """Queue one job and wait for its result.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: it was not begun within `timeout_s`.
            Exception: what the engine raised for the batch it was in.
        """
        if len(self._queue) >= self._settings.max_queue:
            self.stats.refused += 1
            raise Overloaded(f"{self.name}: {len(self._queue)} jobs are waiting already")
        now = time.monotonic()
        future: asyncio.Future[Done[R]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(job, self._cost(job), future, now, now + timeout_s))
        self._wake.set()
        return await future

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            await self._gather()
            batch = self._take()
            if not self._queue:
                self._wake.clear()
            if not batch:
                continue
            begun = time.monotonic()
            try:
                results = await loop.run_in_executor(self._executor, self._run_batch, [w.job for w in batch])
            except asyncio.CancelledError:  # the batcher closes; the engine ends this batch for nobody
                for waiting in batch:
                    waiting.future.cancel()
                raise
            except Exception as exc:  # the engine's failure belongs to its waiters; the batcher goes on
                # Where it failed, without its message: that may quote what a caller said.
                where = "".join(traceback.format_tb(exc.__traceback__))
                log.error("%s failed on a batch of %d: %s\n%s", self.name, len(batch), type(exc).__name__, where)
                self.stats.failed += len(batch)
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(exc)
                continue
            compute_ms = (time.monotonic() - begun) * 1000
            self.stats.batches += 1
            self.stats.jobs += len(batch)
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(Done(result, (begun - waiting.since) * 1000, compute_ms))

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
        while wait_s and self._queue and len(self._queue) < self._settings.max_batch:
            left = self._queue[0].since + wait_s - time.monotonic()
            if left <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                self._wake.set()
                return

    def _take(self) -> list[_Waiting[J, R]]:
        """The next batch, oldest first, without what nobody waits for any more."""
        batch: list[_Waiting[J, R]] = []
        longest = 0
        now = time.monotonic()
        while self._queue and len(batch) < self._settings.max_batch:
            waiting = self._queue[0]
            if waiting.future.done():
                self.stats.cancelled += 1
            elif waiting.deadline < now:
                self.stats.late += 1
                waiting.future.set_exception(DeadlinePassed(f"{self.name}: waited past its deadline"))
            else:
                longest = max(longest, waiting.cost)
                if batch and longest * (len(batch) + 1) > self._settings.max_cost:
                    break
                batch.append(waiting)
            self._queue.popleft()
        return batch
