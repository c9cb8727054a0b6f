"""A gateway worker in the test's own process and loop: real sockets, scripted models, and a raw client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from audio.cascade import detector_maker
from audio.files import read_audio
from audio.formats import Pcm16
from dialogue.bots import load_bot
from dialogue.store import CallStore, MemoryStore
from gateway.access.auth import Authenticator
from gateway.calls.playout_clock import PlayoutClock
from gateway.calls.services import Services
from gateway.inference.local import LocalInference
from gateway.metrics import Metrics
from gateway.monitoring.recording import Recorder
from gateway.outside.assistants import Assistants
from gateway.outside.webhooks import Webhooks
from gateway.processes.worker import GatewayWorker, prompt_specs
from gateway.records.callers import Callers
from gateway.records.results import CallRecords
from gateway.settings import Settings, load
from tests.fakes import KeywordNlu, ScriptedAsr, ToneSynthesizer
from tts_stub.prompts import PromptCache

__all__ = ["Peer", "Rig", "rig", "silence", "speech", "write_bot"]

DEMO = Path(__file__).parent.parent.parent / "gateway" / "demo"

BOT = """
name: tester
version: "1"
language: en
voice: {name: en-us, rate: 160}
flow: flow.yaml
examples: examples.jsonl
nlu: nlu
"""

FLOW = """
start: greet
no_input: {after_ms: NO_INPUT, prompts: [Are you there], give_up: bye}
no_match: {prompts: [Sorry], give_up: bye}
nodes:
  greet:
    say: Hello this is the test bot speaking to you now and for quite a while
    on:
      affirm: bye
      more: {say: Tell me more about that, stay: listen}
      "*": {say: I see, stay: listen}
  bye:
    say: Good bye
    hang_up: done
"""


def write_bot(folder: Path, *, no_input: str = "never", flow: str = FLOW, more: str = "") -> Path:
    """A small bot with a goodbye, as a directory; `more` is added to its bot.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bot.yaml").write_text(BOT + more)
    (folder / "flow.yaml").write_text(flow.replace("NO_INPUT", no_input))
    examples = [{"text": "yes", "intent": "affirm", "slots": []}, {"text": "more", "intent": "more", "slots": []}]
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in examples))
    return folder


def speech(rate: int = 8000) -> Pcm16:
    """A second or two of somebody speaking: what a detector must take for speech."""
    return read_audio(DEMO / "01-yes-speaking.wav", rate)


def silence(ms: int, rate: int = 8000) -> Pcm16:
    """Digital silence."""
    return np.zeros(rate * ms // 1000, np.int16)


class Peer:
    """A raw client: sends what it is told, keeps all that comes."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []
        self.audio = bytearray()
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.ws:
                async with self._news:
                    if isinstance(message, bytes):
                        self.audio += message
                    else:
                        self.events.append(json.loads(message))
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        async with self._news:
            self._news.notify_all()

    async def say(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def send(self, pcm: Pcm16, size: int = 320) -> None:
        """Audio in messages of `size` bytes, as fast as it goes."""
        data = pcm.astype("<i2").tobytes()
        for at in range(0, len(data), size):
            await self.ws.send(data[at : at + size])

    async def event(self, kind: str, *, count: int = 1, timeout_s: float = 20.0) -> dict[str, Any]:
        """The `count`-th event of a kind, waited for."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.events if e["type"] == kind]

        async with asyncio.timeout(timeout_s), self._news:
            while len(found()) < count:
                if self._reader.done():
                    raise AssertionError(f"closed {self.close} without {kind}; got {self.events}")
                await self._news.wait()
        return found()[count - 1]

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def close(self) -> tuple[int | None, str | None]:
        return self.ws.close_code, self.ws.close_reason

    async def closed(self, timeout_s: float = 20.0) -> int | None:
        """The close code, waited for."""
        async with asyncio.timeout(timeout_s):
            await self._reader
        return self.ws.close_code

    def abort(self) -> None:
        """Vanish, as a crashed client does: no close frame, a reset."""
        if not self._reader.done():
            self.ws.transport.abort()


@dataclass
class Rig:
    """A running worker and what it is made of."""

    port: int
    worker: GatewayWorker
    services: Services
    asr: ScriptedAsr
    registry: CollectorRegistry
    peers: list[Peer] = field(default_factory=list)

    def url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.port}/v1/call{query}"

    async def peer(self, query: str = "", *, start: dict[str, Any] | None = None, **options: Any) -> Peer:
        """A connected peer; with `start`, its start message is sent."""
        peer = Peer(await connect(self.url(query), compression=None, max_size=None, proxy=None, **options))
        self.peers.append(peer)
        if start is not None:
            await peer.say(type="start", **start)
        return peer

    async def no_calls(self, timeout_s: float = 20.0) -> None:
        """Until every call is over and has let go of everything."""
        async with asyncio.timeout(timeout_s):
            while self.worker.calls:
                await asyncio.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def rig(
    folder: Path,
    *,
    hear: Callable[..., str] | str = "yes",
    store: CallStore | None = None,
    no_input: str = "never",
    flow: str = FLOW,
    more: str = "",
    environ: dict[str, str] | None = None,
    records: CallRecords | None = None,
    recorder: Recorder | None = None,
    callers: Callers | None = None,
) -> AsyncIterator[Rig]:
    """A worker on a free port. `hear`: what the recogniser says; `more`: of bot.yaml; settings by `environ`."""
    bot = load_bot(str(write_bot(folder / "tester", no_input=no_input, flow=flow, more=more)))
    settings: Settings = load(environ={"VOICEGATE_BOTS": "", **(environ or {})}, flags={"bot": "tester", "bots": ()})
    asr = ScriptedAsr(hear)
    registry = CollectorRegistry()
    prompts = PromptCache(ToneSynthesizer(), max_bytes=1 << 24, timeout_s=5)
    inference = LocalInference(asr, {"tester": KeywordNlu({"yes": "affirm", "more": "more"})})
    async with inference:
        await prompts.render_all(prompt_specs({"tester": bot}))
        metrics = Metrics(registry)
        services = Services(
            settings=settings,
            inference=inference,
            bots={"tester": bot},
            store=store or MemoryStore(),
            prompts=prompts,
            metrics=metrics,
            clock=PlayoutClock(asyncio.get_running_loop()),
            webhooks=Webhooks(settings.webhooks, metrics),
            assistants=Assistants(settings.assistant),
            records=records,
            recorder=recorder,
            callers=callers,
            make_detector=detector_maker(settings.detector),
        )
        sock = socket.create_server(("127.0.0.1", 0))
        worker = GatewayWorker(services, Authenticator(settings.auth))
        await worker.listen(sock)
        made = Rig(sock.getsockname()[1], worker, services, asr, registry)
        try:
            yield made
        finally:
            asr.gate.set()
            for peer in made.peers:
                peer.abort()
            await worker.drain(0)
            await prompts.aclose()
