"""The second track's client: a streaming request to a chat model of the operator's choice (OpenAI's chat completions).

    ask --> refused: a host that the settings do not name, or plain http to another machine
        --> busy: as many are asked already as may be
        --> stream --whole sentences, each as it comes--> the asker, until it is full, done, or loses patience

Nothing is tried again: whoever asks waits half a second. The connection is closed with the asker's interest, so a model
that never ends costs nothing after that. What is sent are the caller's words, the turns before them and the bot's
instructions; neither they nor the answer go to a log.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import h11

from dialogue.assistant import Assistant
from dialogue.bots import Bot
from dialogue.state import Turn
from gateway.outside.answer_stream import AnswerError, EventReader, SentenceCutter, delta_of
from gateway.outside.trusted_hosts import is_trusted
from gateway.settings import AssistantSettings

__all__ = ["Assistants", "BusyError", "Told"]

Told: TypeAlias = Callable[[str], Awaitable[None]]
"""Who is given an answer's sentences."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_READ_BYTES: Final = 16 * 1024
_MAX_HEAD_BYTES: Final = 16 * 1024


class BusyError(AnswerError):
    """As many answers are waited for as may be."""


class Assistants:
    """One per worker; shared by its calls."""

    def __init__(self, settings: AssistantSettings) -> None:
        self._settings = settings
        self._under_way = 0
        self._tls: ssl.SSLContext | None = None

    def refused_hosts(self, bot: Bot) -> Iterator[str]:
        """What `bot` would ask and may not, with the mend; to be told before a call comes."""
        if bot.assistant is not None:
            try:
                self._allowed(urlsplit(bot.assistant.url))
            except AnswerError as error:
                yield f"bot {bot.name}, assistant: {error}"

    async def ask(self, assistant: Assistant, words: str, before: Sequence[Turn], told: Told) -> None:
        """Ask for an answer to a caller's words; cancel it when enough came.

        Args:
            words: the caller's.
            before: the turns before them, the oldest first.
            told: given each sentence as soon as it is whole, and waited for.

        Raises:
            BusyError: nothing was asked.
            AnswerError: no answer, or none that can be read, after what was told.
        """
        parts = urlsplit(assistant.url)
        self._allowed(parts)
        if self._under_way >= self._settings.concurrency:
            raise BusyError(f"{self._under_way} answers are waited for already")
        # A token is a character at least, so that many are enough.
        body = json.dumps(
            {
                "model": assistant.model,
                "messages": _messages(assistant, words, before),
                "stream": True,
                "max_tokens": assistant.max_chars,
            }
        ).encode()
        self._under_way += 1
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._connected(parts) as exchange:
                exchange.send(self._request(parts, body), body)
                await _read_answer(exchange, SentenceCutter(assistant.max_chars), told)
        except TimeoutError:
            raise AnswerError(f"{parts.hostname}: no end within {self._settings.timeout_s:g} s") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise AnswerError(f"{parts.hostname}: {type(error).__name__}") from None
        finally:
            self._under_way -= 1

    @asynccontextmanager
    async def _connected(self, parts: SplitResult) -> AsyncIterator[_Exchange]:
        """A connection for one request, closed with it."""
        host = parts.hostname or ""
        tls = self._tls_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host if tls else None)
        try:
            yield _Exchange(reader, writer)
        finally:
            writer.transport.abort()

    def _request(self, parts: SplitResult, body: bytes) -> h11.Request:
        headers = [
            ("Host", parts.netloc.rpartition("@")[2]),
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        if self._settings.api_key is not None:
            headers.append(("Authorization", f"Bearer {self._settings.api_key.get_secret_value()}"))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return h11.Request(method="POST", target=target, headers=headers)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:  # 10 ms, once
            self._tls = ssl.create_default_context()
        return self._tls

    def _allowed(self, parts: SplitResult) -> None:
        host = parts.hostname or ""
        if not is_trusted(parts, self._settings.hosts):
            raise AnswerError(f"host {host!r} is not among assistant.hosts; add it there if you trust it")
        if parts.scheme != "https" and host not in _LOOPBACK:
            raise AnswerError(f"host {host!r} would be asked without encryption; use https://")


class _Exchange:
    """One request and the body of its answer, over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    def send(self, request: h11.Request, body: bytes) -> None:
        for part in (request, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._http.send(part) or b"")

    async def read(self) -> bytes:
        """The next piece of the answer's body; empty at its end."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise AnswerError(f"the model's server answers {event.status_code}")
            elif isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return b""


async def _read_answer(exchange: _Exchange, cutter: SentenceCutter, told: Told) -> None:
    """Until the answer is complete, or the cutter is full."""
    events = EventReader()
    while received := await exchange.read():
        for data in events.push(received):
            delta = delta_of(data)
            sentences = cutter.push(delta.text)
            if delta.complete:
                sentences += cutter.finish()
            for sentence in sentences:
                await told(sentence)
            if cutter.full or delta.complete is not None:
                return
    raise AnswerError("the stream ended in the middle of an answer")


def _messages(assistant: Assistant, words: str, before: Sequence[Turn]) -> list[dict[str, str]]:
    """The conversation as the model is told of it."""
    messages = [{"role": "system", "content": assistant.instructions}]
    for turn in before[-assistant.history :] if assistant.history else ():
        for role, text in (("user", turn.said), ("assistant", turn.reply)):
            if text:
                messages.append({"role": role, "content": text})
    return [*messages, {"role": "user", "content": words}]
