"""Who may use the HTTP API, how often, and how many at once: decided before a request's body is read.

    token and scope -> the identity's rate -> requests under way -> the route itself, within its time

A refused request costs its headers and nothing more. Each limit has its status and says when to come back: 429 for one
identity's rate, 503 for all requests together, 504 for one that took too long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from gateway.access.auth import Authenticator, AuthError, Identity, Scope
from gateway.access.origins import OriginPolicy
from gateway.http.errors import ApiError
from gateway.settings import ApiSettings

__all__ = ["Guard", "GuardedRoute", "TokenBuckets", "requires"]

log = logging.getLogger(__name__)

_BURST_S: Final = 2.0
_MAX_BUCKETS: Final = 10_000
_RETRY_AFTER_S: Final = 1


class TokenBuckets:
    """How fast each of many may go: a bucket each, filled at a steady rate. Pure; times are monotonic seconds.

    At most `kept` buckets: the one not used for longest goes first, which is the one nearest to full.
    """

    def __init__(self, rate_per_s: float, *, burst_s: float = _BURST_S, kept: int = _MAX_BUCKETS) -> None:
        self._rate = rate_per_s
        self._size = max(1.0, rate_per_s * burst_s)
        self._kept = kept
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> (tokens, when)

    def take(self, name: str, now: float) -> float:
        """Take one token. Returns 0.0, or the seconds until there will be one; then nothing was taken."""
        tokens, since = self._buckets.pop(name, (self._size, now))
        tokens = min(self._size, tokens + (now - since) * self._rate)
        wait_s = max(0.0, (1.0 - tokens) / self._rate)
        self._buckets[name] = (tokens if wait_s else tokens - 1.0, now)
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


class Guard:
    """One per application, at `app.state.guard`."""

    def __init__(self, authenticator: Authenticator, settings: ApiSettings, origins: OriginPolicy) -> None:
        self._authenticator = authenticator
        self._origins = origins
        self._settings = settings
        self._buckets = TokenBuckets(settings.requests_per_s)
        self._under_way = 0

    @property
    def timeout_s(self) -> float:
        """What one request may take."""
        return self._settings.timeout_s

    def authorize(self, request: HTTPConnection, scope: Scope) -> Identity:
        """Who asks.

        Raises:
            ApiError: 401 or 403. It does not say why a token is no good: our log does.
        """
        peer = request.client.host if request.client else ""
        if not self._authenticator.required:
            self._refuse_foreign_pages(request, peer)
        try:
            return self._authenticator.authenticate(
                request.headers, f"{request.url.path}?{request.url.query}", peer, scope=scope
            )
        except AuthError as exc:
            log.warning("refused %s to %s: %s", request.url.path, peer, exc)
            if exc.status is HTTPStatus.UNAUTHORIZED:
                code, message = "unauthorized", "show a good token as `Authorization: Bearer TOKEN`"
            elif self._authenticator.required:
                code, message = "forbidden", f"the token does not hold the scope {scope}; use one that does"
            else:
                code, message = "forbidden", "without authentication only the gateway's own machine is served"
            raise ApiError(exc.status, code, message, headers=exc.headers) from None

    def _refuse_foreign_pages(self, request: HTTPConnection, peer: str) -> None:
        """Where being on this machine is all that one must show, a page of another site must not use its visitor."""
        origins, hosts = (request.headers.getlist(name) for name in ("origin", "host"))
        if not self._origins.admits(origins, hosts):
            message = "a page of another site needs a token; if it is yours, put its origin into auth.origins"
        elif not self._origins.knows_host(hosts):
            message = "without authentication ask for the gateway as localhost or by its address"
        else:
            return
        log.warning("refused %s to %s: %s", request.url.path, peer, message)
        raise ApiError(HTTPStatus.FORBIDDEN, "foreign_page", message)

    @contextmanager
    def admit(self, identity: Identity) -> Iterator[None]:
        """One request's stay.

        Raises:
            ApiError: 429 or 503, with Retry-After.
        """
        wait_s = self._buckets.take(identity.subject, time.monotonic())
        if wait_s:
            message = f"more than {self._settings.requests_per_s:g} requests a second; come back after Retry-After"
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", message, headers=_retry_after(math.ceil(wait_s))
            )
        if self._under_way >= self._settings.concurrency:
            message = f"{self._under_way} requests are under way already; come back after Retry-After"
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", message, headers=_retry_after(_RETRY_AFTER_S))
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


class GuardedRoute(APIRoute):
    """A route behind the application's guard, for tokens with the scope `chat`.

    A route class and no dependency: FastAPI reads and parses the body before it runs dependencies.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with the guard before it."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            guard: Guard = request.app.state.guard
            with guard.admit(guard.authorize(request, Scope.CHAT)):
                try:
                    async with asyncio.timeout(guard.timeout_s):
                        return await handle(request)
                except TimeoutError:
                    message = f"no answer within {guard.timeout_s:g} s; the same request again is safe"
                    raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, "timeout", message) from None

        return guarded


def requires(scope: Scope) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency for routes that need a scope and no limits, as `dependencies=[Depends(requires(Scope.ADMIN))]`."""

    async def check(request: Request) -> Identity:  # async: a plain function would run in a thread beside the loop
        guard: Guard = request.app.state.guard
        return guard.authorize(request, scope)

    return check
