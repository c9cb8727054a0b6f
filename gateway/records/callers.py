"""Which call a caller was last in, so that one who was cut off can be offered to go on; and which calls were theirs.

    vg:{caller:HASH}:last    [call id, bot, worker], the worker "" once the caller has left
    vg:{caller:HASH}:calls   sorted set of the caller's call ids by time, for requests of erasure (`voicegate state`)

Callers are known by a keyed hash of their number (`identity`): nobody reads numbers here. Both keys expire. The other
call is taken to go on still while its worker lives and has not noted its end: two callers behind one switchboard are
never offered each other's call in progress, but the later one may be offered what the earlier left unfinished.

A server that does not answer is logged, and nothing is offered: no call waits for this longer than for its own state.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Awaitable
from typing import Final

import redis.asyncio as redis
from redis.exceptions import RedisError

from dialogue.codec import CodecError, decode_state
from dialogue.store import state_keys
from dialogue.turns import EarlierCall

__all__ = ["Callers", "caller_keys", "identity"]

log = logging.getLogger(__name__)

_NOBODY: Final = frozenset({"", "anonymous", "unknown", "private", "restricted", "unavailable", "withheld"})
_UNKEYED: Final = b"voicegate caller"
_KEPT_CALLS: Final = 1000

# KEYS[1]  vg:{caller:HASH}:last
# KEYS[2]  vg:{caller:HASH}:calls
# ARGV[1]  the entry; ARGV[2] its time to live, seconds
# ARGV[3]  call id; ARGV[4] time to live of the set; ARGV[5] calls kept
#
# The time is the server's, by which the calls' states expire: by a clock of ours that was ahead, calls whose states are
# still there would be struck out.
_SEEN: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[4]))
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[5]) - 1)
redis.call('EXPIRE', KEYS[2], ARGV[4])
"""

# KEYS[1]  vg:{caller:HASH}:last
# ARGV[1]  the entry as this call wrote it; another's is left alone
# ARGV[2]  the entry now, "" for none; ARGV[3] its time to live, seconds
_LEFT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
"""


def identity(caller: str | None, secret: str | None) -> str | None:
    """A caller's name in Redis: 32 hex digits of a keyed hash; None for one who withholds their number.

    Args:
        caller: number or address as the peer gave it; how it is written (spaces, dashes, case) does not matter.
        secret: `auth.secret`. Without one the hash has no key, and who has the keys of Redis can try all numbers.
    """
    plain = re.sub(r"[\s().\-/]", "", caller or "").lower()
    if plain in _NOBODY:
        return None
    return hmac.new(secret.encode() if secret else _UNKEYED, plain.encode(), hashlib.sha256).hexdigest()[:32]


def caller_keys(who: str) -> tuple[str, str]:
    """The Redis keys of a caller: the last call, and all. The hash tag keeps them on one cluster node."""
    return f"vg:{{caller:{who}}}:last", f"vg:{{caller:{who}}}:calls"


class Callers:
    """One per worker, over a client that decodes responses; whoever made the client closes it."""

    def __init__(self, client: redis.Redis, *, come_back_s: float, ttl_s: int, worker_key: str) -> None:
        """
        Args:
            come_back_s: how long after a call's last step it is offered; 0: never.
            ttl_s: how long a call's state outlives its last step.
            worker_key: there in Redis as long as this worker lives (`gateway.processes.presence`).
        """
        self._client = client
        self._come_back_s = come_back_s
        self._ttl_s = ttl_s
        self._worker_key = worker_key
        self._seen = client.register_script(_SEEN)
        self._left = client.register_script(_LEFT)

    async def earlier(self, who: str, call_id: str, bot: str) -> EarlierCall | None:
        """The call that a caller may want to go on with: their last, of the same bot, over and not long ago."""
        if not self._come_back_s:
            return None
        try:
            return await self._earlier(who, call_id, bot)
        except (RedisError, OSError, CodecError) as error:
            log.warning("nothing is offered to who comes back: %s", type(error).__name__)
            return None

    async def _earlier(self, who: str, call_id: str, bot: str) -> EarlierCall | None:
        entry = await self._client.get(caller_keys(who)[0])
        if entry is None:
            return None
        last, its_bot, worker = json.loads(entry)
        if last == call_id or its_bot != bot or (worker and await self._client.exists(worker)):
            return None
        key = state_keys(last)[0]
        left_s = await self._client.pttl(key) / 1000
        body = await self._client.hget(key, "body")
        if body is None or self._ttl_s - left_s > self._come_back_s:
            return None
        return EarlierCall(call_id=last, state=decode_state(str(body)))

    async def seen(self, who: str, call_id: str, bot: str) -> None:
        """This call is the caller's last now."""
        entry = json.dumps([call_id, bot, self._worker_key])
        await self._try(
            self._seen(
                keys=caller_keys(who),
                args=[entry, self._ttl_s, call_id, 2 * self._ttl_s, _KEPT_CALLS],
            )
        )

    async def left(self, who: str, call_id: str, bot: str, *, finished: bool) -> None:
        """The caller is gone; `finished`: and so is the bot."""
        entry = json.dumps([call_id, bot, self._worker_key])
        over = "" if finished else json.dumps([call_id, bot, ""])
        await self._try(self._left(keys=caller_keys(who)[:1], args=[entry, over, self._ttl_s]))

    async def _try(self, command: Awaitable[object]) -> None:
        try:
            await command
        except (RedisError, OSError) as error:
            log.warning("where the caller stands is not noted: %s", type(error).__name__)
