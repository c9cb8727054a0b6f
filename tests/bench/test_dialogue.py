"""The dialogue bench, small; and what it is there to show: a turn is one round trip."""

from __future__ import annotations

import asyncio

import pytest

from bench.dialogue import TURNS, measure_redis, measure_step, talk
from dialogue.connection import connect
from dialogue.loop import DialogueLoop
from dialogue.store import MemoryStore, RedisStore
from tests.dialogue.bot_calls import BILL_REMINDER

pytestmark = pytest.mark.redis


async def test_the_rows() -> None:
    rows = [measure_step(dialogues=20, turns=6), await talk("memory", MemoryStore(), dialogues=20, turns=6, at_once=4)]
    for row in rows:
        figures = row.figures()
        assert (figures["dialogues"], figures["turns"]) == (20, 120) and len(row.turn_ms) == 120


async def test_the_row_over_redis_counts_one_script_a_turn(redis_url: str) -> None:
    row = await measure_redis(redis_url, dialogues=8, turns=3, at_once=4)
    assert row.server_us is not None and row.server_us > 0
    client = connect(redis_url, timeout_s=5)
    counts = await client.info("commandstats")
    await client.aclose()
    # Eight claims, eight starts, twenty-four turns; and a script that the server does not know yet is sent again.
    assert 40 <= counts["cmdstat_evalsha"]["calls"] <= 60


async def test_a_turn_is_one_command_to_the_server(redis_url: str) -> None:
    client, watcher = connect(redis_url, timeout_s=5), connect(redis_url, timeout_s=None)
    loop = DialogueLoop(BILL_REMINDER, RedisStore(client), "one-round-trip")
    await loop.open()
    sent: list[str] = []
    async with asyncio.timeout(20), watcher.monitor() as commands:
        for event in TURNS:
            await loop.handle(event)
        await client.echo("over")
        async for command in commands.listen():
            if command["client_type"] == "lua":
                continue  # what the script does on the server
            if "over" in command["command"]:
                break
            sent.append(command["command"].split()[0])
    assert sent == ["EVALSHA"] * len(TURNS)
    await client.aclose()
    await watcher.aclose()
