"""The control plane: health, readiness, metrics and the HTTP API, in a process of its own so that it never shares a
loop with audio.

No model code is imported here: models answer over the inference seam, as they do for the workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import Depends, FastAPI, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel
from redis.exceptions import RedisError

from dialogue.bots import load_bot
from dialogue.connection import connect
from dialogue.store import RedisStore
from dialogue.turns import DialogueError
from gateway import background
from gateway.access.auth import Authenticator, Scope
from gateway.access.key_set import KeySetError
from gateway.access.origins import OriginPolicy
from gateway.access.tls import ServerCertificate, TlsError
from gateway.http.answer_store import AnswerStore
from gateway.http.api import text_router
from gateway.http.edge import Edge
from gateway.http.errors import add_error_handlers
from gateway.http.guard import Guard, requires
from gateway.http.models_api import models_router
from gateway.http.pages_api import pages_router
from gateway.http.supervision_api import supervision_router
from gateway.http.text_dialogues import TextDialogues
from gateway.inference.choice import InferenceClient, inference_client
from gateway.inference.seam import InferenceError
from gateway.metrics import HttpMetrics, Metrics
from gateway.monitoring.admission import is_no_denial
from gateway.monitoring.api import monitor_router
from gateway.monitoring.archive import Archive
from gateway.monitoring.audit import AuditLog
from gateway.monitoring.hub import MonitorHub
from gateway.monitoring.outcomes_api import outcomes_router
from gateway.monitoring.recordings_api import recordings_router
from gateway.outside.assistants import Assistants
from gateway.outside.webhooks import Webhooks
from gateway.processes.child import begin
from gateway.processes.facts import EXIT_CONFIG
from gateway.processes.lifeline import Lifeline, SupervisionError
from gateway.processes.presence import PresentWorkers, gateway_name, present_workers
from gateway.settings import ControlSettings, Settings

__all__ = ["Readiness", "control_app", "main"]

log = logging.getLogger(__name__)


class Readiness(BaseModel):
    """What `/readyz` says. A part is "ok", or why it is not."""

    ready: bool
    redis: str
    inference: str
    workers: str
    """Workers accept calls only when their bots' prompts are rendered."""
    calls: int
    """In progress at this gateway's workers."""


