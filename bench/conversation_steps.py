"""What `bench.conversations` finds: its steps, judged by every budget of the design, told, written and drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from bench.conversation_setup import Plan
from bench.plots import sheet
from bench.process_watch import Engine, ProcessWatch
from gateway.machine import describe_machine
from gateway.replay.charts import over_time, time_chart
from gateway.replay.record import Buckets, CallRecord
from gateway.replay.report import BudgetLine, Report, Verdict, percentile

__all__ = ["Climb", "Step", "barge_in", "document", "judge", "plot", "summary", "with_own_budgets"]

_SHOWN: Final = ("p50", "p99", "mean", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """So many conversations at once."""

    calls: int
    began_s: float
    """Since the first step began."""
    report: Report
    cores: Mapping[str, float]
    """Used by each kind of process while the step ran."""
    engines: Mapping[str, Engine]
    words_not_known: Mapping[str, int]
    """Utterances that the simulated recogniser had no words of its own for, so far; empty for a real one."""
    frames_per_s: float
    turns_per_s: float
    faults: Sequence[str]
    """Why it did not hold; empty where it did."""

    @property
    def calls_a_core(self) -> dict[str, float]:
        """How many calls one core of each kind of process would carry at this step's cost."""
        talking = self.frames_per_s * 0.02
        return {role: round(talking / cores, 1) for role, cores in self.cores.items() if cores >= 0.01}


@dataclass(slots=True)
class Climb:
    """All steps, and what they were compared with."""

    speech_share: float = 0.0
    """Of their calls' time, that the callers speak."""
    call_s: float = 0.0
    alone: Sequence[CallRecord] = ()
    steps: list[Step] = field(default_factory=list)
    watch: ProcessWatch = field(default_factory=ProcessWatch)
    began: float = 0.0

    @property
    def carried(self) -> int:
        """The most calls of a step that held."""
        return max((step.calls for step in self.steps if not step.faults), default=0)


def judge(report: Report) -> list[str]:
    """Why a step did not hold; empty where it did."""
    faults = []
    for line in report.budgets:
        if line.verdict is Verdict.MISSED:
            over = [name for name, limit in line.limits.items() if line.figures[name] > limit]
            told = ", ".join(f"{name} {line.figures[name]:.0f} > {line.limits[name]:g}" for name in over)
            faults.append(f"{line.name} ({line.under}): {told}")
    faults += [f"{count} calls failed: {why}" for why, count in report.failures.items()]
    faults += [f"{ending.calls} calls ended otherwise: {ending}" for ending in report.endings]
    return faults


def with_own_budgets(found: Report, *, barge_in: Buckets, worker_cpu_s: float, frames: int) -> Report:
    """The report with the budgets that a replay cannot know."""
    overs = {key: barge_in.percentile(q) for key, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))}
    over_ms = {key: end * 1000 for key, end in overs.items() if end is not None}
    nlu = found.stages.get("nlu_ms", {})
    lines = []
    for line in found.budgets:
        if line.under == "alone":
            continue  # they came three at a time, to a gateway that had just begun: not what that budget is for
        if line.name == "barge_in_ms":
            note = "the gateway's own histogram, upper ends of its buckets"
            line = _judged(line, over_ms, round(barge_in.counts[-1]) if barge_in.counts else 0, note)
        elif line.name == "frame_cpu_us" and frames:
            note = "CPU of the workers per frame with turns and playout, which the budget leaves out"
            figures = {"mean": worker_cpu_s / frames * 1e6}
            line = _stand_in(line, figures, frames, note, "`python -m bench.frame_path` measures it")
        elif line.name == "intent_ms" and nlu:
            count = sum(point.name == "nlu_ms" for point in found.points)
            line = _stand_in(line, nlu, count, "nlu_ms of the turns, at this load on this CPU", "it is for a GPU")
        lines.append(line)
    missed = found.failed or any(line.verdict is Verdict.MISSED for line in lines)
    return replace(found, budgets=lines, verdict=Verdict.MISSED if missed else Verdict.MET)


def _judged(line: BudgetLine, figures: Mapping[str, float], n: int, note: str) -> BudgetLine:
    held = all(figures[key] <= limit for key, limit in line.limits.items()) if figures else None
    verdict = Verdict.NOT_MEASURED if held is None else Verdict.MET if held else Verdict.MISSED
    return replace(line, figures=figures, n=n, verdict=verdict, note=note)


