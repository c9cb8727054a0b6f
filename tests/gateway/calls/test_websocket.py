"""One connection over a real socket, on both event loops: what peers send, in order and out of it.

Every test ends with the same questions, asked by `serving`: was each receiver told of its end once, and did nothing
go to the loop's exception handler?
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.frames import Close, Opcode
from websockets.http11 import Request, Response

from gateway.calls.websocket import Connection, ConnectionSettings, Receiver
from tests.gateway.raw_peer import ACCEPT, KEY, RawPeer, dial, frame, upgrade

pytestmark = pytest.mark.unit


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def event_loop_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """The product runs on uvloop; asyncio shows what is uvloop's own."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy() if request.param == "uvloop" else None)
    yield
    asyncio.set_event_loop_policy(None)


class Ear:
    """A receiver that keeps what it is told."""

    def __init__(self, subprotocol: str | None = None) -> None:
        self.subprotocol = subprotocol
        self.connection: Connection | None = None
        self.opened = 0
        self.messages: list[str | bytes] = []
        self.closes: list[tuple[int, str]] = []

    def connection_opened(self, connection: Connection) -> None:
        self.connection = connection
        self.opened += 1

    def message_received(self, message: str | bytes) -> None:
        self.messages.append(message)
        if message == "boom":
            raise RuntimeError("a fault of ours")

    def connection_closed(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))


@dataclass
class Served:
    """A server and its receivers, one a connection that was accepted."""

    port: int
    ears: list[Ear] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    refuse: Response | None = None
    subprotocol: str | None = None

    def accept(self, connection: Connection, request: Request) -> Response | Receiver:
        if self.refuse is not None:
            return self.refuse
        self.ears.append(Ear(self.subprotocol))
        return self.ears[-1]

    @asynccontextmanager
    async def peer(self, *headers: str, **options: Any) -> AsyncIterator[tuple[RawPeer, Ear]]:
        """A peer whose connection is open, and who hears it."""
        async with dial(self.port, **options) as peer:
            peer.send(upgrade("/", *headers))
            assert (await peer.answer()).status == 101
            yield peer, self.ears[-1]


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Served]:
    served = Served(0)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: served.errors.append(context))

    def connection() -> Connection:
        made = Connection(served.accept, ConnectionSettings(**{"close_timeout_s": 0.2, **limits}))
        served.connections.append(made)
        return made

    sock = socket.create_server(("127.0.0.1", 0))
    served.port = sock.getsockname()[1]
    server = await loop.create_server(connection, sock=sock)
    yield served
    server.close()
    async with asyncio.timeout(5):
        for made in served.connections:
            await made.closed.wait()
    # An ear that the library's own checks turned away was never opened, and hears of no end.
    assert all(ear.opened == len(ear.closes) <= 1 for ear in served.ears), [ear.closes for ear in served.ears]
    assert not served.errors


# The handshake.

LIBWSC = "\r\n".join(
    [  # PROTOCOLS.md section 2.1: no blank after the colon, lower-case values, deflate with a small window
        "GET /v1/call HTTP/1.1",
        "Host:localhost:8765",
        "Upgrade:websocket",
        "Connection:upgrade",
        f"Sec-WebSocket-Key:{KEY}",
        "Sec-WebSocket-Version:13",
        "Origin:http://localhost:8765",
        "Sec-WebSocket-Extensions:permessage-deflate; client_no_context_takeover; "
        "server_no_context_takeover; client_max_window_bits=9",
        "",
        "",
    ]
).encode()


async def test_an_offer_of_deflate_is_answered_without_any_extension() -> None:
    async with serving() as served, dial(served.port) as peer:
        peer.send(LIBWSC)
        answer = await peer.answer()
        assert answer.status == 101
        assert set(answer.headers) == {"date", "upgrade", "connection", "sec-websocket-accept"}
        # Asterisk compares these two values whole (PROTOCOLS.md section 1.2).
        assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "Upgrade")
        assert answer.headers["sec-websocket-accept"] == ACCEPT


