"""The client that all peers are measured with, and what a server tells of itself."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.frame_path import conversation
from bench.peers.__main__ import PEERS, Row, Server, line_noise, table
from bench.peers.callers import Callers, holds_sound
from bench.peers.gateway_server import ToneSynthesizer
from bench.peers.probe import EVERY, FRAME_BYTES, RATE_HZ, CallProbe, tone
from bench.peers.vosk_style_server import Recogniser
from tests.gateway.harness import speech
from tts_stub.synthesis import Voice

pytestmark = pytest.mark.unit


def message(opcode: int, data: bytes) -> bytes:
    """As a server sends it."""
    if len(data) < 126:
        return bytes((0x80 | opcode, len(data))) + data
    return bytes((0x80 | opcode, 126)) + len(data).to_bytes(2, "big") + data


def test_sound_is_found_behind_words_and_silence_and_in_half_a_message() -> None:
    quiet = message(1, b"{}" * 100) + message(2, bytes(FRAME_BYTES)) + message(2, b"")
    assert not holds_sound(b"") and not holds_sound(quiet)
    loud = quiet + message(2, tone(0.02))
    assert holds_sound(loud) and holds_sound(loud[: len(quiet) + 4 + 161])
    assert not holds_sound(loud[: len(quiet) + 3])


def test_every_bot_says_the_same_tone() -> None:
    said = ToneSynthesizer(0.5).synthesize("whatever", Voice(), RATE_HZ)
    assert len(said) == RATE_HZ // 2 and set(np.unique(said)) == {-4000, 4000}


def test_a_probe_looks_at_one_frame_in_so_many_of_each_call() -> None:
    heard: list[tuple[int, int, float]] = []
    for call in range(2):
        probe = CallProbe(call, heard)
        for _ in range(3 * EVERY):
            probe.frame_heard()
    assert [(call, frame) for call, frame, _ in heard] == [(0, 0), (0, 5), (0, 10), (1, 1), (1, 6), (1, 11)]


def test_callers_send_every_call_its_frames_and_know_when() -> None:
    """Against a server that answers the handshake and keeps what comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await writer.drain()
        writer.write(message(2, tone(0.02)))
        received.append(len(await reader.read(-1)))
        writer.close()

    received: list[int] = []

    async def run() -> Callers:
        sock = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=sock)

        def call() -> Callers:
            callers = Callers(sock.getsockname()[1], "/{}", conversation())
            callers.grow(3)
            callers.wait_for_words()
            callers.feed(0.1)
            callers.close()
            return callers

        callers = await asyncio.to_thread(call)
        async with asyncio.timeout(20):
            while len(received) < 3:
                await asyncio.sleep(0.01)
        server.close()
        return callers

    callers = asyncio.run(run())
    assert len(callers.first_utterance_ms) == 3
    assert callers.sent == len(callers.sent_at) >= 15
    assert sum(received) == callers.sent * (FRAME_BYTES + 8)
    assert {call for call, _ in callers.sent_at} == {0, 1, 2}


def test_a_peer_hears_every_frame_greets_and_tells_what_it_used() -> None:
    (peer,) = [peer for peer in PEERS if peer.name == "vosk-style"]
    core = min(os.sched_getaffinity(0))
    server = Server(peer, Path(sys.executable), core, talks_s=0.2)
    try:
        callers = Callers(server.port, peer.path, conversation())
        callers.grow(3)
        callers.wait_for_words()
        assert len(callers.first_utterance_ms) == 3
        deadline, told = time.monotonic() + 20, server.read()
        frames, heard = told.frames, list(told.heard)
        while told.frames < callers.sent:
            assert time.monotonic() < deadline, (told.frames, callers.sent)
            time.sleep(0.02)
            told = server.read()
            heard += told.heard
        assert frames <= told.frames == callers.sent and told.cpu_s > 0
        assert {(call, frame) for call, frame, _ in heard} <= callers.sent_at.keys() and heard
        callers.close()
    finally:
        server.stop()


def test_a_call_takes_less_than_a_hundred_kilobytes_of_a_worker() -> None:
    (peer,) = [peer for peer in PEERS if peer.name == "gateway"]
    server = Server(peer, Path(sys.executable), min(os.sched_getaffinity(0)), talks_s=0.2)
    try:
        callers = Callers(server.port, peer.path, line_noise())
        callers.grow(16)  # what the first ones bring is all calls'
        callers.wait_for_words()
        before = server.read().rss_bytes
        callers.grow(16 + 128)
        callers.wait_for_words()
        callers.feed(0.2)
        assert len(callers.first_utterance_ms) == 144
        assert (server.read().rss_bytes - before) / 128 < 100_000
        callers.close()
    finally:
        server.stop()


def test_an_utterance_ends_with_the_tail_and_not_before() -> None:
    heard: list[tuple[int, int, float]] = []
    recogniser = Recogniser(CallProbe(0, heard))
    frames = [speech()[at : at + 160].tobytes() for at in range(0, len(speech()) - 159, 160)]
    assert not any(map(recogniser.accept, frames))
    ended = [recogniser.accept(bytes(FRAME_BYTES)) for _ in range(60)]
    assert ended.count(True) == 1 and 20 < ended.index(True) < 55
    assert len(heard) == -(-(len(frames) + 60) // EVERY)


def test_the_table_says_how_many_times_as_many_calls() -> None:
    def row(peer: str, calls: int) -> Row:
        return Row(
            peer=peer,
            bot="answers",
            calls=calls,
            cpu_us_per_frame=14.0,
            memory_kb_per_call=50.0,
            first_utterance_p50_ms=1.0,
            first_utterance_p99_ms=2.0,
            steps=[],
        )

    lines = table([row("gateway", 800), row("pipecat", 32), row("pipecat-light", 0)]).splitlines()
    assert lines[1].endswith("1.0") and lines[2].endswith("25.0") and lines[3].endswith("-")