def _stand_in(line: BudgetLine, figures: Mapping[str, float], n: int, note: str, instead: str) -> BudgetLine:
    """Harder than the budget: what is below its limit meets it, what is over decides nothing."""
    line = _judged(line, figures, n, note)
    if line.verdict is Verdict.MISSED:
        line = replace(
            line, verdict=Verdict.NOT_MEASURED, note=f"{note}; over the limit that decides nothing: {instead}"
        )
    return line


def barge_in(metrics: str) -> Buckets:
    """The gateway's histogram of it, out of its metrics."""
    counts: Counter[float] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "voicegate_barge_in_seconds_bucket":
                counts[float(sample.labels["le"])] += sample.value  # type: ignore[assignment]  # whole ones
    ends = tuple(sorted(counts))
    return Buckets(ends, tuple(float(counts[end]) for end in ends))


def summary(step: Step) -> str:
    """A step for a person."""
    used = ", ".join(
        f"{role} {cores:.2f} ({step.calls_a_core.get(role, 0.0):.0f} calls a core)"
        for role, cores in sorted(step.cores.items())
        if role in step.calls_a_core
    )
    lines = [f"{step.calls} calls: {'; '.join(step.faults) or 'every budget held'}", f"  cores: {used}"]
    for name, engine in step.engines.items():
        waits = " / ".join("off scale" if ms is None else f"{ms:.0f}" for ms in engine.queue_ms.values())
        lines.append(
            f"  {name}: {engine.jobs} jobs in batches of {engine.mean_batch:.1f}, waited p50 / p99 {waits} ms, "
            f"busy {engine.busy_share:.0%}, shed {engine.shed}"
        )
    for line in step.report.budgets:
        figures = ", ".join(f"{key} {value:.1f}" for key, value in line.figures.items() if key in _SHOWN)
        lines.append(f"  {line.name} ({line.under}): {line.verdict}; n {line.n}, {figures}")
    if step.words_not_known:
        lines.append(f"  words not known: {', '.join(f'{how} {n}' for how, n in step.words_not_known.items())}")
    ended = ", ".join(f"{how} {count}" for how, count in sorted(step.report.ended_by.items()))
    lines.append(
        f"  ended by {ended}; {step.report.turns_differing} of {step.report.turns_compared} turns heard otherwise; "
        f"{step.turns_per_s:g} turns/s"
    )
    lines.append(f"  {step.report.client_verdict.why}")
    return "\n".join(lines)


def document(plan: Plan, found: Climb) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "schema": "voicegate.conversations/1",
        "machine": describe_machine(),
        "plan": asdict(plan),
        "speech_share": round(found.speech_share, 3),
        "call_s": round(found.call_s, 1),
        "carried": found.carried,
        "steps": [
            {
                **{name: getattr(step, name) for name in ("calls", "began_s", "cores", "faults")},
                "calls_a_core": step.calls_a_core,
                "words_not_known": step.words_not_known,
                "frames_per_s": step.frames_per_s,
                "turns_per_s": step.turns_per_s,
                "engines": {name: {**asdict(engine), "mean_batch": round(engine.mean_batch, 2)}
                            for name, engine in step.engines.items()},
                "report": {key: value for key, value in step.report.document().items() if key != "latencies"},
            }
            for step in found.steps
        ],
    }  # fmt: skip


def plot(plan: Plan, found: Climb) -> str:
    """Calls, replies and every process's cores over the climb, as one SVG."""
    until_s = found.watch.looks[-1].at - found.began
    calls = [
        (step.began_s + sample.at_s, float(sample.calls)) for step in found.steps for sample in step.report.samples
    ]
    replies = [
        (step.began_s + point.at_s, point.ms)
        for step in found.steps
        for point in step.report.points
        if point.name == "endpoint_to_reply_ms"
    ]
    stretches = over_time(replies, until_s=until_s, buckets=60)
    waits = {
        "p50": [(at_s, percentile(values, 0.5)) for at_s, values in stretches],
        "p99": [(at_s, percentile(values, 0.99)) for at_s, values in stretches],
    }
    charts = [
        ("conversations at once", {"calls": calls}, "calls", None),
        ("endpoint_to_reply_ms", waits, "ms", 200.0),
        *(
            (f"{role}: cores", {role: found.watch.shares(role, found.began)}, "cores", None)
            for role in ("worker", "inference", "redis", "client")
        ),
    ]
    heading = f"conversations, recogniser {plan.asr}: {found.carried} with every budget held"
    return sheet(
        heading,
        [
            (title, time_chart(title, lines, until_s=until_s, unit=unit, limit=limit))
            for title, lines, unit, limit in charts
        ],
    )
