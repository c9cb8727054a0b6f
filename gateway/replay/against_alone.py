"""Calls under load against the same callers' calls alone: what was heard, and how calls ended. Pure.

Callers without a faultless call alone are left out; so is the ending of a call that failed, which is told as a failure,
and of one that was cut off because the time was over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from gateway.replay.record import CallRecord, Turn

__all__ = ["Difference", "OtherEnding", "differences", "other_endings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A turn that was heard otherwise under load. An empty string: no such turn."""

    caller: str
    turn: int
    recording: str
    alone: str
    heard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEnding:
    """How calls of a caller ended otherwise than alone: by whom, and with which word of the bot's."""

    caller: str
    alone: str
    loaded: str
    calls: int
    """That ended so."""

    def __str__(self) -> str:
        return f"{PurePath(self.caller).name}: {self.loaded} instead of {self.alone}"


def differences(alone: Sequence[CallRecord], records: Sequence[CallRecord]) -> tuple[int, list[Difference]]:
    """Turns under load against the same caller's turns alone.

    Returns:
        Turns compared, and those that differ. Of a call that was cut off, on either side, only the turns that both
        have are compared.
    """
    reference = _faultless(alone)
    compared, found = 0, []
    for record in records:
        if (told := reference.get(record.caller)) is None:
            continue
        shared = min(len(told.turns), len(record.turns))
        length = shared if told.cut or record.cut else max(len(told.turns), len(record.turns))
        compared += length
        for at in range(length):
            before = told.turns[at] if at < len(told.turns) else None
            now = record.turns[at] if at < len(record.turns) else None
            if before == now:
                continue
            recording = (now or before or Turn("", "")).recording
            found.append(
                Difference(
                    caller=record.caller,
                    turn=at + 1,
                    recording=recording,
                    alone=before.transcript if before else "",
                    heard=now.transcript if now else "",
                )
            )
    return compared, found


def other_endings(alone: Sequence[CallRecord], records: Sequence[CallRecord]) -> tuple[int, list[OtherEnding]]:
    """Endings under load against the same caller's alone.

    Returns:
        Calls compared, and those that ended otherwise, the most frequent first.
    """
    reference = {caller: record for caller, record in _faultless(alone).items() if not record.cut}
    compared = [record for record in records if record.caller in reference and not record.faults and not record.cut]
    counted = Counter(
        (record.caller, _ending(reference[record.caller]), _ending(record))
        for record in compared
        if _ending(record) != _ending(reference[record.caller])
    )
    found = [
        OtherEnding(caller=caller, alone=before, loaded=now, calls=calls)
        for (caller, before, now), calls in counted.most_common()
    ]
    return len(compared), found


def _faultless(alone: Sequence[CallRecord]) -> Mapping[str, CallRecord]:
    return {record.caller: record for record in alone if not record.faults}


def _ending(record: CallRecord) -> str:
    return f"{record.ended_by}: {record.disposition}" if record.disposition else record.ended_by