async def test_the_subprotocol_is_the_receivers_word() -> None:
    async with serving() as served:
        served.subprotocol = "media"
        async with dial(served.port) as peer:
            peer.send(upgrade("/", "Sec-WebSocket-Protocol: strange, media"))
            assert (await peer.answer()).headers["sec-websocket-protocol"] == "media"
        served.subprotocol = None
        async with dial(served.port) as peer:
            peer.send(upgrade("/", "Sec-WebSocket-Protocol: strange"))
            assert "sec-websocket-protocol" not in (await peer.answer()).headers


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_a_request_may_come_in_pieces_with_frames_right_behind_it(size: int) -> None:
    """A frame sent before the 101 was seen, or half of it, is the connection's first."""
    stream = upgrade("/") + frame(Opcode.BINARY, b"early") + frame(Opcode.PING, b"?") + frame(Opcode.TEXT, b"word")
    async with serving() as served, dial(served.port) as peer:
        for at in range(0, len(stream), size):
            peer.send(stream[at : at + size])
            if size == 1:
                await asyncio.sleep(0)
        assert (await peer.answer()).status == 101
        assert await peer.frame() == (Opcode.PONG, b"?")
        await until(lambda: len(served.ears[0].messages) == 2)
        assert served.ears[0].messages == [b"early", "word"]


async def test_half_a_frame_behind_the_request_does_not_shift_what_follows() -> None:
    audio = frame(Opcode.BINARY, bytes(320))
    async with serving() as served, dial(served.port) as peer:
        peer.send(upgrade("/"), audio[:100])
        await peer.answer()
        peer.send(audio[100:], audio, audio)
        await until(lambda: len(served.ears[0].messages) == 3)
        assert served.ears[0].messages == [bytes(320)] * 3


