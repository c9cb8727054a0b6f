"""Which calls a stream of events has told of, how far, and which of them went without a word: their worker died.

    told of --call_ended--> gone
    told of --missing in two stocks, one after the other--> gone: an end is made up for it
    not told of --there in two stocks, one after the other--> the stream lacks it, and a fresh snapshot is wanted

Once is not enough: a call may begin while stock is being taken.

An event's place in its call is (`epoch`, `seq`), which only grows: what is not above the last one was told already, or
is of a connection that has lost the call to a later one; where numbers are left out, events were lost on their way.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.monitoring.events import CallEnded, Published

__all__ = ["CallRoll", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: `new` or told already, with so many `missing` before it, of a call that was told of."""

    new: bool
    missing: int = 0
    after_seq: int = 0
    known: bool = True


@dataclass(slots=True)
class _Going:
    since: float
    turns: int = 0
    epoch: int = 0
    seq: int = 0
    at_ms: int = 0
    counted: bool = True
    """Whether numbers that are left out are to be told."""
    missed: bool = False


@dataclass(slots=True)
class CallRoll:
    """The calls in progress, as far as one stream knows."""

    _calls: dict[str, _Going] = field(default_factory=dict)
    _strangers: set[str] = field(default_factory=set)
    lacking: bool = False
    """A call is there that the stream never told of. Set to False by whoever sees to it."""

    def knows(self, call_id: str) -> bool:
        """Whether the stream has told of this call, and not of its end."""
        return call_id in self._calls

    def present(self, event: Mapping[str, Any]) -> Place:
        """A call as it stands: `call_present`, as JSON. It is told in the place of all events up to it that were not;
        of a call that was known, they are `missing`."""
        call_id, epoch, seq = event["call_id"], event["epoch"], event["seq"]
        going = self._calls.get(call_id)
        place = Place(True)
        if going is not None:
            if (epoch, seq) < (going.epoch, going.seq):
                return Place(False)
            told = going.seq if epoch == going.epoch else 0
            place = Place(True, seq - told if going.counted else 0, told)
        since = event["started_at"] or event["time"]
        self._calls[call_id] = _Going(since, event["turns"], epoch, seq, event["at_ms"])
        return place

    def take(self, event: Mapping[str, Any]) -> Place:
        """An event, as JSON."""
        call_id, kind, epoch, seq = event["call_id"], event["type"], event["epoch"], event["seq"]
        going = self._calls.get(call_id)
        if going is None:
            place = Place(True, known=kind in ("call_started", "call_ended"))
            going = self._calls[call_id] = _Going(event["time"])
        elif (epoch, seq) <= (going.epoch, going.seq):
            return Place(False)
        else:
            told = going.seq if epoch == going.epoch else 0  # a call that is resumed counts anew
            place = Place(True, seq - told - 1 if going.counted else 0, told)
        if kind == "call_ended":
            del self._calls[call_id]
            return place
        if kind == "turn_heard" and event["supersedes"] is None:
            going.turns += 1
        going.epoch, going.seq, going.at_ms, going.counted = epoch, seq, event["at_ms"], True
        return place

    def lost_some(self) -> None:
        """Events of any call were lost and are accounted for: the next one of each is not behind a gap."""
        for going in self._calls.values():
            going.counted = False

    def take_stock(self, there: Iterable[str], now: float) -> list[Published]:
        """The ends of calls that are gone; `there` are those that workers have, `now` seconds since 1970."""
        present = set(there)
        strangers = present - self._calls.keys()
        self.lacking = self.lacking or bool(strangers & self._strangers)
        self._strangers = strangers
        ends = []
        for call_id, going in list(self._calls.items()):
            if call_id in present:
                going.missed = False
            elif not going.missed:
                going.missed = True
            else:
                del self._calls[call_id]
                duration_s = round(max(0.0, now - going.since), 3)  # of two hosts' clocks
                end = CallEnded(ended_by="lost", disposition=None, duration_s=duration_s, turns=going.turns)
                ends.append(Published(end, call_id, going.seq + 1, going.at_ms, now, going.epoch))
        return ends
