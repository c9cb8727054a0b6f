"""Webhooks against a real HTTP server: what is sent, what is tried again, what is never asked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from dialogue.bots import Bot, load_bot
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import MemoryStore
from dialogue.turns import CallStarted, CallWebhook, HangUp, Say, WebhookAnswered
from gateway.http.answer_store import AnswerStore
from gateway.http.bodies import ChatAnswer, ChatRequest
from gateway.http.text_dialogues import TextDialogues
from gateway.metrics import Metrics
from gateway.outside.webhooks import Webhooks
from gateway.settings import Settings, SettingsError, load
from tests.gateway.harness import rig, silence, speech, write_bot
from tests.gateway.http_harness import ScriptedInference
from tests.gateway.operator import Answer, Operator, Posted, operator, slow

pytestmark = pytest.mark.unit

FLOW = """
start: greet
slots: {ticket: {type: digits}}
webhooks: {note: {url: "URL", send: [ticket], take: {ticket: id}, timeout_ms: 300}}
nodes:
  greet: {say: Hello this is a bot, no_input: {after_ms: never}, on: {affirm: note, more: {stay: ask}}}
  note: {say: One moment, webhook: note, then: noted, failed: sorry}
  noted: {say: "It is {ticket}", hang_up: noted}
  sorry: {say: Sorry, hang_up: not_noted}
"""
ASKED = CallWebhook(webhook="note", node="note", act=2, send=(("ticket", "4417"),))
SECRET = "a secret that nobody guesses, ever"


@pytest.fixture
def crm() -> Iterator[Operator]:
    with operator() as made:
        yield made


def settings_for(crm: Operator, **more: Any) -> Settings:
    flags = {"webhooks.hosts": (crm.host,), **{f"webhooks.{name}": value for name, value in more.items()}}
    return load(environ={}, flags=flags)


def bot_for(folder: Path, url: str) -> Bot:
    return load_bot(write_bot(folder / "tester", flow=FLOW.replace("URL", url)))


async def ask(settings: Settings, bot: Bot) -> tuple[WebhookAnswered, dict[str, float]]:
    """The event, and how often each outcome was counted."""
    registry = CollectorRegistry()
    webhooks = Webhooks(settings.webhooks, Metrics(registry))
    try:
        event = await webhooks.ask(ASKED, bot=bot, call_id="c1", round_id=3)
    finally:
        await webhooks.aclose()
    names = ("answered", "failed", "refused")
    counts = {n: registry.get_sample_value("voicegate_webhooks_total", {"outcome": n}) or 0 for n in names}
    return event, {name: count for name, count in counts.items() if count}


async def test_what_is_sent_and_what_comes_back(tmp_path: Path, crm: Operator) -> None:
    crm.answer = lambda posted: (
        200,
        b'{"id": 4711, "ok": true, "sum": -1e16, "who": "Mary", "more": [1], "none": null}',
    )
    event, counts = await ask(settings_for(crm, secret=SECRET), bot_for(tmp_path, crm.url))
    assert event == WebhookAnswered(
        webhook="note", act=2, answer=(("id", "4711"), ("ok", "yes"), ("sum", "-10000000000000000"), ("who", "Mary"))
    )
    assert counts == {"answered": 1}
    (posted,) = crm.posted
    assert posted.path == "/crm" and posted.headers["Idempotency-Key"] == "c1/2"
    assert posted.body == {
        "call_id": "c1",
        "round_id": 3,
        "bot": "tester",
        "webhook": "note",
        "slots": {"ticket": "4417"},
    }
    at, _, digest = posted.headers["X-Voicegate-Signature"].partition(",v1=")
    expected = hmac.new(SECRET.encode(), at.removeprefix("t=").encode() + b"." + posted.raw, hashlib.sha256)
    assert digest == expected.hexdigest()


TAKING = """
start: look_up
slots:
  balance: {type: amount}
  dust: {type: amount}
  overdue: {type: yes_no}
  points: {type: number}
  tier: {type: choice, choices: {gold_plan: [gold], basic: [plain]}}
  rate: {type: text}
webhooks:
  note:
    url: "URL"
    send: [tier]
    take: {balance: balance, dust: dust, overdue: overdue, points: points, tier: tier, rate: rate}
nodes:
  look_up: {say: One moment, webhook: note, then: told, failed: sorry}
  told: {say: "{balance}", hang_up: told}
  sorry: {say: "-", hang_up: failed}
