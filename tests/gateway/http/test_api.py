"""`/v1/intent` and `/v1/chat` over a real socket: answers given once, conversations, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from gateway.http.bodies import ChatAnswer, IntentAnswer
from nlu.meaning import Meaning
from tests.gateway.harness import FLOW, write_bot
from tests.gateway.http_harness import ScriptedInference, api

pytestmark = pytest.mark.redis

GREETING = "Hello this is the test bot speaking to you now and for quite a while"
MORE = "Tell me more about that"

ACCOUNTS = """
start: greet
variables:
  amount: {type: amount}
slots:
  account: {type: digits, entity: number, length: 4}
no_input: {after_ms: never, prompts: [Are you there], give_up: bye}
no_match: {prompts: [Sorry], give_up: bye}
nodes:
  greet:
    say: [Hello, "You owe {amount}"]
    ask: Which account
    collect: account
    invalid: That is none
    then: bye
  bye:
    say: Good bye
    transfer: desk
"""

_numbers = count(1)


@pytest.fixture
def name() -> str:
    """A call or conversation of the test's own."""
    return f"http-{next(_numbers)}"


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    """The small bot, with a model by the look of it."""
    return write_bot(tmp_path / "tester")


async def keys_of(redis_url: str, pattern: str) -> dict[str, int]:
    """Keys and their remaining seconds."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    try:
        return {key: await client.ttl(key) async for key in client.scan_iter(match=pattern)}
    finally:
        await client.aclose()


async def drop(redis_url: str, *keys: str) -> None:
    client = redis.Redis.from_url(redis_url)
    try:
        assert await client.delete(*keys) == len(keys)
    finally:
        await client.aclose()


# Intents.


async def test_an_intent_with_its_slots(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        answer = await served.intent(name, 3, "yes number 42")
        assert answer == {
            "call_id": name,
            "round_id": 3,
            "intent": "affirm",
            "score": 0.901,
            "slots": [{"name": "number", "value": "42", "start": 11, "end": 13}],
        }
        assert served.inference.asked == [("tester", "yes number 42")]


async def test_the_same_round_answers_from_the_store_whatever_the_text(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        first = await served.intent(name, 1, "yes")
        assert await served.intent(name, 1, "yes") == first
        assert await served.intent(name, 1, "more") == first
        assert len(served.inference.asked) == 1
        assert (await served.intent(name, 2, "yes"))["score"] != first["score"]
    async with api(redis_url, bot) as another:  # as after a restart, or on another host
        assert await another.intent(name, 1, "yes") == first
        assert another.inference.asked == []


async def test_racing_requests_agree_on_one_answer(redis_url: str, bot: Path, name: str) -> None:
    inference = ScriptedInference()
    inference.gate.clear()
    async with api(redis_url, bot, inference=inference) as one, api(redis_url, bot) as other:
        waiting = [asyncio.create_task(one.intent(name, 1, "yes")) for _ in range(8)]
        async with asyncio.timeout(20):
            while len(inference.asked) < 8:
                await asyncio.sleep(0.005)
        quicker = await other.intent(name, 1, "yes")
        inference.gate.set()
        assert await asyncio.gather(*waiting) == [quicker] * 8


async def test_answers_expire_and_lie_under_the_calls_hash_tag(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot, environ={"VOICEGATE_REDIS_CALL_TTL_S": "120"}) as served:
        await served.intent(name, 7, "yes")
        await served.chat(name, 1, "more")
    (seconds,) = (await keys_of(redis_url, f"vg:{{{name}}}:intent:7")).values()
    assert 100 < seconds <= 120
    chat = await keys_of(redis_url, f"vg:{{chat/tester/{name}}}:*")
    assert {key.partition("}:")[2] for key in chat} == {"state", "answers", "order", "meaning:1", "answer:1"}
    assert all(100 < seconds <= 120 for seconds in chat.values())


async def test_nothing_said_is_out_of_scope_and_asks_no_model(redis_url: str, bot: Path, name: str) -> None:
    (bot / "bot.yaml").write_text((bot / "bot.yaml").read_text().replace("tester", "deaf").replace("nlu: nlu\n", ""))
    async with api(redis_url, write_bot(bot.with_name("hears")), bot) as served:
        assert (await served.intent(name, 1, "  "))["intent"] == "oos"
        without_model = await served.intent(name, 2, "yes", bot="deaf")
        assert (without_model["intent"], without_model["score"]) == ("oos", 0.0)
        assert served.inference.asked == []


async def test_the_bot_by_name_and_its_twin_by_language(redis_url: str, tmp_path: Path, name: str) -> None:
    first = write_bot(tmp_path / "tester")
    second = write_bot(tmp_path / "second")
    (second / "bot.yaml").write_text((second / "bot.yaml").read_text().replace("name: tester", "name: tester-two"))
    async with api(redis_url, first, second) as served:
        await served.intent(name, 1, "yes", bot="tester-two")
        await served.intent(name, 2, "yes", language="en-GB")
        assert [model for model, _ in served.inference.asked] == ["tester-two", "tester"]
        for wrong in ({"bot": "nobody"}, {"language": "zh"}):
            answer = await served.post("/v1/intent", {"call_id": name, "round_id": 9, "text": "yes", **wrong})
            assert (answer.status_code, answer.json()["code"]) == (422, "unknown_bot")
            assert "tester-two" in answer.json()["message"]


# Chat.


async def test_a_conversation_from_greeting_to_the_end(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        greeting = await served.chat(name, 0, "")
        assert (greeting["reply"], greeting["intent"], greeting["score"]) == (GREETING, "", 0.0)
        assert greeting["state"]["node"] == "greet" and greeting["state"]["turns"] == 0
        more = await served.chat(name, 1, "more 7")
        assert (more["reply"], more["intent"]) == (MORE, "more")
        assert more["slots"] == [{"name": "number", "value": "7", "start": 5, "end": 6}]
        bye = await served.chat(name, 2, "yes")
        assert (bye["uid"], bye["seq"], bye["reply"]) == (name, 2, "Good bye")
        assert bye["state"] == {
            "node": "bye", "turns": 2, "slots": {}, "ended": True, "disposition": "done", "transfer": None
        }  # fmt: skip
        after = await served.chat(name, 3, "yes")
        assert (after["reply"], after["state"]["ended"], after["state"]["turns"]) == ("", True, 3)


async def test_the_same_message_again_returns_the_same_and_changes_nothing(
    redis_url: str, bot: Path, name: str
) -> None:
    async with api(redis_url, bot) as served:
        said = [await served.chat(name, seq, text) for seq, text in enumerate(["", "more", "hm", "more"])]
        for seq, first in enumerate(said):
            assert await served.chat(name, seq, "yes") == first
        assert len(served.inference.asked) == 3
        assert (await served.chat(name, 4, "more"))["state"]["turns"] == 4


async def test_a_first_message_with_words_is_answered_without_the_greeting(
    redis_url: str, bot: Path, name: str
) -> None:
    async with api(redis_url, bot) as served:
        assert (await served.chat(name, 1, "more"))["reply"] == MORE
        silent = await served.chat(name, 2, "")
        assert (silent["reply"], silent["intent"], silent["state"]["turns"]) == ("I see", "oos", 2)


async def test_racing_messages_act_once(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as one, api(redis_url, bot) as other:
        answers = await asyncio.gather(*(served.chat(name, 1, "more") for served in (one, other) for _ in range(6)))
        assert answers == [answers[0]] * 12
        assert answers[0]["state"]["turns"] == 1
        assert (await other.chat(name, 2, "more"))["state"]["turns"] == 2


async def test_messages_that_cross_are_put_in_order_or_refused(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        bodies = [{"uid": name, "seq": seq, "query": "more"} for seq in range(1, 7)]
        answers = await asyncio.gather(*(served.post("/v1/chat", body) for body in bodies))
        assert {answer.status_code for answer in answers} <= {200, 409}
        done = [answer.json() for answer in answers if answer.status_code == 200]
        assert max(answer["state"]["turns"] for answer in done) == len(done)
        assert answers[-1].status_code == 200  # nothing comes after it


async def test_gaps_are_left_and_what_comes_too_late_is_refused(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        await served.chat(name, 3, "more")
        assert (await served.chat(name, 9, "more"))["state"]["turns"] == 2
        for seq in (0, 5):
            late = await served.post("/v1/chat", {"uid": name, "seq": seq, "query": "" if seq == 0 else "yes"})
            assert (late.status_code, late.json()["code"]) == (409, "old_seq")
            assert f"message {seq} is over" in late.json()["message"]
        assert len(served.inference.asked) == 2


async def test_an_old_message_whose_answer_has_expired_is_refused(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        await served.chat(name, 1, "more")
        await served.chat(name, 2, "more")
        tag = f"vg:{{chat/tester/{name}}}"
        await drop(redis_url, f"{tag}:answer:1", f"{tag}:meaning:1")
        answer = await served.post("/v1/chat", {"uid": name, "seq": 1, "query": "more"})
        assert (answer.status_code, answer.json()["code"]) == (409, "old_seq")
        assert (await served.chat(name, 2, "more"))["state"]["turns"] == 2


@pytest.mark.parametrize("seq", [0, 1])
async def test_an_answer_lost_before_it_was_kept_is_completed_by_the_retry(
    redis_url: str, bot: Path, name: str, seq: int
) -> None:
    """As where the process dies between the dialogue's step and its answer."""
    async with api(redis_url, bot) as served:
        said = [await served.chat(name, number, "more" if number else "") for number in range(seq + 1)]
        asked = len(served.inference.asked)
        await drop(redis_url, f"vg:{{chat/tester/{name}}}:answer:{seq}")
        assert await served.chat(name, seq, "more" if seq else "") == said[seq]
        assert len(served.inference.asked) == asked


