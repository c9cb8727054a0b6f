"""Who may connect: tokens checked before the upgrade is answered, the reason for our log and not the peer.

Where a token is looked for, in this order; the first one found decides, and is not followed by another try:

    Authorization: Bearer TOKEN        most clients
    Authorization: Basic base64(any:TOKEN)   Asterisk, jambonz: the password is the token
    ?token=TOKEN                       browsers, which cannot set headers

A token is one of these:

    fixed      one of those in the settings; scope `call` alone
    HS256      a JWT signed with the settings' secret: `sub`, `iat`, `exp`, `scope`
    RS256      a JWT of an identity provider, checked with the keys of its set (`auth.jwks`): `sub`, `exp`,
               `scope` or `scp`, and `iss` and `aud` as the settings want them

Scopes are words separated by spaces, as in RFC 9068 §2.2.3. How a token is checked is never the token's choice:
HS256 with the secret and nothing else, RS256 with the set's RSA keys and nothing else (RFC 8725 §3.1).

With none of the three set, whoever is on this machine may do everything and nobody else anything: a reverse proxy's
connections come from loopback, so set one of them behind it.

Errors: AuthError, with the refusal and the HTTP status that the peer sees. No message holds a token or a
query string.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.access.key_set import KeySet
from gateway.settings import AuthSettings

__all__ = [
    "MIN_SECRET_BYTES",
    "AuthError",
    "Authenticator",
    "Identity",
    "Refusal",
    "Scope",
    "WeakSecretError",
    "address_of",
    "mint",
]

MIN_SECRET_BYTES: Final = 32
"""RFC 7518 §3.2: an HS256 key as long as the hash; a shorter one can be searched for offline."""
CLOCK_SKEW_S: Final = 10
"""Hosts of one site rarely differ by more; a fresh token must not be refused for it."""
MAX_TOKEN_CHARS: Final = 4096
MAX_QUERY_FIELDS: Final = 64
OWN_ALGORITHM: Final = "HS256"
PROVIDER_ALGORITHM: Final = "RS256"
REALM: Final = 'Bearer realm="voicegate"'


class Scope(StrEnum):
    """What a token allows."""

    CALL = "call"
    """Place calls. Holds `chat`: a call is the same dialogue, spoken."""
    CHAT = "chat"
    """Ask for intents and hold dialogues in text, over HTTP."""
    MONITOR = "monitor"
    """Watch and hear other people's calls."""
    MONITOR_RAW = "monitor:raw"
    """See callers' numbers and addresses too, which are hidden from others; holds `monitor`."""
    SUPERVISE = "supervise"
    """Whisper to the bot, take calls over, hang up; holds `monitor`."""
    RECORDINGS = "recordings"
    """Hear and download recordings."""
    ADMIN = "admin"
    """Change the running gateway; holds all the others."""


class Refusal(StrEnum):
    """Why a peer was turned away: a word for the log and a metric's label."""

    NO_TOKEN = "no_token"
    MALFORMED = "malformed"
    UNKNOWN_TOKEN = "unknown_token"
    UNKNOWN_KEY = "unknown_key"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    MISSING_SCOPE = "missing_scope"
    NOT_LOOPBACK = "not_loopback"
    FOREIGN_PAGE = "foreign_page"


_HOLDS: Final = {
    Scope.ADMIN: frozenset(Scope),
    Scope.CALL: frozenset({Scope.CHAT}),
    Scope.MONITOR_RAW: frozenset({Scope.MONITOR}),
    Scope.SUPERVISE: frozenset({Scope.MONITOR}),
}
"""What a scope allows beside itself."""

_FORBIDDEN: Final = frozenset({Refusal.MISSING_SCOPE, Refusal.NOT_LOOPBACK, Refusal.FOREIGN_PAGE})
"""A token would not help, or a different one would: 403. For all others 401."""


class AuthError(Exception):
    """A peer that may not do what it asks. `str()` is for our log; the peer gets `status` alone."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.status = HTTPStatus.FORBIDDEN if refusal in _FORBIDDEN else HTTPStatus.UNAUTHORIZED

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: RFC 9110 §11.6.1 wants the challenge on a 401."""
        return {"WWW-Authenticate": REALM} if self.status is HTTPStatus.UNAUTHORIZED else {}


class WeakSecretError(ValueError):
    """A signing secret that could be guessed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connected. `subject` may be logged: the token's own, "shared-N", or "loopback"."""

    subject: str
    scopes: frozenset[Scope]
    expires_at: float | None = field(default=None, compare=False)
    """When the token is over, seconds since 1970; None: never. A fresh token does not make somebody else."""

    def allows(self, scope: Scope) -> bool:
        """Whether `scope` was granted."""
        return any(held is scope or scope in _HOLDS.get(held, ()) for held in self.scopes)


