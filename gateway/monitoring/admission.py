"""Who may watch: tokens and scopes for routes and WebSockets, and pages of strangers kept out.

A browser sends its cookies, and its loopback address, with whatever page asks it to; and WebSockets know no same-origin
rule. So a request that a page made must come from a page of this very host, and without authentication the host must
be this machine by name, or a stranger's name that points here (DNS rebinding) would do.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from fastapi import WebSocket
from starlette.requests import HTTPConnection

from gateway.auth import Identity, Scope
from gateway.http_errors import ApiError, error_response
from gateway.http_guard import Guard

__all__ = ["Visitor", "admit", "admit_socket"]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Visitor:
    """Who asks. `who` is for events and the audit; `session` tells one connection of theirs from another."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.who = identity.subject
        self.session = secrets.token_hex(8)

    def may(self, scope: Scope) -> bool:
        """Whether the token holds this scope."""
        return self._identity.allows(scope)


def admit(connection: HTTPConnection, *scopes: Scope) -> Visitor:
    """Let a request in that holds all of these scopes.

    Raises:
        ApiError: 401 or 403.
    """
    guard: Guard = connection.app.state.guard
    identity: Identity | None = None
    for scope in scopes:
        identity = guard.authorize(connection, scope)
    assert identity is not None
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        message = "a page of another host may not do this; open the gateway's own page"
        raise ApiError(HTTPStatus.FORBIDDEN, "foreign_page", message)
    if origin is not None and identity.subject == "loopback" and urlsplit(f"//{host}").hostname not in _LOOPBACK:
        message = "without authentication a page must be opened as localhost or 127.0.0.1"
        raise ApiError(HTTPStatus.FORBIDDEN, "foreign_page", message)
    return Visitor(identity)


async def admit_socket(socket: WebSocket, *scopes: Scope) -> Visitor | None:
    """The same for a WebSocket; one that may not is answered in place of the 101, and None returned."""
    try:
        return admit(socket, *scopes)
    except ApiError as error:
        await socket.send_denial_response(error_response(error))
        return None
