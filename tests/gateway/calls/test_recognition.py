"""Vosk's clients: one reply a message, in order, whatever the rate and the size; recognition and no dialogue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from audio.formats import Pcm16
from audio.resampling import resample
from gateway.protocols.seam import MessageIgnored
from gateway.protocols.vosk import AudioHeard, Configured, RateRefused, Reset, StreamEnded, VoskEvent, VoskProtocol
from tests.gateway.harness import Rig, rig, silence, speech

pytestmark = pytest.mark.unit


# The protocol by value.


@pytest.mark.parametrize(
    ("message", "events"),
    [
        ('{ "config" : { "sample_rate" : 16000 } }', [Configured(sample_rate_hz=16000)]),
        ('{"config":{"sample_rate":"44100","words":true,"phrase_list":["a"]}}', [Configured(sample_rate_hz=44100)]),
        ('{"config":{"sample_rate":8000.0}}', [Configured(sample_rate_hz=8000)]),
        ('{"config":{}}', [Configured(sample_rate_hz=8000)]),
        ('{"config":{"language":"en"}}', [Configured(sample_rate_hz=8000, language="en")]),
        ('{"config":{"sample_rate":7}}', [RateRefused(7)]),
        ('{"eof" : 1}', [StreamEnded()]),
        ('{"eof":1}', [StreamEnded()]),
        ('{"reset" : 1}', [Reset()]),
        ('{"dance":1}', [MessageIgnored("unknown_event")]),
        ("x", [MessageIgnored("bad_json")]),
        (b"ab", [AudioHeard(b"ab")]),
    ],
)
def test_every_message(message: str | bytes, events: list[VoskEvent]) -> None:
    assert list(VoskProtocol().receive(message)) == events


def test_a_config_after_audio_changes_nothing() -> None:
    protocol = VoskProtocol()
    protocol.receive(b"")
    assert list(protocol.receive('{"config":{"sample_rate":16000}}')) == [MessageIgnored("late_start")]


# Over a socket, as vosk-server's own sample client does it.


@asynccontextmanager
async def client(folder: Path, **options: Any) -> AsyncIterator[tuple[Rig, ClientConnection]]:
    async with rig(folder, **options) as running:
        url = f"ws://127.0.0.1:{running.port}/vosk"
        async with connect(url, compression=None, proxy=None) as ws:
            yield running, ws


async def transcribe(ws: ClientConnection, pcm: Pcm16, rate: int, *, chunk_s: float = 0.2) -> list[dict[str, Any]]:
    """test.py of vosk-server: config, then 0.2 s at a time in lock-step, then eof. Every reply."""
    async with asyncio.timeout(20):
        await ws.send(json.dumps({"config": {"sample_rate": rate}}))
        data, size = pcm.astype("<i2").tobytes(), int(rate * chunk_s) * 2
        replies = []
        for at in range(0, len(data), size):
            await ws.send(data[at : at + size])
            replies.append(json.loads(await ws.recv()))
        await ws.send('{"eof" : 1}')
        replies.append(json.loads(await ws.recv()))
        return replies


def trimmed(pcm: Pcm16) -> Pcm16:
    """From the first loud sample to the last."""
    loud = np.flatnonzero(np.abs(pcm) > 300)
    return pcm[loud[0] : loud[-1] + 1]


def words(replies: list[dict[str, Any]]) -> list[str]:
    return [reply["text"] for reply in replies if reply.get("text")]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
async def test_a_sample_client_gets_one_reply_a_message_and_the_words(tmp_path: Path, rate: int) -> None:
    async with client(tmp_path, hear="yes speaking") as (running, ws):
        one = np.concatenate([speech(16000), silence(1000, 16000)])
        replies = await transcribe(ws, resample(np.concatenate([one, one]), 16000, rate), rate)
        assert words(replies) == ["yes speaking", "yes speaking"]
        assert all(set(reply) in ({"partial"}, {"text"}) for reply in replies)
        assert replies[-1] == {"text": ""}, "nothing was left to say"
        await ws.wait_closed()
        assert ws.close_code == 1000
        wide = 16000 if rate >= 16000 else 8000
        jobs = [job for job in running.asr.jobs if 600 < len(job.pcm) * 1000 / job.sample_rate_hz < 2500]
        assert {job.sample_rate_hz for job in jobs} == {wide}
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1
        assert running.metric("voicegate_calls", protocol="vosk") == 0


async def test_the_last_words_are_given_at_the_end_without_a_tail(tmp_path: Path) -> None:
    async with client(tmp_path, hear="yes") as (_, ws):
        replies = await transcribe(ws, speech(), 8000)
        assert replies[-1] == {"text": "yes"}


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
async def test_a_file_without_silence_around_is_heard_as_a_call_is(tmp_path: Path, rate: int) -> None:
    said = trimmed(speech(16000 if rate > 16000 else 8000))
    async with client(tmp_path, hear="yes") as (running, ws):
        await transcribe(ws, resample(said, 16000 if rate > 16000 else 8000, rate), rate)
        job = running.asr.jobs[-1]
        heard, around = trimmed(job.pcm), job.sample_rate_hz // 1000
        (first, *_, last) = np.flatnonzero(np.abs(job.pcm) > 300)
        assert first >= 40 * around and len(job.pcm) - last >= 150 * around
        assert abs(len(heard) - len(said)) < 30 * around, "the resampler's last samples are there"


async def test_half_a_sample_before_a_reset_is_whole_behind_it(tmp_path: Path) -> None:
    data = speech().astype("<i2").tobytes()
    async with client(tmp_path, hear="yes") as (running, ws):
        async with asyncio.timeout(20):
            for message in (data[:801], '{"reset" : 1}', data[801:], '{"eof" : 1}'):
                await ws.send(message)
                reply = json.loads(await ws.recv())
        assert reply == {"text": "yes"}
        assert data[8000:12_000] in running.asr.jobs[-1].pcm.astype("<i2").tobytes()


async def test_words_appear_while_the_utterance_goes_on(tmp_path: Path) -> None:
    async with client(tmp_path, hear="yes") as (_, ws):
        said = np.tile(speech(), 3)
        replies = await transcribe(ws, said, 8000, chunk_s=0.1)
        assert {"partial": "yes"} in replies


async def test_a_partial_that_still_waits_when_its_utterance_is_over_is_not_transcribed(tmp_path: Path) -> None:
    async with client(tmp_path, hear="yes") as (running, busy), asyncio.timeout(20):
        running.asr.gate.clear()
        await busy.send(speech().astype("<i2").tobytes())
        await busy.recv()
        async with connect(f"ws://127.0.0.1:{running.port}/vosk", compression=None, proxy=None) as ws:
            await ws.send(speech().astype("<i2").tobytes())
            assert json.loads(await ws.recv()) == {"partial": ""}
            await ws.send('{"reset" : 1}')
            await asyncio.sleep(0.1)
            running.asr.gate.set()
            assert json.loads(await ws.recv()) == {"text": "yes"}
        await busy.send('{"reset" : 1}')
        await busy.recv()
        assert len(running.asr.jobs) == 3, "of the first one its partial and its end, of the other its end"


@pytest.mark.parametrize(
    ("setting", "config", "language"), [("", {}, "en"), ("auto", {}, "auto"), ("", {"language": "zh"}, "zh")]
)
async def test_the_language_is_the_clients_the_settings_or_the_default_bots(
    tmp_path: Path, setting: str, config: dict[str, str], language: str
) -> None:
    environ = {"VOICEGATE_ASR_LANGUAGE": setting} if setting else {}
    async with client(tmp_path, environ=environ) as (running, ws), asyncio.timeout(20):
        await ws.send(json.dumps({"config": {"sample_rate": 8000, **config}}))
        for message in (speech().astype("<i2").tobytes(), '{"eof" : 1}'):
            await ws.send(message)
            await ws.recv()
        assert {job.language for job in running.asr.jobs} == {language}


async def test_a_reset_gives_the_words_and_goes_on(tmp_path: Path) -> None:
    async with client(tmp_path, hear="yes") as (_, ws):
        async with asyncio.timeout(20):
            for _ in range(2):
                await ws.send(speech().astype("<i2").tobytes())
                await ws.recv()
                await ws.send('{"reset" : 1}')
                assert json.loads(await ws.recv()) == {"text": "yes"}


@pytest.mark.parametrize("size", [1, 7, 321, 16_000, 100_000])
async def test_message_sizes_do_not_matter(tmp_path: Path, size: int) -> None:
    said = np.concatenate([speech(), silence(1000)])
    if size < 100:
        said = said[: 40 * size]
    async with client(tmp_path, hear="yes") as (_, ws):
        async with asyncio.timeout(20):
            data = said.astype("<i2").tobytes()
            replies = []
            for at in range(0, len(data), size):
                await ws.send(data[at : at + size])
                replies.append(json.loads(await ws.recv()))
            assert len(replies) == -(-len(data) // size)
            assert words(replies) == (["yes"] if size >= 100 else [])


async def test_no_audio_and_eof_is_an_empty_text(tmp_path: Path) -> None:
    async with client(tmp_path) as (_, ws):
        await ws.send('{"eof":1}')
        async with asyncio.timeout(20):
            assert json.loads(await ws.recv()) == {"text": ""}


async def test_a_client_that_waits_for_no_reply_is_bounded(tmp_path: Path) -> None:
    async with client(tmp_path) as (running, ws):
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(10):
                for _ in range(2000):
                    await ws.send(bytes(32_000))
                while True:
                    await ws.recv()
        assert ws.close_code == 4429
        await running.no_calls()


async def test_a_file_is_answered_at_ten_times_its_pace_and_no_faster(tmp_path: Path) -> None:
    async with client(tmp_path) as (_, ws):
        began = asyncio.get_running_loop().time()
        await transcribe(ws, silence(5000), 8000, chunk_s=0.5)
        assert 0.4 < asyncio.get_running_loop().time() - began < 3


async def test_a_rate_that_no_audio_has_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with client(tmp_path) as (_, ws):
        await ws.send('{"config":{"sample_rate":7}}')
        async with asyncio.timeout(20):
            await ws.wait_closed()
        assert ws.close_code == 4415 and "sample_rate" in (ws.close_reason or "")
    assert "recognition ended: bad_start: sample_rate must be 4000 to 192000" in caplog.messages


async def test_a_recogniser_that_fails_ends_the_connection_with_1011(tmp_path: Path) -> None:
    def hear(job: object) -> str:
        raise RuntimeError("out of memory")

    async with client(tmp_path, hear=hear) as (_, ws):
        with pytest.raises(ConnectionClosed):
            await transcribe(ws, np.concatenate([speech(), silence(1000)]), 8000)
        assert ws.close_code == 1011


async def test_silence_for_too_long_and_a_drain_end_it(tmp_path: Path) -> None:
    async with client(tmp_path, environ={"VOICEGATE_LIMITS_NO_AUDIO_S": "0.2"}) as (_, ws):
        async with asyncio.timeout(20):
            await ws.wait_closed()
        assert ws.close_code == 4408
    async with client(tmp_path / "drained") as (running, ws):
        await ws.send(bytes(320))
        await ws.recv()
        await running.worker.drain(0.1)
        async with asyncio.timeout(20):
            await ws.wait_closed()
        assert ws.close_code == 1001


async def test_a_client_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    async with client(tmp_path) as (running, ws):
        await ws.send(speech().astype("<i2").tobytes())
        ws.transport.abort()
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="lost") == 1
