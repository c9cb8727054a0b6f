"""The control plane against a real Redis and a real inference socket: ready or not, and why."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from gateway.access.auth import Scope, mint
from gateway.http.control import control_app
from gateway.inference.local import LocalInference
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.metrics import Metrics
from gateway.processes.presence import Presence, gateway_name
from gateway.settings import load
from tests.fakes import ScriptedAsr

pytestmark = pytest.mark.redis

SECRET = "x" * 40


@asynccontextmanager
async def control(
    redis_url: str, *, inference: bool = True, workers: int = 0, wanted: int = 1, environ: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, with this much of a gateway behind it."""
    settings = load(environ=environ or {}, flags={"workers": wanted})
    async with AsyncExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vg-"))) / "inference.sock"
        if inference:
            local = await stack.enter_async_context(LocalInference(ScriptedAsr(), {}))
            server = InferenceServer(local)
            await server.start(path)
            stack.push_async_callback(server.stop)
        here = gateway_name(settings.port)
        for n in range(workers):
            await stack.enter_async_context(Presence(redis_url, gateway=here, name=f"w{n}", calls=lambda n=n: n + 1))
        client = SocketInference(path)
        app = control_app(settings, redis_url, client)
        await stack.enter_async_context(app.router.lifespan_context(app))
        if inference:
            async with asyncio.timeout(20):
                await client.wait_connected()
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))


async def readiness(client: httpx.AsyncClient, **wanted: object) -> httpx.Response:
    """`/readyz` once it says what is wanted, or after a while: a worker's presence takes a moment."""
    async with asyncio.timeout(10):
        while True:
            answer = await client.get("/readyz")
            body = answer.json()
            if all(body[key] == value for key, value in wanted.items()):
                return answer
            await asyncio.sleep(0.01)


async def test_health_asks_nobody_and_nothing_of_the_caller() -> None:
    async with control(
        "unix:///nowhere/redis.sock", inference=False, environ={"VOICEGATE_AUTH_SECRET": SECRET}
    ) as client:
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_when_every_part_is(redis_url: str) -> None:
    async with control(redis_url, workers=2, wanted=2) as client:
        answer = await readiness(client, ready=True)
        assert answer.status_code == 200
        assert answer.json() == {"ready": True, "redis": "ok", "inference": "ok", "workers": "ok", "calls": 3}


async def test_not_ready_while_a_worker_is_missing_and_again_when_it_leaves(redis_url: str) -> None:
    async with control(redis_url, workers=1, wanted=2) as client:
        answer = await readiness(client, workers="1 of 2 ready")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
    async with control(redis_url, wanted=1) as client:
        assert (await readiness(client, workers="0 of 1 ready")).status_code == 503


async def test_of_a_shared_redis_each_gateway_counts_its_own_workers(redis_url: str) -> None:
    async with (
        control(redis_url, workers=2, wanted=2, environ={"VOICEGATE_PORT": "7001"}) as one,
        control(redis_url, workers=1, wanted=2, environ={"VOICEGATE_PORT": "7002"}) as other,
    ):
        assert (await readiness(one, ready=True)).json()["calls"] == 3
        assert (await readiness(other, workers="1 of 2 ready")).json()["calls"] == 1


async def test_not_ready_says_which_part_and_why() -> None:
    async with control("unix:///nowhere/redis.sock", inference=False) as client:
        answer = await client.get("/readyz", timeout=10)
        body = answer.json()
        assert answer.status_code == 503
        assert "is Redis running" in body["redis"]
        assert "no inference worker is connected" in body["inference"]
        assert body["workers"] == "0 of 1 ready"


async def test_metrics_hold_the_budgets_as_histograms(redis_url: str) -> None:
    if "voicegate_calls" not in {family.name for family in REGISTRY.collect()}:
        Metrics()  # into the process's own registry, which takes each name once
    async with control(redis_url) as client:
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        families = {family.name: family.type for family in text_string_to_metric_families(answer.text)}
        for budget in ("first_utterance", "endpoint_to_reply", "barge_in"):
            assert families[f"voicegate_{budget}_seconds"] == "histogram"
        assert families["voicegate_calls"] == "gauge"
        assert families["voicegate_refused"] == "counter"


async def test_with_authentication_metrics_are_for_monitors(redis_url: str) -> None:
    async with control(
        redis_url, environ={"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_AUTH_TOKENS": "fixed-token-of-the-site"}
    ) as client:

        async def status(token: str | None = None, query: str = "") -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = await client.get(f"/metrics{query}", headers=headers)
            assert SECRET not in answer.text
            return answer.status_code

        monitor = mint(SECRET, "m", [Scope.MONITOR], 60)
        assert await status() == 401
        assert (await client.get("/metrics")).headers["www-authenticate"].startswith("Bearer")
        assert await status("wrong") == 401
        assert await status(mint("y" * 40, "m", [Scope.MONITOR], 60)) == 401
        assert await status(mint(SECRET, "m", [Scope.MONITOR], 60, now=0)) == 401
        assert await status("fixed-token-of-the-site") == 403
        assert await status(mint(SECRET, "c", [Scope.CALL], 60)) == 403
        assert await status(monitor) == 200
        assert await status(query=f"?token={monitor}") == 200
        assert await status(mint(SECRET, "a", [Scope.ADMIN], 60)) == 200


async def test_without_authentication_metrics_are_for_this_machine(redis_url: str) -> None:
    settings = load(environ={})
    app = control_app(settings, redis_url, SocketInference(Path("/nowhere")))
    for peer, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 403)):
        transport = httpx.ASGITransport(app=app, client=(peer, 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/metrics")).status_code == status


def test_the_control_plane_imports_no_model_code() -> None:
    heavy = ["torch", "transformers", "faster_whisper", "ctranslate2", "onnxruntime", "scipy"]
    code = f"import sys, gateway.http.control; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


async def test_unknown_paths_and_the_api_page(redis_url: str) -> None:
    async with control(redis_url) as client:
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.post("/healthz")).status_code == 405
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert {"/healthz", "/readyz", "/metrics"} <= set(paths)