def control_app(
    settings: Settings,
    redis_url: str,
    inference: InferenceClient,
    *,
    metrics: HttpMetrics | None = None,
    certificate: ServerCertificate | None = None,
    line: Lifeline | None = None,
    on_drain: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The application; `inference` and `line` are entered and left with it, and a certificate is kept fresh meanwhile.

    Args:
        line: to `serve`, which the routes of `gateway.http.supervision_api` ask; None: they are not there.
        on_drain: called when a successor has taken over.

    Raises:
        BotError: a bot that cannot be loaded.
        KeySetError: a file of an identity provider's keys that is none.
    """
    client = connect(redis_url, timeout_s=2.0, max_connections=2 * settings.api.concurrency)
    authenticator = Authenticator(settings.auth)
    ttl_s = settings.redis.call_ttl_s
    metrics_of_calls = Metrics(CollectorRegistry())  # the same files as the workers', where there are any
    webhooks = Webhooks(settings.webhooks, metrics_of_calls)
    bots = {bot.name: bot for bot in map(load_bot, settings.all_bots)}
    dialogues = TextDialogues(
        bots,
        inference,
        RedisStore(client, ttl_s=ttl_s),
        AnswerStore(client, ttl_s=ttl_s),
        timeout_s=settings.limits.reply_s,
        webhooks=webhooks,
        assistants=Assistants(settings.assistant),
    )

    hub = MonitorHub(redis_url)
    recording = settings.recording
    archive = Archive(recording.directory, keep_days=recording.keep_days) if recording.directory is not None else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beside = [
            *([asyncio.create_task(certificate.watch())] if certificate is not None else []),
            *([asyncio.create_task(archive.expire_for_ever())] if archive is not None else []),
        ]
        async with inference, authenticator, hub, AsyncExitStack() as stack:
            if line is not None:
                await stack.enter_async_context(line)
                beside.append(asyncio.create_task(_drained(line, on_drain)))
                line.serving()
            yield
        await background.stop(beside)
        await webhooks.aclose()
        await client.aclose()

    app = FastAPIOffline(  # the API page's scripts from that package, not a CDN: gateways often have no way out
        title="voicegate",
        summary="The control plane of a voicegate.",
        version="1",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # nor is our description of the API sent to anybody
        lifespan=lifespan,
    )
    origins = OriginPolicy(settings.auth.origins, secure=settings.control.tls_certificate is not None)
    app.state.guard = Guard(authenticator, settings.api, origins)
    add_error_handlers(app)
    Edge.install(app, body_bytes=settings.api.body_bytes, metrics=metrics or HttpMetrics(CollectorRegistry()))
    app.include_router(text_router(dialogues, text_chars=settings.api.text_chars))
    app.include_router(models_router(inference))
    audit = AuditLog(client)
    app.include_router(monitor_router(hub, audit, on_voice_lost=metrics_of_calls.dropped.labels("voice").inc))
    if line is not None:
        app.include_router(supervision_router(line, audit))
    app.include_router(outcomes_router(client, settings.results.stream))
    if archive is not None:
        app.include_router(recordings_router(archive, audit))
    app.include_router(pages_router(settings, bots.values(), authenticator))

    @app.get("/healthz", summary="This process is up")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Calls can be served: models loaded, Redis answering, prompts rendered")
    async def readyz(response: Response) -> Readiness:
        present = PresentWorkers(0, 0, 0)
        try:
            present = await present_workers(client, gateway_name(settings.port))
            redis_says = "ok"
        except (RedisError, OSError) as exc:
            redis_says = f"no answer ({type(exc).__name__}); is Redis running and reachable?"
        try:
            await inference.ping()
            inference_says = "ok"
        except InferenceError as exc:
            inference_says = str(exc)
        workers_say = _workers_say(present, await _wanted(line, settings.workers))
        ready = redis_says == inference_says == workers_say == "ok"
        response.status_code = 200 if ready else 503
        return Readiness(
            ready=ready,
            redis=redis_says,
            inference=inference_says,
            workers=workers_say,
            calls=present.calls,
        )

    @app.get("/metrics", summary="Prometheus metrics of all workers", dependencies=[Depends(requires(Scope.MONITOR))])
    def metrics_page() -> Response:
        registry = REGISTRY
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # set by the supervisor, read by prometheus_client itself
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _workers_say(present: PresentWorkers, wanted: int) -> str:
    if present.serving >= wanted:
        return "ok"
    draining = f", {present.draining} draining" if present.draining else ""
    return f"{present.serving} of {wanted} ready{draining}"


async def _wanted(line: Lifeline | None, configured: int) -> int:
    """How many workers should take calls: an operator may keep some down."""
    try:
        return configured if line is None else int((await line.ask("wanted"))["workers"])
    except SupervisionError:
        return configured


async def _drained(line: Lifeline, on_drain: Callable[[], None]) -> None:
    await line.drain_ordered()
    on_drain()


def _certificate(settings: ControlSettings) -> ServerCertificate | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return ServerCertificate(settings.tls_certificate, settings.tls_key, area="control.tls_")


def main() -> None:
    """Entry point of the process: `python -m gateway.http.control`, with its listening socket at a descriptor."""
    args, settings = begin("control", inference=Path, fd=int)
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.setLevel(logging.WARNING)
    uvicorn_log.addFilter(is_no_denial)
    assert settings.redis.url is not None  # the supervisor wrote where its own server is
    servers: list[uvicorn.Server] = []

    def make_way() -> None:
        for server in servers:
            server.should_exit = True

    try:
        certificate = _certificate(settings.control)
        app = control_app(
            settings,
            settings.redis.url,
            inference_client(settings, args.inference),
            metrics=HttpMetrics(),
            certificate=certificate,
            line=Lifeline(args.lifeline),
            on_drain=make_way,
        )
    except (DialogueError, KeySetError, TlsError) as exc:
        log.error("cannot start: %s", exc)
        sys.exit(EXIT_CONFIG)
    config = uvicorn.Config(
        app,
        access_log=False,  # request lines may hold tokens
        log_config=None,
        loop="uvloop",
        timeout_graceful_shutdown=2,
    )
    config.load()
    config.ssl = certificate.context if certificate is not None else None  # uvicorn would read the files only once
    servers.append(uvicorn.Server(config))
    servers[0].run(sockets=[socket.socket(fileno=args.fd)])


if __name__ == "__main__":
    main()
