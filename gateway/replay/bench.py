"""The replay bench: recorded callers talk to the bot in real time, as many at once as asked for.

Before the load every caller calls once alone, so that what is heard under load can be compared. Then the lines are
opened, in this process (`gateway.replay.run`) or in several (`gateway.replay.client_processes`).
`gateway.replay.report` judges what comes out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from gateway import background
from gateway.replay.client_processes import run_lines
from gateway.replay.counters import MetricsError, between, parse_metrics
from gateway.replay.load import Caller, Lateness, Load, Progress, Tick, read_callers
from gateway.replay.record import CallRecord, Client, Frames, Measured, Sample
from gateway.replay.run import LinesRun, RunResult

__all__ = ["Caller", "Lateness", "Load", "Progress", "read_callers", "replay"]

_SAMPLE_S: Final = 1.0
_RECENT: Final = 1000
_COUNTERS_SETTLE_S: Final = 1.5
"""Workers hand their frame counts over once a second."""


async def replay(
    load: Load, told: Callable[[Progress], None] = lambda progress: None, *, stop: asyncio.Event | None = None
) -> Measured:
    """Run it. A call that cannot be placed is a failed call in the result, nothing is raised for it.

    Args:
        told: about once a second, how far the run is.
        stop: set to hang up before the time is over; what was measured until then is the result.

    Raises:
        ClientDiedError: one of several client processes is no more.
    """
    stop = stop or asyncio.Event()
    alone = await _alone(load, told, stop) if load.solo else []
    before = await _read_counters(load)
    board = _Board(told)
    try:
        results = await run_lines(load, board.tick, stop, board.begin)
    finally:
        await board.end()
    if load.read_metrics is not None:
        await asyncio.sleep(_COUNTERS_SETTLE_S)
    return Measured(
        url=load.url,
        own_gateway=load.own_gateway,
        bot=load.bot,
        callers={caller.name: [recording.name for recording in caller.recordings] for caller in load.callers},
        calls=load.calls,
        ramp_s=load.ramp_s,
        duration_s=load.duration_s,
        dialect=load.dialect,
        speed=load.speed,
        wall_s=max(result.wall_s for result in results),
        alone=alone,
        records=[record for result in results for record in result.records],
        samples=board.samples,
        frames=between(before, await _read_counters(load)),
        client=_client(results),
    )


async def _alone(load: Load, told: Callable[[Progress], None], stop: asyncio.Event) -> list[CallRecord]:
    """Each caller once, one after the other; no longer than the load lets a call last."""
    board, records = _Board(told, phase="alone"), list[CallRecord]()
    loop = asyncio.get_running_loop()
    for number, caller in enumerate(load.callers):
        if stop.is_set():
            break
        one = replace(load, callers=[caller], calls=1, ramp_s=0.0, duration_s=None, processes=1)
        run = LinesRun(one, partial(board.tick, number))
        cut = loop.call_later(load.duration_s, run.hang_up_all) if load.duration_s is not None else None
        try:
            records += (await run.run()).records
        finally:
            if cut is not None:
                cut.cancel()
        board.tell()
    return records


class _Board:
    """What is known while the run goes on, put together from all processes."""

    def __init__(self, told: Callable[[Progress], None], *, phase: str = "load") -> None:
        self._told = told
        self._phase = phase
        self._began = time.monotonic()
        self._latest: dict[int, Tick] = {}
        self._late_ms = 0.0
        self._replies_ms: deque[float] = deque(maxlen=_RECENT)
        self._sampler: asyncio.Task[None] | None = None
        self.samples: list[Sample] = []

    def begin(self) -> None:
        """The first call is placed: time is counted from here, and sampled."""
        self._began = time.monotonic()
        self._sampler = asyncio.create_task(self._sample())

    async def end(self) -> None:
        """No more samples."""
        if self._sampler is not None:
            await background.stop([self._sampler])

    def tick(self, process: int, tick: Tick) -> None:
        """What a process did in its last second."""
        self._latest[process] = tick
        self._late_ms = max(self._late_ms, tick.late_ms)
        self._replies_ms += tick.replies_ms

    async def _sample(self) -> None:
        """A sample a second, until cancelled; when the processes have told of theirs."""
        await asyncio.sleep(_SAMPLE_S / 4)
        while True:
            await asyncio.sleep(_SAMPLE_S)
            ticks = self._latest.values()
            sample = Sample(
                at_s=round(time.monotonic() - self._began, 2),
                calls=sum(tick.live for tick in ticks),
                cpu_share=round(sum(tick.cpu_share for tick in ticks), 3),
                busiest_share=round(max((tick.cpu_share for tick in ticks), default=0.0), 3),
                late_ms=round(self._late_ms, 1),
            )
            self._late_ms = 0.0
            self.samples.append(sample)
            self.tell(sample)

    def tell(self, sample: Sample | None = None) -> None:
        """Say how far the run is."""
        ticks = self._latest.values()
        progress = Progress(
            phase=self._phase,
            at_s=time.monotonic() - self._began,
            live=sum(tick.live for tick in ticks),
            done=sum(tick.done for tick in ticks),
            failed=sum(tick.failed for tick in ticks),
            replies_ms=tuple(self._replies_ms),
            cpu_share=sample.cpu_share if sample else 0.0,
            busiest_share=sample.busiest_share if sample else 0.0,
            late_ms=sample.late_ms if sample else 0.0,
        )
        self._told(progress)


def _client(results: Sequence[RunResult]) -> Client:
    """The measuring end: all its processes."""
    late = Lateness()
    for result in results:
        late.add(result.lateness)
    return Client(
        cpu_share=sum(result.cpu_s / result.wall_s for result in results),
        busiest_share=max(result.cpu_s / result.wall_s for result in results),
        processes=len(results),
        late_p50_ms=late.percentile_ms(0.5),
        late_p99_ms=late.percentile_ms(0.99),
        late_max_ms=late.longest_s * 1000,
        messages=late.messages,
    )


async def _read_counters(load: Load) -> Frames:
    if load.read_metrics is None:
        return Frames(problem="the gateway's metrics are not known here; name its control plane with --control-url")
    try:
        return parse_metrics(await asyncio.to_thread(load.read_metrics))
    except MetricsError as exc:
        return Frames(problem=str(exc))
