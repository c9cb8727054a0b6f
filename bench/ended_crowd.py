"""Many calls that have ended, as their records tell it: for pictures of outcomes. No call stands behind them."""

from __future__ import annotations

import json
import random
import time
from typing import Final

import redis.asyncio as redis

from dialogue.state import DialogueState
from gateway.records.results import Origin, record_of

__all__ = ["publish_ended"]

_ENDINGS: Final = (
    # ended by, disposition, outcome, node, how often
    ("bot", "promise_to_pay", "promise_to_pay", "goodbye", 9),
    ("bot", "already_paid", "already_paid", "goodbye", 4),
    ("bot", "dispute", "dispute", "goodbye", 2),
    ("bot", "call_back", None, "call_back", 2),
    ("bot", "no_answer", None, "nobody_there", 2),
    ("transfer", "transfer", None, "transfer_to_person", 3),
    ("caller", None, None, "ask_date", 3),
    ("lost", None, None, "check_account", 1),
)
_BOTS: Final = (
    ("bill-reminder", "8c07996d7dac"),
    ("bill-reminder", "77d0c1e5a402"),
    ("bill-reminder-zh", "1f04ab22c9e1"),
)
_APART_S: Final = 41.0


async def publish_ended(redis_url: str, stream: str, count: int, *, seed: int = 7) -> None:
    """Put so many records into the stream, the oldest first, the newest a minute old."""
    pick = random.Random(seed)
    client = redis.Redis.from_url(redis_url)
    for at in range(count):
        ended_by, disposition, outcome, node, _ = pick.choices(_ENDINGS, [ending[-1] for ending in _ENDINGS])[0]
        bot, model = pick.choice(_BOTS)
        turns = pick.randint(1, 9)
        ended_at = time.time() - 60.0 - (count - at) * _APART_S
        state = DialogueState(
            node=node,
            turns=turns,
            total_no_match=sum(pick.random() < 0.08 for _ in range(turns)),
            total_no_input=sum(pick.random() < 0.04 for _ in range(turns)),
            outcome=outcome,
            disposition=disposition,
            ended_by=ended_by,
            started_at=ended_at - 6.0 - 9.0 * turns,
            ended_at=ended_at,
        )
        origin = Origin(
            call_id=f"desk-{at:03d}", bot=bot, bot_version="3", language="en", models=(("nlu", model),), recorded=False
        )
        record = record_of(origin, state, ended_by=ended_by, now=ended_at)
        await client.xadd(stream, {"call_id": origin.call_id, "caller": "", "record": json.dumps(record)})
    await client.aclose()
