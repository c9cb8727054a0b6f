"""A chat model's server on this machine that does what a test wants: answers, waits, breaks off, never ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

__all__ = ["ChatModel", "Play", "answers", "chat_model", "chunk", "then"]

Play: TypeAlias = Callable[["ChatModel", asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""What the server does with one request, its head and body read."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunk(text: str, **more: Any) -> bytes:
    """One server-sent event of an answer."""
    body = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


class ChatModel:
    """The server; `requests` are those that came: their heads and bodies."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        """Set by a test: what waits in a play goes on."""
        self.left = asyncio.Event()
        """The client has closed a connection."""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-le")
            )
            self.requests.append((head, json.loads(await reader.readexactly(length))))
            self.asked.set()
            playing = asyncio.create_task(self.play(self, writer))
            gone = asyncio.create_task(reader.read())
            await asyncio.wait([playing, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.left.set()
            playing.cancel()
            gone.cancel()
            await asyncio.gather(playing, gone, return_exceptions=True)
        except (asyncio.IncompleteReadError, ConnectionError):  # it thought better of it
            self.left.set()
        finally:
            writer.transport.abort()


def answers(*pieces: bytes, chunked: bool = False) -> Play:
    """Send these pieces and close."""
    return then(*pieces, chunked=chunked)


def then(*pieces: bytes | None, chunked: bool = False) -> Play:
    """Send these pieces; at None wait until the test lets it go on."""

    async def play(model: ChatModel, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"))
        for piece in pieces:
            if piece is None:
                await model.go_on.wait()
            else:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return play


@asynccontextmanager
async def chat_model(play: Play) -> AsyncIterator[ChatModel]:
    """The server, listening."""
    model = ChatModel(play)
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    try:
        yield model
    finally:
        server.close()
        await server.wait_closed()
