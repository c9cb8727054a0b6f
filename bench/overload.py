"""Twice what the machine can carry: what happens to those who talk already, and to those who come then?

    python -m bench.overload [--capacity N] [--seconds 30] [--json FILE] [--plot FILE.svg]
    python -m bench.replay --overload

A gateway of the bench's own, with real models, is allowed as many calls as this machine carries: named with
`--capacity`, or measured, half as many again at each step until a budget is missed twice. So many callers talk, without
an end; then as many again call, each once a second, for as long; then these give up.

    alone   capacity callers talk            crowd   as many again call            after   they have given up

Those who talk lose nothing where none of their calls ended, no frame of theirs was lost, and the budgets of their
replies and frames held in all three stretches. Those who come are refused clearly where each got HTTP 503, with a
Retry-After, and none was let in. Exit code 1 where one of it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.plots import sheet, write_plot
from gateway import background, logs
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedisError
from gateway.processes.facts import PortTakenError
from gateway.processes.supervisor import ChildFailedError, Gateway
from gateway.replay.charts import over_time, time_chart
from gateway.replay.counters import MetricsError, fetch_metrics, parse_metrics
from gateway.replay.load import Caller, Lateness, Load, Tick, read_callers
from gateway.replay.record import Buckets, CallRecord, Frames
from gateway.replay.report import percentile, quantiles
from gateway.replay.run import LinesRun
from gateway.settings import SettingsError, load

__all__ = ["Overload", "Stretch", "document", "judge", "main", "measured_capacity", "overload", "plot", "run"]

STRETCHES: Final = ("alone", "crowd", "after")
LIMITS: Final[dict[str, dict[str, float]]] = {
    "endpoint_to_reply_ms": {"p50": 20.0, "p99": 200.0},
    "frame_delay_ms": {"p99": 20.0},
}
_FIRST_CALLS: Final = 6
_MOST_CALLS: Final = 5000
_STEP_S: Final = 10.0
"""Of each step of the measurement."""
_SETTLE_S: Final = 2.0
_AGAIN: Final = 200
"""Times that a caller says all of it: nobody hangs up before the end."""
_DEMO: Final = Path(__file__).parent.parent / "gateway" / "demo"


@dataclass(frozen=True, slots=True)
class Stretch:
    """What those who talk had in one stretch of time."""

    name: str
    from_s: float
    until_s: float
    replies: int
    figures: Mapping[str, Mapping[str, float]]
    """By budget: p50, p90, p99 and max."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One run."""

    capacity: int
    capacity_from: str
    stretches: Sequence[Stretch]
    talking: int
    """Calls that were to last from the beginning to the end, and of these, those that did not."""
    broken: Mapping[str, int]
    frames_lost: int
    newcomers: int
    """Attempts to call."""
    refused: Mapping[str, int]
    """By HTTP status, or "no answer"."""
    admitted: int
    refusal_ms: Mapping[str, float]
    refusal_told: str
    """Status, Retry-After and words of one refusal."""
    late_ms: Mapping[str, float]
    """How late this client sent."""
    delays: Sequence[tuple[float, float]] = field(repr=False)
    """Seconds, p99 of what frames waited in the workers in ms."""
    replies: Sequence[tuple[float, float]] = field(repr=False)
    """Seconds, endpoint_to_reply_ms."""
    refusals: Sequence[tuple[float, float]] = field(repr=False)
    """Seconds, ms until it was refused."""


def judge(found: Overload) -> list[str]:
    """What was not as it should be; empty where all was."""
    faults = [f"{count} calls of those who talked ended: {why}" for why, count in found.broken.items()]
    if found.frames_lost:
        faults.append(f"{found.frames_lost} frames of those who talked were lost")
    alone, *others = found.stretches
    if missed := _missed(alone):
        # Then the rest says nothing of newcomers: the machine did not carry so many to begin with.
        faults += [f"{fault} with nobody else there: name a smaller --capacity" for fault in missed]
    else:
        faults += [fault for stretch in others for fault in _missed(stretch)]
    if found.admitted:
        faults.append(f"{found.admitted} newcomers were let in, though all lines were taken")
    if set(found.refused) - {"503"}:
        faults.append(f"newcomers were refused otherwise than with 503: {dict(found.refused)}")
    if not found.refused:
        faults.append("no newcomer was refused: nobody called")
    if "Retry-After" not in found.refusal_told:
        faults.append(f"a refusal without Retry-After: {found.refusal_told}")
    return faults


