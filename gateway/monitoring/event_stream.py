"""What one reader of events is sent, line by line: a snapshot, then what happens, and where something is missing.

    snapshot: `watching`, a `call_present` for each call --> events that it does not hold yet --> ...
    events are missing: `dropped` where they are -----------'--> a fresh snapshot, which takes the place of the last one

Events may be lost on their way: Redis or a worker was away, or the reader is slow. What they told is then read from
the calls themselves, so that a reader who is behind for a moment is not wrong for ever. Pure: whoever owns the stream
looks at `stale` and asks for the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from gateway.monitoring.events import SCHEMA_VERSION, to_json
from gateway.monitoring.hub import CallList
from gateway.monitoring.roll import CallRoll, Place

__all__ = ["EventStream"]


class EventStream:
    """One reader's."""

    def __init__(self, *, call_id: str = "", types: frozenset[str] = frozenset()) -> None:
        """`call_id` "": of all calls; `types` empty: all."""
        self.stale = False
        """What was told may be wrong, and a snapshot is wanted."""
        self._begun = False
        self._call_id = call_id
        self._types = types
        self._roll = CallRoll()

    def begin(self, calls: CallList, waiting: Iterable[str] = ()) -> list[str]:
        """A snapshot, the first or a fresh one; `waiting` are the events that came while it was being taken.

        A fresh one says what is missing between the events that were told and itself. Where a worker did not answer it
        says nothing of other calls than its own, and another is wanted.
        """
        presents = [json.loads(line) for line in calls.lines]
        held = {body["call_id"]: (body["epoch"], body["seq"]) for body in presents}
        lines, behind = [], []
        for line in waiting:
            body = json.loads(line)
            if (body["epoch"], body["seq"]) > held.get(body["call_id"], (0, 0)):
                behind.append(line)
            elif self._roll.knows(body["call_id"]):
                lines += self.take(line)
        told = []
        for line, body in zip(calls.lines, presents, strict=True):
            place = self._roll.present(body)
            if place.new:
                lines += _dropped(body["call_id"], place)
                told.append(line)
        if calls.complete or not self._begun:
            watching = {
                "type": "watching",
                "v": SCHEMA_VERSION,
                "calls": len(told),
                "workers": calls.workers,
                "complete": calls.complete,
            }
            lines.append(json.dumps(watching))
        self.stale, self._roll.lacking, self._begun = self._begun and not calls.complete, False, True
        lines += told
        for line in behind:
            lines += self.take(line)
        return lines

    def take(self, line: str) -> list[str]:
        """An event."""
        body = json.loads(line)
        call_id = body["call_id"]
        if self._call_id not in ("", call_id):
            return []
        place = self._roll.take(body)
        self.stale = self.stale or not place.known or place.missing > 0
        lines = _dropped(call_id, place)
        if place.new and (not self._types or body["type"] in self._types):
            lines.append(line)
        return lines

    def take_stock(self, call_ids: Iterable[str], now: float) -> list[str]:
        """Which calls there are: the ends of those that went without a word. `now` in seconds since 1970."""
        there = (one for one in call_ids if self._call_id in ("", one))
        ends = [to_json(end, None) for end in self._roll.take_stock(there, now)]
        self.stale = self.stale or self._roll.lacking
        return ends if not self._types or "call_ended" in self._types else []

    def fall_behind(self, count: int) -> list[str]:
        """So many events were lost, oldest first, since the reader is slow. Of one call, the gaps in `seq` tell."""
        self.stale = True
        if self._call_id:
            return []
        self._roll.lost_some()
        return [json.dumps({"type": "dropped", "count": count})]


def _dropped(call_id: str, place: Place) -> list[str]:
    if not place.missing:
        return []
    return [json.dumps({"type": "dropped", "count": place.missing, "call_id": call_id, "after_seq": place.after_seq})]
