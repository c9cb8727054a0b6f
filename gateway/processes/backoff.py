"""When to start again what died: soon the first time, then ever later. Pure; times are seconds."""

from __future__ import annotations

from typing import Final

__all__ = ["Backoff"]

_FIRST_S: Final = 0.1
_HEALTHY_AFTER_S: Final = 30.0


class Backoff:
    """Pauses of one process: none where it had run for half a minute, else 0.1 s, doubled with each death in a row.

    A process that dies as soon as it begins costs its start (a second of CPU, for a worker) once per longest pause.
    """

    def __init__(self, longest_s: float) -> None:
        """`longest_s`: the pauses' cap."""
        self._longest_s = longest_s
        self._deaths = 0

    def died(self, ran_s: float) -> float:
        """The pause before the next start.

        Args:
            ran_s: how long the process that died had run.
        """
        if ran_s >= _HEALTHY_AFTER_S:
            self._deaths = 0
            return 0.0
        self._deaths += 1
        # The exponent is bounded, or a process that dies for a month would overflow a float.
        return min(self._longest_s, _FIRST_S * 2.0 ** min(self._deaths - 1, 32))
