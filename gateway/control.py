"""The control plane: health, readiness and metrics over HTTP, in a process of its own so that it never shares a
loop with audio."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio as redis
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel
from redis.exceptions import RedisError

from gateway.auth import Authenticator, AuthError, Scope
from gateway.child import begin
from gateway.inference import InferenceError
from gateway.inference_socket import SocketInference
from gateway.presence import present_workers
from gateway.settings import Settings

__all__ = ["Readiness", "control_app", "main"]


class Readiness(BaseModel):
    """What `/readyz` says. A part is "ok", or why it is not."""

    ready: bool
    redis: str
    inference: str
    workers: str
    """Workers accept calls only when their bots' prompts are rendered."""
    calls: int


def control_app(settings: Settings, redis_url: str, inference: SocketInference) -> FastAPI:
    """The application; `inference` is entered and left with it."""
    client = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=2.0)
    authenticator = Authenticator(settings.auth)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with inference:
            yield
        await client.aclose()

    app = FastAPI(title="voicegate control", version="1", lifespan=lifespan)

    def watcher(request: Request) -> None:
        """Where authentication is on, metrics are for tokens with the scope `monitor`."""
        peer = request.client.host if request.client else ""
        try:
            authenticator.authenticate(
                request.headers, f"{request.url.path}?{request.url.query}", peer, scope=Scope.MONITOR
            )
        except AuthError as exc:
            raise HTTPException(exc.status, exc.status.phrase, headers=exc.headers) from None

    @app.get("/healthz", summary="This process is up")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Calls can be served: models loaded, Redis answering, prompts rendered")
    async def readyz(response: Response) -> Readiness:
        present: dict[str, int] = {}
        try:
            present = await present_workers(client)
            redis_says = "ok"
        except (RedisError, OSError) as exc:
            redis_says = f"no answer ({type(exc).__name__}); is Redis running and reachable?"
        try:
            await inference.ping()
            inference_says = "ok"
        except InferenceError as exc:
            inference_says = str(exc)
        workers_say = "ok" if len(present) >= settings.workers else f"{len(present)} of {settings.workers} ready"
        ready = redis_says == inference_says == workers_say == "ok"
        response.status_code = 200 if ready else 503
        return Readiness(
            ready=ready,
            redis=redis_says,
            inference=inference_says,
            workers=workers_say,
            calls=sum(present.values()),
        )

    @app.get("/metrics", summary="Prometheus metrics of all workers", dependencies=[Depends(watcher)])
    def metrics() -> Response:
        registry = REGISTRY
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # set by the supervisor, read by prometheus_client itself
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def main() -> None:
    """Entry point of the process: `python -m gateway.control`, with its listening socket at a descriptor."""
    args, settings = begin("control", inference=Path, fd=int)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    assert settings.redis.url is not None  # the supervisor wrote where its own server is
    config = uvicorn.Config(
        control_app(settings, settings.redis.url, SocketInference(args.inference)),
        access_log=False,  # request lines may hold tokens
        log_config=None,
        loop="uvloop",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=args.fd)])


if __name__ == "__main__":
    main()
