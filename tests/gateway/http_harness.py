"""The control plane on a real port, over a real Redis and a real inference socket; only the model is scripted."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from audio.asr import AsrJob
from gateway.http.control import control_app
from gateway.inference.job_queue import Urgency
from gateway.inference.seam import Heard, Understood
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.metrics import HttpMetrics
from gateway.settings import load
from nlu.meaning import Meaning, Slot

__all__ = ["Api", "ScriptedInference", "api"]


class ScriptedInference:
    """Understands by `meaning`, keeps what it was asked, and hangs while `gate` is cleared."""

    def __init__(self, meaning: Callable[[str], Meaning] | None = None) -> None:
        self._meaning = meaning or _by_first_word
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def understand(self, model: str, text: str, **_: Any) -> Understood:
        self.asked.append((model, text))
        score = 0.9 + len(self.asked) / 1000  # asking again would answer differently
        await self.gate.wait()
        meaning = self._meaning(text)
        return Understood(Meaning(meaning.intent, min(score, 1.0), meaning.slots), 0.0, 0.0)

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, **_: Any) -> Heard:
        raise AssertionError("the HTTP API hears nothing")


def _by_first_word(text: str) -> Meaning:
    """Intent by the first word; every number is a slot."""
    intent = {"yes": "affirm", "more": "more"}.get(text.split()[0], "oos")
    slots = tuple(
        Slot("number", word, text.index(word), text.index(word) + len(word)) for word in text.split() if word.isdigit()
    )
    return Meaning(intent, 0.9, slots)


@dataclass
class Api:
    """A running control plane and its client."""

    client: httpx.AsyncClient
    inference: ScriptedInference
    app: FastAPI
    registry: CollectorRegistry
    port: int

    async def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return await self.client.post(path, json=body, **options)

    async def intent(self, call_id: str, round_id: int, text: str, **more: Any) -> dict[str, Any]:
        answer = await self.post("/v1/intent", {"call_id": call_id, "round_id": round_id, "text": text, **more})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def chat(self, uid: str, seq: int, query: str, **more: Any) -> dict[str, Any]:
        answer = await self.post("/v1/chat", {"uid": uid, "seq": seq, "query": query, **more})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


class _Server(uvicorn.Server):
    """Leaves the signals to the test runner: a Ctrl-C or a time limit must end the tests, not this server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def api(
    redis_url: str,
    *bots: Path | str,
    inference: ScriptedInference | None = None,
    environ: dict[str, str] | None = None,
    **supervision: Any,
) -> AsyncIterator[Api]:
    """The application with these bots on a free port, connected to its models; `supervision`: its line to `serve`."""
    settings = load(environ=environ or {}, flags={"bot": str(bots[0]), "bots": [str(bot) for bot in bots[1:]]})
    scripted = inference or ScriptedInference()
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vg-"))) / "inference.sock"
        models = InferenceServer(scripted)
        await models.start(path)
        stack.push_async_callback(models.stop)
        stack.callback(scripted.gate.set)
        seam = SocketInference(path)
        app = control_app(settings, redis_url, seam, metrics=HttpMetrics(registry), **supervision)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = _Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listener]))

        async def stop() -> None:
            server.should_exit = True
            await serving

        stack.push_async_callback(stop)
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
            await seam.wait_connected()
        port = listener.getsockname()[1]
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
        await stack.enter_async_context(client)
        yield Api(client, scripted, app, registry, port)
