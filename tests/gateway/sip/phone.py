"""A phone made of two sockets: calls the bridge as RFC 3261 says, with messages of its own making.

Written without `gateway.sip`, so that both ends cannot share a mistake. What it heard is kept as PCM16.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import decode, encode

__all__ = ["Phone", "PhoneResponse"]

FORMATS = {0: AudioFormat(encoding=Encoding.MULAW), 8: AudioFormat(encoding=Encoding.ALAW)}
EVENTS = 101
KEYS = "0123456789*#ABCD"


class PhoneResponse:
    """A response, as far as a phone looks at it."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.decode().partition("\r\n\r\n")
        lines = head.split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.vias = [line for line in lines[1:] if line.lower().startswith("via:")]
        self.body = body
        self.method = self.fields["cseq"].split()[1]
        self.sequence = int(self.fields["cseq"].split()[0])

    def sdp(self, pattern: str) -> str:
        found = re.search(pattern, self.body, flags=re.M)
        assert found is not None, self.body
        return found[1]


class Phone(asyncio.DatagramProtocol):
    """One call at a time. `responses` and `requests` are everything that came."""

    def __init__(self, *, payload: int = 0) -> None:
        self.payload = payload
        self.fmt = FORMATS[payload]
        self.call_id = secrets.token_hex(8)
        self.tag = secrets.token_hex(4)
        self.to_tag = ""
        self.sequence = 1
        self.branch = ""
        self.responses: list[PhoneResponse] = []
        self.requests: list[str] = []
        self.heard: list[tuple[float, bytes]] = []
        self.packets: list[bytes] = []
        self.news = asyncio.Condition()
        self.rtp_to: tuple[str, int] | None = None
        self.answers = True
        """Whether requests of the bridge (BYE) are answered."""
        self._rtp_number = secrets.randbits(16)
        self._rtp_time = secrets.randbits(32)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self, bridge: tuple[str, int]) -> Phone:
        loop = asyncio.get_running_loop()
        self.bridge = bridge
        self.sip, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._sip_came), local_addr=("127.0.0.1", 0))
        self.rtp, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._rtp_came), local_addr=("127.0.0.1", 0))
        self.port = self.sip.get_extra_info("sockname")[1]
        self.rtp_port = self.rtp.get_extra_info("sockname")[1]
        return self

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.sip.close()
        self.rtp.close()

    # Signalling.

    def describe(self, direction: str = "sendrecv", *, codecs: str | None = None) -> str:
        numbers = codecs or f"{self.payload} {EVENTS}"
        return (
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.rtp_port} RTP/AVP {numbers}\r\n"
            f"a=rtpmap:{EVENTS} telephone-event/8000\r\na=fmtp:{EVENTS} 0-15\r\na={direction}\r\n"
        )

    def request(self, method: str, body: str = "", *, branch: str | None = None, **extra: str) -> bytes:
        """A request as text; `branch` of another one for CANCEL and for ACK of a refusal."""
        branch = branch or f"z9hG4bK{secrets.token_hex(6)}"
        if method == "INVITE":
            self.branch = branch
        to_tag = f";tag={self.to_tag}" if self.to_tag else ""
        host, port = self.bridge
        lines = [
            f"{method} sip:bot@{host}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch};rport",
            "Max-Forwards: 70",
            f'From: "A caller, with a comma" <sip:+15551234@127.0.0.1>;tag={self.tag}',
            f"To: <sip:bot@{host}:{port}>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.sequence} {method}",
            f"Contact: <sip:caller@127.0.0.1:{self.port}>",
            *(f"{name.replace('_', '-')}: {value}" for name, value in extra.items()),
        ]
        if body and "Content_Type" not in extra:
            lines.append("Content-Type: application/sdp")
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()

    def send(self, data: bytes) -> None:
        self.sip.sendto(data, self.bridge)

    async def call(self, *, offer: bool = True, codecs: str | None = None) -> PhoneResponse:
        """INVITE to its final answer, acknowledged."""
        self.send(self.request("INVITE", self.describe(codecs=codecs) if offer else ""))
        answer = await self.final("INVITE")
        if answer.status == 200:
            self.to_tag = answer.fields["to"].partition("tag=")[2]
            self.acknowledge("" if offer else self.describe())
            self._follow(answer)
        else:
            self.send(self.request("ACK", branch=self.branch))
        return answer

    def acknowledge(self, body: str = "") -> None:
        self.send(self.request("ACK", body))

    async def again(self, direction: str) -> PhoneResponse:
        """A re-INVITE: hold or its end."""
        self.sequence += 1
        self.send(self.request("INVITE", self.describe(direction)))
        answer = await self.final("INVITE")
        self.acknowledge()
        return answer

    async def ask(self, method: str, body: str = "", **extra: str) -> PhoneResponse:
        self.sequence += 1
        self.send(self.request(method, body, **extra))
        return await self.final(method)

    async def final(self, method: str) -> PhoneResponse:
        """The final answer to the newest request of this method."""

        def found() -> list[PhoneResponse]:
            return [r for r in self.responses if r.method == method and r.status >= 200 and r.sequence == self.sequence]

        await self.until(found, f"an answer to {method}")
        return found()[-1]

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
        try:
            async with asyncio.timeout(timeout_s), self.news:
                while not condition():
                    await self.news.wait()
        except TimeoutError:
            got = [r.status for r in self.responses], [line.split("\r\n")[0] for line in self.requests]
            raise AssertionError(f"no {what}; got {got}, heard {self.shown}") from None

    async def hung_up(self, timeout_s: float = 20.0) -> None:
        """Until the bridge says BYE."""
        await self.until(lambda: any(r.startswith("BYE ") for r in self.requests), "BYE", timeout_s)

    # Audio.

    def packet(self, payload_type: int, payload: bytes, samples: int, *, marker: bool = False) -> bytes:
        self._rtp_number = (self._rtp_number + 1) & 0xFFFF
        second = payload_type | (0x80 if marker else 0)
        data = struct.pack(">BBHII", 0x80, second, self._rtp_number, self._rtp_time, 77) + payload
        self._rtp_time = (self._rtp_time + samples) & 0xFFFFFFFF
        return data

    async def speak(self, pcm: Pcm16) -> None:
        """Real time, 20 ms a packet."""
        coded = encode(self.fmt, pcm)
        due = time.monotonic()
        for at in range(0, len(coded), 160):
            self.say(coded[at : at + 160])
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def say(self, coded: bytes) -> None:
        assert self.rtp_to is not None
        self.rtp.sendto(self.packet(self.payload, coded, len(coded)), self.rtp_to)

    def press(self, key: str, *, ends: int = 3) -> None:
        """One key as RFC 4733 sends it: three packets while it is held, `ends` at its end, one timestamp."""
        assert self.rtp_to is not None
        number = KEYS.index(key)
        for step in range(1, 4):
            body = struct.pack(">BBH", number, 10, 160 * step)
            self.rtp.sendto(self.packet(EVENTS, body, 0, marker=step == 1), self.rtp_to)
        for _ in range(ends):
            self.rtp.sendto(self.packet(EVENTS, struct.pack(">BBH", number, 0x8A, 640), 0), self.rtp_to)
        self._rtp_time = (self._rtp_time + 800) & 0xFFFFFFFF

    def keep_silent(self) -> None:
        """Send silence until closed, as a phone does whose owner listens."""
        task = asyncio.get_running_loop().create_task(self._silence())
        self._tasks.add(task)

    async def _silence(self) -> None:
        while True:
            await self.speak(np.zeros(8000, np.int16))

    @property
    def audio(self) -> Pcm16:
        """What was heard."""
        return decode(self.fmt, b"".join(payload for _, payload in self.heard))

    @property
    def shown(self) -> str:
        """What was heard as runs of packets: `.3 #40 .7` is 3 of silence, 40 with sound, 7 of silence."""
        loud = [bool(np.any(decode(self.fmt, payload))) for _, payload in self.heard]
        return " ".join(f"{'#' if sound else '.'}{len(list(run))}" for sound, run in groupby(loud))

    def _follow(self, answer: PhoneResponse) -> None:
        self.rtp_to = (answer.sdp(r"^c=IN IP4 (\S+)"), int(answer.sdp(r"^m=audio (\d+)")))

    def _sip_came(self, data: bytes) -> None:
        if data.startswith(b"SIP/2.0"):
            self.responses.append(PhoneResponse(data))
        else:
            text = data.decode()
            self.requests.append(text)
            if text.startswith("BYE ") and self.answers:
                kept = [
                    line
                    for line in text.split("\r\n")
                    if line.lower().startswith(("via:", "from:", "to:", "call-id:", "cseq:"))
                ]
                self.send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode())
        self._tell()

    def _rtp_came(self, data: bytes) -> None:
        self.packets.append(data)
        if data[1] & 0x7F == self.payload:
            self.heard.append((time.monotonic(), data[12:]))
        self._tell()

    def _tell(self) -> None:
        async def tell() -> None:
            async with self.news:
                self.news.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, came: Callable[[bytes], None]) -> None:
        self._came = came

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._came(data)
