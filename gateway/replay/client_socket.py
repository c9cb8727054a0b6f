"""The client's side of one WebSocket, cheap enough for a thousand calls in a process.

As `gateway.calls.websocket` on the other side: handshake, pings and closing are the library's, while whole unfragmented
messages, which are nearly all, are cut and framed here. Messages are masked with a key of zeros, which changes no byte:
RFC 6455 section 5.3 wants keys that nobody can guess to protect proxies from web pages, and a bench is none.

    opening --101--> open --(either side closes)--> closed          opening --any other answer--> refused
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

__all__ = ["ReplaySocket", "dial"]

_ABNORMAL: Final = 1006
_BINARY: Final = 0x82  # FIN, no extension bits, opcode (RFC 6455 section 5.2)
_TEXT: Final = 0x81
_MASKED: Final = 0x80
_NO_MASK: Final = bytes(4)


class ReplaySocket(asyncio.Protocol):
    """One connection. Callbacks are synchronous, on the loop, in order."""

    def __init__(
        self, url: str, subprotocols: Sequence[str], headers: dict[str, str], on_message: Callable[[str | bytes], None]
    ) -> None:
        """Raises InvalidURI."""
        self._ws = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(name) for name in subprotocols] or None, logger=_QUIET
        )
        self._headers = headers
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._unparsed = b""
        self._refused = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done with the 101; raises what kept it from coming."""
        self.closed = asyncio.Event()

    @property
    def close_code(self) -> int:
        """How it was closed; 1006 without a close frame."""
        return _ABNORMAL if self._ws.close_code is None else self._ws.close_code

    @property
    def close_reason(self) -> str:
        """The gateway's words for it."""
        return self._ws.close_reason or ""

    def send(self, message: str | bytes) -> None:
        """Send one message; ignored once the connection is going down."""
        if self._transport is None or self._ws.state is not State.OPEN:
            return
        kind, payload = (_BINARY, message) if isinstance(message, bytes) else (_TEXT, message.encode())
        length = len(payload)
        if length < 126:
            head = bytes((kind, _MASKED | length))
        elif length < 1 << 16:
            head = bytes((kind, _MASKED | 126, length >> 8, length & 0xFF))
        else:
            head = bytes((kind, _MASKED | 127)) + length.to_bytes(8, "big")
        self._transport.write(head + _NO_MASK + payload)

    def close(self) -> None:
        """Begin the closing handshake."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(1000)
            self._flush()

    def abort(self) -> None:
        """Let go of it at once."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._ws.connect()
        request.headers.update(self._headers)
        self._ws.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        stream = self._unparsed + data if self._unparsed else data
        if self._ws.state is State.CONNECTING and not self._refused:
            end = stream.find(b"\r\n\r\n") + 4
            if end < 4:
                self._unparsed = stream
                return
            self._unparsed = b""
            self._feed(stream[:end])
            stream = stream[end:]
            self._refused = self._ws.state is State.CONNECTING
        if self._refused:  # a body is all that follows
            self._feed(stream)
            return
        at, size = 0, len(stream)
        while size - at >= 2:
            length, body = stream[at + 1], at + 2
            if length >= 126:
                body += 2 if length == 126 else 8
                if body > size:
                    break
                length = int.from_bytes(stream[at + 2 : body], "big")
            end = body + length
            if end > size:
                break
            kind = stream[at]
            if kind == _BINARY:
                self._on_message(stream[body:end])
            elif kind == _TEXT:
                self._on_message(stream[body:end].decode())
            else:
                self._feed(stream[at:end])
            at = end
        self._unparsed = stream[at:]

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._events()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ws.receive_eof()
        self._transport = None
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed before it answered the handshake"))
        self.closed.set()

    # Inside.

    def _feed(self, data: bytes) -> None:
        self._ws.receive_data(data)
        self._events()
        self._flush()

    def _events(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Response):
                if self._ws.state is State.OPEN and not self.opened.done():
                    self.opened.set_result(None)
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                self._on_message(bytes(event.data))  # a fragment; our gateway sends none
        failed = self._ws.handshake_exc
        if failed is not None and not self.opened.done():
            self.opened.set_exception(failed)

    def _flush(self) -> None:
        transport = self._transport
        for data in self._ws.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if data:
                transport.write(data)
            else:
                transport.close()


async def dial(
    url: str,
    subprotocols: Sequence[str],
    headers: dict[str, str],
    on_message: Callable[[str | bytes], None],
    *,
    timeout_s: float,
) -> ReplaySocket:
    """Connect.

    Raises:
        OSError, InvalidURI, InvalidHandshake, TimeoutError: what kept it from being open in time.
    """
    target = parse_uri(url)
    socket = ReplaySocket(url, subprotocols, headers, on_message)
    context = ssl.create_default_context() if target.secure else None
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_connection(lambda: socket, target.host, target.port, ssl=context)
            await socket.opened
    except BaseException as exc:
        socket.abort()
        if socket.opened.done() and not socket.opened.cancelled():
            socket.opened.exception()  # seen, so that it is not reported as forgotten
        if isinstance(exc, InvalidHandshake | OSError | TimeoutError | asyncio.CancelledError):
            raise
        raise ConnectionError(str(exc)) from exc
    return socket


# The library would log every open and close at INFO, with headers (and so tokens) at DEBUG.
_QUIET: Final = logging.getLogger("gateway.replay.client_socket.library")
_QUIET.setLevel(logging.WARNING)
