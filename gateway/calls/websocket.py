"""Server side of one WebSocket connection: `websockets`' sans-I/O protocol inside an `asyncio.Protocol` of ours.

Why not `websockets.asyncio.server`: its coroutine API costs a task switch and a future per message
(15-17 us for a 20 ms frame against 10 us here, bench/frame_path.py), and a call wants its messages in a
synchronous callback anyway. What the protocol object decides (handshake, framing, masks, close codes) stays
with the library; this file only moves bytes and keeps the timers.

    opening --(request accepted: 101)--> open --(either side closes)--> closing --(TCP gone)--> closed
    opening --(handshake_timeout_s)--> closed          closing --(close_timeout_s)--> closed (aborted)
    open --(peer reads too slowly: write_limit_bytes unsent)--> closed (aborted)
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from websockets.exceptions import InvalidMessage
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled extension
    from websockets.utils import apply_mask

__all__ = ["Connection", "ConnectionSettings", "Receiver"]

log = logging.getLogger(__name__)

_ABNORMAL = 1006
_OPEN = State.OPEN  # looked up once: by its class a member costs 0.15 µs (Python 3.11)
_WHOLE_BINARY = 0x82  # FIN, no extension bits, opcode binary (RFC 6455 section 5.2)
_WHOLE_TEXT = 0x81
# Telephone audio comes and goes in whole binary messages of 20 to 100 ms. How one begins that comes, masked, and how
# long it is in all; and what stands before one that goes, by its length.
_AUDIO_BYTES = range(160, 3201, 160)
_MASKED_AUDIO = {bytes((_WHOLE_BINARY, 0x80 | 126)) + size.to_bytes(2, "big"): size + 8 for size in _AUDIO_BYTES}
_HEADERS = {size: bytes((_WHOLE_BINARY, 126)) + size.to_bytes(2, "big") for size in _AUDIO_BYTES}
# A peer whose host is gone is noticed 30 s + 3 * 10 s after its last word (tcp(7)).
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """Limits of one connection."""

    max_message_bytes: int = 256 * 1024
    handshake_timeout_s: float = 5.0
    close_timeout_s: float = 2.0
    write_limit_bytes: int = 512 * 1024
    """Unsent bytes at which a peer that does not read is cut off (about 30 s of 8 kHz PCM)."""
    ping_interval_s: float = 0.0
    """0: no pings. Some Asterisk builds hang up on them (asterisk PR #1722)."""


class Receiver(Protocol):
    """What a connection reports to. All calls are synchronous, on the loop, in order."""

    subprotocol: str | None
    """What the 101 names; must be one that the client offered, or None."""

    def connection_opened(self, connection: Connection) -> None:
        """Called once, right after the 101 was written."""
        ...

    def message_received(self, message: str | bytes) -> None:
        """One whole message: text or binary."""
        ...

    def connection_closed(self, code: int, reason: str) -> None:
        """Called once, when nothing more can be sent. 1006: no close frame was seen."""
        ...


Accept = Callable[["Connection", Request], "Response | Receiver"]
"""Decides on a request: a refusal, or who receives the messages."""


def _offered_or_none(protocol: ServerProtocol, offered: object) -> Subprotocol | None:
    # A client may offer no subprotocol, ours, or strange ones: all are welcome (PROTOCOLS.md rule 1).
    # The match is made in `Connection._answer`, which knows what the path speaks.
    return None


class Connection(asyncio.Protocol):
    """One peer. `send_*` never block and never raise once the connection is going down."""

    __slots__ = (
        "__weakref__",
        "_accept",
        "_at_once",
        "_cut_off",
        "_fragments",
        "_fragments_are_text",
        "_last_timer",
        "_library_only",
        "_loop",
        "_ping_timer",
        "_receiver",
        "_settings",
        "_timer",
        "_transport",
        "_unparsed",
        "_write",
        "_ws",
        "closed",
        "peer_ip",
    )

    def __init__(self, accept: Accept, settings: ConnectionSettings) -> None:
        self._accept = accept
        self._settings = settings
        self._ws = ServerProtocol(
            select_subprotocol=_offered_or_none,
            extensions=None,  # no deflate: audio does not compress, and Asterisk refuses any extension header
            max_size=settings.max_message_bytes,
            logger=_QUIET,
        )
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        # While nothing but whole messages come and go, `_settle` leaves them a short way: the receiver to hand one to
        # without a look at anything else, and the transport's `write` for one out.
        self._at_once: Receiver | None = None
        self._write: Callable[[bytes], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_timer = False
        self._ping_timer: asyncio.TimerHandle | None = None
        self._unparsed = b""  # the beginning of a frame whose end has not come
        self._library_only = False
        self._fragments: list[bytes] = []
        self._fragments_are_text = False
        self._cut_off = ""
        self.closed = asyncio.Event()
        self.peer_ip = ""

    # What the owner calls.

    def send_text(self, text: str) -> None:
        """Send one text message; ignored once the connection is going down."""
        if self._ws.state is _OPEN:
            self._ws.send_text(text.encode())
            self._flush()

    def send_binary(self, data: bytes | memoryview) -> None:
        """Send one binary message; ignored once the connection is going down.

        The library takes 2 us to write four bytes in front of `data`. It holds nothing back (`_flush`), so what goes
        past it is in order.
        """
        if self._write is not None and (header := _HEADERS.get(len(data))) is not None:
            self._write(header + data)
        elif self._ws.state is _OPEN:
            self._ws.send_binary(data)
            self._flush()

    def send(self, message: str | bytes | memoryview) -> None:
        """Send one message, a text or a binary one by its type; ignored once the connection is going down."""
        if isinstance(message, str):
            self.send_text(message)
        else:
            self.send_binary(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake. `reason` is public: no internals, at most 123 bytes."""
        if self._ws.state is _OPEN:
            self._ws.send_close(code, reason)
            self._settle()
            self._flush()
            self._expect_end()

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._ws.state is _OPEN

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._settings.write_limit_bytes)
        peer = transport.get_extra_info("peername")
        self.peer_ip = peer[0] if isinstance(peer, tuple) else ""
        if (sock := transport.get_extra_info("socket")) is not None:
            _keep_alive(sock)
        self._arm(self._settings.handshake_timeout_s, self._abort)

    def data_received(self, data: bytes) -> None:
        """Whole unfragmented messages take the short way; everything else goes through the library.

        The library's parser costs 4 us a message, and nearly all messages are 20 ms of audio, which some dialects wrap
        in text. It is fed whole frames only, so between two of them it holds nothing and the short way cannot get
        ahead of it.
        """
        receiver = self._at_once
        # Nearly always `data` is one message. A core that serves hundreds of calls comes to each of them with cold
        # caches, so what counts is how few objects this touches (docs/performance.md).
        if receiver is not None and _MASKED_AUDIO.get(data[:4]) == len(data):
            receiver.message_received(apply_mask(data[8:], data[4:8]))
            return
        if self._receiver is None:
            data = self._feed_request(data)
        if self._receiver is None or self._library_only:
            self._feed(data)
        else:
            self._take_messages(data)
        self._settle()

    def _settle(self) -> None:
        """Decide which messages may go the shortest way from here on."""
        transport = self._transport
        if self._ws.state is not _OPEN or transport is None or transport.is_closing():
            self._at_once = self._write = None
            return
        self._write = transport.write
        # In: between two messages, with nothing left of the last one.
        between = not self._unparsed and not self._fragments and not self._library_only
        takes_all = self._settings.max_message_bytes >= _AUDIO_BYTES[-1]
        self._at_once = self._receiver if between and takes_all else None

    def _take_messages(self, data: bytes) -> None:
        """Go through whole messages; keep what has come of the next one."""
        assert self._receiver is not None
        stream = self._unparsed + data if self._unparsed else data
        at, size = 0, len(stream)
        while size - at >= 2:
            length = stream[at + 1] & 0x7F
            body = at + 6  # behind two bytes and the mask
            if length >= 126:
                body += 2 if length == 126 else 8
                if body > size:
                    break
                length = int.from_bytes(stream[at + 2 : body - 4], "big")
            if stream[at + 1] < 0x80 or length > self._settings.max_message_bytes:
                self._library_only = True  # to be refused: unmasked, or too big
                break
            end = body + length
            if end > size:
                break
            kind = stream[at]
            whole = kind == _WHOLE_BINARY or kind == _WHOLE_TEXT
            if not whole or self._fragments or self._ws.state is not _OPEN:
                self._feed(stream[at:end])
            elif kind == _WHOLE_BINARY:
                self._receiver.message_received(apply_mask(stream[body:end], stream[body - 4 : body]))
            else:
                self._deliver_text(apply_mask(stream[body:end], stream[body - 4 : body]))
            at = end
        self._unparsed = stream[at:]
        if self._library_only:
            rest, self._unparsed = self._unparsed, b""
            self._feed(rest)

    def _feed_request(self, data: bytes) -> bytes:
        """Feed the request line by line; what is left of `data` follows it.

        A peer may send frames before it has seen the 101. The library would take them for part of a connection that
        is not open yet, and keep a frame's beginning to itself.
        """
        while data and self._receiver is None and not self._ws.eof_sent:
            end = data.find(b"\n") + 1 or len(data)
            self._feed(data[:end])
            data = data[end:]
        return data

    def _feed(self, data: bytes) -> None:
        ws = self._ws
        if not data:
            return
        was_over = ws.eof_sent
        ws.receive_data(data)
        for event in ws.events_received():
            if isinstance(event, Frame):
                self._frame_received(event)
            elif isinstance(event, Request):
                self._answer(event)
        if isinstance(ws.handshake_exc, InvalidMessage) and not was_over:
            self._refuse_garbage()
        self._flush()
        if ws.close_expected():
            self._expect_end()

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._settle()
        self._flush()
        return False

    def pause_writing(self) -> None:
        """The peer has not read `write_limit_bytes`: it would hear everything late for ever, so it goes."""
        self._cut_off = "slow reader"
        self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ws.receive_eof()
        for timer in (self._timer, self._ping_timer):
            if timer is not None:
                timer.cancel()
        self._transport = None
        self._settle()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            seen = self._ws.close_rcvd or self._ws.close_sent
            if self._ws.close_rcvd is None and not self._cut_off and seen is None:
                receiver.connection_closed(_ABNORMAL, "")
            else:
                code = seen.code if seen else _ABNORMAL
                receiver.connection_closed(code, self._cut_off or (seen.reason if seen else ""))
        self.closed.set()

    # Inside.

    def _answer(self, request: Request) -> None:
        verdict = self._accept(self, request)
        if isinstance(verdict, Response):
            self._ws.send_response(verdict)
        else:
            response = self._ws.accept(request)
            if response.status_code == 101:
                self._receiver = verdict
                if verdict.subprotocol:
                    response.headers["Sec-WebSocket-Protocol"] = verdict.subprotocol
            self._ws.send_response(response)
        self._flush()
        if self._receiver is None:  # refused: the answer is out, the connection ends
            self._expect_end()
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._settings.ping_interval_s > 0:
            self._ping()
        self._receiver.connection_opened(self)

    def _frame_received(self, frame: Frame) -> None:
        receiver = self._receiver
        if receiver is None or self._ws.state is not _OPEN:  # RFC 6455 section 1.4: discard after a close
            return
        opcode = frame.opcode
        if opcode is Opcode.BINARY and frame.fin:  # the common case, first
            receiver.message_received(bytes(frame.data))
        elif opcode is Opcode.TEXT and frame.fin:
            self._deliver_text(bytes(frame.data))
        elif opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._fragments = [bytes(frame.data)]
            self._fragments_are_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT:
            if frame.data:  # empty ones count towards no limit
                self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), []
                if self._fragments_are_text:
                    self._deliver_text(whole)
                else:
                    receiver.message_received(whole)

    def _deliver_text(self, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.close(CloseCode.INVALID_DATA, "text is not UTF-8")
            return
        if self._receiver is not None:
            self._receiver.message_received(text)

    def _flush(self) -> None:
        transport = self._transport
        for data in self._ws.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()  # TLS knows no half-closed connection; what was written still goes out

    def _refuse_garbage(self) -> None:
        """Bytes that are no HTTP request of ours (a body is none either): the library would end without a word."""
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nmalformed request\n")

    def _ping(self) -> None:
        if self._ws.state is _OPEN:
            self._ws.send_ping(b"")
            self._flush()
            self._ping_timer = self._loop.call_later(self._settings.ping_interval_s, self._ping)

    def _expect_end(self) -> None:
        """The peer has `close_timeout_s` to go, counted once: what it sends meanwhile gives it no more."""
        if not self._last_timer:
            self._last_timer = True
            self._arm(self._settings.close_timeout_s, self._abort)

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._settle()


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out about peers that are gone: a paused call sends nothing, and we send no pings."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


# The library would log every open and close at INFO, with headers (and so tokens) at DEBUG.
_QUIET = logging.getLogger("gateway.calls.websocket.library")
_QUIET.setLevel(logging.WARNING)
