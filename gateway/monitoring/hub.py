"""A control plane's side of monitoring: one connection to Redis for all who watch at it, however many.

    browser, `voicegate watch` --Watcher (bounded)--.
    browser, `voicegate watch` --Watcher (bounded)---> MonitorHub <--> Redis <--> every worker
    supervisor with headphones --Ear (bounded)------'

While somebody watches, the hub renews its lease at the workers every two seconds; nobody: it is silent. A watcher that
reads too slowly loses its oldest lines, which are counted and told, and never slows another. Where events may have been
lost, since Redis or a worker was away, or the lease was not renewed in time, watchers are made to doubt.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from redis.exceptions import RedisError

from dialogue.connection import connect, one_node
from gateway import background
from gateway.monitoring.channels import ChannelReader
from gateway.monitoring.wire import (
    EVENTS,
    LEASE_S,
    NOTICES,
    ORDERS,
    RAW_EVENTS,
    RENEW_S,
    Answer,
    Order,
    OrderKind,
    audio_channel,
    voice_channel,
)
from gateway.outage_log import OutageLog

__all__ = ["CallList", "Ear", "HubError", "MonitorHub", "Stock", "Watcher"]

log = logging.getLogger(__name__)

_ANSWER_S: Final = 2.0
_OTHERS_S: Final = 0.2
"""Where one worker has the call that is asked for, the others have so long to say that they have it, too."""
_COMMAND_S: Final = 2.0
_DOUBT_S: Final = 0.3
"""Workers that come back together raise one doubt."""
_STOCK_S: Final = 10.0
_WATCHER_LINES: Final = 5_000
_EAR_CHUNKS: Final = 64


class HubError(Exception):
    """Redis or the workers do not answer; the message says which."""


@dataclass(frozen=True, slots=True)
class CallList:
    """The calls that workers told, each as the JSON of a `CallPresent`; `complete` where all of them answered."""

    lines: tuple[str, ...]
    workers: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Stock:
    """The ids of all calls in progress, as their workers say."""

    call_ids: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits for one reader; the oldest goes where there is no room."""

    size: int
    dropped: int = 0
    _waiting: deque[Any] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, item: Any) -> None:
        if len(self._waiting) >= self.size:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(item)
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    async def some(self) -> list[Any]:
        await self._news.wait()
        return self.take()

    def take(self) -> list[Any]:
        self._news.clear()
        items = list(self._waiting)
        self._waiting.clear()
        return items

    def take_dropped(self) -> int:
        dropped, self.dropped = self.dropped, 0
        return dropped


class Watcher:
    """One reader of events. `raw` as they are."""

    def __init__(self, *, raw: bool) -> None:
        self.raw = raw
        self.doubted_at = -math.inf
        """Events from before this moment, in monotonic seconds, may be lost: ask for the calls as they stand."""
        self._queue = _Queue(_WATCHER_LINES)

    def put(self, news: str | Stock) -> None:
        """An event, as JSON; or which calls there are."""
        self._queue.put(news)

    def doubt(self, since: float) -> None:
        """Events from before `since` may be lost."""
        self.doubted_at = since
        self._queue.wake()

    async def some(self) -> list[str | Stock]:
        """Everything that waits, oldest first; waits until there is something, or a doubt."""
        news: list[str | Stock] = await self._queue.some()
        return news

    def take(self) -> list[str | Stock]:
        """Everything that waits, oldest first; may be nothing."""
        return self._queue.take()

    def take_dropped(self) -> int:
        """Lines that were lost since this was last asked."""
        return self._queue.take_dropped()


