"""One taped call, as two versions of a model or a flow took it: what differs, turn by turn. Values in, values out.

Turns are laid side by side by what the caller was saying, not by their number: a version that hears one utterance as
two would shift all that follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.replay.outcome import Outcome, TurnOutcome
from gateway.replay.report import quantiles

__all__ = ["SCHEMA", "Comparison", "Side", "TurnPair", "compare"]

SCHEMA: Final = "voicegate.compare/1"
"""Of the document; the number rises when a key changes its meaning or goes. docs/replay.md names every key."""
_OF_A_TURN: Final = ("transcript", "intent", "slots", "node", "reply")
_OF_A_CALL: Final = ("greeting", "ended_by", "disposition", "errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One version and what it made of the call."""

    name: str
    """What was asked: an address, a bot, a settings file, or "the tape"."""
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPair:
    """What the two made of the same words. None: no such turn."""

    spoken: str
    before: TurnOutcome | None
    after: TurnOutcome | None
    differs: tuple[str, ...]
    """Of transcript, intent, slots, node and reply, those that are not the same; all where a turn is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both sides, and what differs. Latencies never make a difference: they are never the same."""

    tape: str
    before: Side
    after: Side
    turns: tuple[TurnPair, ...]
    differs: tuple[str, ...]
    """Of the call as a whole: of greeting, ended_by, disposition and errors, those that are not the same."""

    latencies: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By name, then "before" or "after": p50, p90, p99 and max in ms; empty where nothing was measured."""

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not self.differs and not any(pair.differs for pair in self.turns)

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": SCHEMA, "same": self.same, **asdict(self)}


def compare(tape: str, before: Side, after: Side) -> Comparison:
    """Lay two outcomes of one tape side by side."""
    return Comparison(
        tape=tape,
        before=before,
        after=after,
        turns=tuple(_pairs(before.outcome.turns, after.outcome.turns)),
        differs=tuple(name for name in _OF_A_CALL if _differs(before.outcome, after.outcome, name)),
        latencies={
            name: {"before": _quantiles(before.outcome, name), "after": _quantiles(after.outcome, name)}
            for name in ("first_utterance_ms", "endpoint_to_reply_ms", "speech_end_to_reply_ms")
        },
    )


def _quantiles(outcome: Outcome, name: str) -> dict[str, float]:
    places = (outcome, *outcome.turns)
    values = [getattr(place, name) for place in places if hasattr(place, name)]
    return quantiles(value for value in values if value is not None)


def _pairs(before: Sequence[TurnOutcome], after: Sequence[TurnOutcome]) -> list[TurnPair]:
    """Turns with the same words in order; where one side has more of them, the rest stand alone."""
    old, new = _by_spoken(before), _by_spoken(after)
    pairs = []
    for spoken in _in_order(list(old), list(new)):
        ours, theirs = old.get(spoken, []), new.get(spoken, [])
        for at in range(max(len(ours), len(theirs))):
            one = ours[at] if at < len(ours) else None
            other = theirs[at] if at < len(theirs) else None
            differs = tuple(name for name in _OF_A_TURN if one is None or other is None or _differs(one, other, name))
            pairs.append(TurnPair(spoken=spoken, before=one, after=other, differs=differs))
    return pairs


def _by_spoken(turns: Sequence[TurnOutcome]) -> dict[str, list[TurnOutcome]]:
    found: defaultdict[str, list[TurnOutcome]] = defaultdict(list)
    for turn in turns:
        found[turn.spoken].append(turn)
    return dict(found)


def _in_order(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """All names, those of `second` alone behind the one that they followed there."""
    merged = list(first)
    at = 0
    for name in second:
        if name in merged:
            at = merged.index(name) + 1
        else:
            merged.insert(at, name)
            at += 1
    return merged


def _differs(one: object, other: object, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))
