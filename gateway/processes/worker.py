"""A gateway worker: sockets, detection, dialogue and playout of its share of the calls, in one process.

No model code is imported here (tests/test_layering.py): models answer over the inference seam. Workers of one
gateway listen on the same port with SO_REUSEPORT, and the kernel spreads new connections over them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from weakref import WeakSet

import uvloop
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from audio.cascade import detector_maker
from audio.silero import SileroError
from dialogue.bots import Bot, load_bot
from dialogue.connection import connect
from dialogue.store import RedisStore
from dialogue.turns import DialogueError
from dialogue.write_back import WriteBackStore
from gateway import background
from gateway.access.auth import Authenticator, AuthError
from gateway.access.dialect_auth import SIGNATURE_HEADER, Admit, Doorkeeper
from gateway.access.key_set import KeySetError
from gateway.access.tls import ServerCertificate, TlsError
from gateway.calls.dialects import PATHS, TWILIO, Dialect, by_request, offered_subprotocols, route
from gateway.calls.playout_clock import PlayoutClock
from gateway.calls.recognised import RecognisedReceiver
from gateway.calls.recognition import RecognitionSession
from gateway.calls.services import Services
from gateway.calls.session import Calls, CallSession
from gateway.calls.speaker import voice_of
from gateway.calls.websocket import Connection, ConnectionSettings, Receiver
from gateway.inference.choice import inference_client
from gateway.inference.job_queue import Urgency
from gateway.inference.seam import Inference
from gateway.metrics import InferenceMetrics, Metrics
from gateway.monitoring.bridge import MonitorBridge
from gateway.monitoring.recording import Recorder
from gateway.monitoring.redaction import Redactor
from gateway.monitoring.traces import TraceExport, TracesMissingError
from gateway.outside.assistants import Assistants
from gateway.outside.carriers import TwilioCalls
from gateway.outside.webhooks import Webhooks
from gateway.processes.child import begin
from gateway.processes.facts import EXIT_CONFIG
from gateway.processes.frame_delay import FrameDelayProbe
from gateway.processes.full_collections import FullCollections
from gateway.processes.lifeline import DrainOrder, Handover, Lifeline
from gateway.processes.presence import Presence, gateway_name, presence_key
from gateway.records.callers import Callers
from gateway.records.posting import RecordPosts
from gateway.records.results import CallRecords, artefact_versions
from gateway.settings import Settings
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.http_engine import HttpSynthesizer
from tts_stub.prompts import PromptCache, PromptSpec
from tts_stub.synthesis import SynthesisError, Synthesizer

__all__ = ["GatewayWorker", "main", "prompt_specs", "synthesizer"]

log = logging.getLogger(__name__)

_SWEEP_S = 1.0
_DRAIN_LOOK_S = 0.05
_RETRY_AFTER_S = 5
_RATES_HZ = (8000, 16000)


def synthesizer(settings: Settings) -> Synthesizer:
    """The speech engine that the settings name."""
    engine = settings.speech.engine
    if engine == "espeak":
        return EspeakSynthesizer()
    return HttpSynthesizer(engine, timeout_s=settings.speech.timeout_s)


def prompt_specs(bots: dict[str, Bot]) -> list[PromptSpec]:
    """Every prompt that can be rendered before a call comes, at each rate a call may have."""
    return [
        PromptSpec(prompt.text, voice_of(bot), rate, bot.directory / prompt.recording if prompt.recording else None)
        for bot in bots.values()
        for prompt in bot.fixed_prompts()
        for rate in _RATES_HZ
    ]


class GatewayWorker:
    """Accepts connections, makes their sessions, watches over them, drains."""

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        self._services = services
        self._doorkeeper = Doorkeeper(authenticator, services.settings)
        twilio = services.settings.twilio
        self._twilio = TwilioCalls(twilio) if twilio.account_sid and twilio.auth_token else None
        self._limits = services.settings.limits
        self._connections = ConnectionSettings(
            max_message_bytes=self._limits.message_bytes, handshake_timeout_s=self._limits.handshake_s
        )
        self._loop = asyncio.get_running_loop()
        self._calls = Calls()
        self._server: asyncio.Server | None = None
        tls = services.settings.tls
        self._certificate = ServerCertificate(tls.certificate, tls.key) if tls.certificate and tls.key else None
        self._watch: asyncio.Task[None] | None = None
        self._unasked: WeakSet[Connection] = WeakSet()
        self._refusing = False
        self._next_sweep: asyncio.TimerHandle | None = None
        self._connections_made = 0
        self.collections: FullCollections | None = None
        """Who decides on the collector's full rounds; None: it does so itself."""
        self._probe: FrameDelayProbe | None = None

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return len(self._calls.open)

    @property
    def sessions(self) -> list[CallSession]:
        """The calls whose dialogue is open, one for each call id."""
        return list(self._calls.by_id.values())

    @property
    def frames_seen(self) -> int:
        """Inbound frames that the endpointers of the calls in progress have judged."""
        return sum(session.frames_seen for session in self._calls.open)

    async def listen(self, sock: socket.socket) -> None:
        """Start to accept on a bound socket."""
        self._server = await self._loop.create_server(
            self._connection,
            sock=sock,
            backlog=1024,
            ssl=self._certificate.context if self._certificate is not None else None,
            ssl_handshake_timeout=self._limits.handshake_s if self._certificate is not None else None,
        )
        if self._certificate is not None:
            self._watch = asyncio.create_task(self._certificate.watch(), name="watch the certificate")
        self._sweep()
        self._probe = FrameDelayProbe(self._loop, self._services.metrics.frame_delay.observe)

    async def drain(self, deadline_s: float, how: Handover = Handover.REFUSE) -> None:
        """Take no new calls, let those in progress end by themselves until the deadline, then send the rest away: 1001.

        Unless the whole gateway goes down, a connection that is open already is still served, though its request has
        not come yet: whoever made it cannot know that others would have taken it.
        """
        begun = self._loop.time()
        log.info("draining: %d calls in progress, %.0f s for them to end", self.calls, deadline_s)
        if how is Handover.REFUSE:
            self.refuse()
        else:
            await self._stop_listening()
        try:
            async with asyncio.timeout_at(begun + deadline_s):
                while self._calls.open or self._undecided(begun):  # noqa: ASYNC110  # for that there is no event
                    await asyncio.sleep(_DRAIN_LOOK_S)
        except TimeoutError:
            leftover = list(self._calls.open)
            for session in leftover:
                session.go_away()
            await asyncio.gather(*(session.over() for session in leftover))
        if self._server is not None:
            self._server.close()  # a gateway that goes down refuses until here
        if self._next_sweep is not None:
            self._next_sweep.cancel()
        if self._probe is not None:
            self._probe.close()
        if self._watch is not None:
            await background.stop([self._watch])

    def refuse(self) -> None:
        """Answer new connections 503 from now on."""
        self._refusing = True

    async def _stop_listening(self) -> None:
        """Take what waits in the socket's queue, and close it: two turns of the loop, in the first of which it accepts.

        What is between its handshake and the queue just then, a reset is for; or, where the kernel is told to
        (net.ipv4.tcp_migrate_req), another worker's socket. With a successor on this very socket there is nothing of
        the kind.
        """
        assert self._server is not None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._server.close()

    def _connection(self) -> Connection:
        connection = Connection(self._accept, self._connections)
        self._connections_made += 1
        self._unasked.add(connection)
        return connection

    def _undecided(self, drains_since: float) -> bool:
        """Whether a connection is open that may yet become a call: its request has `limits.handshake_s` to come."""
        if self._refusing or self._loop.time() > drains_since + self._limits.handshake_s:
            return False
        return any(not connection.closed.is_set() for connection in self._unasked)

    def _accept(self, connection: Connection, request: Request) -> Response | Receiver:
        self._unasked.discard(connection)
        path, _, query = request.path.partition("?")  # urlsplit would raise on what is no URL
        found = route(path)
        if found is None:
            return self._refuse("unknown_path", HTTPStatus.NOT_FOUND, f"no such path; calls come to {PATHS}")
        if self._refusing:
            return self._refuse("draining", HTTPStatus.SERVICE_UNAVAILABLE, "shutting down", retry=True)
        if self.calls >= self._limits.calls_per_worker:
            return self._refuse("full", HTTPStatus.SERVICE_UNAVAILABLE, "all lines are busy", retry=True)
        if self._services.inference.expected_wait_s(Urgency.ENDPOINT) > self._limits.model_wait_s:
            return self._refuse("models_busy", HTTPStatus.SERVICE_UNAVAILABLE, "all lines are busy", retry=True)
        if self._services.store.away and self._services.settings.redis.new_calls_away == "refuse":
            return self._refuse("store_away", HTTPStatus.SERVICE_UNAVAILABLE, "no call can begin now", retry=True)
        try:
            admit = self._doorkeeper.admit(found, request.headers, request.path, connection.peer_ip)
        except AuthError as exc:
            log.warning("refused a connection from %s: %s", connection.peer_ip, exc)
            return self._refuse("unauthorized", exc.status, exc.status.phrase, extra=exc.headers)
        offered = offered_subprotocols(request.headers.get_all("Sec-WebSocket-Protocol"))
        fields = dict(parse_qsl(query))
        dialect = found.dialect or by_request(offered, signed_by_twilio=SIGNATURE_HEADER in request.headers)
        if dialect is None:
            return RecognisedReceiver(lambda dialect: self._receiver(dialect, fields, [], admit))
        return self._receiver(dialect, fields, offered, admit)

    def _receiver(self, dialect: Dialect, query: dict[str, str], offered: list[str], admit: Admit | None) -> Receiver:
        """Who serves a connection of this dialect."""
        if dialect.make is None:
            return RecognitionSession(self._services, self._calls)
        # The first of the client's that the dialect has; none is invented (RFC 6455 section 4.2.2).
        named = next((name for name in offered if name in dialect.subprotocols), None)
        return CallSession(
            dialect.make(query),
            self._services,
            self._calls,
            subprotocol=named,
            admit=admit,
            control=self._twilio if dialect is TWILIO else None,
        )

    def _refuse(
        self,
        reason: str,
        status: HTTPStatus,
        text: str,
        *,
        retry: bool = False,
        extra: dict[str, str] | None = None,
    ) -> Response:
        self._services.metrics.refused.labels(reason).inc()
        body = f"{text}\n".encode()
        headers = Headers(
            {
                "Connection": "close",
                "Content-Length": str(len(body)),
                "Content-Type": "text/plain; charset=utf-8",
                **(extra or {}),
            }
        )
        if retry:
            headers["Retry-After"] = str(_RETRY_AFTER_S)
        return Response(status.value, status.phrase, headers, body)

    def _sweep(self) -> None:
        """Wall-clock limits of all calls, once a second: cheaper than timers of their own."""
        now = time.monotonic()
        for session in list(self._calls.open):
            session.check_limits(now)
        self._services.metrics.tasks.set(len(asyncio.all_tasks()))
        if self.collections is not None:
            self.collections.look(now, connections=self._connections_made, calls=self.calls)
        self._next_sweep = self._loop.call_later(_SWEEP_S, self._sweep)


