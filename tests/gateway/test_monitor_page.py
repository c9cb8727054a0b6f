"""The monitor page as it is served: its policy, who may watch, what came of calls. Its scripts: test_softphone.py and
test_monitor_page_browser.py."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio as redis
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from dialogue.state import DialogueState
from gateway.access.auth import Authenticator, Scope, mint
from gateway.access.origins import OriginPolicy
from gateway.http.errors import add_error_handlers
from gateway.http.guard import Guard
from gateway.http.pages_api import pages_router
from gateway.metrics import Metrics
from gateway.monitoring.outcomes_api import Outcome, outcomes_router
from gateway.records.results import CallRecords, Origin, done_key, record_of
from gateway.settings import load

pytestmark = pytest.mark.redis

SECRET = "x" * 40
STREAM = "vg:{results}:monitor-page"
OLDER = (
    *("version", "call_id", "bot", "bot_version", "models", "ended_by", "disposition", "node", "turns"),
    *("started_at", "ended_at", "duration_s"),
)


@asynccontextmanager
async def page(redis_url: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the page, its setup and the outcomes."""
    settings = load(environ=dict(environ or {}))
    authenticator = Authenticator(settings.auth)
    store = redis.Redis.from_url(redis_url, decode_responses=True)
    app = FastAPI()
    app.state.guard = Guard(authenticator, settings.api, OriginPolicy(settings.auth.origins, secure=False))
    add_error_handlers(app)
    app.include_router(pages_router(settings, [], authenticator))
    app.include_router(outcomes_router(store, STREAM))
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield client
    await store.aclose()


def bearer(*scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(SECRET, 'ann', scopes, 60)}"}


async def test_the_page_may_call_its_own_host_alone(redis_url: str) -> None:
    async with page(redis_url) as client:
        answer = await client.get("/monitor")
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["media-src"] == "blob:", "recordings, fetched with a token"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["permissions-policy"].startswith("microphone=(self)")
    assert answer.headers["x-frame-options"] == "DENY"


async def test_without_authentication_whoever_is_on_this_machine_may_do_everything(redis_url: str) -> None:
    async with page(redis_url, {"VOICEGATE_ENDPOINTING_PAUSE_MS": "320"}) as client:
        answer = await client.get("/monitor/setup.json")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["needs_token"], body["authorized"], body["who"]) == (False, True, "loopback")
    assert set(body["scopes"]) == {str(scope) for scope in Scope}
    assert body["pause_ms"] == 320
    assert body["recording"] is None


async def test_the_page_knows_what_is_recorded_and_tells_nobody_else(redis_url: str, tmp_path: Path) -> None:
    environ = {
        "VOICEGATE_AUTH_SECRET": SECRET,
        "VOICEGATE_RECORDING_BOTS": "bill,shop",
        "VOICEGATE_RECORDING_DIRECTORY": str(tmp_path),
        "VOICEGATE_RECORDING_KEEP_DAYS": "7",
    }
    async with page(redis_url, environ) as client:
        body = (await client.get("/monitor/setup.json", headers=bearer(Scope.MONITOR))).json()
        nobody = (await client.get("/monitor/setup.json")).json()
    assert body["recording"] == {"bots": ["bill", "shop"], "consent": "metadata", "keep_days": 7.0}
    assert nobody["recording"] is None


@pytest.mark.parametrize(
    ("held", "may"),
    [
        ([Scope.MONITOR], {"monitor"}),
        ([Scope.SUPERVISE], {"monitor", "supervise"}),
        ([Scope.MONITOR_RAW, Scope.SUPERVISE], {"monitor", "monitor:raw", "supervise"}),
        ([Scope.CALL], None),
    ],
)
async def test_the_page_knows_what_a_token_allows(redis_url: str, held: list[Scope], may: set[str] | None) -> None:
    async with page(redis_url, {"VOICEGATE_AUTH_SECRET": SECRET}) as client:
        body = (await client.get("/monitor/setup.json", headers=bearer(*held))).json()
        nobody = (await client.get("/monitor/setup.json")).json()
    assert (nobody["needs_token"], nobody["authorized"], nobody["scopes"]) == (True, False, [])
    assert body["authorized"] is (may is not None)
    assert set(body["scopes"]) == (may or set())
    assert body["who"] == ("ann" if may else "")


async def test_thousands_of_records_are_read_beside_the_loop_and_the_unreadable_told_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_by = set[int]()

    def noting(record: dict[str, Any]) -> Outcome:
        read_by.add(threading.get_ident())
        raise KeyError(*record)

    monkeypatch.setattr(Outcome, "of", noting)
    store = redis.Redis.from_url(redis_url, decode_responses=True)
    for _ in range(3):
        await store.xadd(STREAM, {"record": json.dumps({"version": 99})})
    async with page(redis_url) as client:
        assert (await client.get("/v1/outcomes")).json() == {"outcomes": []}
    await store.delete(STREAM)
    await store.aclose()
    assert read_by and threading.get_ident() not in read_by
    assert [record.getMessage() for record in caplog.records if "call record" in record.getMessage()] == [
        "3 call records cannot be read; are all gateways of one version?"
    ]


async def test_outcomes_are_what_came_of_calls_without_what_was_said(redis_url: str) -> None:
    settings = load(environ={"VOICEGATE_RESULTS_STREAM": STREAM})
    metrics = Metrics(CollectorRegistry())
    records = CallRecords(redis_url, settings.results, metrics, ttl_s=60)
    models = (("asr", "a1"), ("nlu", "m1"))
    origin = Origin(call_id="o-1", bot="bill", bot_version="3", language="en", models=models, recorded=True)
    state = DialogueState(
        node="bye",
        turns=4,
        total_no_match=2,
        total_no_input=1,
        outcome="paid",
        disposition="paid",
        ended_by="bot",
        started_at=100.0,
        ended_at=160.0,
    )
    await records.ended(origin, state, nlu_version="m2")
    store = redis.Redis.from_url(redis_url, decode_responses=True)
    await store.xadd(STREAM, {"record": json.dumps({"version": 99})})
    older = {name: value for name, value in record_of(origin, state, ended_by="bot", now=0.0).items() if name in OLDER}
    await store.xadd(STREAM, {"call_id": "o-0", "record": json.dumps({**older, "call_id": "o-0"})})
    async with page(redis_url, {"VOICEGATE_AUTH_SECRET": SECRET}) as client:
        answer = await client.get("/v1/outcomes?call=o-1", headers=bearer(Scope.MONITOR))
        both = await client.get("/v1/outcomes", headers=bearer(Scope.MONITOR))
        refused = await client.get("/v1/outcomes", headers=bearer(Scope.CALL))
    await store.delete(STREAM, done_key("o-1"))
    await store.aclose()
    await records.aclose()
    assert refused.status_code == 403
    assert answer.json()["outcomes"] == [
        {
            "call_id": "o-1",
            "bot": "bill",
            "bot_version": "3",
            "model": "m2",
            "ended_by": "bot",
            "disposition": "paid",
            "outcome": "paid",
            "node": "bye",
            "turns": 4,
            "no_match": 2,
            "no_input": 1,
            "recorded": True,
            "started_at": 100.0,
            "ended_at": 160.0,
            "duration_s": 60.0,
        }
    ]
    told = [(one["call_id"], one["outcome"], one["no_match"], one["recorded"]) for one in both.json()["outcomes"]]
    assert told == [("o-0", None, None, None), ("o-1", "paid", 2, True)], "an older gateway's record tells less"
