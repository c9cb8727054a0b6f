"""What a replay measured, as values: calls, their turns and latencies, the client itself, the gateway's counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Buckets", "CallRecord", "Client", "Frames", "Measured", "Point", "Sample", "Turn"]


@dataclass(frozen=True, slots=True)
class Point:
    """One latency: which, when (seconds since the load began), how long."""

    name: str
    at_s: float
    ms: float
    tail_ms: float | None = None
    """The silence that ended the caller's turn, where the gateway told: a dialogue node may ask for a longer one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a recording was heard as."""

    recording: str
    transcript: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call that was placed."""

    caller: str
    ended_by: str
    """As in `gateway.replay.client.CallResult`; "caller": cut off because the time was over."""
    disposition: str = ""
    """The bot's word for the end, or where it transferred to; empty where a dialect does not tell."""
    faults: tuple[str, ...] = ()
    """Why it failed; empty where it did not."""
    refused: int | None = None
    """HTTP status of the answer, where it was no 101."""
    began_s: float = 0.0
    """When it was dialled, in seconds since the load began."""
    lasted_s: float = 0.0
    """From dialling to its end."""
    turns: tuple[Turn, ...] = ()
    points: tuple[Point, ...] = ()
    frames_sent: int = 0
    frames_at_end: int = 0
    """Of these, sent while the bot was hanging up: it need not judge them."""

    @property
    def cut(self) -> bool:
        """Hung up by us, somewhere in the middle."""
        return self.ended_by == "caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The load at one second."""

    at_s: float
    calls: int
    """In progress."""
    cpu_share: float
    """Cores used by the client, all its processes together."""
    late_ms: float
    """The latest that a message went out in this second."""
    busiest_share: float = 0.0
    """Of one core, used by the busiest of the client's processes."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: counts below each upper end, cumulative, as Prometheus has them. The last end is infinity."""

    ends: tuple[float, ...]
    counts: tuple[float, ...]

    def since(self, before: Buckets) -> Buckets:
        """What came after `before`, an earlier reading."""
        return Buckets(self.ends, tuple(now - then for now, then in zip(self.counts, before.counts, strict=True)))

    def percentile(self, q: float) -> float | None:
        """Upper end of the bucket that holds the quantile; None where nothing was counted."""
        total = self.counts[-1] if self.counts else 0
        if total <= 0:
            return None
        return next(end for end, count in zip(self.ends, self.counts, strict=True) if count >= q * total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The gateway's own counters over the load. `problem` says why they cannot be had; then the rest is empty."""

    problem: str = ""
    seen: int = 0
    calls_started: int = 0
    frame_delay: Buckets = Buckets((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The measuring end, measured."""

    cpu_share: float
    """Cores used over the load, all processes together."""
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    messages: int
    processes: int = 1
    busiest_share: float = 0.0
    """Of one core, over the load: the busiest process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of the bench."""

    url: str
    own_gateway: bool
    bot: str
    callers: Mapping[str, Sequence[str]]
    """Caller to the names of its recordings."""
    calls: int
    ramp_s: float
    duration_s: float | None
    dialect: str = "native"
    speed: float = 1.0
    wall_s: float
    alone: Sequence[CallRecord]
    records: Sequence[CallRecord]
    samples: Sequence[Sample]
    frames: Frames
    client: Client
