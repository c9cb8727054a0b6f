"""Which jobs an engine takes next: a pure core with the clock as an argument.

    endpoint     a caller has finished and waits for the answer
    speculative  the caller pauses; the answer may be wanted in half a second
    partial      somebody watches the words appear

More urgent jobs go first, within one urgency the oldest. The less urgent kinds are also shed first: a speculation
that would come too late is better never begun, since its utterance is transcribed at the endpoint anyway. Calls are
treated alike because each has at most one job of a kind waiting, and a few only where its turn is slow.

A job's urgency may rise while it waits (`Errand.promote`): a speculation becomes an endpoint job when its tail closes.

A padded engine computes its longest job for every job of the batch. So a batch takes jobs of about one length, as far
as padding is cheaper than another batch; the others wait for the next one. Nobody less urgent rides along while
somebody more urgent is left out for his length, nor where he would make the more urgent wait for long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

__all__ = ["Errand", "JobQueue", "QueuedJob", "Urgency"]

T = TypeVar("T")
K = TypeVar("K")

_LEARN = 0.2  # weight of the newest batch in the measured pace


class Urgency(IntEnum):
    """Smaller is more urgent; the number travels over the inference socket."""

    ENDPOINT = 0
    SPECULATIVE = 1
    PARTIAL = 2


class Errand:
    """How urgent one request is, from its asker to the queue it waits in."""

    __slots__ = ("_tell", "urgency")

    def __init__(self, urgency: Urgency = Urgency.ENDPOINT) -> None:
        self.urgency = urgency
        self._tell: Callable[[Urgency], None] | None = None

    def promote(self, urgency: Urgency) -> None:
        """Make it more urgent; a less urgent word is ignored."""
        if urgency < self.urgency:
            self.urgency = urgency
            if self._tell is not None:
                self._tell(urgency)

    def on_promotion(self, tell: Callable[[Urgency], None] | None) -> None:
        """Have `tell` called when it becomes more urgent: how a transport passes that on."""
        self._tell = tell


@dataclass(slots=True, eq=False)
class QueuedJob(Generic[T, K]):
    """One waiting job. `cost` is in the engine's units; times are monotonic seconds; `ticket` is what its asker
    holds, carried along and not looked at."""

    job: T
    ticket: K
    cost: int
    errand: Errand
    since: float
    deadline: float
    gone: bool = False
    """Nobody waits for it any more."""


class JobQueue(Generic[T, K]):
    """Waiting jobs and the engines' measured pace."""

    def __init__(
        self,
        *,
        max_batch: int,
        max_cost: int,
        max_padding: float = math.inf,
        batch_cost: int = 0,
        max_ride_cost: float = math.inf,
        engines: int = 1,
    ) -> None:
        """
        Args:
            max_batch: jobs in a batch.
            max_cost: longest job x jobs of a batch.
            max_padding: share of the jobs' own cost that padding may add; 0: only jobs of one cost.
            batch_cost: what a batch costs besides its jobs; so much padding is allowed on top.
            max_ride_cost: what less urgent jobs may add to a batch of more urgent ones.
            engines: how many take batches from here.
        """
        self._max_batch = max_batch
        self._max_cost = max_cost
        self._max_padding = max_padding
        self._batch_cost = batch_cost
        self._max_ride_cost = max_ride_cost
        self._engines = engines
        self._jobs: list[QueuedJob[T, K]] = []
        self._s_per_cost = 0.0
        self._running: dict[int, float] = {}  # when a batch should be done, by the identity of its first job

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def oldest_since(self) -> float | None:
        """When the job that has waited longest came."""
        return min((job.since for job in self._jobs), default=None)

    def push(self, job: QueuedJob[T, K]) -> None:
        """Add one."""
        self._jobs.append(job)

    def remove(self, job: QueuedJob[T, K]) -> None:
        """Take one out, if it still waits."""
        if job in self._jobs:
            self._jobs.remove(job)

    def clear(self) -> list[QueuedJob[T, K]]:
        """Take all out."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def take(self, now: float) -> tuple[list[QueuedJob[T, K]], list[QueuedJob[T, K]]]:
        """The next batch, and the jobs that are past their deadline; both leave the queue, and the gone ones too."""
        late = [job for job in self._jobs if not job.gone and job.deadline < now]
        waiting = [job for job in self._jobs if not job.gone and job.deadline >= now]
        waiting.sort(key=lambda job: (job.errand.urgency, job.since))
        batch = self._fill(waiting)
        taken = set(map(id, batch))
        self._jobs = [job for job in waiting if id(job) not in taken]
        if batch:
            self._running[id(batch[0])] = now + self._pace(batch)
        return batch, late

    def _fill(self, waiting: list[QueuedJob[T, K]]) -> list[QueuedJob[T, K]]:
        """The first job and whoever may share its batch."""
        batch = waiting[:1]
        longest = real = urgent_cost = batch[0].cost if batch else 0
        passed_over: Urgency | None = None
        for job in waiting[1:]:
            urgency = job.errand.urgency
            if len(batch) == self._max_batch or (passed_over is not None and urgency > passed_over):
                break
            padded = max(longest, job.cost) * (len(batch) + 1)
            if padded > (real + job.cost) * (1 + self._max_padding) + self._batch_cost:
                passed_over = urgency
                continue
            rides = urgency > batch[0].errand.urgency
            if padded > self._max_cost or (rides and padded > urgent_cost + self._max_ride_cost):
                break
            batch.append(job)
            longest, real = max(longest, job.cost), real + job.cost
            if not rides:
                urgent_cost = padded
        return batch

    def ran(self, batch: list[QueuedJob[T, K]], seconds: float) -> None:
        """Learn the pace from a batch that an engine has run."""
        self.failed(batch)
        cost = sum(job.cost for job in batch)
        if cost > 0:
            measured = seconds / cost
            self._s_per_cost += (measured - self._s_per_cost) * (_LEARN if self._s_per_cost else 1.0)

    def failed(self, batch: list[QueuedJob[T, K]]) -> None:
        """An engine is free again, and nothing was learned."""
        self._running.pop(id(batch[0]), None)

    def expected_wait_s(self, urgency: Urgency, now: float) -> float:
        """How long a job of this urgency that came now would wait before it runs."""
        ahead = [job for job in self._jobs if not job.gone and job.errand.urgency <= urgency]
        all_busy = len(self._running) >= self._engines
        until_free = max(0.0, min(self._running.values()) - now) if all_busy else 0.0
        return until_free + self._pace(ahead) / self._engines

    def expected_run_s(self, cost: int) -> float:
        """How long a job of this cost would keep an engine; 0.0 until a pace was measured."""
        return self._s_per_cost * cost

    def _pace(self, jobs: list[QueuedJob[T, K]]) -> float:
        return self.expected_run_s(sum(job.cost for job in jobs))
