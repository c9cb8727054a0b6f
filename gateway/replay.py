"""The replay bench: recorded callers talk to the bot in real time, as many at once as asked for.

One process, one loop: N lines are opened over the ramp, and on each one call follows another until the time is
over. Before that every caller calls once alone, so that what is heard under load can be compared. The client
measures itself as well (its CPU, how late it sends), because a bench that is too slow makes its server look slow.
`gateway.replay_report` judges what comes out.
"""

from __future__ import annotations

import asyncio
import resource
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.files import AudioFileError, read_audio
from gateway.client import CallClient, CallError, CallResult, Recording
from gateway.replay_counters import MetricsError, between, parse_metrics
from gateway.replay_record import CallRecord, Client, Frames, Measured, Point, Sample, Turn

__all__ = ["Caller", "Lateness", "Load", "Progress", "read_callers", "replay"]

RATE_HZ = 8000
_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_TIMINGS = ("first_utterance_ms", "endpoint_to_reply_ms", "asr_ms", "nlu_ms", "dialogue_ms", "tts_ms")
_SAMPLE_S = 1.0
_REDIAL_S = 1.0
_RECENT = 1000
_COUNTERS_SETTLE_S = 1.5  # workers hand their frame counts over once a second


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who says the same things in every call."""

    name: str
    recordings: tuple[Recording, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be run."""

    url: str
    callers: Sequence[Caller]
    calls: int
    """At once."""
    ramp_s: float = 0.0
    """Time over which they begin."""
    duration_s: float | None = None
    """From the first call; a line whose call ends calls again. None: one call a line, to its end."""
    bot: str = "load"
    token: str | None = None
    solo: bool = True
    """Whether each caller calls alone first."""
    own_gateway: bool = False
    read_metrics: Callable[[], str] | None = None
    """Blocking; the gateway's metrics in Prometheus's text format. Raises MetricsError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the run is."""

    phase: str
    """"alone" or "load"."""
    at_s: float
    live: int
    done: int
    failed: int
    replies_ms: Sequence[float]
    """endpoint_to_reply_ms of the last replies."""
    cpu_share: float = 0.0
    late_ms: float = 0.0


class Lateness:
    """How late messages went out: counts in half-millisecond bins, so that an hour of a thousand calls is 8 kB."""

    _BIN_S = 0.0005
    _BINS = 1000

    def __init__(self) -> None:
        self._bins = array("Q", bytes(8 * (self._BINS + 1)))
        self._second = 0.0
        self.longest_s = 0.0

    def count(self, late_s: float) -> None:
        """One message; negative: a timer that fired early, which is no lateness."""
        self._bins[min(max(0, int(late_s / self._BIN_S)), self._BINS)] += 1
        if late_s > self._second:
            self._second = late_s
            self.longest_s = max(self.longest_s, late_s)

    def take_worst_s(self) -> float:
        """The longest since this was last asked."""
        worst, self._second = self._second, 0.0
        return worst

    @property
    def messages(self) -> int:
        """How many were counted."""
        return sum(self._bins)

    def percentile_ms(self, q: float) -> float:
        """Upper end of the bin that holds the quantile, but no more than the longest; 0.0 without messages."""
        wanted, so_far = q * self.messages, 0
        for index, count in enumerate(self._bins):
            so_far += count
            if count and so_far >= wanted and index < self._BINS:
                return min((index + 1) * self._BIN_S, self.longest_s) * 1000
        return self.longest_s * 1000


def read_callers(paths: Sequence[Path]) -> list[Caller]:
    """A folder is one caller, its recordings in the order of their names; files given by themselves are one caller.

    Raises:
        AudioFileError: a file that is no recording, or a folder without any.
    """
    callers = []
    if files := [path for path in paths if not path.is_dir()]:
        callers.append(Caller("files", tuple(Recording(path.name, read_audio(path, RATE_HZ)) for path in files)))
    for folder in (path for path in paths if path.is_dir()):
        said = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not said:
            raise AudioFileError(f"{folder}: holds no recording ({', '.join(_SUFFIXES)}); a folder is one caller")
        callers.append(Caller(str(folder), tuple(Recording(path.name, read_audio(path, RATE_HZ)) for path in said)))
    return callers


async def replay(load: Load, told: Callable[[Progress], None] = lambda progress: None) -> Measured:
    """Run it. A call that cannot be placed is a failed call in the result, nothing is raised for it.

    Args:
        told: about once a second, how far the run is.
    """
    alone = await _alone(load, told) if load.solo else []
    before = await _read_counters(load)
    run = _Run(load, told)
    await run.until_over()
    if load.read_metrics is not None:
        await asyncio.sleep(_COUNTERS_SETTLE_S)
    late = run.lateness
    return Measured(
        url=load.url,
        own_gateway=load.own_gateway,
        bot=load.bot,
        callers={caller.name: [recording.name for recording in caller.recordings] for caller in load.callers},
        calls=load.calls,
        ramp_s=load.ramp_s,
        duration_s=load.duration_s,
        wall_s=run.wall_s,
        alone=alone,
        records=run.records,
        samples=run.samples,
        frames=between(before, await _read_counters(load)),
        client=Client(
            cpu_share=run.cpu_s / run.wall_s,
            late_p50_ms=late.percentile_ms(0.5),
            late_p99_ms=late.percentile_ms(0.99),
            late_max_ms=late.longest_s * 1000,
            messages=late.messages,
        ),
    )


