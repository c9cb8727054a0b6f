"""The request of each product byte by byte, and what the product checks in the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.frames import Opcode

from tests.gateway.harness import rig
from tests.gateway.raw_peer import ACCEPT, KEY, dial, frame

pytestmark = pytest.mark.unit

# res_http_websocket.c: no Origin, no User-Agent, no extensions.
ASTERISK = (
    "GET {path} HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Host: gateway:8765\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
)
# libwsc, under mod_audio_stream: no space behind colons, a lower-case upgrade, and a compression that nobody wants.
LIBWSC = (
    "GET {path} HTTP/1.1\r\nHost:gateway:8765\r\nUpgrade:websocket\r\nConnection:upgrade\r\nSec-WebSocket-Key:{key}\r\n"
    "Sec-WebSocket-Version:13\r\nOrigin:http://gateway:8765\r\n{more}\r\n"
)
DEFLATE = (
    "Sec-WebSocket-Extensions:permessage-deflate; client_no_context_takeover; server_no_context_takeover; "
    "client_max_window_bits=9\r\n"
)
# libwebsockets, under mod_audio_fork.
LWS = (
    "GET {path} HTTP/1.1\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nHost: gateway\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nOrigin: http://gateway\r\n{more}\r\n"
)
# Twilio's media servers, as seen in the field.
TWILIO = (
    "GET {path} HTTP/1.1\r\nHost: gateway\r\nUser-Agent: Twilio.TmeWs/1.0\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


@pytest.mark.parametrize(
    ("request_of", "path", "more", "named"),
    [
        (ASTERISK, "/asterisk", "Sec-WebSocket-Protocol: media\r\n", "media"),
        (ASTERISK, "/asterisk?bot=tester", "", None),
        (ASTERISK, "/asterisk", "Sec-WebSocket-Protocol: ari, media\r\n", "media"),
        (ASTERISK, "/asterisk", "Sec-WebSocket-Protocol: own-name\r\n", None),
        (LIBWSC, "/freeswitch", "", None),
        (LIBWSC, "/freeswitch", DEFLATE, None),
        (LWS, "/jambonz", "Sec-WebSocket-Protocol: audio.drachtio.org\r\n", "audio.drachtio.org"),
        (LWS, "/jambonz", "Sec-WebSocket-Protocol: audio.jambonz.org\r\n", "audio.jambonz.org"),
        (TWILIO, "/twilio", "", None),
        (LWS, "/vosk", "", None),
    ],
    ids=[
        "asterisk-media",
        "asterisk-none",
        "asterisk-two",
        "asterisk-strange",
        "freeswitch-plain",
        "freeswitch-deflate",
        "jambonz-drachtio",
        "jambonz-own",
        "twilio",
        "vosk",
    ],
)
async def test_the_answer_to_each_products_request(
    tmp_path: Path, request_of: str, path: str, more: str, named: str | None
) -> None:
    async with rig(tmp_path) as running, dial(running.port) as peer:
        peer.send(request_of.format(path=path, key=KEY, more=more).encode())
        answer = await peer.answer()
        assert answer.status == 101
        # Asterisk compares these two whole, without regard to case, and refuses any extension.
        assert answer.headers["upgrade"].lower() == "websocket"
        assert answer.headers["connection"].lower() == "upgrade"
        assert answer.headers["sec-websocket-accept"] == ACCEPT
        assert "sec-websocket-extensions" not in answer.headers
        assert answer.headers.get("sec-websocket-protocol") == named
        assert all(len(value) < 4096 for value in answer.headers.values())


async def test_frames_of_ours_are_whole_unmasked_and_small(tmp_path: Path) -> None:
    async with rig(tmp_path) as running, dial(running.port) as peer:
        peer.send(ASTERISK.format(path="/asterisk", key=KEY, more="").encode())
        await peer.answer()
        start = b"MEDIA_START connection_id:m channel:c format:ulaw optimal_frame_size:160"
        peer.send(frame(Opcode.TEXT, start))
        for _ in range(10):
            opcode, data = await peer.frame()  # asserts whole and unmasked
            assert opcode is Opcode.BINARY and len(data) == 160


async def test_a_continued_text_is_one_message(tmp_path: Path) -> None:
    async with rig(tmp_path) as running, dial(running.port) as peer:
        peer.send(LWS.format(path="/jambonz", key=KEY, more="").encode())
        await peer.answer()
        peer.send(frame(Opcode.TEXT, b'{"sampleRate":8000,', fin=False), frame(Opcode.PING, b"ping"))
        peer.send(frame(Opcode.CONT, b'"mixType":"mono"}'))
        assert await peer.frame() == (Opcode.PONG, b"ping")
        opcode, data = await peer.frame()
        assert opcode is Opcode.BINARY and len(data) == 320


async def test_the_gateway_sends_no_pings(tmp_path: Path) -> None:
    """Asterisk builds of late 2025 hang up on them (asterisk PR 1722)."""
    async with rig(tmp_path) as running:
        assert running.worker._connections.ping_interval_s == 0
