"""An identity provider for tests: RSA keys, their set over HTTP on a free port, tokens signed with them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

__all__ = ["ISSUER", "Provider", "jwk", "key_set", "private_key", "provider", "signed_token"]

ISSUER = "https://login.example"


def private_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The key of this name and size."""
    return _made_once(name, bits)


@cache
def _made_once(_: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def jwk(name: str, bits: int = 2048, **changes: Any) -> dict[str, Any]:
    """Its public half as a JWK; a change to None takes the member out."""
    entry = json.loads(RSAAlgorithm.to_jwk(private_key(name, bits).public_key()))
    entry = {"kid": name, "use": "sig", "alg": "RS256", **entry} | changes
    return {member: value for member, value in entry.items() if value is not None}


def key_set(*entries: Any) -> bytes:
    """A JWK Set document."""
    return json.dumps({"keys": list(entries)}).encode()


def signed_token(name: str, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token as the provider makes it; a claim of None is left out."""
    now = int(time.time())
    all_claims = {
        "sub": "crm",
        "iss": ISSUER,
        "aud": "voicegate",
        "iat": now,
        "exp": now + 60,
        "scope": "chat",
    } | claims
    kept = {claim: value for claim, value in all_claims.items() if value is not None}
    return jwt.encode(kept, private_key(name), algorithm="RS256", headers={"kid": name} if header is None else header)


class Provider:
    """What the set's address answers, and how often it was asked."""

    def __init__(self) -> None:
        self.document = key_set()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.hang = threading.Event()
        """Cleared: requests wait until it is set."""
        self.hang.set()
        self.url = ""


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider on a port of its own."""
    state = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            state.hang.wait(10)
            self.send_response(state.status)
            for header, value in state.headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(state.document)))
            self.end_headers()
            self.wfile.write(state.document)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/keys"
    try:
        yield state
    finally:
        state.hang.set()
        server.shutdown()
        thread.join()
        server.server_close()