"""


@pytest.mark.parametrize(("language", "said"), [("en", "minus 120 dollars and 50 cents"), ("zh", "负一百二十元五角")])
async def test_what_a_system_answers_fills_slots_in_every_language(
    tmp_path: Path, crm: Operator, language: str, said: str
) -> None:
    crm.answer = lambda posted: (
        200,
        b'{"balance": -120.5, "dust": 5.55e-17, "overdue": false, "points": 12.0, "tier": "gold_plan", "rate": 1e-7}',
    )
    folder = tmp_path / "taking"
    folder.mkdir()
    (folder / "bot.yaml").write_text(f"name: taking\nlanguage: {language}\nflow: flow.yaml\n")
    (folder / "flow.yaml").write_text(TAKING.replace("URL", crm.url))
    bot = load_bot(folder)
    state, _ = step(bot.flow, DialogueState(), CallStarted(today="2026-11-21"))
    event, counts = await ask(settings_for(crm), bot)
    assert counts == {"answered": 1}
    state, (say, hang_up) = step(bot.flow, state, replace(event, act=state.acts))
    assert {name: slot.value for name, slot in state.slots.items()} == {
        "balance": "-120.50",
        "dust": "0.00",
        "overdue": "no",
        "points": "12",
        "tier": "gold_plan",
        "rate": "0.0000001",
    }
    assert isinstance(say, Say) and say.text == said
    assert hang_up == HangUp(disposition="told")


@pytest.mark.parametrize("trouble", [503, 429, 408, -1])
async def test_what_may_pass_is_tried_again_under_the_same_key(tmp_path: Path, crm: Operator, trouble: int) -> None:
    crm.answer = lambda posted: (trouble, b"") if len(crm.posted) < 3 else (200, b'{"id": "1"}')
    event, counts = await ask(settings_for(crm), bot_for(tmp_path, crm.url))
    assert event.answer == (("id", "1"),) and counts == {"answered": 1}
    assert [posted.headers["Idempotency-Key"] for posted in crm.posted] == ["c1/2"] * 3


@pytest.mark.parametrize(
    ("answer", "posted", "outcome"),
    [
        ((503, b""), 3, "failed"),
        ((400, b""), 1, "refused"),
        ((302, b""), 1, "refused"),
        ((200, b"<html>"), 1, "refused"),
        ((200, b"[1]"), 1, "refused"),
        ((200, b"x" * 70_000), 1, "refused"),
        ((200, b"[" * 30_000), 1, "refused"),
        ((200, b'{"id": "\\ud800"}'), 1, "refused"),
    ],
)
async def test_without_a_good_answer_there_is_none(
    tmp_path: Path, crm: Operator, answer: Answer, posted: int, outcome: str
) -> None:
    crm.answer = lambda request: answer
    event, counts = await ask(settings_for(crm), bot_for(tmp_path, crm.url))
    assert event.answer is None and counts == {outcome: 1}
    assert len(crm.posted) == posted


async def test_an_empty_answer_is_an_answer(tmp_path: Path, crm: Operator) -> None:
    crm.answer = lambda posted: (204, b"")
    event, _ = await ask(settings_for(crm), bot_for(tmp_path, crm.url))
    assert event.answer == ()


async def test_a_slow_system_is_waited_for_no_longer_than_was_said(tmp_path: Path, crm: Operator) -> None:
    crm.answer = slow(0.6)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    event, counts = await ask(settings_for(crm, retries=5, total_s=0.5), bot_for(tmp_path, crm.url))
    assert event.answer is None and counts == {"failed": 1}
    assert loop.time() - begun < 2


async def test_a_system_that_is_not_there(tmp_path: Path, crm: Operator) -> None:
    settings = load(environ={}, flags={"webhooks.hosts": ("127.0.0.1",), "webhooks.retries": 1})
    event, counts = await ask(settings, bot_for(tmp_path, "http://127.0.0.1:9/"))
    assert event.answer is None and counts == {"failed": 1}


@pytest.mark.parametrize(
    ("url", "hosts", "why"),
    [
        ("http://127.0.0.1:9/", (), "not among webhooks.hosts"),
        ("https://crm.example/notes", ("example",), "not among webhooks.hosts"),
        ("https://crm.example:444/notes", ("crm.example:443",), "not among webhooks.hosts"),
        ("https://crm.example@evil.example/", ("crm.example",), "not among webhooks.hosts"),
        ("http://crm.example/notes", ("crm.example",), "without encryption"),
    ],
)
async def test_hosts_that_may_not_be_asked_are_told_before_and_never_asked(
    tmp_path: Path, url: str, hosts: tuple[str, ...], why: str
) -> None:
    settings = load(environ={}, flags={"webhooks.hosts": hosts})
    bot = bot_for(tmp_path, url)
    webhooks = Webhooks(settings.webhooks, Metrics(CollectorRegistry()))
    (told,) = webhooks.refused_hosts(bot)
    await webhooks.aclose()
    assert why in told and "webhook note" in told
    event, counts = await ask(settings, bot)
    assert event.answer is None and counts == {"refused": 1}


@pytest.mark.parametrize("at", [":99999/notes", ":abc/notes", ":9/é"])
async def test_an_address_that_nothing_can_be_sent_to_is_refused_like_a_host(tmp_path: Path, at: str) -> None:
    """The bot's checker refuses it; what it overlooks must lose no call."""
    bot = bot_for(tmp_path, "http://127.0.0.1:9/")
    note = replace(bot.flow.webhooks["note"], url=f"http://127.0.0.1{at}")
    bot = replace(bot, flow=replace(bot.flow, webhooks={"note": note}))
    event, counts = await ask(load(environ={}, flags={"webhooks.hosts": ("127.0.0.1",)}), bot)
    assert event.answer is None and counts == {"refused": 1}