class Ear:
    """One listener to one call."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self._queue = _Queue(_EAR_CHUNKS)

    def put(self, chunk: bytes) -> None:
        """A chunk of audio, with its header."""
        self._queue.put(chunk)

    async def some(self) -> list[bytes]:
        """Everything that waits, oldest first; waits until there is something."""
        chunks: list[bytes] = await self._queue.some()
        return chunks

    def take_dropped(self) -> int:
        """Chunks that were lost since this was last asked."""
        return self._queue.take_dropped()


class MonitorHub:
    """One per control plane; an async context."""

    def __init__(self, redis_url: str) -> None:
        """The first command connects."""
        self._client = connect(one_node(redis_url), timeout_s=_COMMAND_S, decode_responses=False)
        self._id = secrets.token_hex(6)
        self._answers = f"vg:{{monitor}}:answers:{self._id}"
        self._news = ChannelReader(redis_url, self._answers, on_joined=self._joined, on_message=self._got)
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Queue[Answer]] = {}
        self._watchers: set[Watcher] = set()
        self._ears: set[Ear] = set()
        self._renewed_at = time.monotonic()
        self._doubted = asyncio.Event()
        self._doubted_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> MonitorHub:
        self._tasks = [
            asyncio.create_task(self._news.read_for_ever(), name="monitor news"),
            asyncio.create_task(self._doubt_for_ever(), name="monitor doubts"),
            asyncio.create_task(self._renew_for_ever(), name="monitor leases"),
            asyncio.create_task(self._take_stock_for_ever(), name="monitor stock"),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        await self._news.aclose()
        await self._client.aclose()

    # Orders.

    async def calls(self, *, call_id: str = "", raw: bool = False) -> CallList:
        """The calls in progress at all workers; with `call_id` that one, of which one worker knows all.

        Raises:
            HubError: Redis does not answer.
        """
        answers, asked = await self._ask(OrderKind.LIST, enough=bool(call_id), call_id=call_id, raw=raw)
        if call_id and (mine := _of_the_owner(answers)) is not None:
            return CallList(mine.lines, asked, complete=True)
        return CallList(tuple(line for answer in answers for line in answer.lines), asked, len(answers) == asked)

    async def order(self, kind: OrderKind, call_id: str, **more: Any) -> Answer | None:
        """What the worker that has the call says to an order; None: no worker has it.

        Raises:
            HubError: Redis or a worker does not answer.
        """
        answers, asked = await self._ask(kind, enough=True, call_id=call_id, **more)
        mine = _of_the_owner(answers)
        if mine is None and len(answers) < asked:
            raise HubError(f"{asked - len(answers)} of {asked} workers do not answer")
        return mine

    async def _ask(self, kind: OrderKind, *, enough: bool, **more: Any) -> tuple[list[Answer], int]:
        """Answers to an order, and how many got it. `enough`: one from the worker that has the call will do."""
        order = Order(kind=kind, sender=self._id, id=next(self._numbers), reply_to=self._answers, **more)
        arriving = self._asked[order.id] = asyncio.Queue()
        answers: list[Answer] = []
        try:
            asked = int(await self._client.publish(ORDERS, order.encoded()))
            async with asyncio.timeout(_ANSWER_S) as deadline:
                while len(answers) < asked:
                    answers.append(await arriving.get())
                    if enough and answers[-1].is_mine:
                        deadline.reschedule(asyncio.get_running_loop().time() + _OTHERS_S)
        except TimeoutError:
            if not enough or _of_the_owner(answers) is None:
                log.warning("%d of %d workers answered to %s", len(answers), asked, kind)
        except (RedisError, OSError) as error:
            raise HubError(f"Redis does not answer ({type(error).__name__})") from None
        finally:
            del self._asked[order.id]
        return answers, asked

    async def speak(self, session: str, data: bytes) -> None:
        """Send a supervisor's voice to the worker of the call that this connection of theirs has taken over.

        Raises:
            HubError: Redis does not answer.
        """
        try:
            await self._client.publish(voice_channel(session), data)
        except (RedisError, OSError) as error:
            raise HubError(f"Redis does not answer ({type(error).__name__})") from None

    # Watching and listening.

    @contextmanager
    def watching(self, *, raw: bool) -> Iterator[Watcher]:
        """A watcher, for as long as the context lasts. Events come once the workers know of it: see `begin`."""
        watcher = Watcher(raw=raw)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    @contextmanager
    def listening(self, call_id: str) -> Iterator[Ear]:
        """An ear for one call, for as long as the context lasts; its worker is told with `OrderKind.LISTEN`."""
        ear = Ear(call_id)
        self._ears.add(ear)
        try:
            yield ear
        finally:
            self._ears.discard(ear)

    async def begin(self) -> None:
        """Have what the present watchers and ears want, from now on.

        Raises:
            HubError: Redis does not answer.
        """
        try:
            await self._subscribe()
        except (RedisError, OSError) as error:
            raise HubError(f"Redis does not answer ({type(error).__name__})") from None
        for raw in self._kinds:
            await self._ask(OrderKind.WATCH, enough=False, raw=raw)

    @property
    def _kinds(self) -> set[bool]:
        """Whether somebody watches redacted (False) and raw (True)."""
        return {watcher.raw for watcher in self._watchers}

    async def _subscribe(self) -> None:
        """Have the channels that somebody wants, and no others."""
        wanted = {NOTICES, *(audio_channel(ear.call_id) for ear in self._ears)}
        wanted |= {RAW_EVENTS if raw else EVENTS for raw in self._kinds}
        await self._news.hear(wanted)

    async def _renew_for_ever(self) -> None:
        outage = OutageLog(log, "watching")
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._subscribe()
                for raw in self._kinds:
                    order = Order(kind=OrderKind.WATCH, sender=self._id, raw=raw)
                    await self._client.publish(ORDERS, order.encoded())
            except (RedisError, OSError) as error:
                outage.failed(error)
                continue
            outage.over()
            now = time.monotonic()
            if now - self._renewed_at > LEASE_S - RENEW_S:  # workers may have stopped, and counted nothing since
                self._doubt()
            self._renewed_at = now

    async def _joined(self) -> None:
        """News are heard, perhaps again."""
        await self._subscribe()
        self._doubt()

    def _doubt(self) -> None:
        self._doubted_at = time.monotonic()
        self._doubted.set()

    async def _doubt_for_ever(self) -> None:
        while True:
            await self._doubted.wait()
            await asyncio.sleep(_DOUBT_S)
            self._doubted.clear()
            for watcher in self._watchers:
                watcher.doubt(self._doubted_at)

    async def _take_stock_for_ever(self) -> None:
        """Tell watchers which calls there are: one whose worker died goes without a word."""
        while True:
            await asyncio.sleep(_STOCK_S)
            if not self._watchers:
                continue
            try:
                answers, asked = await self._ask(OrderKind.NAMES, enough=False)
            except HubError as error:
                log.warning("nobody knows which calls there are: %s", error)
                continue
            if len(answers) == asked:
                call_ids = [name for answer in answers if answer.result for name in answer.result["call_ids"]]
                for watcher in self._watchers:
                    watcher.put(Stock(tuple(call_ids)))

    async def _got(self, channel: str, data: bytes) -> None:
        if channel == self._answers:
            try:
                answer = Answer.decoded(data)
            except ValueError as error:
                log.warning("an answer that cannot be read (%s)", type(error).__name__)
                return
            if answer.id in self._asked:
                self._asked[answer.id].put_nowait(answer)
        elif channel == NOTICES:
            self._doubt()
        elif channel in (EVENTS, RAW_EVENTS):
            lines = data.decode().split("\n")
            for watcher in self._watchers:
                if watcher.raw == (channel == RAW_EVENTS):
                    for line in lines:
                        watcher.put(line)
        else:
            for ear in self._ears:
                if audio_channel(ear.call_id) == channel:
                    ear.put(data)


def _of_the_owner(answers: list[Answer]) -> Answer | None:
    """The answer of the worker that has the call. One that has lost it to another may not know that yet."""
    return max((answer for answer in answers if answer.is_mine), key=lambda answer: answer.epoch, default=None)
