"""The seam over a real Unix socket: the same answers as without it, and no wait without an end."""

from __future__ import annotations

import asyncio
import stat
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from audio.asr import AsrJob, Transcript
from gateway.inference.batching import BatcherSettings
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.local import LocalInference
from gateway.inference.seam import Heard, InferenceError, TurnId, Understood
from gateway.inference.unix_socket import InferenceServer, SocketInference
from nlu.meaning import Meaning, Slot
from tests.fakes import KeywordNlu, ScriptedAsr

pytestmark = pytest.mark.unit


@pytest.fixture
def path() -> Iterator[Path]:
    """Not under tmp_path, whose names grow past what a Unix socket path may have."""
    with tempfile.TemporaryDirectory(prefix="vg-") as directory:
        yield Path(directory) / "inference.sock"


def job(samples: int = 800, **options: Any) -> AsrJob:
    return AsrJob(pcm=(np.arange(samples) % 251 - 125).astype(np.int16) * 200, **options)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(path: Path, inference: Any) -> AsyncIterator[InferenceServer]:
    server = InferenceServer(inference)
    await server.start(path)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def asking(path: Path) -> AsyncIterator[SocketInference]:
    async with SocketInference(path) as client:
        async with asyncio.timeout(20):
            await client.wait_connected()
        yield client


@asynccontextmanager
async def pair(path: Path, asr: ScriptedAsr | None = None, **options: Any) -> AsyncIterator[SocketInference]:
    """A client and the server at its other end."""
    nlu = {"m": KeywordNlu({"pay": "promise"})}
    async with LocalInference(asr or ScriptedAsr(), nlu, **options) as local, serving(path, local):
        async with asking(path) as client:
            yield client


class Answers:
    """An `Inference` whose answers are values: what goes over the wire must come out the same."""

    heard = Heard(
        Transcript(text="größe 你好", language="zh", avg_logprob=-0.25, no_speech_prob=0.5, gated_by="energy"), 1.5, 2.5
    )
    understood = Understood(
        Meaning("pay", 0.75, (Slot("day", "周五", 0, 2), Slot("sum", "5", 3, 4))), 0.5, 0.25, "4711"
    )

    def __init__(self, *, wait_s: float = 0.0) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.wait_s = wait_s

    def expected_wait_s(self, urgency: Urgency) -> float:
        return self.wait_s

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        self.asked.append((job.pcm.copy(), job.sample_rate_hz, job.language, timeout_s))
        return self.heard

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        self.asked.append((model, text, timeout_s, turn))
        if text == "fault":
            raise AssertionError("a fault with the words 'my pin is 4417'")
        return self.understood


async def test_questions_and_answers_cross_the_socket_unchanged(path: Path) -> None:
    answers = Answers()
    async with serving(path, answers), asking(path) as client:
        sent = job(777, sample_rate_hz=16000, language="zh")
        assert await client.transcribe(sent, timeout_s=3) == answers.heard
        assert await client.understand("m", "你好 ü", timeout_s=4, turn=TurnId("ü", 3)) == answers.understood
        (pcm, rate, language, timeout_s), nlu = answers.asked
        assert np.array_equal(pcm, sent.pcm) and pcm.dtype == np.int16
        assert (rate, language, timeout_s) == (16000, "zh", 3)
        assert nlu == ("m", "你好 ü", 4, TurnId("ü", 3))
        await client.ping()


