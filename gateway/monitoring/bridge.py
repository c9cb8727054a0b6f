"""A worker's side of monitoring: its events and its calls' audio out to Redis, and orders from there.

    orders --listen--> watch: a lease    list: calls    listen: a lease    act: supervision
    bus --0.2 s together--> one PUBLISH for all who watch, redacted; one more where somebody may see it raw
                        '--> the sinks of the settings: a Redis stream, a webhook

While nobody watches and no sink is set, nothing is subscribed to the bus and the worker's only tie is one idle
connection. A Redis that is away costs events, never a call: they are dropped, oldest first, and counted. Once it is
back, control planes get a notice: what they know of this worker's calls is to be asked anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final

from redis.exceptions import RedisError

from dialogue.connection import connect, one_node
from gateway import background, logs
from gateway.metrics import Metrics
from gateway.monitoring.audit import AuditError, AuditLog
from gateway.monitoring.bus import EventBus, Subscription
from gateway.monitoring.call_watch import MOST_TURNS
from gateway.monitoring.channels import ChannelReader
from gateway.monitoring.events import Published, Redact, to_json
from gateway.monitoring.redaction import Redactor
from gateway.monitoring.supervision import NotNowError, SupervisedCall, Supervision
from gateway.monitoring.wire import (
    EVENTS,
    LEASE_S,
    NOTICES,
    ORDERS,
    RAW_EVENTS,
    Act,
    Answer,
    Order,
    OrderKind,
    audio_channel,
    voice_channel,
)
from gateway.outside.webhooks import PostError, Webhooks
from gateway.settings import MonitoringSettings

__all__ = ["MonitorBridge"]

log = logging.getLogger(__name__)

_BATCH_S: Final = 0.2
"""Half of what watching costs is sending, whatever is sent; nobody sees a fifth of a second on a page."""
_AT_ONCE: Final = 20
"""Events that are redacted in one go: a few milliseconds."""
_AUDIO_EVERY_S: Final = 0.06
_SWEEP_S: Final = 1.0
_RETRY_S: Final = 1.0
_COMMAND_S: Final = 2.0
_POST_TIMEOUT_S: Final = 10.0
_MOST_POSTED: Final = 500
_MOST_WAITING_POSTS: Final = 10_000


class MonitorBridge:
    """One per worker; an async context, entered when it accepts calls."""

    def __init__(
        self,
        redis_url: str,
        bus: EventBus,
        calls: Callable[[], Iterable[SupervisedCall]],
        settings: MonitoringSettings,
        metrics: Metrics,
        webhooks: Webhooks,
        *,
        name: str,
    ) -> None:
        """The first command connects.

        Args:
            calls: the worker's calls.
            name: the worker's, in answers and posts.
        """
        self._client = connect(one_node(redis_url), timeout_s=_COMMAND_S, decode_responses=False)
        self._audit = AuditLog(self._client)
        self._orders = ChannelReader(redis_url, ORDERS, on_joined=self._give_notice, on_message=self._take)
        self._bus = bus
        self._calls = calls
        self._settings = settings
        self._metrics = metrics
        self._webhooks = webhooks
        self._name = name
        self._redact = Redactor(amounts=settings.redact_amounts)
        self._supervision = Supervision(calls, metrics)
        self._watchers: dict[tuple[str, bool], float] = {}  # (who, raw) -> until, monotonic seconds
        self._stack = AsyncExitStack()
        self._publishing: asyncio.Task[None] | None = None
        self._leaving: Subscription | None = None  # what waits to be published
        self._told_too_little = False
        self._sounding: asyncio.Task[None] | None = None
        self._posts: deque[str] = deque(maxlen=_MOST_WAITING_POSTS)
        self._posting = asyncio.Event()
        self._series = secrets.token_hex(4)  # a worker's number may come again
        self._posted = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> MonitorBridge:
        self._tasks = [
            asyncio.create_task(self._orders.read_for_ever(), name="monitor orders"),
            asyncio.create_task(self._sweep_for_ever(), name="monitor sweep"),
        ]
        if self._settings.webhook is not None:
            self._tasks.append(asyncio.create_task(self._post_for_ever(self._settings.webhook), name="monitor posts"))
        self._publish_if_wanted()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        running = (self._publishing, self._sounding, *self._tasks)
        await background.stop(task for task in running if task is not None)
        self._supervision.close()
        if self._leaving is not None:
            await self._send_on(self._leaving)  # the last calls' ends
        await self._orders.aclose()
        await self._client.aclose()

    @property
    def _has_sink(self) -> bool:
        return self._settings.stream is not None or self._settings.webhook is not None

    # Orders.

    async def _give_notice(self) -> None:
        """Who watches has calls to ask for: orders are heard from now on, or events were lost."""
        await self._client.publish(NOTICES, self._name)

    async def _take(self, channel: str, data: bytes) -> None:
        if channel != ORDERS:
            self._supervision.voice(channel.removeprefix(voice_channel("")), data)
            return
        try:
            order = Order.decoded(data)
        except ValueError as error:
            log.warning("an order that cannot be read (%s); are all gateways of one version?", type(error).__name__)
            return
        try:
            answer = await self._carry_out(order)
            if order.reply_to:
                await self._client.publish(order.reply_to, answer.encoded())
        except (RedisError, OSError):
            raise
        except Exception as error:  # the next order must still be taken
            log.error("a fault of ours at an order to %s: %s", order.kind, logs.where(error))

    async def _carry_out(self, order: Order) -> Answer:
        now = time.monotonic()
        if order.kind is OrderKind.WATCH:
            self._watchers[order.sender, order.raw] = now + LEASE_S
            self._publish_if_wanted()
            return Answer(id=order.id, worker=self._name)
        if order.kind is OrderKind.NAMES:
            names = [call.call_id for call in self._calls() if call.watch.is_open]
            return Answer(id=order.id, worker=self._name, result={"call_ids": names})
        call = self._supervision.find(order.call_id)
        epoch = 0 if call is None else call.watch.epoch
        if order.kind is OrderKind.LIST:
            return Answer(id=order.id, worker=self._name, lines=await self._listed(order), epoch=epoch)
        if order.kind is OrderKind.UNLISTEN:
            self._supervision.leave(order.call_id, order.session)
        if call is None or order.kind is OrderKind.UNLISTEN:
            return Answer(id=order.id, worker=self._name)
        try:
            if order.kind is OrderKind.LISTEN:
                return Answer(id=order.id, worker=self._name, result=self._listen(call, order, now), epoch=epoch)
            if order.kind is OrderKind.KEEP:
                self._supervision.keep(order, now)
            else:
                self._supervision.act(call, order, now)
        except NotNowError as error:
            return Answer(id=order.id, worker=self._name, fault=(error.code, str(error)), epoch=epoch)
        await self._hear_supervisors()
        fmt = call.audio_format
        rate = fmt.sample_rate_hz if fmt is not None else 0
        return Answer(id=order.id, worker=self._name, result={"sample_rate": rate}, epoch=epoch)

    async def _listed(self, order: Order) -> tuple[str, ...]:
        """The calls as they stand: of many each with its last turn, of one with all that are kept."""
        redact = None if order.raw else self._redact
        turns = MOST_TURNS if order.call_id else 1
        lines = []
        for call in list(self._calls()):
            if order.call_id in ("", call.call_id) and (present := call.watch.present(turns=turns)) is not None:
                lines.append(to_json(present, redact))
                await asyncio.sleep(0)  # frames go first: hundreds of calls take longer than a frame may wait
        return tuple(lines)

    def _listen(self, call: SupervisedCall, order: Order, now: float) -> dict[str, Any]:
        line = self._supervision.listen(call, order, now)
        if self._sounding is None or self._sounding.done():
            self._sounding = asyncio.create_task(self._sound(), name="monitor audio")
        return {"sample_rate": line.sample_rate_hz}

    async def _hear_supervisors(self) -> None:
        """Have the channels of those who speak in a call, and no others."""
        await self._orders.hear({voice_channel(session) for session in self._supervision.speaking})

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            self._watchers = {who: until for who, until in self._watchers.items() if until > now}
            self._publish_if_wanted()
            lapsed = self._supervision.sweep(now)
            try:
                for call_id, who in lapsed:
                    await self._audit.write(who, Act.HAND_BACK, call_id=call_id, detail="was not heard of any more")
                await self._hear_supervisors()
                if self._told_too_little:
                    await self._give_notice()
                    self._told_too_little = False
            except (AuditError, RedisError, OSError) as error:
                log.info("supervisors could not be told: %s", type(error).__name__)

    # Events.

    @property
    def _wanted(self) -> bool:
        return bool(self._watchers) or self._has_sink

    def _publish_if_wanted(self) -> None:
        running = self._publishing is not None and not self._publishing.done()
        if self._wanted and not running:
            self._publishing = asyncio.create_task(self._publish(), name="monitor events")

    async def _publish(self) -> None:
        """Send events on, until one comes that nobody wants."""
        with self._bus.subscribe() as subscription:
            self._leaving = subscription
            while self._wanted:
                await subscription.wait()
                await asyncio.sleep(_BATCH_S)  # what comes together is sent together
                await self._send_on(subscription)

    async def _send_on(self, subscription: Subscription) -> None:
        """Send what waits; what cannot be sent is counted."""
        if subscription.dropped:
            self._metrics.dropped.labels("monitor_events").inc(subscription.dropped)
            subscription.dropped, self._told_too_little = 0, True
        events = subscription.take()
        try:
            await self._send(events)
        except Exception as error:  # whatever it is: its text may hold what somebody said
            self._metrics.dropped.labels("monitor_events").inc(len(events))
            self._told_too_little = True
            why = type(error).__name__ if isinstance(error, RedisError | OSError) else logs.where(error)
            log.info("%d events were not sent: %s", len(events), why)

    async def _send(self, events: list[Published]) -> None:
        redacted = any(not raw for _, raw in self._watchers)
        if self._has_sink or redacted:
            lines = await _as_json(events, self._redact)
            if self._settings.webhook is not None:
                self._queue_posts(lines)  # which needs no Redis
            if redacted:
                await self._client.publish(EVENTS, "\n".join(lines))  # alone: a pipeline for one command costs more
            if self._settings.stream is not None:
                await self._keep(self._settings.stream, lines)
        if any(raw for _, raw in self._watchers):
            await self._client.publish(RAW_EVENTS, "\n".join(await _as_json(events, None)))

    async def _keep(self, stream: str, lines: list[str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for line in lines:
            pipeline.xadd(stream, {"event": line}, maxlen=self._settings.stream_length, approximate=True)
        await pipeline.execute()

    def _queue_posts(self, lines: list[str]) -> None:
        if (over := len(self._posts) + len(lines) - _MOST_WAITING_POSTS) > 0:
            self._metrics.dropped.labels("monitor_posts").inc(over)
        self._posts.extend(lines)
        self._posting.set()

    async def _post_for_ever(self, url: str) -> None:
        while True:
            await self._posting.wait()
            batch = [self._posts.popleft() for _ in range(min(len(self._posts), _MOST_POSTED))]
            if not self._posts:
                self._posting.clear()
            self._posted += 1
            body = {"worker": self._name, "batch": self._posted, "events": [json.loads(line) for line in batch]}
            key = f"{self._name}/{self._series}/{self._posted}"
            try:
                await self._webhooks.post(url, body, key=key, timeout_s=_POST_TIMEOUT_S)
            except Exception as error:  # whatever it is: the next batch must still be posted
                self._metrics.dropped.labels("monitor_posts").inc(len(batch))
                known = isinstance(error, PostError | TimeoutError)
                why = str(error) or "no answer in time" if known else logs.where(error)
                log.warning("%d events were not posted: %s", len(batch), why)
                await asyncio.sleep(_RETRY_S)

    # Audio.

    async def _sound(self) -> None:
        """Send what is said in the calls that are listened to, while there are any."""
        while self._supervision.heard:
            await asyncio.sleep(_AUDIO_EVERY_S)
            pipeline = self._client.pipeline(transaction=False)
            for call_id, chunk in self._supervision.chunks(time.monotonic()):
                pipeline.publish(audio_channel(call_id), chunk)
            try:
                await pipeline.execute()
            except (RedisError, OSError) as error:
                self._metrics.dropped.labels("audio").inc()
                log.info("a chunk of audio was not sent: %s", type(error).__name__)


async def _as_json(events: list[Published], redact: Redact | None) -> list[str]:
    """Each as a line. Frames go first: what has waited for a Redis that was away takes longer than a frame may wait."""
    lines = []
    for number, event in enumerate(events, 1):
        lines.append(to_json(event, redact))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return lines