@asynccontextmanager
async def services(settings: Settings, redis_url: str, inference: Inference) -> AsyncIterator[Services]:
    """Everything a worker's calls share, with the fixed prompts rendered."""
    async with AsyncExitStack() as stack:
        bots = {bot.name: bot for bot in map(load_bot, settings.all_bots)}
        lasting = RedisStore.connect(redis_url, ttl_s=settings.redis.call_ttl_s, timeout_s=settings.redis.patience_s)
        stack.push_async_callback(lasting.close)
        prompts = PromptCache(
            synthesizer(settings), max_bytes=settings.speech.cache_bytes, timeout_s=settings.speech.timeout_s
        )
        stack.push_async_callback(prompts.aclose)
        await prompts.render_all(prompt_specs(bots))
        metrics = Metrics()
        store = WriteBackStore(
            lasting,
            keep_s=settings.redis.away_s,
            grace_s=settings.redis.patience_s,
            on_away=lambda away: metrics.store_away.set(int(away)),
            on_step=lambda outcome: metrics.store_steps.labels(outcome).inc(),
        )
        await stack.enter_async_context(store)
        webhooks = Webhooks(settings.webhooks, metrics)
        stack.push_async_callback(webhooks.aclose)
        records = CallRecords(redis_url, settings.results, metrics, ttl_s=settings.redis.call_ttl_s)
        await stack.enter_async_context(records)
        await stack.enter_async_context(RecordPosts(redis_url, settings.results, metrics, webhooks))
        client = connect(redis_url, timeout_s=settings.redis.patience_s)
        stack.push_async_callback(client.aclose)
        callers = Callers(
            client,
            come_back_s=settings.turns.come_back_s,
            ttl_s=settings.redis.call_ttl_s,
            worker_key=presence_key(gateway_name(settings.port), str(os.getpid())),
        )
        assistants = Assistants(settings.assistant)
        for bot in bots.values():
            for fault in (*webhooks.refused_hosts(bot), *assistants.refused_hosts(bot)):
                log.warning("%s", fault)
        yield Services(
            settings=settings,
            inference=inference,
            bots=bots,
            store=store,
            prompts=prompts,
            metrics=metrics,
            clock=PlayoutClock(asyncio.get_running_loop()),
            webhooks=webhooks,
            assistants=assistants,
            records=records,
            callers=callers,
            nlu_versions=artefact_versions(bots.values()),
            recorder=await stack.enter_async_context(
                Recorder(settings.recording, metrics, Redactor(amounts=settings.monitoring.redact_amounts))
            ),
            make_detector=detector_maker(settings.detector),
        )