async def test_the_socket_is_the_owners_alone_and_takes_a_dead_ones_place(path: Path) -> None:
    path.touch()  # noqa: ASYNC240  # a test may block
    async with pair(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240


async def test_many_at_once_each_get_their_own_and_not_in_order(path: Path) -> None:
    asr = ScriptedAsr(lambda job: str(len(job.pcm)))
    asr.gate.clear()
    async with pair(path, asr, asr_settings=BatcherSettings(max_batch=8)) as client:
        finished: list[str] = []

        async def hear(samples: int) -> None:
            heard = await client.transcribe(job(samples))
            assert heard.transcript.text == str(samples)
            finished.append("asr")

        async def understand(text: str, intent: str) -> None:
            assert (await client.understand("m", text)).meaning.intent == intent
            finished.append("nlu")

        hearing = [asyncio.create_task(hear(100 + n)) for n in range(40)]
        await asyncio.sleep(0)
        await asyncio.gather(understand("i pay", "promise"), understand("what", "oos"))
        assert finished == ["nlu", "nlu"], "a hanging recogniser holds up nobody else"
        asr.gate.set()
        await asyncio.gather(*hearing)


async def test_a_caller_who_no_longer_waits_costs_the_engine_nothing(path: Path) -> None:
    asr = ScriptedAsr()
    asr.gate.clear()
    async with pair(path, asr) as client:
        first = asyncio.create_task(client.transcribe(job(100)))
        await until(lambda: len(client._waiting) == 1)
        gone = asyncio.create_task(client.transcribe(job(200)))
        await client.ping()  # both are at the server: messages keep their order
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await client.ping()
        asr.gate.set()
        await first
        await client.transcribe(job(300))
        assert [len(each.pcm) for each in asr.jobs] == [100, 300]
        assert not client._waiting


async def test_no_answer_in_time_is_an_error_and_the_next_is_answered(path: Path) -> None:
    asr = ScriptedAsr()
    asr.gate.clear()
    async with pair(path, asr) as client:
        with pytest.raises(InferenceError, match="asr within 0.05 s"):
            await client.transcribe(job(), timeout_s=0.05)
        asr.gate.set()
        assert (await client.transcribe(job())).transcript.text == "yes"


async def test_refusals_and_failures_come_as_inference_errors(path: Path) -> None:
    def hear(job: AsrJob) -> str:
        raise RuntimeError("out of memory")

    async with pair(path, ScriptedAsr(hear)) as client:
        with pytest.raises(InferenceError, match="RuntimeError"):
            await client.transcribe(job())
        with pytest.raises(InferenceError, match="no model named 'other'; loaded: m"):
            await client.understand("other", "text")
        await client.ping()


async def test_a_fault_of_the_servers_is_told_at_once_and_without_its_words(path: Path) -> None:
    async with serving(path, Answers()), asking(path) as client:
        with pytest.raises(InferenceError, match="AssertionError") as caught:
            await client.understand("m", "fault", timeout_s=5)
        assert "4417" not in str(caught.value)
        await client.ping()


@pytest.mark.parametrize("text", ["\ud800", "x" * 9_000_000])
async def test_what_cannot_be_sent_harms_no_other_call(path: Path, text: str) -> None:
    answers = Answers()
    async with serving(path, answers), asking(path) as client:
        with pytest.raises(InferenceError, match="nlu: a request"):
            await client.understand("m", text)
        assert client.connected
        assert await client.understand("m", "fine") == answers.understood


# The worker goes and comes.


async def test_without_a_worker_the_answer_is_no_when_the_time_is_up(path: Path) -> None:
    async with SocketInference(path) as client:
        assert not client.connected
        with pytest.raises(InferenceError, match=r"within 0.05 s: no inference worker is connected"):
            await client.ping(timeout_s=0.05)


async def test_a_worker_that_dies_is_waited_for_and_the_next_one_answers(path: Path) -> None:
    asr = ScriptedAsr()
    asr.gate.clear()
    async with LocalInference(asr, {}) as local, SocketInference(path) as client:
        async with serving(path, local):
            await client.wait_connected()
            waiting = [asyncio.create_task(client.transcribe(job(100 + n), timeout_s=30)) for n in range(3)]
            short = asyncio.create_task(client.transcribe(job(500), timeout_s=0.3))
            await client.ping()
        await until(lambda: not client.connected)
        with pytest.raises(InferenceError, match="no inference worker"):
            await short
        asr.gate.set()
        async with serving(path, local), asyncio.timeout(20):
            for heard in await asyncio.gather(*waiting):
                assert heard.transcript.text == "yes"
    assert not client._waiting


async def test_leaving_leaves_no_task(path: Path) -> None:
    before = asyncio.all_tasks()
    asr = ScriptedAsr()
    asr.gate.clear()
    async with pair(path, asr) as client:
        waiting = asyncio.create_task(client.transcribe(job(), timeout_s=0.2))
        await until(lambda: client._waiting)
        await client.__aexit__()
        with pytest.raises(InferenceError):
            await waiting
        asr.gate.set()
    await until(lambda: asyncio.all_tasks() == before)


# What no worker of ours would send.


def packed(body: object) -> bytes:
    data: bytes = msgpack.packb(body)
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize(
    "body",
    [
        {"id": 1, "op": "dance"},
        {"id": 1},
        {"id": 1, "op": ["asr"]},
        {"id": 1, "op": "nlu", "model": "m"},
        {"id": 1, "op": "asr", "pcm": b"odd", "rate": 8000, "language": None, "timeout_s": 1},
        {"id": 1, "op": "asr", "pcm": "text", "rate": 8000, "language": None, "timeout_s": 1},
        {"id": 1, "op": "asr", "pcm": b"xx", "rate": 0, "language": None, "timeout_s": 1},
        {"id": 1, "op": "asr", "pcm": b"xx", "rate": 8000, "language": None, "timeout_s": "soon"},
        {"id": 1, "op": "nlu", "model": ["m"], "text": "x", "timeout_s": 1},
    ],
)
async def test_a_malformed_request_is_answered_so(path: Path, body: dict[str, Any]) -> None:
    async with pair(path) as client:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(packed(body))
        async with asyncio.timeout(20):
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            answer = msgpack.unpackb(await reader.readexactly(length))
        assert answer["id"] == 1 and answer["error"]
        writer.close()
        await client.ping()


@pytest.mark.parametrize(
    "data",
    [
        packed([1, 2]),
        packed("text"),
        packed({"op": "ping"}),
        packed({"id": "x", "op": "ping"}),
        packed({"op": "cancel", "target": [1]}),
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\xff\xff\xff\xff",
    ],
)
async def test_what_is_no_request_ends_that_connection_alone(path: Path, data: bytes) -> None:
    async with pair(path) as client:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(data)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        await client.ping()


async def test_cancelling_what_is_not_there_is_nothing(path: Path) -> None:
    async with pair(path) as client:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(
            packed({"op": "cancel", "target": 99}) + packed({"op": "cancel"}) + packed({"id": 5, "op": "ping"})
        )
        async with asyncio.timeout(20):
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            assert msgpack.unpackb(await reader.readexactly(length)) == {"id": 5, "ok": {}}
        writer.close()
        await client.ping()


async def test_a_promoted_speculation_overtakes_across_the_socket(path: Path) -> None:
    asr = ScriptedAsr(lambda job: str(len(job.pcm)))
    asr.gate.clear()
    one_at_a_time = BatcherSettings(max_batch=1)
    async with pair(path, asr, asr_settings=one_at_a_time) as client:
        done: list[str] = []

        async def ask(samples: int, errand: Errand) -> None:
            done.append((await client.transcribe(job(samples), errand=errand)).transcript.text)

        promoted = Errand(Urgency.SPECULATIVE)
        errands = [Errand(), Errand(Urgency.PARTIAL), Errand(Urgency.SPECULATIVE), promoted]
        tasks = []
        for number, errand in enumerate(errands):  # the first runs, the others wait behind it
            tasks.append(asyncio.create_task(ask(800 + number, errand)))
            await asyncio.sleep(0.02)
        promoted.promote(Urgency.ENDPOINT)
        await asyncio.sleep(0.05)
        asr.gate.set()
        await asyncio.gather(*tasks)
        assert done == ["800", "803", "802", "801"]


async def test_how_long_an_utterance_would_wait_is_told_unasked(path: Path) -> None:
    async with serving(path, Answers(wait_s=60.0)), asking(path) as client:
        assert client.expected_wait_s(Urgency.ENDPOINT) == 0.0
        await until(lambda: client.expected_wait_s(Urgency.ENDPOINT) > 50.0)
        await client.ping()


async def test_what_is_not_urgent_is_shed_while_the_engine_is_busy(path: Path) -> None:
    asr = ScriptedAsr()
    settings = BatcherSettings(max_batch=1, shed_speculative_ms=50, shed_partial_ms=20)
    async with LocalInference(asr, {}, asr_settings=settings) as local, serving(path, local):
        async with asking(path) as client:
            slow = asyncio.create_task(client.transcribe(job()))
            asr.gate.clear()
            await asyncio.sleep(0.15)
            asr.gate.set()
            await slow  # the engine's pace is known now: about 150 ms a job
            asr.gate.clear()
            running = [asyncio.create_task(client.transcribe(job())) for _ in range(2)]
            await until(lambda: local.asr.depth == 1)
            for urgency in (Urgency.SPECULATIVE, Urgency.PARTIAL):
                with pytest.raises(InferenceError, match="too busy"):
                    await client.transcribe(job(), errand=Errand(urgency))
            assert local.asr.stats.shed == 2
            asr.gate.set()
            assert [heard.transcript.text for heard in await asyncio.gather(*running)] == ["yes", "yes"]
