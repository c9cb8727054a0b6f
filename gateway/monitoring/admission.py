"""Who may watch: tokens and scopes for routes and WebSockets, and for how long. Pages of other sites are the guard's to
keep out."""

from __future__ import annotations

import logging
import math
import secrets
import time

from fastapi import WebSocket
from starlette.requests import HTTPConnection

from gateway.access.auth import Identity, Scope
from gateway.http.errors import ApiError, error_response
from gateway.http.guard import Guard

__all__ = ["Visitor", "admit", "admit_socket", "is_no_denial"]


class Visitor:
    """Who asks. `who` is for events and the audit; `session` tells one connection of theirs from another."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.who = identity.subject
        self.session = secrets.token_hex(8)

    @property
    def left_s(self) -> float:
        """How long the token is good for; infinite without one."""
        expires_at = self._identity.expires_at
        return math.inf if expires_at is None else expires_at - time.time()

    def may(self, scope: Scope) -> bool:
        """Whether the token holds this scope."""
        return self._identity.allows(scope)


def admit(connection: HTTPConnection, scope: Scope) -> Visitor:
    """Let a request in that holds this scope.

    Raises:
        ApiError: 401 or 403.
    """
    guard: Guard = connection.app.state.guard
    return Visitor(guard.authorize(connection, scope))


async def admit_socket(socket: WebSocket, scope: Scope) -> Visitor | None:
    """The same for a WebSocket; one that may not is answered in place of the 101, and None returned."""
    try:
        return admit(socket, scope)
    except ApiError as error:
        await socket.send_denial_response(error_response(error))
        return None


def is_no_denial(record: logging.LogRecord) -> bool:
    """A filter for uvicorn's log: its version 0.54 takes a WebSocket that was answered with a status for one that was
    forgotten, and calls that an error."""
    return record.getMessage() != "ASGI callable returned without completing handshake."
