"""Who is alive among processes that count in the open, by this process's own clock alone.

    unknown --first count seen--> seen --count moved--> alive --still for `dead_after_s`--> dead
                                   '---------still for `dead_after_s`-----------------------^

Nobody's wall clock takes part: neither the server's, by which a stream's idle times and a key's time to live are kept,
nor another host's. A clock that jumps kills nobody and keeps nobody alive. Looking is part of it: who has not looked
for a while (the server was away, or this process stopped) has seen nothing, and begins anew.

Odd cases: a count that falls is a move, too: its owner, or the server's memory, began anew. A count that is gone is
forgotten: its owner took leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Liveness"]


@dataclass(slots=True)
class _Pulse:
    count: int
    since: float
    moved: bool = False


class Liveness:
    """One observer's. Times are monotonic seconds."""

    def __init__(self, *, dead_after_s: float) -> None:
        """`dead_after_s`: who does not count for so long is dead. To be looked at several times as often."""
        self._dead_after_s = dead_after_s
        self._pulses: dict[str, _Pulse] = {}
        self._looked_at: float | None = None

    def look(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """Take note of all counts.

        Returns:
            The dead, each with the count it stopped at. They are dead until their count moves or is gone.
        """
        blind = self._looked_at is not None and now - self._looked_at > self._dead_after_s / 2
        self._looked_at = now
        for name in self._pulses.keys() - counts.keys():
            del self._pulses[name]
        for name, count in counts.items():
            pulse = self._pulses.get(name)
            if pulse is None:
                self._pulses[name] = _Pulse(count, now)
            elif pulse.count != count:
                self._pulses[name] = _Pulse(count, now, moved=True)
            elif blind:
                pulse.since = now
        return {name: pulse.count for name, pulse in self._pulses.items() if self._is_still(pulse, now)}

    def alive(self, now: float) -> set[str]:
        """Those whose count was seen to move, and that are not dead."""
        return {name for name, pulse in self._pulses.items() if pulse.moved and not self._is_still(pulse, now)}

    def _is_still(self, pulse: _Pulse, now: float) -> bool:
        return now - pulse.since >= self._dead_after_s
