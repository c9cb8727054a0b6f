"""Askers and inference workers of one pool: in the test's own process, or as a child that may be killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from audio.asr import AsrJob, Transcript
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, Understood
from gateway.inference.streams.client import StreamInference
from gateway.inference.streams.server import StreamServer
from gateway.inference.streams.wire import Kind
from gateway.settings import InferenceSettings
from nlu.meaning import Meaning

__all__ = ["Child", "Models", "asking", "child", "job", "pool", "serving", "until"]

ROOT = Path(__file__).parent.parent.parent.parent.parent
_names = itertools.count(1)


def pool(**options: Any) -> InferenceSettings:
    """A pool that no other test has; workers are dead after half a second."""
    return InferenceSettings.model_validate(
        {"seam": "streams", "pool": f"test-{os.getpid()}-{next(_names)}", "dead_after_s": 0.5, **options}
    )


def job(samples: int = 800, **options: Any) -> AsrJob:
    """An utterance that can be told by its length."""
    return AsrJob(pcm=(np.arange(samples) % 251 - 125).astype(np.int16) * 200, **options)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another process or task does."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


class Models:
    """An `Inference` that hears an utterance's length, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.errands: list[Errand] = []
        self.timeouts_s: list[float] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        """Cleared: nothing is answered until it is set."""
        self.gate.set()

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        text = str(len(job.pcm))
        await self._work(text, timeout_s, errand or Errand())
        return Heard(Transcript(text=text), 1.0, 2.0)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: object = None
    ) -> Understood:
        await self._work(text, timeout_s, errand or Errand())
        return Understood(Meaning(text, 1.0), 1.0, 2.0)

    async def _work(self, what: str, timeout_s: float, errand: Errand) -> None:
        self.asked.append(what)
        self.errands.append(errand)
        self.timeouts_s.append(timeout_s)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@asynccontextmanager
async def serving(
    url: str, settings: InferenceSettings, models: Any = None, *, batch: int = 64, administration: Any = None
) -> AsyncIterator[Any]:
    """An inference worker; its models."""
    models = models or Models()
    server = StreamServer(url, settings, models, administration, batches=dict.fromkeys(Kind, batch))
    await server.start()
    try:
        yield models
    finally:
        await server.stop(drain_s=0.05)


@asynccontextmanager
async def asking(
    url: str,
    settings: InferenceSettings,
    *,
    wait: bool = True,
    on_shed: Callable[[str, Urgency], None] = lambda kind, urgency: None,
) -> AsyncIterator[StreamInference]:
    """A gateway worker's side."""
    async with StreamInference(url, settings, on_shed=on_shed) as client:
        if wait:
            async with asyncio.timeout(20):
                await client.wait_connected()
        yield client


class Child:
    """An inference worker in a process of its own (`python -m tests.gateway.inference.streams.pool`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self, line: str) -> None:
        """Wait until it says so."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while (told := (await self._process.stdout.readline()).decode().strip()) != line:
                assert told, "the child ended"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As if by the kernel."""
        self._process.kill()
        await self._process.wait()

    def answer(self) -> None:
        """Let it answer what it holds."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"answer\n")


@asynccontextmanager
async def child(url: str, settings: InferenceSettings) -> AsyncIterator[Child]:
    """One that says what it takes and answers when it is told to; gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.inference.streams.pool", url, settings.model_dump_json()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()
        assert process.stdin is not None
        process.stdin.close()


async def _serve(url: str, settings: InferenceSettings) -> None:
    class Telling(Models):
        async def _work(self, what: str, timeout_s: float, errand: Errand) -> None:
            print(what, flush=True)  # noqa: T201  # for the test
            await super()._work(what, timeout_s, errand)

    models = Telling()
    models.gate.clear()
    server = StreamServer(url, settings, models, batches=dict.fromkeys(Kind, 64))
    await server.start()
    await asyncio.to_thread(sys.stdin.readline)
    models.gate.set()
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], InferenceSettings.model_validate_json(sys.argv[2])))
