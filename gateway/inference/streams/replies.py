"""Answers of an inference worker on their way back, with the acknowledgement of what is done.

    answered | done --> waits --one script for all that waits--> askers' streams; entries acknowledged and deleted
                          '---the server is away--> kept, and sent again

An entry is acknowledged no sooner than its answers are in their askers' streams: who dies before leaves it to others.
"""

from __future__ import annotations

import asyncio
from typing import Final

import redis.asyncio as redis

from gateway.inference.streams.recovery import ASKER, GROUP
from gateway.inference.streams.wire import Answered, ShardKeys, pack_answers

__all__ = ["Replies"]

_ANSWERS_KEPT: Final = 2000
_SENT_AT_ONCE: Final = 64
_MOST_WAITING: Final = 20_000

# KEYS[1]      the heartbeats
# KEYS[1+i]    the stream of answers to the i-th asker
# KEYS[1+n+j]  the stream of the j-th entry that is done
# ARGV[1]      the consumer group
# ARGV[2]      answers kept in a stream, about
# ARGV[3]      n, how many askers
# ARGV[2+2i]   the i-th asker's field of the heartbeats: an asker that is gone gets no stream again
# ARGV[3+2i]   its answers
# ARGV[3+2n+j] the id of the j-th entry
_ANSWER: Final = """
local askers = tonumber(ARGV[3])
for i = 1, askers do
  if redis.call('HEXISTS', KEYS[1], ARGV[2 + 2 * i]) == 1 then
    redis.call('XADD', KEYS[1 + i], 'MAXLEN', '~', ARGV[2], '*', 'b', ARGV[3 + 2 * i])
  end
end
for j = 1, #KEYS - 1 - askers do
  local stream, id = KEYS[1 + askers + j], ARGV[3 + 2 * askers + j]
  redis.call('XACK', stream, ARGV[1], id)
  redis.call('XDEL', stream, id)
end
"""


class Replies:
    """One inference worker's, in one shard."""

    def __init__(self, client: redis.Redis, keys: ShardKeys) -> None:
        self._script = client.register_script(_ANSWER)
        self._keys = keys
        self._answers: list[tuple[str, Answered]] = []
        self._done: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def acknowledging(self) -> set[tuple[str, bytes]]:
        """Stream and id of the entries that are done and not acknowledged yet."""
        return set(self._done)

    def answer(self, asker: str, answered: Answered) -> None:
        """Have one answer sent."""
        self._answers.append((asker, answered))
        del self._answers[:-_MOST_WAITING]  # of a server that has been away for long: nobody waits for these
        self._wake()

    def acknowledge(self, place: tuple[str, bytes]) -> None:
        """Have an entry, by its stream and id, acknowledged and deleted, after the answers that were given before."""
        self._done.append(place)
        self._wake()

    async def sent(self) -> None:
        """Until nothing waits."""
        await self._empty.wait()

    async def send(self) -> None:
        """Wait for something to send, and send it. What waits is still there where it raises.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        await self._news.wait()
        self._news.clear()
        try:
            while self._answers or self._done:
                await self._send_some()
        except BaseException:
            self._news.set()
            raise
        self._empty.set()

    async def _send_some(self) -> None:
        answers, done = self._answers[:_SENT_AT_ONCE], self._done[:_SENT_AT_ONCE]
        if len(answers) < len(self._answers):
            done = []  # theirs may be among the answers that are not in this step
        by_asker: dict[str, list[Answered]] = {}
        for asker, answered in answers:
            by_asker.setdefault(asker, []).append(answered)
        await self._script(
            keys=[
                self._keys.beats,
                *(self._keys.answers(asker) for asker in by_asker),
                *(stream for stream, _ in done),
            ],
            args=[
                GROUP,
                _ANSWERS_KEPT,
                len(by_asker),
                *(part for asker, those in by_asker.items() for part in (ASKER + asker, pack_answers(those))),
                *(entry_id for _, entry_id in done),
            ],
        )
        del self._answers[: len(answers)], self._done[: len(done)]

    def _wake(self) -> None:
        self._empty.clear()
        self._news.set()