def _missed(stretch: Stretch) -> list[str]:
    faults = []
    for name, limits in LIMITS.items():
        for q, limit in limits.items():
            value = stretch.figures[name].get(q)
            if value is None:
                faults.append(f"{stretch.name}: {name} was not measured")
            elif value > limit:
                faults.append(f"{stretch.name}: {name} {q} {value:.1f} > {limit:g}")
    return faults


def _gateway(calls: int) -> Gateway:
    flags = {"port": 0, "control_port": 0, "bot": "load", "bots": (), "log_level": "error"}
    return Gateway(load(environ={}, flags={**flags, "limits.calls_per_worker": calls, "limits.drain_s": 0.0}))


def _callers() -> list[Caller]:
    """Who says the demo's words again and again."""
    callers = read_callers([_DEMO, _DEMO / "paid"])
    return [replace(caller, recordings=caller.recordings * _AGAIN) for caller in callers]


async def measured_capacity(told: Callable[[str], None] = print) -> tuple[int, str]:
    """How many calls this machine carries with its budgets held, gateway and client on the same cores.

    Half as many again at each step, until one misses twice: a busy neighbour may spoil a step, but hardly two.

    Returns:
        The calls of the last step that held, and how that was found.
    """
    callers, calls, missed = _callers(), _FIRST_CALLS, False
    carried, why = 0, ""
    async with _gateway(_MOST_CALLS) as gateway:
        await gateway.ready()
        watch = _Watch(partial(fetch_metrics, gateway.control_url, None), time.monotonic())
        while calls <= _MOST_CALLS:
            load = Load(url=f"ws://127.0.0.1:{gateway.port}", callers=callers, calls=calls, ramp_s=2.0)
            run = LinesRun(replace(load, duration_s=_SETTLE_S + _STEP_S), lambda tick: None)
            before = await watch.read()
            records = (await run.run()).records
            delays = (await watch.read()).frame_delay
            replies = [ms for at_s, ms in _points(records, "endpoint_to_reply_ms") if at_s > _SETTLE_S]
            delay = _delay(delays.since(before.frame_delay)) if before.frame_delay.ends else {}
            figures = {"endpoint_to_reply_ms": quantiles(replies), "frame_delay_ms": delay}
            faults = _missed(Stretch(f"{calls} calls", 0.0, _STEP_S, len(replies), figures))
            told(f"{calls} calls: {'; '.join(faults) or 'every budget held'}")
            if not faults:
                carried, calls, missed = calls, calls * 3 // 2, False
            elif missed:
                why = faults[0]
                break
            else:
                missed = True
    return max(1, carried), f"measured: {carried} calls held every budget, then {why or 'no more were tried'}"


async def run(*, capacity: int | None, seconds: float, told: Callable[[str], None] = print) -> Overload:
    """The whole of it; must run on the main thread.

    Args:
        capacity: calls that the gateway takes; None: measured first.
        seconds: of each stretch.
        told: a line of progress for a person, about once a second.
    """
    callers = _callers()
    how = "named"
    if capacity is None:
        told("measuring what this machine carries ...")
        capacity, how = await measured_capacity(told)
    async with _gateway(capacity) as gateway:
        told(f"a gateway for {capacity} calls ...")
        await gateway.ready()
        talk = Load(url=f"ws://127.0.0.1:{gateway.port}", callers=callers, calls=capacity)
        fetch = partial(fetch_metrics, gateway.control_url, None)
        return await overload(talk, fetch, seconds=seconds, capacity_from=how, told=told)


