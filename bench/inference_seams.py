"""What does it cost to ask a model, over each transport? CPU of all processes and added latency; the engine is free.

    python -m bench.inference_seams [--loads 20,100,400] [--seconds 6] [--json FILE]

At each load (jobs/s) an asker sends, at seeded random moments, a turn's two jobs in turns: an utterance of 2.4 s of
telephone audio, and a text. An inference worker in a process of its own answers at once, from no model. So what is
measured is the seam: packing, sockets, Redis, loops. Loads alternate between the transports within one run.

    socket    one Unix socket, msgpack                     gateway.inference.unix_socket
    streams   Redis streams, an embedded Valkey            gateway.inference.streams.client

CPU is per job: the asker's (with the bench's own share, which both have alike), the worker's, the server's. Latency is
from asking to answer as the asker sees it. Absolute figures drift with the machine: compare within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np
import uvloop

from audio.asr import AsrJob, Transcript
from audio.g711 import mulaw_decode
from dialogue.connection import connect
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, Inference, TurnId, Understood
from gateway.inference.streams.client import StreamInference
from gateway.inference.streams.server import StreamServer
from gateway.inference.streams.wire import Kind
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.settings import InferenceSettings
from nlu.meaning import Meaning

SEAMS = ("socket", "streams")
SETTLE_S = 1.0
SEED = 8
UTTERANCE_S = 2.4


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell. CPU in µs a job, latencies in ms."""

    seam: str
    jobs_per_s: float
    asker_us: float
    worker_us: float
    server_us: float
    asr_p50_ms: float
    asr_p99_ms: float
    nlu_p50_ms: float
    nlu_p99_ms: float
    answered: int


class FreeEngine:
    """An `Inference` that knows everything at once."""

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        return Heard(Transcript(text="i can pay on friday"), 0.0, 0.0)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        return Understood(Meaning("promise_to_pay", 0.97), 0.0, 0.0, "0123456789ab")


def serve(seam: str, where: str, pipe: Pipe) -> None:
    """The inference worker's process: tells its CPU seconds whenever it is asked, ends when the pipe does."""

    async def main() -> None:
        if seam == "socket":
            await InferenceServer(FreeEngine()).start(Path(where))
        else:
            settings = InferenceSettings.model_validate({"seam": "streams"})
            await StreamServer(where, settings, FreeEngine(), batches={Kind.ASR: 16, Kind.NLU: 64}).start()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def asked() -> None:
            try:
                pipe.recv()
                pipe.send(_cpu_s())
            except EOFError:
                loop.remove_reader(pipe.fileno())
                ended.set()

        loop.add_reader(pipe.fileno(), asked)
        await ended.wait()

    uvloop.run(main())


@asynccontextmanager
async def client(seam: str, where: str) -> AsyncIterator[Inference]:
    """A connected asker."""
    settings = InferenceSettings.model_validate({"seam": "streams"})
    async with SocketInference(Path(where)) if seam == "socket" else StreamInference(where, settings) as asker:
        async with asyncio.timeout(30):
            await asker.wait_connected()
        yield asker


async def measure(seam: str, where: str, redis_url: str, load: float, seconds: float, pipe: Pipe) -> Row:
    """One cell."""
    random = np.random.default_rng(SEED)
    line = random.integers(0, 256, round(8000 * UTTERANCE_S), dtype=np.uint8).tobytes()
    job = AsrJob(pcm=mulaw_decode(line), language="en")
    redis = connect(redis_url, timeout_s=5.0)
    took: dict[str, list[float]] = {"asr": [], "nlu": []}

    async def ask(asker: Inference, kind: str) -> None:
        begun = time.perf_counter()
        if kind == "asr":
            await asker.transcribe(job, timeout_s=10)
        else:
            await asker.understand("bill-reminder", "i can pay on friday", timeout_s=10, turn=TurnId("call", 1))
        took[kind].append((time.perf_counter() - begun) * 1000)

    async def drive(asker: Inference, stretch_s: float) -> int:
        moments = np.cumsum(random.exponential(1 / load, round(load * stretch_s)))
        begun = time.perf_counter()
        tasks = []
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, begun + moment - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(asker, ("asr", "nlu")[number % 2])))
        await asyncio.gather(*tasks)
        return len(tasks)

    async def readings() -> tuple[float, float, float]:
        pipe.send("cpu")
        info = await redis.info("cpu")
        return _cpu_s(), pipe.recv(), float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async with client(seam, where) as asker:
        await drive(asker, SETTLE_S)
        for times in took.values():
            times.clear()
        before, begun = await readings(), time.perf_counter()
        jobs = await drive(asker, seconds)
        lasted_s, after = time.perf_counter() - begun, await readings()
    await redis.aclose()
    asker_us, worker_us, server_us = ((b - a) / jobs * 1e6 for a, b in zip(before, after, strict=True))
    quantiles = [float(np.percentile(took[kind], q)) for kind in ("asr", "nlu") for q in (50, 99)]
    return Row(seam, jobs / lasted_s, asker_us, worker_us, server_us if seam == "streams" else 0.0, *quantiles, jobs)


def run(loads: Sequence[float], seconds: float) -> list[Row]:
    """All cells, with the processes that they need."""
    context = multiprocessing.get_context("spawn")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="vg-") as folder, EmbeddedRedis(None, Path(folder)) as server:
        where = {"socket": str(Path(folder) / "inference.sock"), "streams": server.url}
        ends: dict[str, Pipe] = {}
        processes = []
        for seam in SEAMS:
            ends[seam], other = context.Pipe()
            processes.append(context.Process(target=serve, args=(seam, where[seam], other), daemon=True))
            processes[-1].start()
            other.close()
        try:
            for load in loads:
                for seam in SEAMS:
                    row = uvloop.run(measure(seam, where[seam], server.url, load, seconds, ends[seam]))
                    rows.append(row)
                    print(_line(row), flush=True)
        finally:
            for pipe in ends.values():
                pipe.close()
            for process in processes:
                process.join(10)
    return rows


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


_HEAD = (
    "                 CPU in µs a job:                         added ms:\n"
    "seam     jobs/s                 asker  worker  server    sum             asr p50    p99   nlu p50    p99   answers"
)


def _line(row: Row) -> str:
    total = row.asker_us + row.worker_us + row.server_us
    return (
        f"{row.seam:<8} {row.jobs_per_s:6.0f} {row.asker_us:21.0f} {row.worker_us:7.0f} {row.server_us:7.0f} "
        f"{total:6.0f} {row.asr_p50_ms:19.2f} {row.asr_p99_ms:6.2f} {row.nlu_p50_ms:9.2f} {row.nlu_p99_ms:6.2f} "
        f"{row.answered:9}"
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default="20,100,400")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(_HEAD)
    rows = run([float(load) for load in args.loads.split(",")], args.seconds)
    if args.json is not None:
        document = {"machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
