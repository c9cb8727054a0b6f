"""Requests to the operator's systems: what a flow's `webhook` node asks, and where call records are posted.

    ask --> try --2xx with a JSON object--> answer
             |--4xx--> failed        (the same request would be refused again)
             '--5xx, 408, 425, 429, no connection, no answer in time--> wait, try again --tries or time spent--> failed

A request carries an `Idempotency-Key` that is the same in every try, after a reconnect and after a crash: the receiver
does what it asks once. Only hosts that the settings name are asked, redirects are not followed, and neither what is
sent nor what is answered goes to a log.

    POST url
    Idempotency-Key: CALL_ID/ACT
    X-Voicegate-Signature: t=UNIX_SECONDS,v1=HMAC-SHA256 of "t.body" in hex      (with a secret)
    {"call_id": ..., "round_id": ..., "bot": ..., "webhook": ..., "slots": {...}}
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import logging
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from typing import Final
from urllib.parse import SplitResult, urlsplit

from dialogue.bots import Bot
from dialogue.turns import CallWebhook, WebhookAnswered
from gateway.metrics import Metrics
from gateway.outside.trusted_hosts import is_trusted
from gateway.settings import WebhookSettings

__all__ = ["PostError", "RefusedError", "Webhooks", "idempotency_key"]

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 * 1024
_RETRIED: Final = frozenset({408, 425, 429})  # what a server says that would take the same request later
_BACKOFF_S: Final = 0.2
_READ_BYTES: Final = 16 * 1024


class PostError(Exception):
    """No good answer; the message holds the host and what was wrong, nothing of what was sent or received."""


class RefusedError(PostError):
    """An answer, or a rule of ours, that another try would meet again."""


def idempotency_key(call_id: str, act: int) -> str:
    """The key of one request of a call: its acts are numbered in its state, so a resumed call makes the same one."""
    return f"{call_id}/{act}"


class Webhooks:
    """One per worker; `aclose` it at the end. Requests run in threads of their own: no call waits for another's."""

    def __init__(self, settings: WebhookSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="webhook")

    async def aclose(self) -> None:
        """Drop what waits; what is under way ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def refused_hosts(self, bot: Bot) -> Iterator[str]:
        """What `bot` would ask and may not, with the mend; to be told before a call comes."""
        for name, webhook in bot.flow.webhooks.items():
            try:
                self._allowed(urlsplit(webhook.url))
            except RefusedError as error:
                yield f"bot {bot.name}, webhook {name}: {error}"

    async def ask(self, action: CallWebhook, *, bot: Bot, call_id: str, round_id: int) -> WebhookAnswered:
        """Ask what the flow asks. Never raises: without a good answer the event says so, and the flow goes on."""
        webhook = bot.flow.webhooks[action.webhook]
        body = {
            "call_id": call_id,
            "round_id": round_id,
            "bot": bot.name,
            "webhook": action.webhook,
            "slots": dict(action.send),
        }
        begun = time.monotonic()
        answer: tuple[tuple[str, str], ...] | None = None
        try:
            given = await self._post_again(
                webhook.url,
                body,
                key=idempotency_key(call_id, action.act),
                timeout_s=self._settings.timeout_s if webhook.timeout_ms is None else webhook.timeout_ms / 1000,
                retries=self._settings.retries if webhook.retries is None else webhook.retries,
            )
            answer = tuple(_texts(given))
            outcome = "answered"
        except RefusedError as error:
            outcome = "refused"
            log.warning("webhook %s of bot %s was refused: %s", action.webhook, bot.name, error)
        except (PostError, TimeoutError) as error:
            outcome = "failed"
            why = str(error) or f"no answer within {self._settings.total_s:g} s"
            log.warning("webhook %s of bot %s failed: %s", action.webhook, bot.name, why)
        self._metrics.webhooks.labels(outcome).inc()
        self._metrics.webhook_time.observe(time.monotonic() - begun)
        return WebhookAnswered(webhook=action.webhook, act=action.act, answer=answer)

    async def post(self, url: str, body: Mapping[str, object], *, key: str, timeout_s: float) -> bytes:
        """One try: the body of a 2xx answer.

        Raises:
            RefusedError: another try would fail alike.
            PostError: another try may do better.
        """
        parts = urlsplit(url)
        self._allowed(parts)
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        if self._settings.secret is not None:
            secret = self._settings.secret.get_secret_value().encode()
            headers["X-Voicegate-Signature"] = _signature(secret, data, int(time.time()))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            return await loop.run_in_executor(self._threads, _post, parts, data, headers, time.monotonic() + timeout_s)

    async def _post_again(
        self, url: str, body: Mapping[str, object], *, key: str, timeout_s: float, retries: int
    ) -> bytes:
        """Up to `retries` more tries, within the time that one request may take in all."""
        async with asyncio.timeout(self._settings.total_s):
            for attempt in range(retries + 1):
                try:
                    return await self.post(url, body, key=key, timeout_s=timeout_s)
                except RefusedError:
                    raise
                except (PostError, TimeoutError):
                    if attempt == retries:
                        raise
                await asyncio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))  # so that calls do not flock
        raise AssertionError("unreachable")

    def _allowed(self, parts: SplitResult) -> None:
        host = parts.hostname or ""
        if not is_trusted(parts, self._settings.hosts):
            raise RefusedError(f"host {host!r} is not among webhooks.hosts; add it there if you trust it")
        if parts.scheme != "https" and host not in ("127.0.0.1", "localhost", "::1"):
            raise RefusedError(f"host {host!r} would be asked without encryption; use https://")


def _post(parts: SplitResult, data: bytes, headers: Mapping[str, str], until: float) -> bytes:
    """The request, in a thread. Each wait on the socket ends by `until` (monotonic seconds)."""
    host = parts.hostname or ""
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with closing(connect(host, parts.port, timeout=_left(until))) as connection:
            connection.request("POST", target, data, dict(headers))
            sock = connection.sock
            sock.settimeout(_left(until))
            response = connection.getresponse()
            body = b""
            while chunk := response.read1(_READ_BYTES):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise RefusedError(f"{host} answers with more than {MAX_ANSWER_BYTES} bytes")
                sock.settimeout(_left(until))  # a server that drips must not hold the thread
    except (OSError, http.client.HTTPException) as error:  # first: a certificate's fault is a ValueError too
        raise PostError(f"{host}: {type(error).__name__}") from error
    except ValueError as error:  # no port, no host's name, or a head that is not ASCII
        raise RefusedError(f"{host}: no request can be sent to that address ({type(error).__name__})") from error
    if 200 <= response.status < 300:
        return body
    if response.status >= 500 or response.status in _RETRIED:
        raise PostError(f"{host} answers {response.status}")
    raise RefusedError(f"{host} answers {response.status}")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _signature(secret: bytes, data: bytes, at: int) -> str:
    """Over the time too, so that an old request cannot be sent again by someone else."""
    digest = hmac.new(secret, f"{at}.".encode() + data, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _texts(body: bytes) -> Iterator[tuple[str, str]]:
    """The texts and numbers of a JSON object; an empty body is an empty object.

    Raises:
        RefusedError: another kind of body.
    """
    try:
        given = json.loads(body) if body.strip() else {}
        json.dumps(given, ensure_ascii=False).encode()  # half a surrogate pair could not be stored
    except (ValueError, RecursionError):
        raise RefusedError("the answer is not JSON") from None
    if not isinstance(given, dict):
        raise RefusedError("the answer is no JSON object")
    for key, value in given.items():
        if isinstance(value, bool):
            yield key, "yes" if value else "no"
        elif isinstance(value, float):
            yield key, format(Decimal(repr(value)), "f")  # a text slot would say an exponent
        elif isinstance(value, str | int):
            yield key, str(value)