async def overload(
    talk: Load,
    fetch: Callable[[], str],
    *,
    seconds: float,
    capacity_from: str = "named",
    told: Callable[[str], None] = lambda text: None,
) -> Overload:
    """All three stretches, against a gateway that takes `talk.calls` and no more.

    Args:
        talk: those who talk; their callers have words for longer than the run.
        fetch: the gateway's metrics; blocking. Raises MetricsError.
        seconds: of each stretch.
    """
    ramp_s = min(seconds / 2, talk.calls / 10)
    plain = replace(talk, ramp_s=ramp_s)
    began = time.monotonic()
    marks = [ramp_s + _SETTLE_S + seconds * at for at in range(4)]
    watch = _Watch(fetch, began)
    latest: dict[str, Tick] = {}

    def note(who: str, tick: Tick) -> None:
        latest[who] = tick
        new = latest.get("newcomers")
        came = f", newcomers {new.done} refused, {new.live} trying" if new else ""
        told(f"{time.monotonic() - began:5.0f} s  {latest['talking'].live} talk{came}; sent {tick.late_ms:.0f} ms late")

    before = await watch.read()
    talking = LinesRun(replace(plain, duration_s=marks[-1]), partial(note, "talking"))
    watching, stay = asyncio.create_task(watch.run()), asyncio.create_task(talking.run())
    try:
        await asyncio.sleep(marks[1] - (time.monotonic() - began))
        few = [replace(caller, recordings=caller.recordings[:1]) for caller in talk.callers]  # none gets to speak
        newcomers = replace(plain, callers=few, ramp_s=1.0, duration_s=seconds)
        crowd = LinesRun(newcomers, partial(note, "newcomers"))
        crowd_began_s = time.monotonic() - began
        came, refusal = await asyncio.gather(crowd.run(), asyncio.to_thread(_ask_refused, talk.url))
        stayed = await stay
    finally:
        await background.stop([watching, stay])
    await asyncio.sleep(_SETTLE_S)
    after = await watch.read()
    broken = [record for record in stayed.records if not record.cut]
    turned_away = [record for record in came.records if not record.frames_sent]
    late = Lateness()
    late.add(stayed.lateness)
    replies = sorted(_points(stayed.records, "endpoint_to_reply_ms"))
    return Overload(
        capacity=talk.calls,
        capacity_from=capacity_from,
        stretches=[_stretch(name, marks[at], marks[at + 1], replies, watch) for at, name in enumerate(STRETCHES)],
        talking=talk.calls,
        broken=dict(Counter("; ".join(record.faults) or record.ended_by for record in broken)),
        frames_lost=max(0, sum(record.frames_sent for record in stayed.records) - (after.seen - before.seen)),
        newcomers=len(came.records),
        refused=dict(Counter(str(record.refused or "no answer") for record in turned_away)),
        admitted=len(came.records) - len(turned_away),
        refusal_ms=quantiles(record.lasted_s * 1000 for record in turned_away),
        refusal_told=refusal,
        late_ms={"p50": late.percentile_ms(0.5), "p99": late.percentile_ms(0.99), "max": late.longest_s * 1000},
        delays=watch.delays(),
        replies=replies,
        refusals=[(crowd_began_s + record.began_s, record.lasted_s * 1000) for record in turned_away],
    )


class _Watch:
    """What frames wait in the workers, second by second, as the gateway counts it."""

    def __init__(self, fetch: Callable[[], str], began: float) -> None:
        self._fetch = fetch
        self._began = began
        self._readings: list[tuple[float, Buckets]] = []

    async def read(self) -> Frames:
        """The counters now. Raises MetricsError."""
        return parse_metrics(await asyncio.to_thread(self._fetch))

    async def run(self) -> None:
        while True:
            frames = await self.read()
            if frames.frame_delay.ends:
                self._readings.append((time.monotonic() - self._began, frames.frame_delay))
            await asyncio.sleep(1.0)

    def delays(self) -> list[tuple[float, float]]:
        """(seconds, p99 in ms) of every second."""
        pairs = zip(self._readings, self._readings[1:], strict=False)
        found = [(at_s, now.since(then).percentile(0.99)) for (_, then), (at_s, now) in pairs]
        return [(at_s, end * 1000) for at_s, end in found if end is not None]

    def between(self, from_s: float, until_s: float) -> dict[str, float]:
        """p50, p90, p99 and max in ms."""
        within = [counted for at_s, counted in self._readings if from_s <= at_s <= until_s]
        return _delay(within[-1].since(within[0])) if len(within) > 1 else {}


def _delay(counted: Buckets) -> dict[str, float]:
    """p50, p90, p99 and max in ms; empty where nothing was counted."""
    ends = {name: counted.percentile(q) for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))}
    return {name: end * 1000 for name, end in ends.items() if end is not None}


def _stretch(
    name: str, from_s: float, until_s: float, replies: Sequence[tuple[float, float]], watch: _Watch
) -> Stretch:
    within = [ms for at_s, ms in replies if from_s <= at_s < until_s]
    figures = {"endpoint_to_reply_ms": quantiles(within), "frame_delay_ms": watch.between(from_s, until_s)}
    return Stretch(name, round(from_s, 1), round(until_s, 1), len(within), figures)


def _points(records: Sequence[CallRecord], name: str) -> list[tuple[float, float]]:
    return [(point.at_s, point.ms) for record in records for point in record.points if point.name == name]