async def test_a_name_that_no_host_can_have_is_refused(tmp_path: Path) -> None:
    settings = load(environ={}, flags={"webhooks.hosts": ("crm..example",)})
    event, counts = await ask(settings, bot_for(tmp_path, "https://crm..example/"))
    assert event.answer is None and counts == {"refused": 1}


async def test_nothing_sent_or_answered_goes_to_a_log(
    tmp_path: Path, crm: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    crm.answer = lambda posted: (400, b'{"error": "no such Mary Brown"}')
    with caplog.at_level(logging.DEBUG):
        await ask(settings_for(crm, secret=SECRET), bot_for(tmp_path, crm.url + "?token=s3cret"))
    assert "answers 400" in caplog.text
    for private in ("4417", "Mary", "s3cret", SECRET):
        assert private not in caplog.text


def test_a_secret_that_can_be_guessed_is_a_fault() -> None:
    with pytest.raises(SettingsError, match="webhooks.secret: shorter"):
        load(environ={"VOICEGATE_WEBHOOKS_SECRET": "short"})


@pytest.mark.parametrize(
    ("answer", "words", "reason"),
    [((200, b'{"id": "12"}'), "It is one two", "noted"), ((404, b""), "Sorry", "not_noted")],
)
async def test_a_call_asks_and_goes_on_by_the_answer(
    tmp_path: Path, crm: Operator, answer: Answer, words: str, reason: str
) -> None:
    def answered(posted: Posted) -> Answer:
        return answer

    crm.answer = answered
    environ = {"VOICEGATE_WEBHOOKS_HOSTS": crm.host}
    async with rig(tmp_path, flow=FLOW.replace("URL", crm.url), environ=environ) as gateway:
        peer = await gateway.peer(start={"call_id": "asks"})
        await peer.event("ready")
        await peer.send(speech())
        await peer.send(silence(1500))
        assert (await peer.event("hangup", timeout_s=10))["reason"] == reason
        said = [event["text"] for event in peer.events if event["type"] == "prompt"]
        assert said[-2:] == ["One moment", words]
    (posted,) = crm.posted
    assert posted.headers["Idempotency-Key"] == "asks/1" and posted.body["round_id"] == 1


LOOK_UP = """
start: look_up
slots: {ticket: {type: digits}}
webhooks: {note: {url: "URL", take: {ticket: id}, timeout_ms: 300}}
nodes:
  look_up: {say: One moment, webhook: note, then: greet, failed: sorry}
  greet:
    say: "It is {ticket}"
    ask: "Again?"
    no_input: {after_ms: never}
    on: {affirm: look_up, more: {say: More, stay: ask}}
  sorry: {say: Sorry, hang_up: not_found}
"""


@asynccontextmanager
async def conversations(redis_url: str, bot: Bot, settings: Settings) -> AsyncIterator[TextDialogues]:
    """Answers are kept in Redis, dialogues in memory; both are gone with it."""
    webhooks = Webhooks(settings.webhooks, Metrics(CollectorRegistry()))
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    answers = AnswerStore(client, ttl_s=60)
    try:
        yield TextDialogues(
            {bot.name: bot}, ScriptedInference(), MemoryStore(), answers, timeout_s=1, webhooks=webhooks
        )
    finally:
        async for key in client.scan_iter("vg:{chat/tester/*"):
            await client.delete(key)
        await webhooks.aclose()
        await client.aclose()


async def forget(redis_url: str, uid: str, seq: int) -> None:
    """As if the request had died before its answer was kept."""
    async with redis.Redis.from_url(redis_url) as client:
        assert await client.delete(f"vg:{{chat/tester/{uid}}}:answer:{seq}") == 1


@pytest.mark.redis
@pytest.mark.parametrize("greeted", [True, False])
async def test_a_conversation_may_begin_with_a_look_up(
    tmp_path: Path, redis_url: str, crm: Operator, greeted: bool
) -> None:
    crm.answer = lambda posted: (200, b'{"id": "12"}')
    bot = load_bot(write_bot(tmp_path / "tester", flow=LOOK_UP.replace("URL", crm.url)))
    async with conversations(redis_url, bot, settings_for(crm)) as served:

        async def say(seq: int, query: str) -> ChatAnswer:
            request = ChatRequest(uid="looks-up", seq=seq, query=query)
            first = await served.chat(request)
            await forget(redis_url, "looks-up", seq)
            assert await served.chat(request) == first
            return ChatAnswer.model_validate_json(first)

        if greeted:
            assert (await say(0, "")).reply == "One moment It is one two Again?"
            assert (await say(1, "more")).reply == "More Again?"
        else:
            assert (await say(1, "more")).reply == "It is one two Again? More Again?"
        assert (await say(2, "more")).state.turns == 2
    assert {posted.headers["Idempotency-Key"] for posted in crm.posted} == {"chat/tester/looks-up/1"}


@pytest.mark.redis
@pytest.mark.parametrize("status", [200, 404])
async def test_what_a_message_died_waiting_for_is_asked_again_before_the_next(
    tmp_path: Path, redis_url: str, crm: Operator, status: int
) -> None:
    crm.answer = lambda posted: (200, b'{"id": "12"}')
    bot = load_bot(write_bot(tmp_path / "tester", flow=LOOK_UP.replace("URL", crm.url)))
    async with conversations(redis_url, bot, settings_for(crm)) as served:
        await served.chat(ChatRequest(uid="dies", seq=0, query=""))
        asked = threading.Event()

        def slowly(posted: Posted) -> Answer:
            asked.set()
            time.sleep(0.2)
            return 503, b""

        crm.answer = slowly
        dying = asyncio.create_task(served.chat(ChatRequest(uid="dies", seq=1, query="yes")))
        assert await asyncio.to_thread(asked.wait, 5)
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
        crm.answer = lambda posted: (status, b'{"id": "34"}')
        crm.posted.clear()
        request = ChatRequest(uid="dies", seq=2, query="more")
        first = await served.chat(request)
        assert [(posted.headers["Idempotency-Key"], posted.body["round_id"]) for posted in crm.posted] == [
            ("chat/tester/dies/2", 2)
        ]
        answer = ChatAnswer.model_validate_json(first)
        if status == 200:
            assert answer.reply == "It is three four Again? More Again?"
            assert (answer.state.turns, answer.state.ended) == (2, False)
        else:
            assert (answer.reply, answer.state.disposition) == ("Sorry", "not_found")
        await forget(redis_url, "dies", 2)
        assert await served.chat(request) == first
        late = ChatAnswer.model_validate_json(await served.chat(ChatRequest(uid="dies", seq=1, query="yes")))
        assert late.reply.startswith("One moment")


@pytest.mark.redis
async def test_a_conversation_in_text_asks_too_and_its_retry_answers_the_same(
    tmp_path: Path, redis_url: str, crm: Operator
) -> None:
    crm.answer = lambda posted: (200, b'{"id": "12"}')
    settings, bot = settings_for(crm), bot_for(tmp_path, crm.url)
    webhooks = Webhooks(settings.webhooks, Metrics(CollectorRegistry()))
    client, store = redis.Redis.from_url(redis_url, decode_responses=True), MemoryStore()

    def served(ttl_s: int) -> TextDialogues:
        answers = AnswerStore(client, ttl_s=ttl_s)
        return TextDialogues({bot.name: bot}, ScriptedInference(), store, answers, timeout_s=1, webhooks=webhooks)

    request = ChatRequest(uid="texts", seq=1, query="yes")
    try:
        first = ChatAnswer.model_validate_json(await served(60).chat(request))
        assert first.reply == "One moment It is one two"
        await client.delete("vg:{chat/tester/texts}:answer:1")  # lost before it was kept; the steps were written
        again = ChatAnswer.model_validate_json(await served(60).chat(request))
        assert (again.reply, again.state) == (first.reply, first.state)
    finally:
        await webhooks.aclose()
        await client.aclose()
    assert {posted.headers["Idempotency-Key"] for posted in crm.posted} == {"chat/tester/texts/1"}
