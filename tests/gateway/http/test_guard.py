"""Who may use the API, how often and how many at once; what a body and a request may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.auth import Scope, mint
from gateway.http.guard import TokenBuckets
from tests.gateway.harness import write_bot
from tests.gateway.http_harness import Api, ScriptedInference, api
from tests.gateway.provider import jwk, key_set, provider, signed_token

pytestmark = pytest.mark.redis

SECRET = "0123456789abcdef" * 4
INTENT = {"call_id": "guard", "round_id": 1, "text": "yes"}


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    return write_bot(tmp_path / "tester")


def bearer(*scopes: Scope, subject: str = "crm", secret: str = SECRET) -> dict[str, str]:
    return bearer_of(mint(secret, subject, scopes, 60))


def bearer_of(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Buckets.


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(10, burst_s=0.5)
    assert [buckets.take("a", 0.0) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.1)]
    assert buckets.take("a", 0.05) == pytest.approx(0.05)
    assert buckets.take("a", 0.11) == 0
    assert buckets.take("b", 0.0) == 0  # another identity's own


def test_a_rate_below_one_still_allows_one() -> None:
    buckets = TokenBuckets(0.1, burst_s=1)
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("a", 0.0) == pytest.approx(10)


def test_buckets_are_bounded_and_the_longest_unused_goes() -> None:
    buckets = TokenBuckets(1, burst_s=1, kept=3)
    for name in "abcad":  # b is the one not seen for longest
        buckets.take(name, 0.0)
    assert len(buckets) == 3
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0


@given(
    st.floats(0.1, 1000),
    st.floats(0.1, 5),
    st.lists(st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=200),
)
def test_no_stretch_of_time_lets_more_through_than_burst_and_rate(
    rate: float, burst_s: float, steps: list[float]
) -> None:
    buckets, now, taken = TokenBuckets(rate, burst_s=burst_s), 0.0, 0
    for step in steps:
        now += step
        wait_s = buckets.take("a", now)
        taken += wait_s == 0
        assert wait_s <= 1 / rate + 1e-9
    assert taken <= max(1, rate * burst_s) + rate * now + 1e-6


# Tokens and scopes, at the door.


@pytest.mark.parametrize("path", ["/v1/intent", "/v1/chat"])
async def test_a_token_with_the_scope_opens_and_others_do_not(redis_url: str, bot: Path, path: str) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_AUTH_TOKENS": "a-fixed-token-of-ours"}
    async with api(redis_url, bot, environ=environ) as served:

        async def status(headers: dict[str, str]) -> int:
            # No body: who may not ask is told so before the body is looked at.
            answer = await served.client.post(path, headers=headers)
            body = answer.json()
            assert set(body) >= {"code", "message"}
            assert SECRET not in answer.text and "eyJ" not in answer.text and "fixed-token" not in answer.text
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert (body["code"], "Authorization: Bearer" in body["message"]) == ("unauthorized", True)
            if answer.status_code == 403:
                assert (body["code"], "scope chat" in body["message"]) == ("forbidden", True)
            return answer.status_code

        for good in (
            bearer(Scope.CHAT),
            bearer(Scope.CALL),  # a call is the same dialogue, spoken
            bearer(Scope.ADMIN),
            {"Authorization": "Bearer a-fixed-token-of-ours"},
        ):
            assert await status(good) == 422
        assert await status({}) == 401
        assert await status(bearer(Scope.CHAT, secret="y" * 40)) == 401
        assert await status({"Authorization": "Bearer a-fixed-token-of-theirs"}) == 401
        assert await status(bearer(Scope.MONITOR)) == 403


async def test_a_chat_token_opens_nothing_else(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as served:
        answer = await served.client.get("/metrics", headers=bearer(Scope.CHAT))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "scope monitor" in answer.json()["message"]


async def test_a_provider_s_tokens_open_and_its_rotated_keys_soon(
    redis_url: str, bot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.key_set.UNKNOWN_EVERY_S", 0.0)
    with provider() as identities:
        identities.document = key_set(jwk("one"))
        environ = {"VOICEGATE_AUTH_JWKS": identities.url, "VOICEGATE_AUTH_AUDIENCE": "voicegate"}
        async with api(redis_url, bot, environ=environ) as served:

            async def opens(token: str) -> None:
                """Refused while the set is on its way, then served."""
                async with asyncio.timeout(20):
                    while (await served.client.get("/metrics", headers=bearer_of(token))).status_code != 200:
                        await asyncio.sleep(0.005)

            await opens(signed_token("one", scope="monitor"))
            identities.document = key_set(jwk("two"))
            await opens(signed_token("two", scope="monitor"))
            for key, status in (("two", 200), ("one", 401)):
                answer = await served.post("/v1/intent", INTENT, headers=bearer_of(signed_token(key)))
                assert answer.status_code == status


async def test_without_authentication_only_this_machine_is_served(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot) as served:
        for peer, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 403)):
            transport = httpx.ASGITransport(app=served.app, client=(peer, 5))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                assert (await client.post("/v1/intent", json=INTENT)).status_code == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8080", None, 200),
        ("[::1]:8080", None, 200),
        ("localhost:8080", "http://localhost:8080", 200),
        ("localhost:8080", "https://desk.example.com", 200),
        ("localhost:8080", "https://elsewhere.example", 403),
        ("localhost:8080", "null", 403),
        ("rebound.example", None, 403),
        ("rebound.example", "http://rebound.example", 403),
    ],
)
async def test_without_authentication_pages_of_other_sites_are_kept_out(
    redis_url: str, bot: Path, host: str, origin: str | None, status: int
) -> None:
    environ = {"VOICEGATE_AUTH_ORIGINS": "https://desk.example.com"}
    async with api(redis_url, bot, environ=environ) as served:
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        answer = await served.client.post("/v1/intent", json=INTENT, headers=headers)
        assert answer.status_code == status
        assert status == 200 or answer.json()["code"] == "foreign_page"


async def test_a_token_is_good_from_any_page(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as served:
        headers = {**bearer(Scope.CHAT), "Host": "gateway.example", "Origin": "https://elsewhere.example"}
        assert (await served.client.post("/v1/intent", json=INTENT, headers=headers)).status_code == 200


# Rate, concurrency, time.


async def test_one_identity_s_rate_and_nobody_else_s(redis_url: str, bot: Path) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_API_REQUESTS_PER_S": "1"}
    async with api(redis_url, bot, environ=environ) as served:
        ann, bob = bearer(Scope.CHAT, subject="ann"), bearer(Scope.CHAT, subject="bob")
        answers = [await served.post("/v1/intent", INTENT, headers=ann) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["code"] == "too_many_requests"
        assert answers[2].headers["retry-after"] == "1"
        assert (await served.post("/v1/intent", INTENT, headers=bob)).status_code == 200
        assert (await served.client.get("/healthz")).status_code == 200


async def hanging(inference: ScriptedInference, served: Api, many: int) -> list[asyncio.Task[httpx.Response]]:
    """Requests that wait for the model."""
    inference.gate.clear()
    bodies = [{**INTENT, "call_id": f"hanging-{id(served)}-{number}"} for number in range(many)]
    tasks = [asyncio.create_task(served.post("/v1/intent", body)) for body in bodies]
    async with asyncio.timeout(20):
        while len(inference.asked) < many:
            await asyncio.sleep(0.005)
    return tasks


async def test_one_request_too_many_is_told_when_to_come_back(redis_url: str, bot: Path) -> None:
    inference = ScriptedInference()
    async with api(redis_url, bot, inference=inference, environ={"VOICEGATE_API_CONCURRENCY": "3"}) as served:
        under_way = await hanging(inference, served, 3)
        busy = await served.post("/v1/chat", {"uid": "u", "seq": 0, "query": ""})
        assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "busy", "1")
        assert (await served.client.get("/readyz")).status_code == 503  # answered: no worker is there, and it says so
        inference.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*under_way)] == [200] * 3
        assert (await served.post("/v1/intent", INTENT)).status_code == 200


async def test_a_request_ends_in_its_time_and_leaves_its_place(redis_url: str, bot: Path) -> None:
    inference = ScriptedInference()
    environ = {"VOICEGATE_API_CONCURRENCY": "1", "VOICEGATE_API_TIMEOUT_S": "0.2"}
    async with api(redis_url, bot, inference=inference, environ=environ) as served:
        (slow,) = await hanging(inference, served, 1)
        answer = await slow
        assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
        assert "again is safe" in answer.json()["message"]
        inference.gate.set()
        assert (await served.post("/v1/intent", INTENT)).status_code == 200


async def test_a_body_that_never_comes_ends_in_the_same_time(redis_url: str, bot: Path) -> None:
    async with api(redis_url, bot, environ={"VOICEGATE_API_TIMEOUT_S": "0.2"}) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = "POST /v1/intent HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 50\r\n\r\n{"
        writer.write(head.encode())
        async with asyncio.timeout(20):
            assert b" 504 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


# Size.


async def test_a_body_that_is_too_large_is_refused_however_it_comes(redis_url: str, bot: Path) -> None:
    async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 300):
            yield data[at : at + 300]

    async with api(redis_url, bot, environ={"VOICEGATE_API_BODY_BYTES": "1024"}) as served:
        headers = {"content-type": "application/json"}
        for size, status in ((1024, 200), (1025, 413), (100_000, 413)):
            text = json.dumps(INTENT)
            data = (text[:-1] + " " * (size - len(text)) + "}").encode()
            sent: list[Any] = [data, in_pieces(data)]  # with Content-Length, and chunked
            for content in sent:
                answer = await served.client.post("/v1/intent", content=content, headers=headers)
                assert answer.status_code == status
                if status == 413:
                    assert answer.json()["code"] == "too_large"
                    assert "1024 bytes" in answer.json()["message"]
        assert served.metric("voicegate_http_requests_total", route="/v1/intent", status="413") >= 2