async def test_a_conversation_goes_on_in_another_process(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as before:
        await before.chat(name, 0, "")
        first = await before.chat(name, 1, "more")
    async with api(redis_url, bot) as after:
        assert await after.chat(name, 1, "more") == first
        assert (await after.chat(name, 2, "yes"))["state"]["turns"] == 2


async def test_variables_come_as_metadata_and_are_not_told(redis_url: str, tmp_path: Path, name: str) -> None:
    bot = write_bot(tmp_path / "tester", flow=ACCOUNTS)
    async with api(redis_url, bot) as served:
        missing = await served.post("/v1/chat", {"uid": name, "seq": 0, "query": ""})
        assert (missing.status_code, missing.json()["code"]) == (422, "bad_metadata")
        assert "amount" in missing.json()["message"]
        greeting = await served.chat(name, 0, "", metadata={"amount": "12.50"})
        assert greeting["reply"] == "Hello You owe 12 dollars and 50 cents Which account"
        assert greeting["state"]["slots"] == {}
        done = await served.chat(name, 1, "it is 4417")
        assert done["state"]["slots"] == {"account": "4417"}
        assert (done["state"]["transfer"], done["state"]["ended"]) == ("desk", True)


async def test_a_conversation_at_a_node_that_is_gone_is_refused(redis_url: str, tmp_path: Path, name: str) -> None:
    bot = write_bot(tmp_path / "tester")
    async with api(redis_url, bot) as served:
        await served.chat(name, 1, "more")
    write_bot(bot, flow=FLOW.replace("greet", "welcome"))
    async with api(redis_url, bot) as changed:
        answer = await changed.post("/v1/chat", {"uid": name, "seq": 2, "query": "more"})
        assert (answer.status_code, answer.json()["code"]) == (409, "bot_changed")
        assert "new uid" in answer.json()["message"]


# What is refused.

SECRET_WORDS = "my-number-is-90210"


@pytest.mark.parametrize(
    ("path", "body", "faulty"),
    [
        ("/v1/intent", {}, {"call_id", "round_id", "text"}),
        ("/v1/intent", {"call_id": "", "round_id": -1, "text": 7}, {"call_id", "round_id", "text"}),
        ("/v1/intent", {"call_id": SECRET_WORDS + "/", "round_id": SECRET_WORDS, "text": "x"}, {"call_id", "round_id"}),
        ("/v1/intent", {"call_id": "c", "round_id": 2**60, "text": {"x": SECRET_WORDS}}, {"round_id", "text"}),
        ("/v1/intent", {"call_id": "c", "round_id": 1, "text": "\ud800" + SECRET_WORDS}, {"text"}),
        ("/v1/chat", {"uid": "a" * 129, "seq": 1.5, "query": None}, {"uid", "seq", "query"}),
        ("/v1/chat", {"uid": "a", "seq": 1, "query": "x", "metadata": {"a": [SECRET_WORDS]}}, {"metadata.a"}),
        ("/v1/chat", {"uid": "a", "seq": 1, "query": "x", "qery": SECRET_WORDS}, {"qery"}),
        ("/v1/chat", {"uid": "a", "seq": 1, "query": "x", "\ud800": 1}, {"body"}),
        ("/v1/chat", {"uid": "a", "seq": float("nan"), "query": "x"}, {"seq"}),
        ("/v1/chat", [SECRET_WORDS], {"body"}),
    ],
)
async def test_all_faults_of_a_body_are_told_without_what_stood_there(
    redis_url: str, bot: Path, path: str, body: Any, faulty: set[str]
) -> None:
    async with api(redis_url, bot) as served:
        answer = await served.client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        told = answer.json()
        assert (answer.status_code, told["code"]) == (422, "bad_request")
        assert {fault["where"] for fault in told["faults"]} == faulty
        assert all(fault["message"] in told["message"] for fault in told["faults"])
        assert SECRET_WORDS not in answer.text
        assert served.inference.asked == []


@pytest.mark.parametrize(
    ("content", "kind", "taught"),
    [
        (b'{"uid": "a"', "application/json", "is not JSON"),
        (b"", "application/json", "one JSON object"),
        (b'{"query": "\xff"}', "application/json", "one JSON object in UTF-8"),
        (b"[" * 60_000, "application/json", "not nested deeply"),
        (b'{"seq": ' + b"9" * 5000 + b"}", "application/json", "one JSON object"),
        (b'{"uid": "a", "seq": 1, "query": "q"}', "text/plain", "Content-Type: application/json"),
    ],
)
async def test_what_is_no_json_object(redis_url: str, bot: Path, content: bytes, kind: str, taught: str) -> None:
    async with api(redis_url, bot) as served:
        answer = await served.client.post("/v1/chat", content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 422)
        assert answer.json()["code"] == "bad_request"
        assert taught in answer.json()["message"]


async def test_text_that_is_too_long(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot, environ={"VOICEGATE_API_TEXT_CHARS": "10"}) as served:
        for path, body in (
            ("/v1/intent", {"call_id": "c", "round_id": 1, "text": "yes " * 3}),
            ("/v1/chat", {"uid": "c", "seq": 1, "query": "yes " * 3}),
        ):
            answer = await served.post(path, body)
            assert (answer.status_code, answer.json()["code"]) == (422, "too_long")
            assert "may have 10" in answer.json()["message"]


async def test_a_model_that_does_not_answer_is_told_and_the_retry_is_sound(
    redis_url: str, bot: Path, name: str
) -> None:
    inference = ScriptedInference()
    inference.gate.clear()
    async with api(redis_url, bot, inference=inference, environ={"VOICEGATE_LIMITS_REPLY_S": "0.1"}) as served:
        answer = await served.post("/v1/chat", {"uid": name, "seq": 1, "query": "more"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        inference.gate.set()
        assert (await served.chat(name, 1, "more"))["state"]["turns"] == 1


async def test_a_store_that_is_away(bot: Path) -> None:
    async with api("unix:///nowhere/redis.sock", bot) as served:
        for path, body in (
            ("/v1/intent", {"call_id": "c", "round_id": 1, "text": "yes"}),
            ("/v1/chat", {"uid": "c", "seq": 1, "query": "yes"}),
        ):
            answer = await served.post(path, body)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_fault_of_ours_is_one_line_without_the_callers_words(
    redis_url: str, bot: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Any, meaning: Meaning) -> IntentAnswer:
        raise RuntimeError(f"cannot digest {SECRET_WORDS}")

    monkeypatch.setattr(IntentAnswer, "of", broken)
    async with api(redis_url, bot) as served:
        answer = await served.post("/v1/intent", {"call_id": name, "round_id": 1, "text": SECRET_WORDS})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert served.metric("voicegate_http_requests_total", route="/v1/intent", status="500") == 1
    assert SECRET_WORDS not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


# The page and its description.


def references(node: Any) -> list[str]:
    """Every `$ref` in a document."""
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


async def test_the_description_is_whole_and_its_examples_are_true(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        document = (await served.client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        assert document["openapi"].startswith("3.")
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas
        operations = {path: document["paths"][path]["post"] for path in ("/v1/intent", "/v1/chat")}
        for path, operation in operations.items():
            assert operation["summary"] and operation["description"]
            assert {"200", "401", "403", "413", "422", "429", "503", "504"} <= set(operation["responses"])
            assert all(one["description"] for one in operation["responses"].values())
            assert operation["security"]
            (body,) = operation["requestBody"]["content"].values()
            for example in schemas[body["schema"]["$ref"].rpartition("/")[2]]["examples"]:
                example["uid" if path == "/v1/chat" else "call_id"] = name
                assert (await served.post(path, example)).status_code == 200
        for answer in (IntentAnswer, ChatAnswer):
            extra = answer.model_config["json_schema_extra"]
            assert isinstance(extra, dict) and isinstance(extra["examples"], list)
            for example in extra["examples"]:
                assert answer.model_validate(example, strict=True).model_dump() == example


async def test_the_page_loads_nothing_from_elsewhere(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot) as served:
        page = (await served.client.get("/docs")).text
        assert "http://" not in page and "https://" not in page
        for path in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
            assert path in page
            assert (await served.client.get(f"/static-offline-docs/{path}")).status_code == 200


async def test_requests_are_counted_by_route_and_status(redis_url: str, bot: Path, name: str) -> None:
    async with api(redis_url, bot) as served:
        await served.intent(name, 1, "yes")
        await served.post("/v1/chat", {})
        for stranger in ("/.env", "/wp-login.php", "/v1/chat/extra"):
            await served.client.get(stranger)

        def count_of(route: str, status: str) -> float:
            return served.metric("voicegate_http_requests_total", route=route, status=status)

        assert (count_of("/v1/intent", "200"), count_of("/v1/chat", "422"), count_of("other", "404")) == (1, 1, 3)
        assert served.metric("voicegate_http_request_seconds_count", route="/v1/intent") == 1


def test_every_error_code_is_documented_and_no_other_is() -> None:
    root = Path(__file__).parent.parent.parent.parent
    modules = ("api", "bodies", "edge", "errors", "guard")
    sources = "".join((root / "gateway" / "http" / f"{name}.py").read_text(encoding="utf-8") for name in modules)
    raised = set(re.findall(r"(?:HTTPStatus\.[A-Z_]+|code, message =|code=),?\s*\"([a-z_]+)\"", sources))
    of_the_framework = {"bad_request", "not_found", "method_not_allowed"}
    rows = re.findall(r"^\| \d{3} \| `(\w+)` \| ", (root / "docs" / "http-api.md").read_text(encoding="utf-8"), re.M)
    assert set(rows) == raised | of_the_framework