class Headers(Protocol):
    """Request headers with case-insensitive names, as websockets and Starlette give them."""

    def get(self, key: str, /) -> str | None:
        """The value, or None. websockets raises a LookupError where the header came twice."""
        ...


def mint(
    secret: str,
    subject: str,
    scopes: Iterable[Scope],
    lifetime_s: float,
    *,
    now: float | None = None,
) -> str:
    """A signed token.

    Args:
        secret: the gateway's, at least 32 bytes.
        subject: who it is for; appears in logs.
        scopes: what it allows, at least one.
        lifetime_s: seconds until it expires, positive.
        now: Unix time of issue; None is the present.

    Raises:
        WeakSecretError: the secret is too short.
        ValueError: no subject, no scope, or no lifetime.
    """
    _check_secret(secret)
    granted = sorted(set(scopes))
    if not subject or not granted or lifetime_s <= 0:
        raise ValueError("a token needs a subject, at least one scope and a lifetime above zero")
    issued_at = int(time.time() if now is None else now)
    claims = {
        "sub": subject,
        "scope": " ".join(granted),
        "iat": issued_at,
        "exp": issued_at + int(max(1, lifetime_s)),
    }
    return jwt.encode(claims, secret, algorithm=OWN_ALGORITHM)


def _check_secret(secret: str) -> None:
    if (size := len(secret.encode())) < MIN_SECRET_BYTES:
        raise WeakSecretError(
            f"the signing secret has {size} bytes and needs {MIN_SECRET_BYTES} or more; make one: openssl rand -hex 32"
        )


class Authenticator:
    """Checks tokens against one gateway's settings; shared by all connections.

    Where a key set is set, use it as an async context: inside it the set is kept fresh. `authenticate` never waits.

    Raises:
        WeakSecretError: at construction.
        KeySetError: at construction, where the key set's file is none.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._secret = settings.secret.get_secret_value() if settings.secret else None
        if self._secret is not None:
            _check_secret(self._secret)
        # Digests have one length, so comparing them tells nothing about a token's.
        self._shared = tuple(_digest(token.get_secret_value()) for token in settings.tokens)
        self._keys = KeySet(settings.jwks) if settings.jwks is not None else None

    async def __aenter__(self) -> Authenticator:
        if self._keys is not None:
            await self._keys.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._keys is not None:
            await self._keys.__aexit__(*exc_info)

    @property
    def required(self) -> bool:
        """Whether peers must show a token; if not, only loopback is served."""
        return self._secret is not None or bool(self._shared) or self._keys is not None

    def authenticate(self, headers: Headers, target: str, peer_ip: str, *, scope: Scope = Scope.CALL) -> Identity:
        """Decide on one request.

        Args:
            headers: of the request.
            target: its path with the query ("/v1/call?token=...").
            peer_ip: address that it came from.
            scope: what the path needs.

        Raises:
            AuthError: refused; answer with its `status` and `headers`, log its text.
        """
        if not self.required:
            if not _is_loopback(peer_ip):
                raise AuthError(Refusal.NOT_LOOPBACK, "no authentication is set, so only this machine may connect")
            return Identity("loopback", frozenset(Scope))
        identity = self._identify(_find_token(headers, target))
        if not identity.allows(scope):
            held = " ".join(sorted(identity.scopes)) or "nothing"
            raise AuthError(Refusal.MISSING_SCOPE, f"{identity.subject!r:.80} may use {held}, and this needs {scope}")
        return identity

    def _identify(self, token: str) -> Identity:
        if len(token) > MAX_TOKEN_CHARS:
            raise AuthError(Refusal.MALFORMED, f"a token of {len(token)} characters")
        # All are compared: the time taken does not tell which one was near.
        digest = _digest(token)
        matches = [hmac.compare_digest(digest, known) for known in self._shared]
        if any(matches):
            return Identity(f"shared-{matches.index(True) + 1}", frozenset({Scope.CALL}))
        if self._secret is None and self._keys is None:
            raise AuthError(Refusal.UNKNOWN_TOKEN, "none of the fixed tokens, and nothing is set to check others")
        if not token.isascii():  # PyJWT would fail on what is not even UTF-8
            raise AuthError(Refusal.MALFORMED, "a token with characters that no token of ours has")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise AuthError(Refusal.MALFORMED, f"not a token of ours ({type(error).__name__})") from None
        # The token says which of our ways it is for; each way has one algorithm and keys of its own.
        algorithm = header.get("alg")
        if algorithm == OWN_ALGORITHM and self._secret is not None:
            return _verify(token, self._secret, OWN_ALGORITHM, ("sub", "exp", "iat"))
        if algorithm == PROVIDER_ALGORITHM and self._keys is not None:
            key = self._keys.find(header.get("kid"))
            if key is None:
                raise AuthError(Refusal.UNKNOWN_KEY, "signed with a key that is not in the provider's set (yet)")
            issuer, audience = self._settings.issuer, self._settings.audience
            return _verify(token, key, PROVIDER_ALGORITHM, ("sub", "exp"), issuer=issuer, audience=audience)
        raise AuthError(Refusal.MALFORMED, "signed in a way that this gateway does not check")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _verify(
    token: str,
    key: str | RSAPublicKey,
    algorithm: str,
    required: tuple[str, ...],
    *,
    issuer: str | None = None,
    audience: str | None = None,
) -> Identity:
    """Identity of a signed token; scopes that this version does not know are ignored."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],  # pinned: a token must not choose how it is checked
            issuer=issuer,
            audience=audience,
            options={"require": list(required), "verify_aud": audience is not None},
            leeway=CLOCK_SKEW_S,
        )
    except jwt.InvalidTokenError as error:
        refusal, detail = _why_not(error)
        raise AuthError(refusal, detail) from None
    return Identity(str(claims["sub"]), _granted(claims), float(claims["exp"]))


