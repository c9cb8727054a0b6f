"""What goes into a batch and when, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.inference.batching import Batcher, BatcherSettings, DeadlinePassed, Done, Overloaded, Shed
from gateway.inference.job_queue import Errand, Urgency

pytestmark = pytest.mark.unit


class Engine:
    """Doubles numbers, a batch at a time, when its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fails_with: BaseException | None = None
        self.results: list[int] | None = None

    def run(self, jobs: list[int]) -> list[int]:
        self.begun += 1
        self.batches.append(jobs)
        assert self.gate.wait(5)
        if self.fails_with is not None:
            raise self.fails_with
        return self.results if self.results is not None else [2 * job for job in jobs]


@asynccontextmanager
async def batching(engine: Engine, **limits: Any) -> AsyncIterator[Batcher[int, int]]:
    """A batcher; a job's cost is its own value."""
    async with Batcher("test", engine.run, BatcherSettings(**limits), cost=lambda job: job) as batcher:
        try:
            yield batcher
        finally:
            engine.gate.set()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def busy(engine: Engine, batcher: Batcher[int, int]) -> asyncio.Task[Done[int]]:
    """A first job that keeps the engine until its gate opens, so that others gather behind it."""
    engine.gate.clear()
    first = asyncio.create_task(batcher.submit(1))
    await until(lambda: engine.begun)
    return first


async def queued(batcher: Batcher[int, int], *jobs: int, **options: Any) -> list[asyncio.Task[Done[int]]]:
    depth = batcher.depth
    tasks = [asyncio.create_task(batcher.submit(job, **options)) for job in jobs]
    await until(lambda: batcher.depth == depth + len(jobs))
    return tasks


async def test_one_job_runs_at_once_and_says_what_it_took() -> None:
    async with batching(Engine()) as batcher:
        done = await batcher.submit(21)
        assert done.result == 42
        assert 0 <= done.queue_ms < 1000 and 0 <= done.compute_ms < 1000


async def test_what_waits_behind_a_running_batch_goes_together_in_order() -> None:
    engine = Engine()
    async with batching(engine, max_batch=3) as batcher:
        tasks = [await busy(engine, batcher), *await queued(batcher, 5, 3, 4, 2)]
        engine.gate.set()
        assert [done.result for done in await asyncio.gather(*tasks)] == [2, 10, 6, 8, 4]
        assert engine.batches == [[1], [5, 3, 4], [2]]
        assert (batcher.stats.batches, batcher.stats.jobs, batcher.depth) == (3, 5, 0)


async def test_a_batch_is_capped_by_its_longest_times_its_count() -> None:
    engine = Engine()
    async with batching(engine, max_cost=20) as batcher:
        tasks = [await busy(engine, batcher), *await queued(batcher, 5, 5, 8, 2, 30, 1)]
        engine.gate.set()
        await asyncio.gather(*tasks)
        # 5,5 cost 10; with the 8 they would cost 24. 8,2 cost 16. The 30 is over the cap and runs alone.
        assert engine.batches == [[1], [5, 5], [8, 2], [30], [1]]


async def test_a_free_engine_waits_for_company_only_as_long_as_it_may() -> None:
    engine = Engine()
    async with batching(engine, max_wait_ms=40, max_batch=3) as batcher:
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        second = asyncio.create_task(batcher.submit(2))
        done = await asyncio.gather(first, second)
        assert engine.batches == [[1, 2]]
        assert 35 <= done[0].queue_ms < 1000
        # A full batch does not wait.
        full = await asyncio.gather(*(batcher.submit(job) for job in (1, 2, 3)))
        assert engine.batches[1:] == [[1, 2, 3]]
        assert full[0].queue_ms < 35


async def test_several_engines_run_side_by_side_and_no_job_runs_twice() -> None:
    engine = Engine()
    engine.gate.clear()
    async with batching(engine, engines=3, max_batch=2, max_wait_ms=1) as batcher:
        tasks: list[asyncio.Task[Done[int]]] = []
        for begun, jobs in enumerate([(1, 2), (3, 4), (5, 6, 7)], start=1):
            tasks += [asyncio.create_task(batcher.submit(job)) for job in jobs]
            await until(lambda begun=begun: engine.begun == begun)
        assert batcher.depth == 1, "all engines are busy"
        engine.gate.set()
        assert [done.result for done in await asyncio.gather(*tasks)] == [2, 4, 6, 8, 10, 12, 14]
        assert engine.batches == [[1, 2], [3, 4], [5, 6], [7]]


async def test_a_batch_that_never_ends_can_be_told_from_a_free_engine() -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        assert batcher.running_s == pytest.approx(0, abs=1e-3)
        first = await busy(engine, batcher)
        await until(lambda: batcher.running_s > 0.05)
        engine.gate.set()
        await first
        await until(lambda: batcher.running_s < 0.05)