async def _serve(settings: Settings, redis_url: str, args: Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Lifeline(args.lifeline))
        inference = await stack.enter_async_context(
            inference_client(settings, args.inference, on_shed=InferenceMetrics().job_shed)
        )
        shared = await stack.enter_async_context(services(settings, redis_url, inference))
        if not await _before(stop, inference.wait_connected()):
            return
        authenticator = await stack.enter_async_context(Authenticator(settings.auth))
        worker = GatewayWorker(shared, authenticator)
        await worker.listen(socket.socket(fileno=args.fd))
        here = gateway_name(settings.port)
        monitor = MonitorBridge(
            redis_url,
            shared.bus,
            lambda: worker.sessions,
            settings.monitoring,
            shared.metrics,
            shared.webhooks,
            name=f"{here}:{os.getpid()}",
        )
        await stack.enter_async_context(monitor)
        if (collector := settings.monitoring.traces) is not None:
            pause_ms = settings.endpointing.pause_ms
            await stack.enter_async_context(TraceExport(shared.bus, collector, pause_ms=pause_ms))
        presence = Presence(redis_url, gateway=here, name=str(os.getpid()), calls=lambda: worker.calls)
        async with presence:
            worker.collections = FullCollections(time.monotonic())
            log.info("worker %d listens on %s:%d", args.index, settings.host, settings.port)
            line.serving(lambda: worker.calls)
            order = await line.drain_or(stop) or DrainOrder(Handover.REFUSE, settings.limits.drain_s)
            presence.drain()
            await _drain(worker, order, stop, at_stop_s=settings.limits.drain_s)


