"""Who did what to whose call, and who saw what is hidden from others: a Redis stream, written before the act.

What cannot be written is not done: an act without its entry would be one that nobody finds out. No words are in it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Final, cast

import redis.asyncio as redis
from redis.exceptions import RedisError

from gateway.monitoring.wire import AUDIT_STREAM

__all__ = ["AuditEntry", "AuditError", "AuditLog"]

log = logging.getLogger(__name__)

_KEPT: Final = 100_000


class AuditError(Exception):
    """An entry could not be written or read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit. `act` is a supervisor's, or raw_events, raw_calls, recording, audit."""

    time: float
    who: str
    act: str
    call_id: str = ""
    detail: str = ""


class AuditLog:
    """The stream, over a client that decodes."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    async def write(self, who: str, act: str, *, call_id: str = "", detail: str = "") -> None:
        """Note that `who` is about to do something.

        Raises:
            AuditError: it is not noted, and must not be done.
        """
        entry = AuditEntry(time=round(time.time(), 3), who=who, act=act, call_id=call_id, detail=detail)
        try:
            await self._client.xadd(
                AUDIT_STREAM, {name: str(value) for name, value in asdict(entry).items()}, maxlen=_KEPT
            )
        except (RedisError, OSError) as error:
            raise AuditError(f"the audit cannot be written ({type(error).__name__}); nothing was done") from None
        log.info("audit: %s by %r, call %r", act, who, call_id)  # as they were given: they may hold line ends

    async def last(self, count: int) -> list[AuditEntry]:
        """The newest entries, newest first.

        Raises:
            AuditError: Redis does not answer.
        """
        try:
            found = await self._client.xrevrange(AUDIT_STREAM, count=count)
        except (RedisError, OSError) as error:
            raise AuditError(f"the audit cannot be read ({type(error).__name__})") from None
        entries = cast("list[tuple[str, dict[str, str]]]", found)
        return [
            AuditEntry(
                time=float(fields["time"]),
                who=fields["who"],
                act=fields["act"],
                call_id=fields["call_id"],
                detail=fields["detail"],
            )
            for _, fields in entries
        ]
