"""Heartbeats in the inference streams, and what becomes of the jobs of the dead.

Every asker and every inference worker counts up a field of its own in one hash. Who has stopped counting is found by
`Liveness`, by the observer's own clock, and struck from the hash by whoever notices first. An entry that a worker
without a heartbeat holds is claimed by another: not XAUTOCLAIM, whose idle times are the server's wall clock, and grow
with long jobs too.

What was answered before its worker died is not done again: the answers are in the asker's stream. What is done twice
all the same, since the dead one lived after all, is answered twice, and the asker takes the first.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio as redis

from gateway.inference.streams.wire import FIELD, ShardKeys, unpack_answers
from gateway.processes.liveness import Liveness

__all__ = ["ASKER", "BORN", "GROUP", "WORKER", "Claimed", "Recovery", "RedisClock", "beat_every_s", "beats_of"]

ASKER: Final = "asker:"
WORKER: Final = "worker:"
"""What a field of the heartbeats begins with."""
BORN: Final = "born:"
"""Begins a field beside an asker's: which of its heartbeats found none of before."""
GROUP: Final = "inference"

_BEATS_TO_DEATH: Final = 8
_SLOWEST_BEAT_S: Final = 0.5
_OWN_LISTED: Final = 1000
_GONE_REMEMBERED: Final = 1000
_JUMP_MS: Final = 1000
"""A server's clock that is so far from what was reckoned was set; by less, ages may be wrong."""

# KEYS[1]  the heartbeats
# ARGV[1]  one's field
#
# Returns its count, all counts, and the server's time in ms.
_BEAT: Final = """
local mine = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
local time = redis.call('TIME')
return {mine, redis.call('HGETALL', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
"""

# KEYS[1]    the heartbeats
# KEYS[1+i]  a stream that the i-th of the dead leaves, if it is an asker
# ARGV[2i-1] its field
# ARGV[2i]   the count that it stopped at
# Beside an asker's field stands one that begins with BORN.
_BURY: Final = """
for i = 1, #ARGV / 2 do
  if redis.call('HGET', KEYS[1], ARGV[2 * i - 1]) == ARGV[2 * i] then
    redis.call('HDEL', KEYS[1], ARGV[2 * i - 1], 'born:' .. ARGV[2 * i - 1])
    redis.call('DEL', KEYS[1 + i])
  end
end
"""

# KEYS[1]   the heartbeats
# KEYS[1+i] a stream of jobs
# ARGV[1]   the consumer group
# ARGV[2]   who claims
# ARGV[3]   entries to claim at most
# ARGV[4]   what a worker's field of the heartbeats begins with
# ARGV[5]   own entries to list at most
#
# Returns the claimed entries (stream's number, id, times delivered before, fields), and the entries that the claimer
# has not acknowledged itself (stream's number, id). Consumers without a heartbeat and without entries are removed.
_CLAIM: Final = """
local claimed, own = {}, {}
for i = 2, #KEYS do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[i], ARGV[1])
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local name, pending = consumer[2], consumer[4]
    if name == ARGV[2] then
      for _, entry in ipairs(redis.call('XPENDING', KEYS[i], ARGV[1], '-', '+', ARGV[5], name)) do
        own[#own + 1] = {i - 2, entry[1]}
      end
    elseif redis.call('HEXISTS', KEYS[1], ARGV[4] .. name) == 0 then
      if pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[i], ARGV[1], name)
      elseif #claimed < tonumber(ARGV[3]) then
        local most = ARGV[3] - #claimed
        for _, entry in ipairs(redis.call('XPENDING', KEYS[i], ARGV[1], '-', '+', most, name)) do
          for _, taken in ipairs(redis.call('XCLAIM', KEYS[i], ARGV[1], ARGV[2], 0, entry[1])) do
            claimed[#claimed + 1] = {i - 2, taken[1], entry[4], taken[2]}
          end
        end
      end
    end
  end
end
return {claimed, own}
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An entry of a dead worker's. `deliveries` counts the workers that had it before."""

    stream: str
    entry_id: bytes
    deliveries: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Period:
    """While the server's clock ran on: ids of this time, and how far it was ahead of ours, all in ms."""

    since: float
    until: float
    ahead: float


class RedisClock:
    """The server's clock, reckoned on from when it was last told: how old entries are.

    That clock may be set, and an id is understood by the period between two settings that it is of. Ahead: ids from
    before are of the period before. Back: new ids stand still at the newest of before until the clock has caught up; if
    it is set ahead again first, they are of no period. What is of none, or in the future, looks new, and nothing but
    its asker ends it. Only until the clock is told again may entries look too old.
    """

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        self._told_at = 0.0
        self._since_ms = -math.inf
        """The first id of this period."""
        self._before: _Period | None = None

    def told(self, time_ms: int, now: float) -> None:
        """The server's time, at `now` (monotonic seconds)."""
        if self._ahead_ms is not None:
            reckoned_ms = now * 1000 + self._ahead_ms
            if abs(time_ms - reckoned_ms) > _JUMP_MS:
                was = _Period(self._since_ms, reckoned_ms, self._ahead_ms)
                self._before = was if time_ms > reckoned_ms else None
                self._since_ms = time_ms - (now - self._told_at) * 1000  # it was set at some time since
        self._ahead_ms = time_ms - now * 1000
        self._told_at = now

    def age_ms(self, entry_id: bytes, now: float) -> float:
        """How long ago an entry was added; 0 where that is not known, or would be in the future."""
        if self._ahead_ms is None:
            return 0.0
        added_ms, before = int(entry_id.partition(b"-")[0]), self._before
        if added_ms >= self._since_ms:
            return max(0.0, now * 1000 + self._ahead_ms - added_ms)
        if before is not None and before.since <= added_ms <= before.until:
            return max(0.0, now * 1000 + before.ahead - added_ms)
        return 0.0


