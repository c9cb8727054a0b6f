"""A peer made of a bare TCP stream: it can say what no WebSocket library would."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.frames import Frame, Opcode

__all__ = ["Answer", "RawPeer", "dial", "frame", "upgrade"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3, with the answer that belongs to it
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def upgrade(path: str = "/v1/call", *extra: str, method: str = "GET") -> bytes:
    """A handshake request, with more header lines."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """One frame as a client sends it."""
    return Frame(opcode, data, fin).serialize(mask=mask)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawPeer:
    """Reads answers and frames, writes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def answer(self, *, whole: bool = False) -> Answer:
        """The HTTP answer; `whole`: with its body, up to the end of the stream."""
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            pairs = [line.split(": ", 1) for line in lines]
            body = await self._reader.read() if whole else b""
        return Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, body)

    async def frame(self) -> tuple[Opcode, bytes]:
        """The next frame of the server."""
        async with asyncio.timeout(20):
            first, length = await self._reader.readexactly(2)
            assert first & 0x80 and not first & 0x70, "whole, and no extension bits"
            assert length < 0x80, "a server does not mask"
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            return Opcode(first & 0x0F), await self._reader.readexactly(length)

    async def close_code(self) -> int:
        """The code of the close frame, which must be next, and then the end of the stream."""
        opcode, data = await self.frame()
        assert opcode is Opcode.CLOSE, opcode
        return int.from_bytes(data[:2], "big")

    async def end(self) -> bytes:
        """All that comes before the stream ends; a reset is an end."""
        async with asyncio.timeout(20):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    def hang_up(self) -> None:
        """Close the TCP connection in order, without a close frame."""
        self._writer.close()

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@asynccontextmanager
async def dial(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawPeer]:
    """A TCP connection. `receive_buffer`: the kernel's, small for a peer that shall read slowly."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.transport.abort()
