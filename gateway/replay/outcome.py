"""What came of one call, as values that can be kept and compared: words, meanings, replies, latencies, the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.replay.call_ear import CallResult

__all__ = ["Outcome", "TurnOutcome", "outcome_of", "read_outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome:
    """One caller turn."""

    spoken: str
    """What the caller was saying: a recording's name, or a stretch of speech of the tape's."""
    transcript: str = ""
    intent: str = ""
    score: float = 0.0
    slots: tuple[tuple[str, str], ...] = ()
    """Name and value."""
    node: str = ""
    """Of the flow, that replied."""
    reply: str = ""
    endpoint_to_reply_ms: float | None = None
    speech_end_to_reply_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The whole call."""

    greeting: str = ""
    first_utterance_ms: float | None = None
    turns: tuple[TurnOutcome, ...] = ()
    ended_by: str = ""
    disposition: str = ""
    errors: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """JSON-ready; `read_outcome` reads it."""
        return asdict(self)


def outcome_of(result: CallResult) -> Outcome:
    """A call that has ended."""
    return Outcome(
        greeting=result.greeting,
        first_utterance_ms=_rounded(result.first_utterance_ms),
        turns=tuple(
            TurnOutcome(
                spoken=turn.spoken,
                transcript=turn.transcript,
                intent=turn.intent,
                score=turn.score,
                slots=tuple((str(slot["name"]), str(slot["value"])) for slot in turn.slots),
                node=turn.node,
                reply=turn.reply,
                endpoint_to_reply_ms=_rounded(turn.timing.get("endpoint_to_reply_ms")),
                speech_end_to_reply_ms=_rounded(turn.speech_end_to_reply_ms),
            )
            for turn in result.turns
        ),
        ended_by=result.ended_by,
        disposition=result.disposition,
        errors=tuple(result.errors),
    )


def read_outcome(document: Mapping[str, Any]) -> Outcome:
    """What `Outcome.document` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not write this.
    """
    turns = tuple(
        TurnOutcome(**{**turn, "slots": tuple((str(name), str(value)) for name, value in turn["slots"])})
        for turn in document["turns"]
    )
    return Outcome(**{**document, "turns": turns, "errors": tuple(document["errors"])})


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 2)
