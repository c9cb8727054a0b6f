"""What a replay measured, judged: quantiles, budgets met or missed, what differs from calls alone; the JSON document.

Values in, values out. Quantiles are nearest-rank: each is a value that occurred. A budget is met, missed or not
measured, and "not measured" says why and what does measure it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from gateway.replay.against_alone import Difference, OtherEnding, differences, other_endings
from gateway.replay.record import CallRecord, Client, Frames, Measured, Point, Sample

__all__ = [
    "SCHEMA",
    "BudgetLine",
    "ClientVerdict",
    "Report",
    "Verdict",
    "judge_client",
    "percentile",
    "quantiles",
    "report",
]

SCHEMA = "voicegate.replay/1"
"""Of the document; the number rises when a key changes its meaning or goes. docs/replay.md names every key."""
BUSY_CORE = 0.70
"""Share of its core above which a client process may itself be what is slow."""
LATE_MS = 20.0
"""Audio sent later than its own length is not real time any more."""
SHOWN_DIFFERENCES = 50
TAIL_MS = 800.0
"""Of a gateway that does not say which tail ended a turn."""
HANGOVER_MS = 60.0
"""What the detector takes to notice that speech is over, in the definition of speech_end_to_reply_ms."""


class Verdict(StrEnum):
    """Of one budget."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientVerdict:
    """Whether the results are the gateway's, or the client's own."""

    kept_up: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """One budget of the design and how it fared."""

    name: str
    under: str
    """"load"; "alone": the solo pass; "tail 1200 ms": turns that so much silence ended, under load."""
    n: int
    figures: Mapping[str, float]
    limits: Mapping[str, float]
    verdict: Verdict
    note: str
    values: Sequence[float] = field(default=(), repr=False)
    """In ms, in the order they were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything the document and the page show."""

    verdict: Verdict
    """Of the whole: missed where a budget is missed or a call failed."""
    date: str
    machine: Mapping[str, str]
    url: str
    own_gateway: bool
    bot: str
    dialect: str
    load: Mapping[str, float | None]
    callers: Mapping[str, Sequence[str]]
    placed: int
    ok: int
    cut: int
    failed: int
    ended_by: Mapping[str, int]
    failures: Mapping[str, int]
    budgets: Sequence[BudgetLine]
    stages: Mapping[str, Mapping[str, float]]
    turns_compared: int
    turns_differing: int
    differences: Sequence[Difference]
    endings_compared: int
    endings_differing: int
    endings: Sequence[OtherEnding]
    client: Client
    client_verdict: ClientVerdict
    warnings: Sequence[str]
    samples: Sequence[Sample]
    points: Sequence[Point] = field(repr=False)

    def document(self) -> dict[str, Any]:
        """JSON-ready. Latencies are in `budgets` as quantiles; `samples` has one entry a second."""
        whole = {"schema": SCHEMA, **asdict(self)}
        whole["latencies"] = _by_name(self.points)
        del whole["points"]
        for line in whole["budgets"]:
            del line["values"]
        finite: dict[str, Any] = _finite(whole)
        return finite


def percentile(ordered: Sequence[float], q: float) -> float:
    """Nearest rank: the smallest value that at least the share `q` of all values does not exceed.

    Args:
        ordered: ascending, at least one.
        q: 0 < q <= 1.
    """
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p90, p99 and max; empty where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {
        "p50": percentile(ordered, 0.5),
        "p90": percentile(ordered, 0.9),
        "p99": percentile(ordered, 0.99),
        "max": ordered[-1],
    }


