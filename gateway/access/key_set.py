"""An identity provider's public keys (a JWK Set, RFC 7517), kept fresh behind the requests that need them.

    empty --set read--> fresh --its age, or an unknown key id--> reading --set read--> fresh
                                                                   |--no answer--> as before, tried again later

Looking a key up never waits: it is a dictionary. Reading happens in a thread of its own, with a timeout, every ten
minutes; a key id that is not in the set asks for it sooner, but at most once a minute, so that invented ids cost the
provider nothing. A read that fails keeps the keys there are.

Only RSA keys for signatures are taken, of 2048 bits or more (RFC 7518 section 3.3); all others are passed over. A set
may hold an HMAC key: it must never become a way to check a token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from gateway import background
from gateway.outside.straight_opener import straight_opener

__all__ = ["KeySet", "KeySetError", "RefreshPlan", "parse_key_set"]

log = logging.getLogger(__name__)

MIN_KEY_BITS: Final = 2048
MAX_SET_BYTES: Final = 256 * 1024
REFRESH_S: Final = 600.0
UNKNOWN_EVERY_S: Final = 60.0
FETCH_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class KeySetError(Exception):
    """A key set that cannot be read; the message says where it was looked for and the mend."""


def parse_key_set(document: bytes) -> dict[str, RSAPublicKey]:
    """The usable keys of a JWK Set by key id; a key without an id is under "".

    Raises:
        KeySetError: not a JWK Set, or without a usable key.
    """
    try:
        entries = json.loads(document)["keys"]
        found = [(str(entry.get("kid", "")), key) for entry in entries if (key := _rsa_key(entry)) is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeySetError('is no JWK Set; it must be JSON of the form {"keys": [...]}') from None
    if not found:
        raise KeySetError(f"holds no RSA key for signatures of {MIN_KEY_BITS} bits or more; RS256 needs one")
    return dict(found)


def _rsa_key(entry: dict[str, object]) -> RSAPublicKey | None:
    """The public key of one entry, None where it is not for checking RS256."""
    if entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    try:
        # The public half alone, whatever else the entry holds.
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None


class RefreshPlan:
    """When a key set is to be read next. Pure; times are monotonic seconds."""

    def __init__(self, now: float, *, loaded: bool) -> None:
        """`loaded`: the set was read just now; if not, it is due at once."""
        self._read_at = now if loaded else now - UNKNOWN_EVERY_S
        self._failures = 0
        self.due = now + REFRESH_S if loaded else now

    def succeeded(self, now: float) -> None:
        """The set was read."""
        self._read_at, self._failures, self.due = now, 0, now + REFRESH_S

    def failed(self, now: float) -> None:
        """It could not be read: soon again, then less often."""
        self._read_at = now
        self.due = now + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1

    def unknown_key(self, now: float) -> None:
        """A token named a key that is not in the set: read it again, if that was not done within the minute."""
        self.due = min(self.due, max(now, self._read_at + UNKNOWN_EVERY_S))


class KeySet:
    """Keys of one provider. Use as an async context: inside it they are kept fresh."""

    def __init__(self, source: str) -> None:
        """Use the set at an http(s) address, or in a file, which is read here and now.

        Raises:
            KeySetError: the file is no key set.
        """
        self._source = source
        self._remote = "://" in source
        self._keys = {} if self._remote else self._read()
        self._plan = RefreshPlan(time.monotonic(), loaded=not self._remote)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeySet:
        self._task = asyncio.create_task(self._keep_fresh(), name="key set")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        await background.stop([self._task])

    def find(self, kid: str | None) -> RSAPublicKey | None:
        """The key with this id; without an id the only one there is. None asks for a fresh set."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(kid or "")
        if key is None:
            self._plan.unknown_key(time.monotonic())
            self._changed.set()
        return key

    async def _keep_fresh(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._plan.due - time.monotonic())):
                    await self._changed.wait()
                self._changed.clear()
                continue  # the plan may have changed
            except TimeoutError:
                pass
            try:
                self._keys = await asyncio.to_thread(self._read)
            except KeySetError as exc:
                self._plan.failed(time.monotonic())
                log.warning("%s; %d keys known before are used", exc, len(self._keys))
            else:
                self._plan.succeeded(time.monotonic())
                log.debug("key set read: %d keys", len(self._keys))

    def _read(self) -> dict[str, RSAPublicKey]:
        """Blocking; at most twice the timeout."""
        shown = urlsplit(self._source).hostname if self._remote else self._source  # an address may hold a password
        try:
            document = _fetch(self._source) if self._remote else Path(self._source).read_bytes()
            return parse_key_set(document)
        except (OSError, HTTPException, ValueError) as exc:
            raise KeySetError(f"auth.jwks: no key set from {shown}: {type(exc).__name__}; is it there?") from None
        except KeySetError as exc:
            raise KeySetError(f"auth.jwks: what {shown} gives {exc}") from None


def _fetch(address: str) -> bytes:
    """Raises OSError (urllib's own errors are such), HTTPException or ValueError."""
    deadline = time.monotonic() + FETCH_TIMEOUT_S
    with straight_opener().open(address, timeout=FETCH_TIMEOUT_S) as answer:
        parts: list[bytes] = []
        while part := answer.read1(65536):
            parts.append(part)
            if time.monotonic() > deadline or sum(map(len, parts)) > MAX_SET_BYTES:
                raise TimeoutError("the set is too slow or too large")
    return b"".join(parts)
