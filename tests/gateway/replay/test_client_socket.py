"""The bench's client end of a WebSocket, against the library's server: messages of every size, refusals, ends."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Request, Response

from gateway.replay.client_socket import dial

pytestmark = pytest.mark.e2e

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 200_000)


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)
        await ws.ping()


async def test_messages_of_every_size_come_back_as_they_went() -> None:
    heard: list[str | bytes] = []
    news = asyncio.Event()

    def note(message: str | bytes) -> None:
        heard.append(message)
        news.set()

    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        socket = await dial(f"ws://127.0.0.1:{port}", (), {}, note, timeout_s=20)
        sent = [message for size in SIZES for message in (bytes(size), "é" * (size // 2))]
        for message in sent:
            socket.send(message)
        async with asyncio.timeout(20):
            while len(heard) < len(sent):
                news.clear()
                await news.wait()
        socket.close()
        await asyncio.wait_for(socket.closed.wait(), 20)
        socket.send(b"nobody listens")
    assert heard == sent and socket.close_code == 1000


async def test_the_subprotocol_and_the_headers_are_offered_and_the_close_is_told() -> None:
    seen: list[str | None] = []

    async def close(ws: ServerConnection) -> None:
        assert ws.request is not None
        seen.extend((ws.subprotocol, ws.request.headers.get("Authorization")))
        await ws.close(4429, "audio too far ahead")

    async with serve(close, "127.0.0.1", 0, subprotocols=["media"]) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        socket = await dial(
            f"ws://127.0.0.1:{port}", ("media",), {"Authorization": "Bearer t"}, lambda message: None, timeout_s=20
        )
        await asyncio.wait_for(socket.closed.wait(), 20)
    assert seen == ["media", "Bearer t"] and (socket.close_code, socket.close_reason) == (4429, "audio too far ahead")


async def test_a_refusal_is_raised_with_its_status_and_words() -> None:
    def refuse(ws: ServerConnection, request: Request) -> Response:
        return ws.respond(HTTPStatus.SERVICE_UNAVAILABLE, "all lines are busy\n")

    async with serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(InvalidStatus) as caught:
            await dial(f"ws://127.0.0.1:{port}", (), {}, lambda message: None, timeout_s=20)
    assert caught.value.response.status_code == 503 and caught.value.response.body == b"all lines are busy\n"


async def test_nobody_there_no_answer_and_no_address() -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial("ws://127.0.0.1:1", (), {}, lambda message: None, timeout_s=20)
    with pytest.raises(InvalidURI):
        await dial("http://127.0.0.1:1", (), {}, lambda message: None, timeout_s=20)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((InvalidHandshake, OSError)):
            await dial(f"ws://127.0.0.1:{port}", (), {}, lambda message: None, timeout_s=20)
