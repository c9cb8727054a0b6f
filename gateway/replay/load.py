"""What a replay runs: who calls, how many, for how long, in which dialect and how fast; and how far it is."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from audio.files import AudioFileError, read_audio
from gateway.replay.call_ear import Recording

__all__ = ["CALLS_PER_PROCESS", "Caller", "Lateness", "Load", "Progress", "Tick", "processes_for", "read_callers"]

RATE_HZ: Final = 8000
CALLS_PER_PROCESS: Final = 300
"""A process takes about half a core for so many (docs/replay.md): room for a second in which all speak at once."""
_SUFFIXES: Final = (".wav", ".flac", ".ogg", ".opus", ".mp3")


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
    """From the first call; a line whose call ends calls again, for ever where this is infinite. None: one call a line,
    to its end."""
    bot: str = "load"
    token: str | None = field(default=None, repr=False)
    dialect: str = "native"
    """Of `gateway.replay.lines.REPLAYED`."""
    speed: float = 1.0
    """Of the callers' audio, times real time; the bot's own voice keeps its pace."""
    processes: int = 1
    """Of the client."""
    solo: bool = True
    """Whether each caller calls alone first."""
    own_gateway: bool = False
    read_metrics: Callable[[], str] | None = None
    """Blocking; the gateway's metrics in Prometheus's text format. Raises MetricsError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One client process over the last second."""

    live: int
    done: int
    """Calls over since the beginning, and of these the failed ones."""
    failed: int
    replies_ms: Sequence[float]
    """Of replies in this second: endpoint_to_reply_ms, or where nobody tells, what was heard."""
    cpu_share: float
    """Of one core."""
    late_ms: float
    """The latest that a message went out."""


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
    """Of the last replies."""
    cpu_share: float = 0.0
    """Cores that all client processes use together."""
    busiest_share: float = 0.0
    """Of its one core, that the busiest of them uses."""
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

    def add(self, other: Lateness) -> None:
        """Count what another process counted too."""
        self._bins = array("Q", (ours + theirs for ours, theirs in zip(self._bins, other._bins, strict=True)))
        self.longest_s = max(self.longest_s, other.longest_s)

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


def processes_for(calls: int) -> int:
    """Client processes for so many calls: enough that none is busy, and no more than there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, -(-calls // CALLS_PER_PROCESS)))


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
