"""How each dialect's peers show who they are, where it is not a token in the usual places (gateway.access.auth).

Looked for in this order; the first one found decides:

    the peer's network               `auth.trusted_networks`
    X-Twilio-Signature               on /twilio, with `twilio.auth_token`
    Authorization, ?token=           gateway.access.auth
    the last segment of the path     /asterisk/TOKEN, for peers that can set nothing else
    the start message                Twilio's <Parameter name="token">, checked before a word is said

A web page on another site gets nothing from the place it is opened at: it needs a token (gateway.access.origins).

Everything here is pure and compares in constant time. No message holds a token or a query string.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from websockets.datastructures import Headers

from gateway.access.auth import Authenticator, AuthError, Refusal, address_of
from gateway.access.origins import OriginPolicy
from gateway.calls.dialects import TWILIO, Route
from gateway.settings import Settings

__all__ = ["SIGNATURE_HEADER", "Doorkeeper", "in_networks", "twilio_signature", "twilio_urls"]

SIGNATURE_HEADER: Final = "X-Twilio-Signature"

Admit = Callable[[str | None], bool]
"""Whether the token of a start opens the gateway."""


class Doorkeeper:
    """Decides on requests to the media port, for one gateway's settings."""

    def __init__(self, authenticator: Authenticator, settings: Settings) -> None:
        self._auth = authenticator
        self._networks = tuple(ipaddress.ip_network(text) for text in settings.auth.trusted_networks)
        self._origins = OriginPolicy(settings.auth.origins, secure=settings.tls.certificate is not None)
        twilio = settings.twilio
        self._twilio_token = twilio.auth_token.get_secret_value() if twilio.auth_token is not None else None
        self._public_url = twilio.public_url

    def admit(self, route: Route, headers: Headers, target: str, peer_ip: str) -> Admit | None:
        """Decide on one request.

        Args:
            route: where its path leads.
            headers: of the request.
            target: its path with the query.
            peer_ip: address that it came from.

        Returns:
            None: come in. Else what must be asked about the token in the start before a word is said.

        Raises:
            AuthError: refused.
        """
        # Without a User-Agent it is no browser: libwsc and libwebsockets, under FreeSWITCH, send an Origin too.
        origins = headers.get_all("Origin") if "User-Agent" in headers else []
        foreign = not self._origins.admits(origins, headers.get_all("Host"))
        if not foreign and in_networks(peer_ip, self._networks):
            return None
        if route.dialect is TWILIO and self._twilio_token is not None:
            if (signature := _header(headers, SIGNATURE_HEADER)) is not None:
                self._check_signature(signature, headers, target)
                return None
            if not self._auth.required:
                raise AuthError(Refusal.WRONG_SIGNATURE, f"no {SIGNATURE_HEADER}; is this Twilio?")
        if foreign and not self._auth.required:
            page = ", ".join(origins)
            raise AuthError(Refusal.FOREIGN_PAGE, f"a page of {page!r:.200}; if it is yours, put it into auth.origins")
        try:
            self._auth.authenticate(headers, target, peer_ip)
        except AuthError as exc:
            if exc.refusal is not Refusal.NO_TOKEN:
                raise
            if route.token is not None:
                self._authenticate_token(route.token, peer_ip)
            elif route.dialect is None or not route.dialect.token_in_start:
                raise
            else:
                return lambda token: self._opens(token, peer_ip)
        return None

    def _check_signature(self, signature: str, headers: Headers, target: str) -> None:
        assert self._twilio_token is not None
        urls = twilio_urls(self._public_url, _header(headers, "Host") or "", target)
        given = signature.encode("utf-8", "surrogateescape")
        # All are compared: the time taken does not tell which one was near.
        good = [hmac.compare_digest(given, twilio_signature(self._twilio_token, url).encode()) for url in urls]
        if not any(good):
            raise AuthError(
                Refusal.WRONG_SIGNATURE, "Twilio's signature is for another URL or token; see docs/twilio.md"
            )

    def _authenticate_token(self, token: str, peer_ip: str) -> None:
        self._auth.authenticate({}, f"?token={quote(token, errors='surrogateescape')}", peer_ip)

    def _opens(self, token: str | None, peer_ip: str) -> bool:
        try:
            self._authenticate_token(token or "", peer_ip)
        except AuthError:
            return False
        return True


def in_networks(peer_ip: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an address lies in one of the networks; an IPv4 address on a dual-stack socket is an IPv4 address."""
    address = address_of(peer_ip)
    return address is not None and any(address in network for network in networks)


def twilio_signature(auth_token: str, url: str) -> str:
    """X-Twilio-Signature of a request without parameters: base64 of HMAC-SHA1 over the URL as it was configured.

    Source: www.twilio.com/docs/usage/webhooks/webhooks-security.
    """
    digest = hmac.new(auth_token.encode(), url.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def twilio_urls(public_url: str | None, host: str, target: str) -> list[str]:
    """What Twilio may have signed for a request.

    The scheme is wss, not https (twilio-labs/twilio-aspnet #162). A TLS proxy changes what we see, so the public
    address comes from the settings where it is set. Twilio writes the port, or does not.
    """
    base = public_url.rstrip("/") if public_url is not None else f"wss://{host}"
    try:
        parts = urlsplit(base)
        name, port = parts.hostname or "", parts.port
    except ValueError:  # the Host header is the peer's to write
        return [f"{base}{target}"]
    name = f"[{name}]" if ":" in name else name
    hosts = dict.fromkeys((parts.netloc, f"{name}:{port or 443}", name if port in (None, 443) else parts.netloc))
    return [f"wss://{netloc}{parts.path}{target}" for netloc in hosts]


def _header(headers: Headers, name: str) -> str | None:
    """A header that came once; None where it is missing, or came twice and so means nothing."""
    try:
        return headers.get(name)
    except LookupError:
        return None