async def _alone(load: Load, told: Callable[[Progress], None]) -> list[CallRecord]:
    """Each caller once, one after the other; no longer than the load lets a call last."""
    loop, tally, records = asyncio.get_running_loop(), _Tally(), []
    for caller in load.callers:
        told(tally.progress("alone", live=1))
        call = _Call(load, caller, tally, Lateness())
        cut = loop.call_later(load.duration_s, call.client.hang_up) if load.duration_s is not None else None
        try:
            records.append(await call.record())
        finally:
            if cut is not None:
                cut.cancel()
    told(tally.progress("alone", live=0))
    return records


class _Tally:
    """What is known while the run goes on."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.done = self.failed = 0
        self.replies_ms: deque[float] = deque(maxlen=_RECENT)

    def at_s(self) -> float:
        return time.monotonic() - self.began

    def progress(self, phase: str, *, live: int, cpu_share: float = 0.0, late_ms: float = 0.0) -> Progress:
        return Progress(
            phase=phase,
            at_s=self.at_s(),
            live=live,
            done=self.done,
            failed=self.failed,
            replies_ms=tuple(self.replies_ms),
            cpu_share=cpu_share,
            late_ms=late_ms,
        )


class _Call:
    """One call, and what is kept of it."""

    def __init__(self, load: Load, caller: Caller, tally: _Tally, lateness: Lateness) -> None:
        self._caller = caller
        self._tally = tally
        self._points: list[Point] = []
        self.client = CallClient(
            load.url,
            bot=load.bot,
            token=load.token,
            on_event=self._event,
            on_sent=lateness.count,
            keep_audio=False,
        )

    async def record(self) -> CallRecord:
        """Place it."""
        try:
            result = await self.client.run(self._caller.recordings)
        except CallError as exc:
            result = CallResult(ended_by="error", errors=[str(exc)])
        self._tally.done += 1
        self._tally.failed += bool(result.errors)
        return CallRecord(
            caller=self._caller.name,
            ended_by=result.ended_by,
            faults=tuple(result.errors),
            turns=tuple(Turn(turn.spoken, turn.transcript) for turn in result.turns),
            points=tuple(self._points),
            frames_sent=result.frames_sent,
            frames_at_end=result.frames_after_last_mark if result.ended_by in ("bot", "transfer") else 0,
        )

    def _event(self, event: dict[str, Any]) -> None:
        if event.get("type") != "prompt":
            return
        timing, at_s = event["timing"], self._tally.at_s()
        self._points += [Point(name, at_s, ms) for name, ms in timing.items() if name in _TIMINGS]
        if "endpoint_to_reply_ms" in timing:
            self._tally.replies_ms.append(timing["endpoint_to_reply_ms"])
            turns = self.client.result.turns
            after_speech_ms = turns[-1].speech_end_to_reply_ms if turns else None
            if after_speech_ms is not None:
                self._points.append(Point("speech_end_to_reply_ms", at_s, after_speech_ms, timing.get("tail_ms")))


class _Run:
    """The load: its lines, its samples, its end."""

    def __init__(self, load: Load, told: Callable[[Progress], None]) -> None:
        self._load = load
        self._told = told
        self._tally = _Tally()
        self._live: set[_Call] = set()
        self._over = False
        self.lateness = Lateness()
        self.records: list[CallRecord] = []
        self.samples: list[Sample] = []
        self.wall_s = self.cpu_s = 0.0

    async def until_over(self) -> None:
        """Open the lines, sample, hang up when the time is over."""
        cpu = _cpu_s()
        sampler = asyncio.create_task(self._sample())
        ender = None
        if self._load.duration_s is not None:
            ender = asyncio.get_running_loop().call_later(self._load.duration_s, self._hang_up_all)
        try:
            async with asyncio.TaskGroup() as lines:
                for index in range(self._load.calls):
                    lines.create_task(self._line(index))
        finally:
            sampler.cancel()
            if ender is not None:
                ender.cancel()
        self.wall_s = self._tally.at_s()
        self.cpu_s = _cpu_s() - cpu

    def _hang_up_all(self) -> None:
        self._over = True
        for call in self._live:
            call.client.hang_up()

    async def _line(self, index: int) -> None:
        """One line: its caller calls, then the next one, for as long as the load lasts."""
        callers = self._load.callers
        await asyncio.sleep(index * self._load.ramp_s / self._load.calls)
        while not self._over:
            call = _Call(self._load, callers[index % len(callers)], self._tally, self.lateness)
            self._live.add(call)
            try:
                record = await call.record()
            finally:
                self._live.discard(call)
            self.records.append(record)
            if self._load.duration_s is None:
                return
            index += 1
            if record.faults:
                await asyncio.sleep(_REDIAL_S)  # a gateway that refuses is not to be hammered

    async def _sample(self) -> None:
        cpu, at_s = _cpu_s(), self._tally.at_s()
        while True:
            await asyncio.sleep(_SAMPLE_S)
            cpu_now, now_s = _cpu_s(), self._tally.at_s()
            sample = Sample(
                at_s=round(now_s, 2),
                calls=len(self._live),
                cpu_share=round((cpu_now - cpu) / (now_s - at_s), 3),
                late_ms=round(self.lateness.take_worst_s() * 1000, 1),
            )
            cpu, at_s = cpu_now, now_s
            self.samples.append(sample)
            self._told(
                self._tally.progress("load", live=sample.calls, cpu_share=sample.cpu_share, late_ms=sample.late_ms)
            )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _read_counters(load: Load) -> Frames:
    if load.read_metrics is None:
        return Frames(problem="the gateway's metrics are not known here; name its control plane with --control-url")
    try:
        return parse_metrics(await asyncio.to_thread(load.read_metrics))
    except MetricsError as exc:
        return Frames(problem=str(exc))
