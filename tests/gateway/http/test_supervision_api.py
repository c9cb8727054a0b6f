"""Draining and reloading over HTTP: over a real line to a scripted `serve`, with tokens and the audit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio as redis

from gateway import background
from gateway.access.auth import Scope, mint
from gateway.monitoring.wire import AUDIT_STREAM
from gateway.processes.lifeline import ChildLine, DrainOrder, Handover, Lifeline, SupervisionError
from tests.gateway.http_harness import Api, api

pytestmark = pytest.mark.redis

SECRET = "s" * 40
EMPTY = {"processes": [], "reload": {"state": "none", "step": "", "changed": [], "kept": []}}


@dataclass
class Serve:
    """The other end of the line: keeps what it is asked, and answers as it is told."""

    line: ChildLine
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: SupervisionError | None = None
    wanted: int = 3

    async def answer(self, what: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if what == "wanted":
            return {"workers": self.wanted}
        self.asked.append((what, dict(fields)))
        if self.refusal is not None:
            raise self.refusal
        return EMPTY


@asynccontextmanager
async def supervised(redis_url: str, *, drained: asyncio.Event | None = None) -> AsyncIterator[tuple[Api, Serve]]:
    ours, theirs = socket.socketpair()
    made: list[Serve] = []
    made.append(Serve(ChildLine(lambda what, fields: made[0].answer(what, fields))))
    listening = asyncio.create_task(made[0].line.listen(ours))
    try:
        async with api(
            redis_url,
            "load",
            environ={"VOICEGATE_AUTH_SECRET": SECRET},
            line=Lifeline(theirs.detach()),
            on_drain=(drained or asyncio.Event()).set,
        ) as running:
            yield running, made[0]
    finally:
        await background.stop([listening])


def bearer(*scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(SECRET, 'olga', list(scopes), 60)}"}


async def test_what_is_asked_reaches_serve_and_stands_in_the_audit(redis_url: str) -> None:
    async with supervised(redis_url) as (running, serve):
        admin = bearer(Scope.ADMIN)
        drain = await running.post("/v1/workers/2/drain", {"deadline_s": 5, "keep_down": True}, headers=admin)
        up = await running.client.post("/v1/workers/2/up", headers=admin)
        reload = await running.post("/v1/reload", {"everything": True}, headers=admin)
        listed = await running.client.get("/v1/processes", headers=admin)
        assert [answer.status_code for answer in (drain, up, reload, listed)] == [202, 202, 202, 200]
        assert listed.json() == EMPTY
        assert serve.asked == [
            ("drain", {"worker": 2, "deadline_s": 5.0, "keep_down": True}),
            ("up", {"worker": 2}),
            ("reload", {"everything": True}),
            ("processes", {}),
        ]
        client = redis.Redis.from_url(redis_url, decode_responses=True)
        entries = [fields for _, fields in await client.xrevrange(AUDIT_STREAM, count=3)]
        await client.aclose()
        assert [(one["who"], one["act"], one["detail"]) for one in reversed(entries)] == [
            ("olga", "drain", "worker 2, keep down"),
            ("olga", "up", "worker 2"),
            ("olga", "reload", "everything"),
        ]


@pytest.mark.parametrize(
    ("code", "status"), [("unknown_worker", 404), ("unusable", 422), ("conflict", 409), ("no_answer", 502)]
)
async def test_a_refusal_of_serve_is_told_with_its_reason(redis_url: str, code: str, status: int) -> None:
    async with supervised(redis_url) as (running, serve):
        serve.refusal = SupervisionError(code, "that is why")
        answer = await running.post("/v1/workers/0/drain", {}, headers=bearer(Scope.ADMIN))
        assert (answer.status_code, answer.json()) == (status, {"code": code, "message": "that is why"})


async def test_other_scopes_open_nothing(redis_url: str) -> None:
    async with supervised(redis_url) as (running, serve):
        others = bearer(*(scope for scope in Scope if scope is not Scope.ADMIN))
        answers = [
            await running.client.get("/v1/processes", headers=others),
            await running.post("/v1/workers/0/drain", {}, headers=others),
            await running.client.post("/v1/workers/0/up", headers=others),
            await running.post("/v1/reload", {}, headers=others),
        ]
        assert [answer.status_code for answer in answers] == [403] * 4
        assert serve.asked == []


async def test_readiness_misses_as_many_workers_as_serve_wants(redis_url: str) -> None:
    async with supervised(redis_url) as (running, serve):
        assert (await running.client.get("/readyz")).json()["workers"] == "0 of 3 ready"
        serve.wanted = 0  # a host of inference alone
        assert (await running.client.get("/readyz")).json()["workers"] == "ok"


async def test_the_control_plane_beats_and_makes_way_when_it_is_told_to(redis_url: str) -> None:
    drained = asyncio.Event()
    async with supervised(redis_url, drained=drained) as (_, serve), asyncio.timeout(20):
        await serve.line.up.wait()
        serve.line.order(DrainOrder(Handover.HAND_OVER, 60.0))
        await drained.wait()
