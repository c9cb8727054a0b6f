"""A chat message whose request dies anywhere: its retry gives what an undisturbed one would have given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from dialogue.bots import load_bot
from dialogue.loop import DialogueLoop
from dialogue.store import Claim, MemoryStore, StateStore, StepWrite, StoreError, WriteResult
from gateway.calls.bot_choice import UnknownBotError, choose_bot
from gateway.http.answer_store import AnswerStore
from gateway.http.bodies import ChatAnswer, ChatRequest
from gateway.http.text_dialogues import TextDialogues
from gateway.metrics import Metrics
from gateway.outside.webhooks import Webhooks
from gateway.settings import load
from tests.gateway.harness import write_bot
from tests.gateway.http_harness import ScriptedInference

pytestmark = pytest.mark.redis

T = TypeVar("T")
_numbers = count(1)


class Mishaps:
    """Counts what is asked of the stores, and lets one of it fail: before it is done, or after."""

    def __init__(self) -> None:
        self.operations = 0
        self.fail_at: int | None = None
        self.after = False

    def before(self) -> None:
        self.operations += 1
        if self.operations == self.fail_at and not self.after:
            raise StoreError("went away")

    def done(self, result: T) -> T:
        if self.operations == self.fail_at and self.after:
            raise StoreError("did it, and went away")
        return result


class FlakyAnswers(AnswerStore):
    """The real one, with mishaps."""

    mishaps: Mishaps

    async def find(self, owner: str, *names: str) -> list[str | None]:
        self.mishaps.before()
        return self.mishaps.done(await super().find(owner, *names))

    async def keep(self, owner: str, name: str, answer: str) -> str:
        self.mishaps.before()
        return self.mishaps.done(await super().keep(owner, name, answer))


class FlakyStates:
    """Dialogue states with mishaps."""

    def __init__(self, store: StateStore, mishaps: Mishaps) -> None:
        self._store = store
        self._mishaps = mishaps

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        self._mishaps.before()
        return self._mishaps.done(await self._store.claim(call_id, owner=owner))

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        self._mishaps.before()
        return self._mishaps.done(await self._store.write(call_id, step))

    async def read(self, call_id: str) -> str | None:
        return await self._store.read(call_id)


@asynccontextmanager
async def dialogues(redis_url: str, folder: Path, mishaps: Mishaps) -> AsyncIterator[TextDialogues]:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    answers = FlakyAnswers(client, ttl_s=60)
    answers.mishaps = mishaps
    bot = load_bot(write_bot(folder / "tester"))
    inference = ScriptedInference()
    webhooks = Webhooks(load(environ={}).webhooks, Metrics(CollectorRegistry()))
    states = FlakyStates(MemoryStore(), mishaps)
    try:
        yield TextDialogues({"tester": bot}, inference, states, answers, timeout_s=1, webhooks=webhooks)
    finally:
        await webhooks.aclose()
        await client.aclose()


async def say(served: TextDialogues, uid: str, seq: int, query: str) -> ChatAnswer:
    answer = await served.chat(ChatRequest(uid=uid, seq=seq, query=query))
    return ChatAnswer.model_validate_json(answer)


def without_score(answer: ChatAnswer) -> ChatAnswer:
    """The scripted model answers each question with another score; whose it is does not matter here."""
    return answer.model_copy(update={"uid": "", "score": 0.0})


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("seq", [0, 1, 2])
async def test_a_message_that_dies_anywhere_is_completed_by_its_retry(
    redis_url: str, tmp_path: Path, seq: int, after: bool
) -> None:
    script = ["", "more 7", "more"]
    mishaps = Mishaps()
    async with dialogues(redis_url, tmp_path, mishaps) as served:

        async def until_then() -> str:
            uid = f"mishap-{next(_numbers)}"
            for number in range(seq):
                await say(served, uid, number, script[number])
            mishaps.operations = 0
            return uid

        undisturbed = await say(served, await until_then(), seq, script[seq])
        operations = mishaps.operations
        assert operations >= 4
        for fail_at in range(1, operations + 1):
            uid = await until_then()
            mishaps.fail_at, mishaps.after = fail_at, after
            with pytest.raises(StoreError):
                await say(served, uid, seq, script[seq])
            mishaps.fail_at = None
            completed = await say(served, uid, seq, script[seq])
            assert without_score(completed) == without_score(undisturbed)
            assert await say(served, uid, seq, script[seq]) == completed
            assert (await say(served, uid, seq + 1, "more")).state.turns == undisturbed.state.turns + 1


async def test_a_call_and_a_conversation_of_the_same_name_are_two(redis_url: str, tmp_path: Path) -> None:
    store = MemoryStore()
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    bot = load_bot(write_bot(tmp_path / "tester"))
    webhooks = Webhooks(load(environ={}).webhooks, Metrics(CollectorRegistry()))
    answers = AnswerStore(client, ttl_s=60)
    served = TextDialogues({"tester": bot}, ScriptedInference(), store, answers, timeout_s=1, webhooks=webhooks)
    call = DialogueLoop(bot, store, "both", today=lambda: date(2026, 11, 20))
    try:
        await call.open()
        assert (await say(served, "both", 1, "yes")).state.ended
        assert not call.state.ended
        assert await store.read("both") != await store.read("chat/tester/both")
    finally:
        await webhooks.aclose()
        await client.aclose()


def test_the_bot_is_the_named_one_or_its_twin(tmp_path: Path) -> None:
    bot = load_bot(write_bot(tmp_path / "tester"))
    kinds = {"first": "en", "first-zh": "zh", "first-es": "en", "other": "en"}
    bots = {name: replace(bot, name=name, language=language) for name, language in kinds.items()}
    for name, language, chosen in (
        (None, None, "first"),
        ("other", "", "other"),
        ("other", "EN_us", "other"),
        (None, "zh", "first-zh"),
        ("first", "zh-Hans-CN", "first-zh"),
        ("first-zh", None, "first-zh"),
    ):
        assert choose_bot(bots, name, language).name == chosen
    with pytest.raises(UnknownBotError, match=r"\(first, first-zh, first-es, other\), not 'third'"):
        choose_bot(bots, "third", None)
    for name, language in (("other", "zh"), ("first-zh", "en"), ("first", "es")):  # named like a twin, and yet none
        with pytest.raises(UnknownBotError, match=f"or its twin speaks; .*, not '{language}'"):
            choose_bot(bots, name, language)