def report(measured: Measured, *, machine: Mapping[str, str], date: str) -> Report:
    """Judge a run."""
    records = measured.records
    failed = [record for record in records if record.faults]
    cut = [record for record in records if record.cut and not record.faults]
    budgets = _budgets(measured)
    # A product's dialect tells no words, so all its turns would be the same.
    tells = measured.dialect in ("native", "vosk")
    compared, found = differences(measured.alone, records) if tells else (0, [])
    ended, otherwise = other_endings(measured.alone, records)
    points = sorted((point for record in records for point in record.points), key=lambda point: point.at_s)
    missed = bool(failed) or any(line.verdict is Verdict.MISSED for line in budgets)
    return Report(
        verdict=Verdict.MISSED if missed else Verdict.MET,
        date=date,
        machine=machine,
        url=measured.url,
        own_gateway=measured.own_gateway,
        bot=measured.bot,
        dialect=measured.dialect,
        load={
            "calls": measured.calls,
            "speed": measured.speed,
            "ramp_s": measured.ramp_s,
            "duration_s": measured.duration_s,
            "wall_s": round(measured.wall_s, 2),
        },
        callers=measured.callers,
        placed=len(records),
        ok=len(records) - len(failed),
        cut=len(cut),
        failed=len(failed),
        ended_by=dict(Counter(record.ended_by for record in records)),
        failures=dict(Counter(fault for record in failed for fault in record.faults)),
        budgets=budgets,
        stages={
            name: quantiles(values)
            for name, values in _values(records).items()
            if name in ("asr_ms", "nlu_ms", "dialogue_ms", "tts_ms")
        },
        turns_compared=compared,
        turns_differing=len(found),
        differences=found[:SHOWN_DIFFERENCES],
        endings_compared=ended,
        endings_differing=sum(one.calls for one in otherwise),
        endings=otherwise[:SHOWN_DIFFERENCES],
        client=measured.client,
        client_verdict=judge_client(measured.client),
        warnings=_warnings(measured),
        samples=measured.samples,
        points=points,
    )


def _budgets(measured: Measured) -> list[BudgetLine]:
    load, alone = _values(measured.records), _values(measured.alone)
    reply = {"p50": 20.0, "p99": 200.0}
    by_gateway = "the gateway's own measure, from its prompt events"
    silent = "no call got so far"
    first_by, untold = by_gateway, silent
    if measured.dialect == "vosk":
        first_by = silent = untold = "a Vosk client gets words, and no bot speaks"
    elif measured.dialect != "native":
        first_by = "measured by this client: from its start message to the first sound"
        untold = f"{measured.dialect} does not tell when the gateway took a turn to be over; --dialect native does"
    lines = [
        _judge("first_utterance_ms", load["first_utterance_ms"], {"p99": 200.0}, first_by, missing=silent),
        _judge("endpoint_to_reply_ms", load["endpoint_to_reply_ms"], reply, by_gateway, missing=untold),
        *_speech_end_to_reply(measured, reply),
        _frame_delay(measured.frames),
        _frames_lost(measured),
        _judge("barge_in_ms", [], {"p99": 300.0}, "", missing="no caller here speaks over a prompt"),
        _judge("frame_cpu_us", [], {"mean": 14.0}, "", missing="`python -m bench.frame_path` measures it"),
        _judge("intent_ms", [], {"p90": 65.0}, "", missing="defined at 5,000 texts/s; the stages show nlu_ms"),
    ]
    if measured.alone:
        first = alone["first_utterance_ms"]
        lines.insert(1, _judge("first_utterance_ms", first, {"p99": 30.0}, first_by, missing=silent, under="alone"))
    return lines


def _speech_end_to_reply(measured: Measured, reply: Mapping[str, float]) -> list[BudgetLine]:
    """A line for each tail that ended turns, because the tail is part of the limit.

    Tail and hang-over are counted in the caller's samples: sent at twice the speed, they take half the time.
    """
    by_tail: defaultdict[float, list[float]] = defaultdict(list)
    for record in measured.records:
        for point in record.points:
            if point.name == "speech_end_to_reply_ms":
                by_tail[point.tail_ms or TAIL_MS].append(point.ms)
    note = (
        "measured by this client; noise over -50 dBFS after a recording's words counts as its speech and shortens this"
    )
    if measured.dialect != "native":
        note += f"; {measured.dialect} does not tell the tail, taken for {TAIL_MS:g} ms"
    return [
        _judge(
            "speech_end_to_reply_ms",
            by_tail[tail_ms],
            {name: (tail_ms + HANGOVER_MS) / measured.speed + ms for name, ms in reply.items()},
            note,
            missing="no call got so far",
            under=f"tail {tail_ms:g} ms",
        )
        for tail_ms in sorted(by_tail) or [TAIL_MS]
    ]


def _judge(
    name: str,
    values: Sequence[float],
    limits: Mapping[str, float],
    note: str,
    *,
    missing: str,
    under: str = "load",
) -> BudgetLine:
    figures = quantiles(values)
    verdict = _verdict(figures, limits)
    why = missing if verdict is Verdict.NOT_MEASURED else note
    return BudgetLine(
        name=name, under=under, n=len(values), figures=figures, limits=limits, verdict=verdict, note=why, values=values
    )


