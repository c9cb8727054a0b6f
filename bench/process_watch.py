"""What a gateway's processes did over a stretch of a bench: their CPU by what they are, and how long jobs waited.

CPU is the kernel's own count (/proc), a look a second; queues and batches are the engines' metrics, read at both ends.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from gateway.replay.record import Buckets

__all__ = ["Engine", "Look", "ProcessWatch", "engines_between", "mean_shares"]

ROLES: Final = {
    "gateway.processes.worker": "worker",
    "gateway.inference.worker": "inference",
    "bench.simulated_asr": "inference",
    "gateway.http.control": "control",
    "valkey-server": "redis",
    "redis-server": "redis",
    "multiprocessing.spawn": "client",
}
"""By a part of the command line. This process is of the client, and the supervisor with it."""
EVERY_S: Final = 1.0
_TICKS_A_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """CPU seconds used so far by each role, at a moment in monotonic seconds."""

    at: float
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine over a stretch of time."""

    jobs: int
    batches: int
    queue_ms: Mapping[str, float | None]
    """p50 and p99, upper ends of their buckets; None: past the last one."""
    busy_share: float
    """Of the time, that a batch was being computed: 1.0 is an engine that cannot do more."""
    shed: int

    @property
    def mean_batch(self) -> float:
        """Jobs in a batch."""
        return self.jobs / self.batches if self.batches else 0.0


@dataclass(slots=True)
class ProcessWatch:
    """Looks on, once a second, at this process and its children."""

    looks: list[Look] = field(default_factory=list)

    def look(self) -> Look:
        """Now."""
        found: defaultdict[str, float] = defaultdict(float)
        found["client"] += _cpu_s("self")
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                role = next((role for part, role in ROLES.items() if part in command), "other")
                found[role] += _cpu_s(pid)
        seen = Look(time.monotonic(), dict(found))
        self.looks.append(seen)
        return seen

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def shares(self, role: str, since: float) -> list[tuple[float, float]]:
        """(seconds since `since`, cores) of every second."""
        pairs = zip(self.looks, self.looks[1:], strict=False)
        return [
            (now.at - since, max(0.0, now.cpu_s.get(role, 0.0) - then.cpu_s.get(role, 0.0)) / (now.at - then.at))
            for then, now in pairs
            if then.at >= since
        ]


def mean_shares(before: Look, after: Look) -> dict[str, float]:
    """Cores that each role used between two looks."""
    seconds = after.at - before.at
    return {role: round((used - before.cpu_s.get(role, 0.0)) / seconds, 3) for role, used in after.cpu_s.items()}


def engines_between(before: str, after: str, seconds: float) -> dict[str, Engine]:
    """What each engine did between two readings of its metrics, in Prometheus's text format."""
    then, now = _read(before), _read(after)
    found = {}
    for name in sorted({engine for _, engine, _ in now}):

        def grew(key: str, end: str = "", name: str = name) -> float:
            return now.get((key, name, end), 0.0) - then.get((key, name, end), 0.0)

        ends = sorted({float(end) for key, engine, end in now if key == _QUEUE and engine == name})
        queue = Buckets(tuple(ends), tuple(grew(_QUEUE, str(end)) for end in ends))
        found[name] = Engine(
            jobs=round(grew(_JOBS)),
            batches=round(grew(_BATCHES)),
            queue_ms={key: _ms(queue.percentile(q)) for key, q in (("p50", 0.5), ("p99", 0.99))},
            busy_share=round(grew(_COMPUTE) / seconds, 3),
            shed=round(grew(_SHED)),
        )
    return found


_QUEUE: Final = "voicegate_inference_queue_seconds_bucket"
_JOBS: Final = "voicegate_inference_jobs_total"
_BATCHES: Final = "voicegate_inference_compute_seconds_count"
_COMPUTE: Final = "voicegate_inference_compute_seconds_sum"
_SHED: Final = "voicegate_inference_shed_total"


def _read(text: str) -> dict[tuple[str, str, str], float]:
    """Values by sample, engine and bucket's upper end; all urgencies together."""
    values: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (_QUEUE, _JOBS, _BATCHES, _COMPUTE, _SHED):
                end = str(float(sample.labels["le"])) if "le" in sample.labels else ""
                values[sample.name, sample.labels["engine"], end] += sample.value
    return values


def _ms(end: float | None) -> float | None:
    return None if end is None or end == float("inf") else end * 1000


def _cpu_s(pid: str) -> float:
    """User and system time of a process; a name in its line may hold spaces, but no `)`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_S
