"""The way of a frame without sockets: `python -m bench.frame_path --in-memory`.

Connections are fed by a transport in memory, so what is left is our own code: steadier on a busy machine than what
`bench.frame_path` measures, and without the kernel's half. All calls take their frames in turn, as on a real worker:
what one call's frame costs then is mostly what has left the caches since its last one. CPU time of the thread per
frame, one figure a round of all calls; `least` is the code alone, with warm caches; compare `p25` and `p50`.

    connection      the bytes of a message to the message; nobody listens
    session         protocol, session, flood guard, framing and endpointing too; the detector says no to all
    webrtc, auto    the whole, with that detector; silence and speech in turns
    out, 20 ms      bot audio to every call: playout, protocol, WebSocket frame; per call and 20 ms of audio
    out, 60 ms      the same with `playout.ptime_ms = 60`

What utterances set off (tasks, timers) runs between the rounds and is not in it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio.cascade import detector_maker
from audio.detection import DetectorKind, DetectorSettings, VoiceDetector
from audio.formats import Pcm16
from bench.frame_path import FRAME_S, Counter, Deaf, conversation, linear
from bench.lone_worker import listen
from dialogue.bots import load_bot
from gateway.calls.playout_clock import Player, PlayoutClock
from gateway.calls.websocket import Accept, Connection, ConnectionSettings
from tts_stub.synthesis import Voice

__all__ = ["STAGES", "Figures", "measure"]

STAGES = ("connection", "session", "webrtc", "auto", "out, 20 ms", "out, 60 ms")
REQUEST = (
    b"GET /v1/call?encoding=pcm_s16le HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TALK_S = 30.0  # more than all rounds together
WARM_ROUNDS = 20
PAUSE_EVERY = 10  # rounds, for what utterances set off


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU of one frame, microseconds, over all rounds."""

    least: float
    p25: float
    p50: float


class Nowhere(asyncio.Transport):
    """Where a connection writes to; from this machine."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 9) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return False


class HandClock(PlayoutClock):
    """Ticks when it is told to."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.playing: set[Player] = set()

    def add(self, player: Player) -> None:
        self.playing.add(player)

    def remove(self, player: Player) -> None:
        self.playing.discard(player)


class Never:
    """A detector that costs nothing."""

    def is_speech(self, frame: bytes) -> bool:
        """See `audio.detection.VoiceDetector`."""
        return False


class Tone:
    """A synthesiser whose every prompt is as long as the measurement."""

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        """See `tts_stub.synthesis.Synthesizer`."""
        return np.full(int(TALK_S * sample_rate_hz), 4000, np.int16)


def connect(accept: Accept, calls: int) -> list[Connection]:
    """So many open connections."""
    made = [Connection(accept, ConnectionSettings()) for _ in range(calls)]
    for connection in made:
        connection.connection_made(Nowhere())
        connection.data_received(REQUEST)
    return made


async def inbound(accept: Accept, calls: int, rounds: int) -> list[float]:
    """Feed every call one frame a round."""
    messages = linear(conversation())
    connections = connect(accept, calls)
    await asyncio.sleep(1)  # the calls have begun

    def feed(number: int) -> None:
        for index, connection in enumerate(connections):
            connection.data_received(messages[(number + index * 7) % len(messages)])

    return await timed(feed, calls, rounds)


async def outbound(clock: HandClock, accept: Accept, calls: int, rounds: int) -> list[float]:
    """Tick every call's playout once a round."""
    kept = connect(accept, calls)
    async with asyncio.timeout(60):
        while len(clock.playing) < calls:  # noqa: ASYNC110  a clock has no event for it
            await asyncio.sleep(0.01)
    players = list(clock.playing)
    begun = time.monotonic()

    def tick(number: int) -> None:
        now = begun + number * FRAME_S
        for player in players:
            player.playout_tick(now)

    spent = await timed(tick, calls, rounds)
    assert len(kept) == calls
    return spent


async def timed(work: Callable[[int], None], calls: int, rounds: int) -> list[float]:
    """CPU of the thread for one call's share of each round, microseconds."""
    spent = []
    for number in range(rounds + WARM_ROUNDS):
        before = time.thread_time_ns()
        work(number)
        spent.append((time.thread_time_ns() - before) / 1000 / calls)
        if number % PAUSE_EVERY == 0:
            await asyncio.sleep(0.005)
    return spent[WARM_ROUNDS:]


async def measure(stage: str, calls: int, rounds: int) -> Figures:
    """One row; in a process of its own, since it leaves its calls open."""
    clock = HandClock()
    if stage == "connection":
        spent = await inbound(lambda connection, request: Counter([0]), calls, rounds)
    elif stage.startswith("out"):
        ptime_ms = int(stage.split()[1])
        spent = await outbound(clock, await _gateway(Never, clock, ptime_ms, Tone()), calls, rounds)
    else:
        make: Callable[[], VoiceDetector] = Never
        if stage != "session":
            made = detector_maker(DetectorSettings(kind=DetectorKind(stage)))
            make = lambda: made(8000)  # noqa: E731  a name for it says no more
        spent = await inbound(await _gateway(make, clock, 20, None), calls, rounds)
    return _figures(spent)


async def _gateway(make: Callable[[], VoiceDetector], clock: HandClock, ptime_ms: int, speech: Tone | None) -> Accept:
    worker = await listen(
        socket.create_server(("127.0.0.1", 0)),
        load_bot("load"),
        Deaf(),
        synthesizer=speech,
        make_detector=lambda _: make(),
        clock=clock,
        # Frames come faster than real time here, and nothing is measured of limits.
        flags={"limits.calls_per_worker": 100_000, "limits.flood_s": 1e9, "playout.ptime_ms": ptime_ms},
    )
    return worker._accept


def _figures(spent: Sequence[float]) -> Figures:
    return Figures(*(round(float(np.percentile(spent, q)), 2) for q in (0, 25, 50)))