async def test_a_full_queue_refuses_at_once_and_takes_again_later() -> None:
    engine = Engine()
    async with batching(engine, max_queue=2) as batcher:
        tasks = [await busy(engine, batcher), *await queued(batcher, 2, 3)]
        with pytest.raises(Overloaded, match="2 jobs"):
            await batcher.submit(4)
        assert (batcher.stats.refused, batcher.depth) == (1, 2)
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert (await batcher.submit(4)).result == 8


async def test_a_partial_that_would_keep_an_idle_engine_too_long_is_shed_and_nothing_else_is() -> None:
    engine = Engine()
    engine.gate.clear()
    async with batching(engine) as batcher:
        first = asyncio.create_task(batcher.submit(100, errand=Errand(Urgency.PARTIAL)))  # no pace is known yet
        await asyncio.sleep(0.05)
        engine.gate.set()
        await first  # half a millisecond a unit, or more
        with pytest.raises(Shed, match="partial"):
            await batcher.submit(100_000, errand=Errand(Urgency.PARTIAL))
        for urgency, job in ((Urgency.PARTIAL, 1), (Urgency.SPECULATIVE, 100_000), (Urgency.ENDPOINT, 100_000)):
            assert (await batcher.submit(job, errand=Errand(urgency))).result == 2 * job
        assert batcher.stats.shed == 1


async def test_what_nobody_waits_for_any_more_is_skipped_and_costs_nothing() -> None:
    engine = Engine()
    async with batching(engine, max_cost=20) as batcher:
        first = await busy(engine, batcher)
        long, *rest = await queued(batcher, 15, 6, 7)
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        engine.gate.set()
        await asyncio.gather(first, *rest)
        assert engine.batches == [[1], [6, 7]]
        assert batcher.stats.cancelled == 1


async def test_a_job_past_its_deadline_is_told_and_not_run() -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        first = await busy(engine, batcher)
        (late,) = await queued(batcher, 2, timeout_s=0.0)
        (in_time,) = await queued(batcher, 3, timeout_s=30.0)
        engine.gate.set()
        with pytest.raises(DeadlinePassed):
            await late
        assert (await in_time).result == 6
        await first
        assert 2 not in sum(engine.batches, [])
        assert batcher.stats.late == 1


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(ValueError("broken"), ValueError), (MemoryError(), MemoryError), (StopIteration(), RuntimeError)],
)
async def test_an_engines_failure_reaches_every_waiter_and_the_batcher_goes_on(
    failure: Exception, seen: type[Exception]
) -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        tasks = [await busy(engine, batcher), *await queued(batcher, 2, 3)]
        engine.fails_with = failure
        engine.gate.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert type(outcome) is seen
        assert batcher.stats.failed == 3
        engine.fails_with = None
        assert (await batcher.submit(4)).result == 8


async def test_the_log_says_where_an_engine_failed_and_not_what_it_was_told(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    engine.fails_with = ValueError("cannot parse 'my pin is 4417'")
    async with batching(engine) as batcher:
        with pytest.raises(ValueError):
            await batcher.submit(1)
    assert "ValueError" in caplog.text and "test_batching.py" in caplog.text
    assert "4417" not in caplog.text


@pytest.mark.parametrize("results", [[], [1, 2]])
async def test_results_that_do_not_match_the_jobs_are_a_failure_and_no_mix_up(results: list[int]) -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        engine.results = results
        with pytest.raises(AssertionError, match="results for 1 jobs"):
            await batcher.submit(1)
        engine.results = None
        assert (await batcher.submit(2)).result == 4


async def test_a_waiter_gone_while_its_batch_runs_harms_no_other() -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        first = await busy(engine, batcher)
        first.cancel()
        (second,) = await queued(batcher, 2)
        engine.gate.set()
        assert (await second).result == 4
        assert first.cancelled()


async def test_closing_lets_everybody_go_running_or_queued() -> None:
    engine = Engine()
    async with batching(engine) as batcher:
        tasks = [await busy(engine, batcher), *await queued(batcher, 2)]
        leaving = asyncio.create_task(batcher.__aexit__())
        async with asyncio.timeout(20):
            await asyncio.wait(tasks)
            await leaving
        assert all(task.cancelled() for task in tasks)
    assert not [task for task in asyncio.all_tasks() if "batcher" in task.get_name()]


async def test_a_job_cancelled_at_its_deadline_ends_no_engine() -> None:
    """Cancelling its task cancels the ticket at once; that nobody waits is noted a turn of the loop later."""
    engine = Engine()
    async with batching(engine) as batcher:
        first = await busy(engine, batcher)
        (late,) = await queued(batcher, 2, timeout_s=0.0)
        late.cancel()
        assert batcher._take() == []  # as the engine's task does, should its batch end in this turn
        engine.gate.set()
        await asyncio.gather(late, return_exceptions=True)
        assert (await first).result == 2
        assert (await batcher.submit(4)).result == 8
