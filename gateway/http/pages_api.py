"""The control port's pages: static files, the headers that keep them ours, and what they must know.

    /softphone               a telephone in the browser
    /softphone/setup.json    where calls go, whether they need a token, which bots there are
    /monitor                 calls as they go on, for those who answer for them
    /monitor/setup.json      who asks, what they may do, and what is recorded
    /pages/...               styles, scripts, worklets

All of `gateway/pages` is read once, into memory: a path is looked up, never opened. A page may run scripts of its own
host alone and connect to the two ports alone (Content-Security-Policy); nothing is in line, nothing comes from outside.
The monitor plays recordings that its scripts have fetched: no browser shows a token for a sound's address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from dialogue.bots import Bot
from gateway.access.auth import Authenticator, AuthError, Identity, Scope
from gateway.access.dialect_auth import in_networks
from gateway.http.errors import ApiError
from gateway.settings import Settings

__all__ = [
    "BotChoice",
    "MonitorSetup",
    "Page",
    "RecordingSetup",
    "SoftphoneSetup",
    "load_pages",
    "media_url",
    "pages_router",
    "security_policy",
]

_FOLDER: Final = Path(__file__).parent.parent / "pages"
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Page:
    """One file, as it is sent."""

    body: bytes
    media_type: str
    etag: str


class BotChoice(BaseModel):
    """A bot that a call may name."""

    name: str
    language: str


class SoftphoneSetup(BaseModel):
    """What the softphone asks before it calls."""

    media_url: str
    """Address of the media port without the path, as this browser reaches it."""
    needs_token: bool
    """Whether a call from here must bring one."""
    authorized: bool
    """Whether this request might have placed a call: it brought a good token, or needs none."""
    bots: list[BotChoice]
    """The first answers calls that name none. Empty where not authorized."""


class RecordingSetup(BaseModel):
    """What is recorded, for one who wonders why a call is not."""

    bots: list[str]
    consent: str
    """As in the settings: "metadata" or "announced"."""
    keep_days: float


class MonitorSetup(BaseModel):
    """What the monitor asks before it watches."""

    needs_token: bool
    authorized: bool
    """Whether this request might watch."""
    who: str
    """As the audit and other watchers will name them; empty where not authorized."""
    scopes: list[str]
    """All that the token allows, what other scopes hold included."""
    pause_ms: int
    """Silence after which work on a turn begins: where its waterfall does."""
    recording: RecordingSetup | None
    """None where this gateway keeps no recordings, and where not authorized."""


def load_pages(folder: Path = _FOLDER) -> dict[str, Page]:
    """All files by their path below the folder; those of other kinds are left out."""
    return {
        path.relative_to(folder).as_posix(): _page(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }


def _page(path: Path) -> Page:
    body = path.read_bytes()
    return Page(body, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def pages_router(settings: Settings, bots: Iterable[Bot], authenticator: Authenticator) -> APIRouter:
    """The routes.

    Args:
        bots: those that calls may name, the default first.
    """
    pages = load_pages()
    choices = [BotChoice(name=bot.name, language=bot.language) for bot in bots]
    networks = [ipaddress.ip_network(text) for text in settings.auth.trusted_networks]
    router = APIRouter(include_in_schema=False)

    @router.get("/softphone")
    async def softphone(request: Request) -> Response:
        return _sent(pages["softphone.html"], request, media_url(settings, request.headers.get("host", "")))

    @router.get("/monitor")
    async def monitor(request: Request) -> Response:
        return _sent(pages["monitor.html"], request, plays=True)

    @router.get("/pages/{path:path}")
    async def asset(path: str, request: Request) -> Response:
        if path not in pages:
            raise ApiError(HTTPStatus.NOT_FOUND, "not_found", "no such file; the pages are at /softphone and /monitor")
        return _sent(pages[path], request)

    @router.get("/softphone/setup.json")
    async def setup(request: Request, response: Response) -> SoftphoneSetup:
        response.headers["Cache-Control"] = "no-store"
        peer = request.client.host if request.client else ""
        trusted = in_networks(peer, networks)
        authorized = trusted or _may_call(authenticator, request, peer)
        return SoftphoneSetup(
            media_url=media_url(settings, request.headers.get("host", "")),
            needs_token=authenticator.required and not trusted,
            authorized=authorized,
            bots=choices if authorized else [],
        )

    @router.get("/monitor/setup.json")
    async def monitor_setup(request: Request, response: Response) -> MonitorSetup:
        response.headers["Cache-Control"] = "no-store"
        peer = request.client.host if request.client else ""
        identity = _watcher(authenticator, request, peer)
        return MonitorSetup(
            needs_token=authenticator.required,
            authorized=identity is not None,
            who=identity.subject if identity is not None else "",
            scopes=[scope for scope in Scope if identity.allows(scope)] if identity is not None else [],
            pause_ms=settings.endpointing.pause_ms,
            recording=_recording(settings) if identity is not None else None,
        )

    return router


def _recording(settings: Settings) -> RecordingSetup | None:
    recording = settings.recording
    if recording.directory is None:
        return None
    return RecordingSetup(bots=list(recording.bots), consent=recording.consent, keep_days=recording.keep_days)


def _watcher(authenticator: Authenticator, request: Request, peer: str) -> Identity | None:
    try:
        return authenticator.authenticate(request.headers, "", peer, scope=Scope.MONITOR)
    except AuthError:
        return None


def _may_call(authenticator: Authenticator, request: Request, peer: str) -> bool:
    try:
        authenticator.authenticate(request.headers, "", peer, scope=Scope.CALL)
    except AuthError:
        return False
    return True


def _sent(page: Page, request: Request, media: str | None = None, *, plays: bool = False) -> Response:
    """A file; a page with the policy of one that calls `media` beside its own host, and `plays` recordings."""
    headers = {
        "ETag": page.etag,
        "Cache-Control": "no-cache",  # kept, and asked for again: a new gateway's page must not meet old scripts
        "X-Content-Type-Options": "nosniff",
    }
    if page.media_type.startswith("text/html"):
        headers |= {
            "Content-Security-Policy": security_policy(media, plays=plays),
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
            "Referrer-Policy": "no-referrer",  # the address may name a call
            "Cross-Origin-Opener-Policy": "same-origin",
            "X-Frame-Options": "DENY",
        }
    if request.headers.get("if-none-match") == page.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(page.body, headers=headers, media_type=page.media_type)


def media_url(settings: Settings, host: str) -> str:
    """Where a browser that asked for `host` (its Host header) finds the media port, without the path."""
    if settings.control.media_url is not None:
        return settings.control.media_url.rstrip("/")
    found = _HOST.fullmatch(host)  # the peer's to write, and it goes into a header
    name = found[1] if found else "127.0.0.1"
    scheme = "ws" if settings.tls.certificate is None else "wss"
    return f"{scheme}://{name}:{settings.port}"


def security_policy(media: str | None, *, plays: bool = False) -> str:
    """Content-Security-Policy of a page that calls `media`, or its own host alone; `plays`: sound that it has fetched.

    Source: W3C CSP Level 3. Of addresses, a policy may name 127.0.0.1 alone (section 6.7.2.10); for others the scheme
    stands.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            f"connect-src 'self' {_source(media)}".rstrip(),
            *(["media-src blob:"] if plays else []),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _source(media: str | None) -> str:
    if media is None:
        return ""
    parts = urlsplit(media)
    only_scheme = parts.hostname != "127.0.0.1" and _is_address(parts.hostname or "")
    return f"{parts.scheme}:" if only_scheme else f"{parts.scheme}://{parts.netloc}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