def _verdict(figures: Mapping[str, float], limits: Mapping[str, float]) -> Verdict:
    if not figures:
        return Verdict.NOT_MEASURED
    return Verdict.MET if all(figures[name] <= limit for name, limit in limits.items()) else Verdict.MISSED


def _frame_delay(frames: Frames) -> BudgetLine:
    """The workers' own histogram (`gateway.processes.frame_delay`): what a frame waits, save for its own handling."""
    delay = frames.frame_delay
    figures: dict[str, float] = {}
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        end = delay.percentile(q)
        if end is not None:
            figures[name] = end * 1000
    limits = {"p99": 20.0}
    return BudgetLine(
        name="frame_delay_ms",
        under="load",
        n=int(delay.counts[-1]) if delay.counts else 0,
        figures=figures,
        limits=limits,
        verdict=_verdict(figures, limits),
        note="upper ends of the buckets of voicegate_frame_delay_seconds"
        if figures
        else frames.problem or "the gateway's metrics hold no voicegate_frame_delay_seconds",
    )


def _frames_lost(measured: Measured) -> BudgetLine:
    frames, records = measured.frames, measured.records
    sent = sum(record.frames_sent for record in records)
    at_end = sum(record.frames_at_end for record in records)
    problem = frames.problem
    talking = sum(record.frames_sent > 0 for record in records)
    if not problem and frames.calls_started != talking:
        problem = (
            f"the gateway counted {frames.calls_started} calls while {talking} sent audio from here, "
            "so its frames are not only ours"
        )
    if not problem and not sent:
        problem = "no frame was sent"
    # What is sent while the bot hangs up may or may not be judged: it is neither lost nor allowed to hide a loss.
    lost = max(0, sent - at_end - frames.seen)
    figures = {} if problem else {"lost": float(lost)}
    told = f"sent {sent}, judged by the endpointers {frames.seen}, sent while the bot hung up {at_end}"
    limits = {"lost": 0.0}
    return BudgetLine(
        name="frames_lost",
        under="load",
        n=sent,
        figures=figures,
        limits=limits,
        verdict=_verdict(figures, limits),
        note=problem or told,
    )


def judge_client(client: Client) -> ClientVerdict:
    """Did the client keep up? Where it did not, latencies hold its own slowness."""
    late = (
        f"audio went out late by p50 {client.late_p50_ms:.1f}, p99 {client.late_p99_ms:.1f}, "
        f"at most {client.late_max_ms:.0f} ms"
    )
    busy = (
        f"{client.cpu_share:.0%} of a core in {client.processes} process{'es' if client.processes > 1 else ''}, "
        f"the busiest {client.busiest_share:.0%} of its own"
    )
    if client.late_p99_ms > LATE_MS:
        mend = "place fewer calls, or run the client on another machine"
        return ClientVerdict(kept_up=False, why=f"the client was late, results are its own: {late}; {busy}; {mend}")
    if client.busiest_share > BUSY_CORE:
        mend = f"--processes {client.processes + 1}, or fewer calls"
        return ClientVerdict(kept_up=False, why=f"the client was busy, results may be its own: {busy}; {late}; {mend}")
    return ClientVerdict(kept_up=True, why=f"the client kept up: {busy}; {late}")


def _warnings(measured: Measured) -> list[str]:
    found = []
    if not (client := judge_client(measured.client)).kept_up:
        found.append(client.why)
    if measured.speed != 1:
        found.append(
            f"speed {measured.speed:g}: the callers' audio is not real time, the bot's is; budgets are for speed 1"
        )
    if measured.alone and (deaf := [record for record in measured.alone if record.faults]):
        reasons = "; ".join(sorted({fault for record in deaf for fault in record.faults}))
        found.append(f"{len(deaf)} callers failed alone already, so nothing is compared with them: {reasons}")
    return found


def _values(records: Iterable[CallRecord]) -> defaultdict[str, list[float]]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        for point in record.points:
            values[point.name].append(point.ms)
    return values


def _by_name(points: Iterable[Point]) -> dict[str, list[tuple[float, float]]]:
    """Every latency as (at_s, ms), by name."""
    named: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        named[point.name].append((round(point.at_s, 2), round(point.ms, 2)))
    return dict(named)


def _finite(value: Any) -> Any:
    """JSON has no infinity: a quantile past the last bucket becomes null. Microseconds are enough."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value