async def _drain(worker: GatewayWorker, order: DrainOrder, stop: asyncio.Event, *, at_stop_s: float) -> None:
    """Drain as ordered; on a signal meanwhile the whole gateway goes down, and calls have what its settings give."""
    begun = time.monotonic()
    if order.how is Handover.REFUSE:
        worker.refuse()
        await stop.wait()
        await worker.drain(max(0.0, order.deadline_s - (time.monotonic() - begun)))
        return
    ending = asyncio.create_task(worker.drain(order.deadline_s, order.how))
    if await _signalled(stop, ending):
        await background.stop([ending])
        ending = asyncio.create_task(worker.drain(at_stop_s))
    await ending


async def _signalled(stop: asyncio.Event, ending: asyncio.Task[None]) -> bool:
    """Whether a signal came before this ended."""
    signal_came = asyncio.create_task(stop.wait())
    await asyncio.wait([signal_came, ending], return_when=asyncio.FIRST_COMPLETED)
    await background.stop([signal_came])
    return not ending.done()


async def _before(stop: asyncio.Event, step: Coroutine[Any, Any, None]) -> bool:
    """Wait for a step of the start; False where `stop` came first."""
    waiting = [asyncio.create_task(step), asyncio.create_task(stop.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await background.stop(waiting)
    return not stop.is_set()


_CANNOT_START = (
    SynthesisError,
    DialogueError,
    SileroError,
    KeySetError,
    TlsError,
    TracesMissingError,
)


def main() -> None:
    """Entry point of the process: `python -m gateway.processes.worker`."""
    args, settings = begin("worker {index}", inference=Path, index=int, fd=int)
    try:
        assert settings.redis.url is not None  # the supervisor wrote where its own server is
        uvloop.run(_serve(settings, settings.redis.url, args))
    except _CANNOT_START as exc:
        log.error("cannot start: %s", exc)
        sys.exit(EXIT_CONFIG)


if __name__ == "__main__":
    main()
