"""What came of calls, counted from their records: by bot, its version, and the model that understood.

Records are read from their Redis stream in pieces, so that a long time of many calls delays nobody else's request.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import redis.asyncio as redis

__all__ = ["Outcome", "count_outcomes"]

_PIECE: Final = 500
_MOST: Final = 50_000


@dataclass(slots=True)
class Outcome:
    """The calls of one bot and model version."""

    bot: str
    bot_version: str
    model: str
    """Version of the model that answered last; empty where the bot has none."""
    calls: int = 0
    turns: int = 0
    duration_s: float = 0.0
    """Of all calls together, but for those whose beginning is not known."""
    timed: int = 0
    """Calls in `duration_s`."""
    ended_by: Counter[str] = field(default_factory=Counter)
    dispositions: Counter[str] = field(default_factory=Counter)
    """By the bot's words for how it went; "none" where it had none."""
    last_nodes: Counter[str] = field(default_factory=Counter)
    """Where the dialogue was at the end of calls that the caller ended, or that were lost."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one call's record."""
        self.calls += 1
        self.turns += record["turns"]
        if record["duration_s"] is not None:
            self.duration_s += record["duration_s"]
            self.timed += 1
        self.ended_by[record["ended_by"]] += 1
        self.dispositions[record["disposition"] or "none"] += 1
        if record["ended_by"] in ("caller", "lost"):
            self.last_nodes[record["node"]] += 1


async def count_outcomes(client: redis.Redis, stream: str, *, since: float) -> tuple[list[Outcome], bool]:
    """The outcomes of calls whose records were written from `since` (seconds since the epoch) on.

    Returns:
        The most frequent first; and whether all records were counted, of which there may be 50,000.

    Raises:
        RedisError, OSError: the server did not answer.
    """
    groups: dict[tuple[str, str, str], Outcome] = {}
    start, counted = str(int(since * 1000)), 0
    while counted < _MOST:
        found = cast("list[tuple[str, dict[str, str]]]", await client.xrange(stream, min=start, count=_PIECE))
        for entry_id, fields in found:
            record = json.loads(fields["record"])
            key = (record["bot"], record["bot_version"], record["models"].get("nlu", ""))
            groups.setdefault(key, Outcome(*key)).add(record)
            start = f"({entry_id}"
        counted += len(found)
        if len(found) < _PIECE:
            break
    return sorted(groups.values(), key=lambda outcome: -outcome.calls), counted < _MOST
