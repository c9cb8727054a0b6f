"""Which calls a stream of events has told of, and which of them went without a word: their worker died.

    told of --call_ended--> gone
    told of --missing in two stocks, one after the other--> gone: an end is made up for it

Once is not enough: a call may begin while stock is being taken. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.monitoring.events import CallEnded, Published

__all__ = ["CallRoll"]


@dataclass(slots=True)
class _Going:
    since: float
    turns: int
    seq: int = 0
    at_ms: int = 0
    missed: bool = False


@dataclass(slots=True)
class CallRoll:
    """The calls in progress, as far as one stream knows."""

    _calls: dict[str, _Going] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        """An event, as JSON."""
        call_id, kind = event["call_id"], event["type"]
        if kind == "call_ended":
            self._calls.pop(call_id, None)
            return
        going = self._calls.setdefault(call_id, _Going(event["time"], 0))
        if kind == "call_present":
            going.since, going.turns = event["started_at"] or event["time"], event["turns"]
        elif kind == "turn_heard" and event["supersedes"] is None:
            going.turns += 1
        going.seq, going.at_ms = event["seq"], event["at_ms"]

    def take_stock(self, there: Iterable[str], now: float) -> list[Published]:
        """The ends of calls that are gone; `there` are those that workers have, `now` seconds since the epoch."""
        present = set(there)
        ends = []
        for call_id, going in list(self._calls.items()):
            if call_id in present:
                going.missed = False
            elif not going.missed:
                going.missed = True
            else:
                del self._calls[call_id]
                duration_s = round(now - going.since, 3)
                end = CallEnded(ended_by="lost", disposition=None, duration_s=duration_s, turns=going.turns)
                ends.append(Published(end, call_id, going.seq + 1, going.at_ms, now))
        return ends
