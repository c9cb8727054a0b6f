"""What does one inbound 20 ms frame cost a gateway worker? CPU from socket to endpointer, no ASR or NLU.

    python -m bench.frame_path [--calls 1,100,500] [--seconds 10] [--json FILE]
    python -m bench.frame_path --dialects native,asterisk,freeswitch,jambonz,twilio --calls 100
    python -m bench.frame_path --in-memory --calls 20,500

Five servers take turns in one run, each in a process of its own, fed by one client process that sends every call's
frames at real time, spread over the 20 ms:

    websockets   `websockets.asyncio.server`, `async for message in ws: pass`: the bare receive loop
    connection   our `gateway.calls.websocket.Connection` (sans-I/O protocol in an asyncio.Protocol), messages counted
    gateway      the whole: protocol, session, flood guard, detector, endpointer; silence and speech in turns
    webrtc       the same with `[detector] kind = "webrtc"`, without the default's watch on the line's noise
    cascade      the same with `[detector] kind = "cascade"`: Silero's network checks what webrtcvad calls speech, as it
                 does by default on a noisy line

`--dialects` measures the whole gateway, and lets the client speak as other products do: what does reading their wire
cost beside ours?

CPU is the server process's own (getrusage), so the client's cost is not in it. Absolute figures drift with the machine:
compare within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import platform
import resource
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from audio.asr import AsrJob, Transcript
from audio.detection import DetectorKind, DetectorSettings
from audio.files import read_audio
from audio.formats import Pcm16
from audio.g711 import mulaw_encode
from bench.lone_worker import listen
from dialogue.bots import load_bot
from gateway.calls.websocket import Connection, ConnectionSettings
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, TurnId, Understood
from nlu.meaning import Meaning

FRAME_S = 0.02
FRAME_BYTES = 320
TEXT, BINARY = 0x1, 0x2  # opcodes
IN_MEMORY_ROUNDS = 300
SETTLE_S = 4.0  # the bot's greeting is over, the interpreter is warm
DEMO = Path(__file__).parent.parent / "gateway" / "demo"


@dataclass(frozen=True, slots=True)
class Reading:
    """A server's counters at one moment."""

    cpu_s: float
    frames: int


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell."""

    server: str
    """Or the dialect, where those were asked for."""
    calls: int
    us_per_frame: float
    frames_per_s: float
    cpu_share: float
    lost: int


# Servers, each in a process of its own.


class Deaf:
    """An inference seam that answers at once and hears nothing: ASR and NLU cost nothing here."""

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        return Heard(Transcript(text=""), 0.0, 0.0)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        return Understood(Meaning("oos", 0.0), 0.0, 0.0)


class Counter:
    """A receiver that only counts."""

    subprotocol: str | None = None

    def __init__(self, frames: list[int]) -> None:
        self._frames = frames

    def connection_opened(self, connection: Connection) -> None: ...

    def message_received(self, message: str | bytes) -> None:
        self._frames[0] += 1

    def connection_closed(self, code: int, reason: str) -> None: ...


async def serve_websockets(sock: socket.socket) -> Callable[[], int]:
    frames = [0]

    async def receive(ws: ServerConnection) -> None:
        async for _ in ws:
            frames[0] += 1

    await serve(receive, sock=sock, compression=None, ping_interval=None)
    return lambda: frames[0]


async def serve_connection(sock: socket.socket) -> Callable[[], int]:
    frames = [0]

    def accept(connection: Connection, request: Request) -> Counter:
        return Counter(frames)

    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(accept, ConnectionSettings()), sock=sock, backlog=1024)
    return lambda: frames[0]


async def serve_gateway(sock: socket.socket, detector: DetectorKind = DetectorKind.AUTO) -> Callable[[], int]:
    worker = await listen(sock, load_bot("load"), Deaf(), detector=DetectorSettings(kind=detector))
    return lambda: worker.frames_seen


SERVERS: dict[str, Callable[[socket.socket], Awaitable[Callable[[], int]]]] = {
    "websockets": serve_websockets,
    "connection": serve_connection,
    "gateway": serve_gateway,
    "webrtc": partial(serve_gateway, detector=DetectorKind.WEBRTC),
    "cascade": partial(serve_gateway, detector=DetectorKind.CASCADE),
}


def run_server(name: str, pipe: Pipe) -> None:
    """Process main: serve, and answer every message on the pipe with a Reading."""

    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
        frames = await SERVERS[name](sock)
        pipe.send(sock.getsockname()[1])
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def answer() -> None:
            if pipe.recv() is None:
                stopped.set()
                return
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(Reading(used.ru_utime + used.ru_stime, frames()))

        loop.add_reader(pipe.fileno(), answer)
        await stopped.wait()
        os._exit(0)  # nothing here is worth a polite goodbye to hundreds of sockets

    uvloop.run(main())


# The client.


MASK = b"\x37\xfa\x21\x3d"


def masked(opcode: int, payload: bytes) -> bytes:
    """One whole message as it goes over the wire, masked with a fixed key (RFC 6455 §5.3)."""
    mask = np.frombuffer(MASK * (len(payload) // 4 + 1), np.uint8)[: len(payload)]
    length = (
        bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    )
    return bytes([0x80 | opcode]) + length + MASK + (np.frombuffer(payload, np.uint8) ^ mask).tobytes()


def linear(pcm: Pcm16) -> list[bytes]:
    """20 ms of PCM16 a message."""
    data = pcm[: len(pcm) // 160 * 160].astype("<i2").tobytes()
    return [masked(BINARY, data[at : at + FRAME_BYTES]) for at in range(0, len(data), FRAME_BYTES)]


def mulaw(pcm: Pcm16) -> list[bytes]:
    """20 ms of μ-law a message."""
    data = mulaw_encode(pcm[: len(pcm) // 160 * 160])
    return [masked(BINARY, data[at : at + 160]) for at in range(0, len(data), 160)]


def twilio_media(pcm: Pcm16) -> list[bytes]:
    """20 ms of μ-law in base64 a message, in JSON as Twilio writes it."""
    data = mulaw_encode(pcm[: len(pcm) // 160 * 160])
    texts = []
    for number, at in enumerate(range(0, len(data), 160), 1):
        payload = base64.b64encode(data[at : at + 160]).decode()
        media = {"track": "inbound", "chunk": str(number), "timestamp": str(number * 20), "payload": payload}
        body = {"event": "media", "sequenceNumber": str(number + 1), "media": media, "streamSid": "MZ" + "1" * 32}
        texts.append(masked(TEXT, json.dumps(body).encode()))
    return texts


@dataclass(frozen=True, slots=True)
class Line:
    """How a client speaks: where it connects, what it says first, and its audio as messages."""

    path: str
    hello: tuple[str, ...]
    messages: Callable[[Pcm16], list[bytes]]


LINES = {
    "native": Line("/v1/call", (), linear),
    "asterisk": Line("/asterisk", ("MEDIA_START connection_id:m format:ulaw optimal_frame_size:160 ptime:20",), mulaw),
    "freeswitch": Line("/freeswitch?playback=binary", ("{}",), linear),
    "jambonz": Line("/jambonz", ('{"sampleRate":8000,"mixType":"mono"}',), linear),
    "twilio": Line(
        "/twilio",
        (
            '{"event":"connected","protocol":"Call","version":"1.0.0"}',
            '{"event":"start","sequenceNumber":"1","start":{"streamSid":"MZ11111111111111111111111111111111"}}',
        ),
        twilio_media,
    ),
    "vosk": Line("/vosk", ('{"config":{"sample_rate":8000}}',), linear),
}


def conversation() -> Pcm16:
    """A caller as a worker hears one: an utterance, then twice as long of silence with a little line noise."""
    said = read_audio(DEMO / "01-yes-speaking.wav", 8000)
    rng = np.random.default_rng(1)
    pause = rng.normal(0, 12, 2 * len(said) + 8000).astype(np.int16)
    return np.concatenate([said, pause])


def connect(port: int, line: Line) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET {line.path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
        answer += byte  # and no byte more: what stands behind it is the call's
    if b" 101 " not in answer.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"refused: {answer[:200]!r}")
    for text in line.hello:
        sock.sendall(masked(TEXT, text.encode()))
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Feeder:
    """Sends every call's frames in real time; calls are spread over the 20 ms and over the recording."""

    def __init__(self, port: int, calls: int, line: Line) -> None:
        self.frames = line.messages(conversation())
        self.sockets = [connect(port, line) for _ in range(calls)]
        self.sent = 0
        self.late_s = 0.0

    def run(self, seconds: float) -> None:
        """Feed for so long."""
        calls, total = len(self.sockets), len(self.frames)
        group = max(1, calls // 20)
        begun = time.monotonic()
        ticks = int(seconds / FRAME_S)
        for tick in range(ticks):
            for first in range(0, calls, group):
                due = begun + (tick + first / calls) * FRAME_S
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                else:
                    self.late_s = max(self.late_s, -wait)
                for index in range(first, min(first + group, calls)):
                    sock = self.sockets[index]
                    try:
                        sock.send(self.frames[(tick + index * 7) % total])
                        self.sent += 1
                    except BlockingIOError:
                        pass  # counted as lost by the server's own count
            if tick % 10 == 0:
                self._drain()

    def _drain(self) -> None:
        """Throw the bot's audio away, so that nobody is cut off for not reading."""
        for sock in self.sockets:
            try:
                while sock.recv(1 << 16):
                    pass
            except BlockingIOError:
                pass


def measure(name: str, calls: int, seconds: float, dialect: str | None = None) -> Row:
    """One cell of the table; with a dialect, what the server called `name` takes for its frames."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_server, args=(name, there), daemon=True)
    process.start()
    feeder = Feeder(here.recv(), calls, LINES[dialect or "native"])

    def read() -> Reading:
        here.send("read")
        reading: Reading = here.recv()
        return reading

    feeder.run(SETTLE_S)
    time.sleep(0.1)
    before, sent_before = read(), feeder.sent
    feeder.run(seconds)
    time.sleep(0.1)
    after = read()
    here.send(None)
    process.join(5)
    frames = after.frames - before.frames
    return Row(
        server=dialect or name,
        calls=calls,
        us_per_frame=(after.cpu_s - before.cpu_s) / max(1, frames) * 1e6,
        frames_per_s=frames / seconds,
        cpu_share=(after.cpu_s - before.cpu_s) / seconds,
        lost=(feeder.sent - sent_before) - frames,
    )


def run_in_memory(stage: str, calls: int, pipe: Pipe) -> None:
    """Process main: one row without sockets."""
    from bench import in_memory  # it builds on this module

    pipe.send(uvloop.run(in_memory.measure(stage, calls, IN_MEMORY_ROUNDS)))
    os._exit(0)


def print_in_memory(calls: list[int]) -> list[dict[str, object]]:
    """The table without sockets, row by row; the rows."""
    from bench import in_memory

    rows: list[dict[str, object]] = []
    print(f"{'stage':<12}{'calls':>6}{'least us':>10}{'p25':>8}{'p50':>8}")
    for number in calls:
        for stage in in_memory.STAGES:
            here, there = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(target=run_in_memory, args=(stage, number, there))
            process.start()
            there.close()  # so that its end is seen here
            figures = here.recv()
            process.join()
            rows.append({"stage": stage, "calls": number, **asdict(figures)})
            print(f"{stage:<12}{number:>6}{figures.least:>10.2f}{figures.p25:>8.2f}{figures.p50:>8.2f}", flush=True)
    return rows


def machine() -> dict[str, str]:
    """What the figures were made on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="1,100,500", help="comma separated (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured per cell (default %(default)s)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="which (default %(default)s)")
    parser.add_argument("--dialects", help=f"measure the gateway for these instead: {','.join(LINES)}")
    parser.add_argument("--in-memory", action="store_true", help="our own code alone, without sockets")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    if args.in_memory:
        figures = print_in_memory([int(calls) for calls in args.calls.split(",")])
        if args.json:
            args.json.write_text(json.dumps({**machine(), "rows": figures}, indent=2))
        return
    rows: list[Row] = []
    print(f"{'server':<12}{'calls':>6}{'us/frame':>10}{'frames/s':>10}{'core':>7}{'lost':>6}")
    cells = [(name, None) for name in args.servers.split(",")]
    if args.dialects:
        cells = [("gateway", dialect) for dialect in args.dialects.split(",")]
    for calls in map(int, args.calls.split(",")):
        for name, dialect in cells:
            row = measure(name, calls, args.seconds, dialect)
            rows.append(row)
            print(
                f"{row.server:<12}{row.calls:>6}{row.us_per_frame:>10.1f}{row.frames_per_s:>10.0f}"
                f"{row.cpu_share:>7.0%}{row.lost:>6}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps({**machine(), "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
