"""The bridge on real sockets: a phone calls a gateway in this process, in every dialect. Real time, scripted models."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.formats import AudioFormat, Encoding
from audio.framing import decode, encode
from audio.framing import silence as quiet_of
from gateway.access.auth import Scope, mint
from gateway.calls.speaker import voice_of
from gateway.sip.agent import AgentEvent, UserAgent
from gateway.sip.bridge import BridgeError, BridgeSettings, SipBridge
from gateway.sip.fields import Address
from gateway.sip.lines import DIALECTS
from tests.gateway.harness import FLOW, Rig, rig, silence, speech
from tests.gateway.sip.phone import Phone
from tests.ports import free_port

pytestmark = pytest.mark.unit

GREETING = "Hello this is the bot"
LONG_GREETING = "Hello this is the test bot speaking to you now and for quite a while"


def rtp_ports(calls: int) -> range:
    """Where so many calls have room for their audio: every other port, from a free one on. A bridge passes over those
    that are taken."""
    first = next(port for port in iter(free_port, None) if port % 2 == 0)
    return range(first, first + 2 * calls - 1)


@asynccontextmanager
async def bridge(gateway: str, **settings: Any) -> AsyncIterator[SipBridge]:
    """A bridge to this gateway on a free port."""
    told = {"listen": Address("127.0.0.1", 0), "rtp_ports": rtp_ports(50), **settings}
    running = SipBridge(BridgeSettings(gateway=gateway, **told))
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


@asynccontextmanager
async def phone(to: SipBridge, *, payload: int = 0) -> AsyncIterator[Phone]:
    """A phone that can call this bridge."""
    opened = await Phone(payload=payload).open(("127.0.0.1", to.address.port))
    try:
        yield opened
    finally:
        opened.close()


@asynccontextmanager
async def worker(folder: Path, greeting: str = GREETING, **options: Any) -> AsyncIterator[Rig]:
    async with rig(folder, flow=FLOW.replace(LONG_GREETING, greeting), **options) as running:
        yield running


def url(running: Rig) -> str:
    return f"ws://127.0.0.1:{running.port}"


async def prompt(running: Rig, line: Phone, text: str, *, through: AudioFormat | None = None) -> bytes:
    """A prompt as the phone hears it; `through`: the coding it went through before."""
    made = await running.services.prompts.get(text, voice_of(running.services.bots["tester"]), 8000, None)
    return encode(line.fmt, decode(through, encode(through, made.pcm)) if through else made.pcm)


def heard(line: Phone) -> bytes:
    """What was heard without packets of silence, which a busy machine may put anywhere."""
    quiet = quiet_of(line.fmt, 160)
    return b"".join(payload for _, payload in line.heard if payload != quiet)


async def test_a_call_in_every_dialect_is_greeted_heard_and_ended_by_the_bot(tmp_path: Path) -> None:
    async with worker(tmp_path, hear="yes") as running:

        async def call(dialect: str) -> None:
            payload = 8 if dialect == "asterisk-json" else 0  # A-law and mu-law both, on a line that carries either
            async with bridge(url(running), dialect=dialect) as to, phone(to, payload=payload) as line:
                answer = await line.call()
                # A busy machine may have the 200 repeated.
                assert list(dict.fromkeys(r.status for r in line.responses)) == [100, 180, 200], dialect
                assert re.search(rf"^m=audio \d+ RTP/AVP {payload} 101\r$", answer.body, re.M), answer.body
                greeting = await prompt(running, line, GREETING)
                await line.until(lambda: greeting in heard(line), f"{dialect} greeting, bit for bit")
                await line.speak(np.concatenate([speech(), silence(1000)]))
                line.keep_silent()
                await line.hung_up()
                assert await prompt(running, line, "Good bye") in heard(line), dialect

        await asyncio.gather(*map(call, DIALECTS))
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="bot") == len(DIALECTS)
        assert max(len(job.pcm) for job in running.asr.jobs) > 0.6 * 8000


async def test_speech_and_keys_over_the_greeting_silence_it_at_once_in_every_dialect(tmp_path: Path) -> None:
    greeting = " ".join("a" * 99)  # six seconds in the letters that a prompt may have: a busy machine hears late
    async with worker(tmp_path, greeting, hear="more") as running:

        async def call(dialect: str, how: str) -> None:
            async with bridge(url(running), dialect=dialect) as to, phone(to) as line:
                await line.call()
                await line.until(lambda: np.any(line.audio), f"{dialect} first words")
                if how == "speech":
                    await line.speak(np.concatenate([speech(), silence(1000)]))
                else:
                    line.press("4")
                    line.press("4", ends=0)  # the end is lost
                    line.press("#")
                line.keep_silent()
                reply = await prompt(running, line, "Tell me more about that" if how == "speech" else "Sorry")
                await line.until(lambda: reply in heard(line), f"{dialect} reply to {how}")
                whole = await prompt(running, line, greeting)
                assert whole not in heard(line)
                assert (await line.ask("BYE")).status == 200

        await asyncio.gather(*(call(dialect, how) for dialect in DIALECTS for how in ("speech", "keys")))
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 2 * len(DIALECTS)
        assert running.metric("voicegate_turns_total", outcome="dtmf") == len(DIALECTS)
        assert running.metric("voicegate_barge_in_seconds_count") >= len(DIALECTS)


async def test_a_caller_on_hold_hears_nothing_and_says_nothing_until_it_comes_back(tmp_path: Path) -> None:
    async with worker(tmp_path, hear="yes") as running, bridge(url(running)) as to, phone(to) as line:
        await line.call()
        await line.until(lambda: line.heard, "audio")
        held = await line.again("sendonly")
        assert held.status == 200 and "a=recvonly" in held.body
        while True:  # what was on its way when the answer came
            before = len(line.heard)
            line.say(bytes([0x10]) * 160)  # music on hold, which the bot is not to hear
            await asyncio.sleep(0.15)
            if len(line.heard) == before:
                break
        again = await line.again("sendrecv")
        assert again.status == 200 and "a=sendrecv" in again.body
        await line.until(lambda: len(line.heard) > before, "audio after hold")
        assert line.packets[before][1] & 0x80, "the first packet after silence carries the marker"
        line.press("4")
        line.press("#")
        line.keep_silent()
        reply = await prompt(running, line, "Sorry")
        await line.until(lambda: reply in heard(line), "reply to the key")
        assert not running.asr.jobs, "the music was heard"
        await line.ask("BYE")


async def test_options_info_and_what_is_not_spoken_are_answered_within_a_call(tmp_path: Path) -> None:
    async with worker(tmp_path) as running, bridge(url(running)) as to, phone(to) as line:
        assert (await line.call()).status == 200
        line.keep_silent()
        options = await line.ask("OPTIONS")
        assert options.status == 200 and "INVITE" in options.fields["allow"]
        info = await line.ask("INFO", "Signal=4\r\nDuration=160\r\n", Content_Type="application/dtmf-relay")
        assert info.status == 200
        await line.ask("INFO", "Signal=#", Content_Type="application/dtmf-relay")
        reply = await prompt(running, line, "Sorry")
        await line.until(lambda: reply in heard(line), "reply to the key")
        assert (await line.ask("MESSAGE")).status == 405
        assert (await line.ask("BYE")).status == 200
        assert (await line.ask("BYE")).status == 481
        await running.no_calls()
    async with bridge("ws://127.0.0.1:1") as to, phone(to) as line:
        assert (await line.ask("OPTIONS")).status == 200
        assert (await line.ask("REGISTER")).status == 405


async def test_a_caller_without_an_offer_is_made_one_with_the_address_it_can_reach(tmp_path: Path) -> None:
    everywhere = Address("0.0.0.0", 0)
    async with worker(tmp_path) as running, bridge(url(running), listen=everywhere) as to, phone(to, payload=8) as line:
        answer = await line.call(offer=False)
        assert answer.status == 200 and "RTP/AVP 0 8 101" in answer.body
        assert "c=IN IP4 127.0.0.1" in answer.body and "<sip:voicegate@127.0.0.1:" in answer.fields["contact"]
        greeting = await prompt(running, line, GREETING, through=AudioFormat(encoding=Encoding.MULAW))
        await line.until(lambda: greeting in heard(line), "the whole greeting in the codec of the caller's answer")
        assert (await line.ask("BYE")).status == 200


async def test_a_call_that_cannot_be_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with bridge("ws://127.0.0.1:1") as to:
        async with phone(to) as line:
            assert (await line.call(codecs="9 18")).status == 488
        async with phone(to) as line:
            assert (await line.call()).status == 503  # no gateway
        assert to.calls == 0
    async with worker(tmp_path, environ={"VOICEGATE_LIMITS_CALLS_PER_WORKER": "1"}) as running:
        async with bridge(url(running), max_calls=2) as to, phone(to) as one, phone(to) as two:
            assert (await one.call()).status == 200
            refused = await two.call()  # the gateway is full
            assert refused.status == 503 and "retry-after" in refused.fields
            assert (await one.ask("BYE")).status == 200
            await running.no_calls()
        async with bridge(url(running), max_calls=1) as to, phone(to) as one, phone(to) as two:
            assert (await one.call()).status == 200
            assert (await two.call()).status == 486  # the bridge is
            await one.ask("BYE")
        only = rtp_ports(1)
        async with bridge(url(running), rtp_ports=only) as to, phone(to) as one:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
                taken.bind(("127.0.0.1", only.start))
                assert (await one.call()).status == 503


async def test_a_gateway_that_wants_a_token_gets_it_in_each_dialect_s_own_way(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    token = mint(secret, "sip", [Scope.CALL], 60, now=int(time.time()))
    async with worker(tmp_path, environ={"VOICEGATE_AUTH_SECRET": secret}) as running:
        for dialect in DIALECTS:
            async with bridge(url(running), dialect=dialect, token=token) as to, phone(to) as line:
                assert (await line.call()).status == 200
                await line.until(lambda: np.any(line.audio), f"{dialect} audio")
                await line.ask("BYE")
        async with bridge(url(running)) as to, phone(to) as line:
            assert (await line.call()).status == 503


async def test_a_caller_who_gives_up_while_it_rings_is_let_go() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end
        writer.close()

    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, bridge(f"ws://127.0.0.1:{port}") as to, phone(to) as line:
        line.send(line.request("INVITE", line.describe()))
        await line.until(lambda: any(r.status == 180 for r in line.responses), "ringing")
        line.send(line.request("CANCEL", branch=line.branch))
        assert (await line.final("INVITE")).status == 487
        assert (await line.final("CANCEL")).status == 200
        line.send(line.request("ACK", branch=line.branch))
        async with asyncio.timeout(10):
            while to.calls:
                await asyncio.sleep(0.01)


async def test_a_caller_whose_audio_stops_is_hung_up_on(tmp_path: Path) -> None:
    async with worker(tmp_path) as running:
        async with bridge(url(running), rtp_timeout_s=0.3) as to, phone(to) as line:
            await line.call()
            await line.hung_up()
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


async def test_noise_on_every_port_harms_no_call(tmp_path: Path) -> None:
    async with worker(tmp_path, hear="yes") as running:
        async with bridge(url(running)) as to, phone(to) as line, phone(to) as stranger:
            await line.call()
            assert line.rtp_to is not None
            invite = stranger.request("INVITE", stranger.describe())
            for cut in range(0, len(invite), 7):
                stranger.send(invite[:cut])
                stranger.rtp.sendto(invite[:cut], line.rtp_to)
            for noise in (b"", b"\r\n\r\n", bytes(range(256)), b"SIP/2.0 200 OK\r\n\r\n", b"\x80" * 2000):
                stranger.send(noise)
                stranger.rtp.sendto(noise, line.rtp_to)
            line.press("4")
            line.press("#")
            line.keep_silent()
            reply = await prompt(running, line, "Sorry")
            await line.until(lambda: reply in heard(line), "reply to the key")
            assert to.malformed > 10
            assert (await line.ask("BYE")).status == 200


async def test_a_fault_of_ours_is_logged_without_what_the_caller_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(agent: UserAgent, data: bytes, *_: object) -> list[AgentEvent]:
        raise ValueError(data.decode())

    async with bridge("ws://127.0.0.1:1") as to, phone(to) as line:
        monkeypatch.setattr(UserAgent, "receive", broken)
        line.send(b"INVITE sip:+15550100@example.com")
        async with asyncio.timeout(20):
            while "broke something" not in caplog.text:
                await asyncio.sleep(0.01)
        assert "ValueError" in caplog.text and "15550100" not in caplog.text


async def test_a_bridge_that_stops_says_goodbye_to_its_callers(tmp_path: Path) -> None:
    async with worker(tmp_path) as running:
        async with bridge(url(running)) as to:
            line = await Phone().open(to.address)
            await line.call()
        await line.hung_up()
        line.close()
        await running.no_calls()


async def test_an_address_that_is_taken_is_an_error_that_says_so() -> None:
    async with bridge("ws://127.0.0.1:1") as to:
        with pytest.raises(BridgeError, match=f"127.0.0.1:{to.address.port}.*--listen"):
            await SipBridge(BridgeSettings(listen=to.address)).start()
