"""The outermost layer of the control plane's HTTP: bounds every body, measures every request, and answers for faults of
ours, so that no traceback, which may quote what a caller said, reaches a peer or the log."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import logs
from gateway.http.errors import ApiError, error_response
from gateway.metrics import HttpMetrics

__all__ = ["Edge"]

log = logging.getLogger(__name__)

_UNKNOWN_ROUTE = "other"  # a label for each path that strangers try would have no bound


class Edge:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, metrics: HttpMetrics) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._metrics = metrics

    @classmethod
    def install(cls, app: FastAPI, *, body_bytes: int, metrics: HttpMetrics) -> None:
        """Put it around an application."""
        app.add_middleware(cls, body_bytes=body_bytes, metrics=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if _content_length(scope) > self._body_bytes:
                await error_response(self._too_large())(scope, receive, send_and_note)
            else:
                await self._app(scope, self._bounded(receive), send_and_note)
        except Exception as exc:
            log.error("a fault of ours at %s: %s", _route(scope), logs.where(exc))
            if not status:
                fault = ApiError(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "a fault of the gateway's own; its log says where"
                )
                await error_response(fault)(scope, receive, send_and_note)
        finally:
            self._metrics.answered(_route(scope), status, time.perf_counter() - begun)

    def _bounded(self, receive: Receive) -> Receive:
        """A body sent in chunks says its size only by and by."""
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._body_bytes:
                raise self._too_large()
            return message

        return receive_some

    def _too_large(self) -> ApiError:
        message = f"a request's body may have {self._body_bytes} bytes; send less at once"
        return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


def _content_length(scope: Scope) -> int:
    """What the request says of its body; 0 where it says nothing sound."""
    value = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() else 0


def _route(scope: Scope) -> str:
    """The matched route's path with its parameters unfilled."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else _UNKNOWN_ROUTE