def beat_every_s(dead_after_s: float) -> float:
    """How often to beat, and to look."""
    return min(_SLOWEST_BEAT_S, dead_after_s / _BEATS_TO_DEATH)


def beats_of(flat: Sequence[bytes], prefix: str) -> dict[str, int]:
    """The counts of those whose field begins so, by their name, from HGETALL's flat answer."""
    start = prefix.encode()
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.removeprefix(start).decode(): int(count) for name, count in pairs if name.startswith(start)}


class Recovery:
    """One inference worker's part in one shard. All methods raise RedisError or OSError where the server is away."""

    def __init__(self, client: redis.Redis, keys: ShardKeys, *, name: str, dead_after_s: float) -> None:
        self.clock = RedisClock()
        self._client = client
        self._keys = keys
        self._name = name
        self._liveness = Liveness(dead_after_s=dead_after_s)
        self.gone: set[str] = set()
        """Askers that were there and are not any more: dead, or they took leave. Nobody waits for their jobs."""
        self._askers: set[str] = set()
        self._beat_script = client.register_script(_BEAT)
        self._bury_script = client.register_script(_BURY)
        self._claim_script = client.register_script(_CLAIM)

    async def beat(self, now: float) -> None:
        """Show that we live, and strike out who does not any more.

        Args:
            now: monotonic seconds.
        """
        _, flat, time_ms = await self._beat_script(keys=[self._keys.beats], args=[WORKER + self._name])
        self.clock.told(time_ms, now)
        askers, workers = beats_of(flat, ASKER), beats_of(flat, WORKER)
        fields = {ASKER + name: count for name, count in askers.items()}
        fields |= {WORKER + name: count for name, count in workers.items()}
        if dead := self._liveness.look(fields, now):
            await self._bury_script(
                keys=[self._keys.beats, *(self._keys.answers(field.removeprefix(ASKER)) for field in dead)],
                args=list(itertools.chain.from_iterable(dead.items())),
            )
        present = {name for name in askers if ASKER + name not in dead}
        if len(self.gone) > _GONE_REMEMBERED:
            self.gone.clear()
        self.gone = (self.gone | self._askers) - present
        self._askers = present

    async def age_ms(self, entry_id: bytes) -> float:
        """How long ago an entry was added. Before that takes a second or more from its asker's patience, the server is
        asked what time it is: its clock may have been set back since the last heartbeat."""
        if (age_ms := self.clock.age_ms(entry_id, time.monotonic())) < _JUMP_MS:
            return age_ms
        now = time.monotonic()
        _, _, time_ms = await self._beat_script(keys=[self._keys.beats], args=[WORKER + self._name])
        self.clock.told(time_ms, now)
        return self.clock.age_ms(entry_id, time.monotonic())

    async def is_gone(self, asker: str) -> bool:
        """Whether nobody waits for the jobs of an asker. One that was gone at the last look may be back: it beats, and
        asks again at once. One that has not beaten yet will find itself forgotten, and ask again then."""
        return asker in self.gone and not await self._client.hexists(self._keys.beats, ASKER + asker)

    async def claim(self, most: int) -> tuple[list[Claimed], set[tuple[str, bytes]]]:
        """Take over up to `most` entries of workers without a heartbeat.

        Returns:
            These entries, and stream and id of all that this worker has not acknowledged.
        """
        streams = self._keys.all_jobs
        claimed, own = await self._claim_script(
            keys=[self._keys.beats, *streams], args=[GROUP, self._name, most, WORKER, _OWN_LISTED]
        )
        entries = [
            Claimed(streams[number], entry_id, deliveries, _data(fields))
            for number, entry_id, deliveries, fields in claimed
        ]
        return entries, {(streams[number], entry_id) for number, entry_id in own}

    async def answered(self, asker: str, entry_id: bytes) -> set[int]:
        """Numbers of an asker's jobs that were answered since an entry was added."""
        found: Any = await self._client.xrange(self._keys.answers(asker), min=entry_id)
        return {answered.ident for _, fields in found for answered in unpack_answers(fields[FIELD.encode()])}

    async def fetch(self, stream: str, entry_id: bytes) -> bytes | None:
        """What an entry holds; None where it is gone."""
        found: Any = await self._client.xrange(stream, entry_id, entry_id)
        return found[0][1][FIELD.encode()] if found else None

    async def leave(self) -> None:
        """Take leave: what this worker holds may be claimed at once."""
        await self._client.hdel(self._keys.beats, WORKER + self._name)


def _data(fields: Sequence[bytes]) -> bytes:
    """The one field of an entry, from a script's flat answer."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD.encode(), b"")