async def test_a_close_sent_before_the_101_is_answered_behind_it() -> None:
    async with serving() as served, dial(served.port) as peer:
        peer.send(upgrade("/"), frame(Opcode.CLOSE, Close(1000, "").serialize()))
        assert (await peer.answer()).status == 101
        assert await peer.close_code() == 1000
        peer.hang_up()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (upgrade("/", method="POST"), 405),
        (upgrade("/", "Content-Length: 5") + b"hello", 400),
        (upgrade("/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
        (upgrade("/").replace(b"Version: 13", b"Version: 8"), 400),
        (upgrade("/").replace(KEY.encode(), b"short"), 400),
        (b"GET / HTTP/1.0\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"\n\n\n\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
async def test_what_is_no_handshake_gets_one_answer_and_the_end(request_bytes: bytes, status: int) -> None:
    async with serving() as served, dial(served.port) as peer:
        peer.send(request_bytes, b"and more of it\r\n\r\n")
        answer = await peer.answer(whole=True)
        assert answer.status == status
        assert b"HTTP/1.1" not in answer.body.replace(b"HTTP/1.1, got", b"")
        peer.hang_up()


async def test_a_refusal_is_sent_whole_and_the_connection_ends() -> None:
    async with serving() as served, dial(served.port) as peer:
        body = b"x" * 100_000
        served.refuse = Response(503, "Busy", Headers({"Retry-After": "5", "Connection": "close"}), body)
        peer.send(upgrade("/"))
        answer = await peer.answer(whole=True)
        assert (answer.status, answer.headers["retry-after"], len(answer.body)) == (503, "5", len(body))


async def test_a_refused_peer_that_talks_on_is_cut_off_all_the_same() -> None:
    async with serving(close_timeout_s=0.1) as served, dial(served.port) as peer:
        served.refuse = Response(404, "Not Found", Headers())
        peer.send(upgrade("/"))
        await peer.answer()

        async def talk() -> None:
            while True:
                peer.send(b"more")
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(talk())
        await until(lambda: served.connections[0].closed.is_set(), 2)
        talking.cancel()


async def test_a_peer_that_never_finishes_its_request_is_cut_off() -> None:
    async with serving(handshake_timeout_s=0.1) as served, dial(served.port) as peer:
        peer.send(upgrade("/")[:40])
        assert await peer.end() == b""


async def test_a_port_scan_leaves_nothing() -> None:
    async with serving() as served:
        async with dial(served.port) as peer:
            peer.hang_up()
        async with dial(served.port) as peer:
            peer.send(b"GET / HT")
            peer.hang_up()
        async with dial(served.port) as peer:
            peer.reset()
        await until(lambda: len(served.connections) == 3)


# Messages.


async def test_messages_of_every_kind_arrive_in_order() -> None:
    big = bytes(range(256)) * 400
    async with serving() as served, served.peer() as (peer, ear):
        peer.send(
            frame(Opcode.BINARY, b""),
            frame(Opcode.TEXT, "größe 你好".encode()),
            frame(Opcode.BINARY, bytes(320)),
            frame(Opcode.BINARY, bytes(range(126))),
            frame(Opcode.BINARY, big),
            frame(Opcode.TEXT, b""),
        )
        await until(lambda: len(ear.messages) == 6)
        assert ear.messages == [b"", "größe 你好", bytes(320), bytes(range(126)), big, ""]
        assert all(type(message) in (str, bytes) for message in ear.messages)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
async def test_a_message_in_fragments_is_one_message_with_pings_between(opcode: Opcode) -> None:
    word = "a€b".encode()  # cut within the euro sign
    async with serving() as served, served.peer() as (peer, ear):
        peer.send(
            frame(opcode, word[:2], fin=False),
            frame(Opcode.PING, b"alive"),
            frame(Opcode.CONT, b"", fin=False),
            frame(Opcode.CONT, word[2:3], fin=False),
            frame(Opcode.CONT, word[3:]),
            frame(Opcode.BINARY, b"next"),
        )
        assert await peer.frame() == (Opcode.PONG, b"alive")
        await until(lambda: len(ear.messages) == 2)
        assert ear.messages == ["a€b" if opcode is Opcode.TEXT else word, b"next"]


async def test_empty_fragments_without_end_take_no_memory() -> None:
    async with serving() as served, served.peer() as (peer, ear):
        peer.send(frame(Opcode.BINARY, b"a", fin=False), frame(Opcode.CONT, b"", fin=False) * 5000)
        peer.send(frame(Opcode.PING, b"!"))
        await peer.frame()
        assert len(served.connections[0]._fragments) == 1
        peer.send(frame(Opcode.CONT, b"b"))
        await until(lambda: ear.messages == [b"ab"])


async def test_audio_in_segments_of_its_own_keeps_its_place_among_all_else() -> None:
    """Whole messages go a way of their own; what stands between two of them must not be overtaken."""
    audio = [bytes([number]) * 320 for number in range(6)]
    halved = frame(Opcode.BINARY, audio[4])
    segments = [
        frame(Opcode.BINARY, audio[0]),
        frame(Opcode.TEXT, b"a", fin=False),
        frame(Opcode.PING, b"?"),
        frame(Opcode.CONT, b"b"),
        frame(Opcode.BINARY, audio[1]),
        frame(Opcode.BINARY, audio[2], fin=False),
        frame(Opcode.CONT, audio[3]),
        halved[:5],
        halved[5:],
        frame(Opcode.BINARY, audio[5]),
    ]
    async with serving() as served, served.peer() as (peer, ear):
        for segment in segments:
            served.connections[0].data_received(segment)
        assert ear.messages == [audio[0], "ab", audio[1], audio[2] + audio[3], audio[4], audio[5]]
        assert await peer.frame() == (Opcode.PONG, b"?")


async def test_audio_is_not_heard_once_either_side_has_closed() -> None:
    audio = frame(Opcode.BINARY, bytes(320))
    for ours in (True, False):
        async with serving() as served, served.peer() as (peer, ear):
            connection = served.connections[0]
            connection.data_received(audio)
            if ours:
                connection.close(1000, "")
            else:
                connection.data_received(frame(Opcode.CLOSE, Close(1000, "").serialize()))
            connection.data_received(audio)
            assert ear.messages == [bytes(320)]
            assert await peer.close_code() == 1000
            peer.send(frame(Opcode.CLOSE, Close(1000, "").serialize()))
            peer.hang_up()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 320, 0xFFFF, 0x10000])
async def test_messages_of_any_size_leave_whole_and_in_order(size: int) -> None:
    audio = bytes(number % 251 for number in range(size))
    async with serving() as served, served.peer() as (peer, ear):
        assert ear.connection is not None
        ear.connection.send_binary(audio)
        ear.connection.send("between")
        ear.connection.send(memoryview(audio))
        heard = [await peer.frame() for _ in range(3)]
        assert heard == [(Opcode.BINARY, audio), (Opcode.TEXT, b"between"), (Opcode.BINARY, audio)]


@settings(max_examples=25, deadline=None)
@given(
    messages=st.lists(st.one_of(st.binary(max_size=300), st.text(max_size=100)), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_where_tcp_cuts_the_stream_does_not_matter(messages: list[str | bytes], cuts: list[int]) -> None:
    """Straight into the protocol object: no socket decides on the pieces."""

    class Wire(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            pass

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def is_closing(self) -> bool:
            return False

        def can_write_eof(self) -> bool:
            return False

    async def feed() -> None:
        ear = Ear()
        connection = Connection(lambda _, request: ear, ConnectionSettings())
        connection.connection_made(Wire())
        stream = upgrade("/") + b"".join(
            frame(Opcode.TEXT, message.encode()) if isinstance(message, str) else frame(Opcode.BINARY, message)
            for message in messages
        )
        at = 0
        for cut in cuts:
            connection.data_received(stream[at : at + cut])
            at += cut
        connection.data_received(stream[at:])
        connection.connection_lost(None)
        assert ear.messages == messages
        assert ear.closes == [(1006, "")]

    asyncio.run(feed())


# What peers do wrong.


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (frame(Opcode.TEXT, b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(Opcode.TEXT, b"\xe2", fin=False) + frame(Opcode.CONT, b"\x82"), 1007),  # half a character
        (frame(Opcode.BINARY, bytes(2000)), 1009),
        (frame(Opcode.BINARY, bytes(600), fin=False) + frame(Opcode.CONT, bytes(600)), 1009),
        (b"\x82\xff\x00\x00\x00\x7f\xff\xff\xff\xff", 1009),  # 512 GiB are announced
        (frame(Opcode.BINARY, b"plain", mask=False), 1002),
        (frame(Opcode.PING, b"plain", mask=False), 1002),
        (b"\xc2\x80\x00\x00\x00\x00", 1002),  # a compressed frame: nobody agreed on that
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an opcode that there is not
        (frame(Opcode.CONT, b"of what"), 1002),
        (frame(Opcode.BINARY, b"a", fin=False) + frame(Opcode.BINARY, b"b"), 1002),
        (b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + bytes(126), 1002),  # a ping of 126 bytes
        (frame(Opcode.CLOSE, b"\x03"), 1002),
        (frame(Opcode.CLOSE, b"\x03\xed"), 1002),  # 1005 may not be sent
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "frame",  # masks are random, names must not be
)
async def test_a_broken_frame_closes_with_its_code(data: bytes, code: int) -> None:
    async with serving(max_message_bytes=1024) as served, served.peer() as (peer, ear):
        peer.send(frame(Opcode.BINARY, b"before"), data, frame(Opcode.BINARY, b"after"))
        assert await peer.close_code() == code
        peer.hang_up()
        await until(lambda: ear.closes)
        assert ear.messages == [b"before"], "what follows the fault is not heard"
        assert ear.closes[0][0] == code


async def test_a_peer_that_does_not_read_is_cut_off_and_others_go_on() -> None:
    async with (
        serving(write_limit_bytes=100_000) as served,
        served.peer(receive_buffer=4096) as (_, deaf_ear),
        served.peer() as (other, other_ear),
    ):
        assert deaf_ear.connection is not None and other_ear.connection is not None
        for _ in range(400):  # the kernel takes some megabytes before it says stop
            deaf_ear.connection.send_binary(bytes(60_000))
            await asyncio.sleep(0)
            if deaf_ear.closes:
                break
        assert deaf_ear.closes == [(1006, "slow reader")]
        deaf_ear.connection.send_text("to nobody")
        other_ear.connection.send_text("still here")
        assert await other.frame() == (Opcode.TEXT, b"still here")
        assert not other_ear.closes


async def test_a_fault_of_ours_in_a_callback_ends_that_connection_alone() -> None:
    async with serving() as served, served.peer() as (peer, ear), served.peer() as (other, other_ear):
        peer.send(frame(Opcode.TEXT, b"boom"))
        await peer.end()
        await until(lambda: ear.closes)
        assert len(served.errors) == 1  # told to the loop, which logs it
        served.errors.clear()
        other.send(frame(Opcode.TEXT, b"fine"))
        await until(lambda: other_ear.messages == ["fine"])


# The end.


@pytest.mark.parametrize(
    ("sent", "heard"),
    [(b"\x03\xe8", (1000, "")), (b"\x03\xe9going", (1001, "going")), (b"", (1005, "")), (b"\x0f\xa0", (4000, ""))],
)
async def test_the_peer_closes_and_its_code_is_answered_and_told(sent: bytes, heard: tuple[int, str]) -> None:
    async with serving() as served, served.peer() as (peer, ear):
        peer.send(frame(Opcode.BINARY, b"last"), frame(Opcode.CLOSE, sent), frame(Opcode.BINARY, b"too late"))
        opcode, data = await peer.frame()
        assert (opcode, data) == (Opcode.CLOSE, sent)
        assert await peer.end() == b"", "the server ends the TCP connection"
        peer.hang_up()
        await until(lambda: ear.closes)
        assert ear.closes == [heard]
        assert ear.messages == [b"last"]


async def test_we_close_with_code_and_reason_and_send_nothing_afterwards() -> None:
    async with serving() as served, served.peer() as (peer, ear):
        connection = ear.connection
        assert connection is not None
        was_open = connection.is_open
        connection.send_text("bye")
        connection.close(4409, "taken_over")
        connection.close(1000)
        connection.send_text("ignored")
        connection.send_binary(b"ignored")
        assert was_open and not connection.is_open
        assert await peer.frame() == (Opcode.TEXT, b"bye")
        assert await peer.frame() == (Opcode.CLOSE, b"\x11\x39taken_over")
        peer.send(frame(Opcode.BINARY, b"crossed it"), frame(Opcode.CLOSE, b"\x11\x39"))
        assert await peer.end() == b""
        peer.hang_up()
        await until(lambda: ear.closes)
        assert ear.closes == [(4409, "")]
        assert ear.messages == []


async def test_a_peer_that_does_not_answer_our_close_is_cut_off_even_while_it_talks() -> None:
    async with serving(close_timeout_s=0.1) as served, served.peer() as (peer, ear):
        assert ear.connection is not None
        ear.connection.close(4429, "flooding")
        async with asyncio.timeout(2):
            while not ear.closes:
                peer.send(frame(Opcode.BINARY, bytes(320)))
                await asyncio.sleep(0.01)
        assert ear.closes == [(4429, "flooding")]
        assert ear.messages == []


@pytest.mark.parametrize("how", ["reset", "hang_up"])
@pytest.mark.parametrize("within", [b"", frame(Opcode.BINARY, bytes(320))[:50]], ids=["between", "within"])
async def test_a_peer_that_vanishes_is_told_as_1006(how: str, within: bytes) -> None:
    async with serving() as served, served.peer() as (peer, ear):
        peer.send(frame(Opcode.BINARY, b"x"), within)
        await until(lambda: ear.messages)
        getattr(peer, how)()
        await until(lambda: ear.closes)
        assert ear.closes == [(1006, "")]


async def test_pings_go_out_at_their_interval_and_stop_with_the_connection() -> None:
    async with serving(ping_interval_s=0.02) as served:
        async with served.peer() as (peer, ear):
            for _ in range(3):
                assert await peer.frame() == (Opcode.PING, b"")
                peer.send(frame(Opcode.PONG))
            peer.reset()
            await until(lambda: ear.closes)
        assert served.connections[0]._ping_timer is not None
        assert served.connections[0]._ping_timer.cancelled()


async def test_no_pings_unless_they_are_asked_for() -> None:
    async with serving() as served, served.peer() as (peer, _):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                raise AssertionError(f"unexpected {await peer.frame()}")


async def test_the_kernel_looks_for_peers_that_are_gone() -> None:
    async with serving() as served, served.peer() as (_, ear):
        assert ear.connection is not None and ear.connection._transport is not None
        sock = ear.connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