def _granted(claims: Mapping[str, object]) -> frozenset[Scope]:
    """The scopes of `scope`, or of `scp`, as some providers call it and some make a list."""
    words = claims.get("scope", claims.get("scp"))
    if "scope" not in claims and isinstance(words, list):
        words = " ".join(map(str, words))
    known = {scope.value for scope in Scope}
    return frozenset(Scope(word) for word in words.split() if word in known) if isinstance(words, str) else frozenset()


def _why_not(error: jwt.InvalidTokenError) -> tuple[Refusal, str]:
    """Our words for what PyJWT found wrong: it quotes parts of the token in some of its messages."""
    match error:
        case jwt.ExpiredSignatureError():
            return Refusal.EXPIRED, "the token has expired; get another (`voicegate token`, or from the provider)"
        case jwt.ImmatureSignatureError():
            return Refusal.NOT_YET_VALID, "the token starts in the future; do the clocks agree?"
        case jwt.InvalidSignatureError():
            return Refusal.WRONG_SIGNATURE, "the token was signed with another secret or key"
        case jwt.InvalidIssuerError():
            return Refusal.WRONG_ISSUER, "the token is of another issuer than auth.issuer"
        case jwt.InvalidAudienceError():
            return Refusal.WRONG_AUDIENCE, "the token is for another audience than auth.audience"
        case jwt.MissingRequiredClaimError(claim="iss"):
            return Refusal.WRONG_ISSUER, "the token names no issuer, and auth.issuer wants one"
        case jwt.MissingRequiredClaimError(claim="aud"):
            return Refusal.WRONG_AUDIENCE, "the token names no audience, and auth.audience wants one"
    return Refusal.MALFORMED, f"not a token of ours ({type(error).__name__})"


def _find_token(headers: Headers, target: str) -> str:
    """The first token of the request."""
    try:
        authorization = headers.get("Authorization") or ""
    except LookupError:
        raise AuthError(Refusal.MALFORMED, "more than one Authorization header") from None
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer" and (token := credentials.strip()):
        return token
    if scheme.lower() == "basic":
        return _basic_password(credentials.strip())
    try:
        fields = parse_qs(target.partition("?")[2], max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise AuthError(Refusal.MALFORMED, f"a query of more than {MAX_QUERY_FIELDS} fields") from None
    tokens = fields.get("token", [])
    if len(tokens) > 1:
        raise AuthError(Refusal.MALFORMED, "more than one token in the query")
    if not tokens:
        raise AuthError(Refusal.NO_TOKEN, "no Bearer, no Basic password and no ?token=")
    return tokens[0]


def _basic_password(credentials: str) -> str:
    """Password of a Basic header (RFC 7617: `user:password` in base64)."""
    try:
        user_and_password = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        raise AuthError(Refusal.MALFORMED, "Basic credentials that are not base64 of UTF-8") from None
    _, colon, password = user_and_password.partition(":")
    if not colon or not password:
        raise AuthError(Refusal.NO_TOKEN, "Basic credentials without a password")
    return password


def address_of(peer_ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A peer's address as it is meant, for comparing; None where it is none (a Unix socket's peer).

    On a dual-stack socket an IPv4 peer is `::ffff:127.0.0.1`, which no IPv4 network contains and which Python before
    3.13 does not call loopback.
    """
    try:
        address = ipaddress.ip_address(peer_ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_loopback(peer_ip: str) -> bool:
    address = address_of(peer_ip)
    return address is not None and address.is_loopback