def _ask_refused(url: str) -> str:
    """What a refused request is told, in HTTP's own words."""
    asked = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    asked.request("GET", "/v1/call", headers={"Upgrade": "websocket", "Connection": "Upgrade", **key})
    answer = asked.getresponse()
    retry = answer.getheader("Retry-After")
    words = answer.read().decode().strip()
    asked.close()
    return f"{answer.status} {answer.reason}{f', Retry-After: {retry}' if retry else ''}: {words}"


def plot(found: Overload) -> str:
    """Delay of frames, replies and refusals over the run, as one SVG."""
    until_s = found.stretches[-1].until_s

    def worst(pairs: Sequence[tuple[float, float]]) -> dict[str, list[tuple[float, float]]]:
        stretches = over_time(pairs, until_s=until_s, buckets=60)
        return {
            "p50": [(at_s, percentile(values, 0.5)) for at_s, values in stretches],
            "max": [(at_s, values[-1]) for at_s, values in stretches],
        }

    refused = over_time([(at_s, 1.0) for at_s, _ in found.refusals], until_s=until_s, buckets=60)
    width_s = until_s / 60
    a_second = [(at_s, len(values) / width_s) for at_s, values in refused]
    charts = [
        ("those who talk: frame delay, p99 of each second", {"p99": list(found.delays)}, "ms", 20.0),
        ("those who talk: endpoint_to_reply_ms", worst(found.replies), "ms", 200.0),
        ("newcomers refused with 503", {"refused": a_second}, "a second", None),
        ("newcomers: until they were refused", worst(found.refusals), "ms", None),
    ]
    crowd = found.stretches[1]
    heading = f"{found.capacity} calls talk; from {crowd.from_s:.0f} to {crowd.until_s:.0f} s as many again call"
    return sheet(
        heading,
        [
            (title, time_chart(title, lines, until_s=until_s, unit=unit, limit=limit))
            for title, lines, unit, limit in charts
        ],
    )


def document(found: Overload) -> dict[str, Any]:
    """JSON-ready."""
    return {"schema": "voicegate.overload/1", "machine": describe_machine(), "faults": judge(found), **asdict(found)}


def show(found: Overload) -> None:
    """The table for a person."""
    print(f"\n{found.capacity} calls ({found.capacity_from}), then twice as many")
    print(f"{'':<10}{'replies':>8}" + "".join(f"{head:>22}" for head in ("reply p50 / p99, ms", "frame p50 / p99, ms")))
    for stretch in found.stretches:
        cells = [
            " / ".join(f"{stretch.figures[name].get(q, float('nan')):.1f}" for q in ("p50", "p99")) for name in LIMITS
        ]
        print(f"{stretch.name:<10}{stretch.replies:>8}" + "".join(f"{cell:>22}" for cell in cells))
    print(f"those who talked: {found.talking}, {sum(found.broken.values())} ended, {found.frames_lost} frames lost")
    refusal = f"p50 {found.refusal_ms.get('p50', 0):.1f}, p99 {found.refusal_ms.get('p99', 0):.1f} ms"
    print(
        f"newcomers: {found.newcomers} attempts, refused {dict(found.refused)} after {refusal}, {found.admitted} let in"
    )
    print(f"a refusal: {found.refusal_told}")
    print(f"this client sent late by p99 {found.late_ms['p99']:.1f}, at most {found.late_ms['max']:.0f} ms")
    for fault in judge(found):
        print(f"NOT AS IT SHOULD BE: {fault}")


def main() -> None:
    """Run it; exit code 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, help="calls that the gateway takes (default: measured)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each stretch (default %(default)g)")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--plot", type=Path, help="draw it into this SVG")
    args = parser.parse_args()
    if args.capacity is not None and args.capacity < 1 or args.seconds < 5:
        parser.error("--capacity must be 1 or more, --seconds 5 or more")
    logs.configure("error", "text", process="overload")
    try:
        found = asyncio.run(run(capacity=args.capacity, seconds=args.seconds, told=partial(print, file=sys.stderr)))
    except (ChildFailedError, PortTakenError, EmbeddedRedisError, SettingsError, MetricsError, TimeoutError) as exc:
        sys.exit(f"the gateway did not start or answer: {exc or 'not ready in time'}; try `voicegate doctor`")
    show(found)
    if args.json:
        args.json.write_text(json.dumps(document(found), indent=1))
    if args.plot:
        write_plot(args.plot, plot(found))
    sys.exit(1 if judge(found) else 0)


if __name__ == "__main__":
    main()
