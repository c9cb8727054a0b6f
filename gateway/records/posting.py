"""Call records posted to the operator's address: each until it is taken, by whichever worker lives.

    in the stream --read by one worker--> posted --2xx--> acknowledged
                                            '--no--> left as it is, for `_STILL_S`: another try, by whoever sees that

Workers read the stream as one consumer group. The receiver may see a record twice (the answer was lost) and knows it by
its `Idempotency-Key`, the call id. After `results.post_for_s` a record is given up.

Clocks. What is left is found by looking: an entry that the same worker has had for `_STILL_S`, by the observer's
monotonic clock. Not XAUTOCLAIM: its idle times are the server's wall clock, and where that is set two hours back
nothing would be tried again for two hours. How old a record is, two wall clocks say; so that one that was set does not
end it at its first refusal, it is tried for `_TRIED_S` at least.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from dialogue.connection import connect
from gateway import background
from gateway.metrics import Metrics
from gateway.outage_log import OutageLog
from gateway.outside.webhooks import PostError, Webhooks
from gateway.settings import ResultSettings

__all__ = ["RecordPosts"]

log = logging.getLogger(__name__)

_GROUP: Final = "webhook"
_READ_BLOCK_MS: Final = 5_000
_BATCH: Final = 5
_LOOKED_AT: Final = 100
_POST_TIMEOUT_S: Final = 10.0
_STILL_S: Final = _BATCH * _POST_TIMEOUT_S + 10.0
"""Longer than a batch may take: what waits in it at a slow receiver is not posted by another worker too."""
_TRIED_S: Final = 600.0
_AGAIN_S: Final = 15.0
_COMMAND_S: Final = 2.0

# KEYS[1]    the stream
# ARGV[1]    the consumer group
# ARGV[2]    who takes over
# ARGV[3i]   an entry's id
# ARGV[3i+1] who had it
# ARGV[3i+2] how often it was delivered
#
# Returns the entries that still were so, which are the taker's now.
_TAKE_OVER: Final = """
local taken = {}
for i = 3, #ARGV, 3 do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if held and held[2] == ARGV[i + 1] and held[4] == tonumber(ARGV[i + 2]) then
    for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i])) do
      taken[#taken + 1] = entry
    end
  end
end
return taken
"""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An entry that was read and not acknowledged: whose it is, how often it was delivered, and since when this worker
    has seen it so (monotonic seconds)."""

    consumer: str
    deliveries: int
    since: float


class RecordPosts:
    """One per worker. As an async context it posts what comes, if `results.webhook` is set."""

    def __init__(self, redis_url: str, settings: ResultSettings, metrics: Metrics, webhooks: Webhooks) -> None:
        """The first command connects."""
        self._client = connect(redis_url, timeout_s=_COMMAND_S)
        self._reader = connect(redis_url, timeout_s=None)  # its reads block
        self._take_over = self._client.register_script(_TAKE_OVER)
        self._settings = settings
        self._metrics = metrics
        self._webhooks = webhooks
        # A name of its own for each worker: what one was posting when it died is taken over by another.
        self._consumer = secrets.token_hex(6)
        self._pending: dict[str, _Pending] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> RecordPosts:
        if self._settings.webhook is not None:
            self._tasks = [asyncio.create_task(self._post_for_ever(self._settings.webhook), name="record posts")]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._reader.aclose()

    async def _post_for_ever(self, url: str) -> None:
        outage = OutageLog(log, "posting records")
        while True:
            try:
                await self.join_group()
                while True:
                    await self.post_some(url, time.monotonic(), block_ms=_READ_BLOCK_MS)
                    outage.over()
            except (RedisError, OSError) as error:
                outage.failed(error)
                await asyncio.sleep(_AGAIN_S)

    async def join_group(self) -> None:
        """Take part in posting; the first to do so sets where it begins: with what comes from now on."""
        try:
            await self._client.xgroup_create(self._settings.stream, _GROUP, id="$", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def post_some(self, url: str, now: float, *, block_ms: int) -> int:
        """Post records that were left, or else new ones. How many were seen.

        Args:
            now: monotonic seconds.
            block_ms: how long to wait for new ones.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        tried = await self._left_over(now)
        entries = await self._taken_over(tried) if tried else []
        if not entries:
            async with asyncio.timeout(block_ms / 1000 + _COMMAND_S):  # a server that hangs says nothing at all
                read: Any = await self._reader.xreadgroup(
                    _GROUP, self._consumer, {self._settings.stream: ">"}, count=_BATCH, block=block_ms
                )
            entries = [entry for _, found in read or () for entry in found]
        for entry_id, fields in entries:
            deliveries = tried[entry_id].deliveries if entry_id in tried else 0
            await self._post(url, entry_id, fields, tried_s=deliveries * _STILL_S)
        return len(entries)

    async def _left_over(self, now: float) -> dict[str, _Pending]:
        """The oldest entries that nobody has done anything about for so long."""
        stream = self._settings.stream
        found: Any = await self._client.xpending_range(stream, _GROUP, "-", "+", _LOOKED_AT)
        seen: dict[str, _Pending] = {}
        for entry in found:
            entry_id, consumer, deliveries = entry["message_id"], entry["consumer"], entry["times_delivered"]
            before = self._pending.get(entry_id)
            same = before is not None and (before.consumer, before.deliveries) == (consumer, deliveries)
            seen[entry_id] = before if before is not None and same else _Pending(consumer, deliveries, now)
        self._pending = seen
        still = [entry_id for entry_id, pending in seen.items() if now - pending.since >= _STILL_S]
        return {entry_id: seen[entry_id] for entry_id in still[:_BATCH]}

    async def _taken_over(self, left: Mapping[str, _Pending]) -> list[tuple[str, dict[str, str]]]:
        """Those of them that nobody else takes at this moment."""
        wanted = [
            word for entry_id, pending in left.items() for word in (entry_id, pending.consumer, pending.deliveries)
        ]
        args = [_GROUP, self._consumer, *wanted]
        taken: Any = await self._take_over(keys=[self._settings.stream], args=args)
        return [(entry_id, _fields(flat)) for entry_id, flat in taken]

    async def _post(self, url: str, entry_id: str, fields: Mapping[str, str], *, tried_s: float) -> None:
        """`tried_s`: it was tried for so long before, at least."""
        call_id = fields["call_id"]
        try:
            record = json.loads(fields["record"])
            await self._webhooks.post(url, record, key=call_id, timeout_s=_POST_TIMEOUT_S)
            outcome = "posted"
        except (PostError, TimeoutError) as error:
            age_s = time.time() - int(entry_id.partition("-")[0]) / 1000
            limit_s = self._settings.post_for_s
            # No refusal ends it sooner: it may be a mistake that will be mended.
            given_up = age_s > limit_s and tried_s >= min(limit_s, _TRIED_S)
            outcome = "given_up" if given_up else "failed"
            what = "was given up" if given_up else "failed and will be tried again"
            log.warning("posting the record of call %s %s: %s", call_id, what, error or "no answer in time")
        self._metrics.records.labels(outcome).inc()
        if outcome != "failed":
            await self._client.xack(self._settings.stream, _GROUP, entry_id)


def _fields(flat: Sequence[str]) -> dict[str, str]:
    """An entry's fields, from a script's flat answer."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
