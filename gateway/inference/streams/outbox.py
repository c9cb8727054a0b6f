"""What an asker has to say to the inference workers: requests, and words about those that are under way.

    put --> waits --one script for all that waits--> a stream of its kind and urgency --> answered | withdrawn
              '---the server is away--> kept, and sent again

A request has a number. It may be sent twice under the same one, where it is not known whether the first came through,
and asked again under another; the asker takes the first answer to any.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import ResponseError

from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.messages import Body
from gateway.inference.streams.recovery import GROUP
from gateway.inference.streams.wire import (
    FIELD,
    JobEntry,
    Kind,
    ShardKeys,
    Spoken,
    WireJob,
    Word,
    pack_jobs,
    pack_words,
    together,
)

__all__ = ["Outbox", "StreamRequest"]

_ENTRIES_AT_ONCE: Final = 32
_WORDS_WAITING: Final = 4096
_WORD_ENTRIES_KEPT: Final = 2000

# KEYS      the streams of the entries, in order
# ARGV[1]   entries that may be in a stream
# ARGV[1+i] the entry for KEYS[i]
#
# Returns each entry's id; an empty one where its stream is full.
_ASK: Final = """
local ids = {}
for i, stream in ipairs(KEYS) do
  if redis.call('XLEN', stream) >= tonumber(ARGV[1]) then
    ids[i] = ''
  else
    ids[i] = redis.call('XADD', stream, '*', 'b', ARGV[1 + i])
  end
end
return ids
"""


@dataclass(slots=True, eq=False)
class StreamRequest:
    """One request that is waited for. `deadline` in monotonic seconds."""

    kind: Kind
    request: bytes
    errand: Errand
    deadline: float
    answer: asyncio.Future[Body]
    idents: list[int] = field(default_factory=list)
    """Numbers under which an answer is open: the last, and those before it where it was asked again."""
    late: int = 0
    """How often an inference worker found that it came too late."""
    sent: bool = False
    """Under its last number; perhaps: then it must be withdrawn."""
    place: tuple[str, bytes] | None = None
    """Stream and id of the entry it was sent in, once that is known."""


class Outbox:
    """One asker's."""

    def __init__(
        self,
        client: redis.Redis,
        keys: ShardKeys,
        asker: str,
        *,
        limit: int,
        ask_again: Callable[[StreamRequest], None],
    ) -> None:
        """
        Args:
            limit: entries that may wait in one stream; a request that finds more is answered with an error.
            ask_again: has a request put again, under another number.
        """
        self._client = client
        self._keys = keys
        self._asker = asker
        self._limit = limit
        self._ask_again = ask_again
        self._script = client.register_script(_ASK)
        self._requests: dict[int, StreamRequest] = {}
        self._promoted: list[StreamRequest] = []
        self._words: list[Spoken] = []
        self._news = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether all was sent."""
        return not (self._requests or self._promoted or self._words)

    def put(self, request: StreamRequest) -> None:
        """Have a request sent under the last of its numbers."""
        request.sent, request.place = False, None
        self._requests[request.idents[-1]] = request
        self._news.set()

    def withdraw(self, request: StreamRequest) -> None:
        """Nobody waits for it any more: what is open of it shall cost nothing."""
        for ident in request.idents:
            if self._requests.pop(ident, None) is None or request.sent:
                self.say(Word.WITHDRAW, ident)

    def promote(self, request: StreamRequest) -> None:
        """It has become urgent. What is not sent yet will be sent as urgent as it is then."""
        if request.sent:
            self._promoted.append(request)
            self._news.set()

    def say(self, word: Word, ident: int, body: Body | None = None) -> None:
        """Have a word sent."""
        self._words.append(Spoken(word, ident, body))
        del self._words[:-_WORDS_WAITING]
        self._news.set()

    async def send(self) -> None:
        """Wait for something to send, and send all there is. What waits is still there where it raises.

        Raises:
            RedisError, OSError: the server did not answer.
        """
        await self._news.wait()
        self._news.clear()
        try:
            await self._send_promotions()
            while self._requests:
                await self._send_requests()
            await self._send_words()
        except BaseException:
            self._news.set()
            raise

    async def _send_requests(self) -> None:
        """The most urgent entries, in one step."""
        now = time.monotonic()
        entries = list(itertools.islice(self._entries(now), _ENTRIES_AT_ONCE))
        for _, jobs in entries:
            for job in jobs:
                self._requests[job.ident].sent = True
        ids = await self._script(
            keys=[stream for stream, _ in entries],
            args=[self._limit, *(pack_jobs(JobEntry(self._asker, jobs)) for _, jobs in entries)],
        )
        for (stream, jobs), entry_id in zip(entries, ids, strict=True):
            for job in jobs:
                if (request := self._requests.pop(job.ident, None)) is None:
                    continue  # its caller went away meanwhile
                if entry_id:
                    request.place = (stream, entry_id)
                elif not request.answer.done():
                    refused = f"{request.kind}: {self._limit} entries are waiting for the inference workers already"
                    request.answer.set_result({"error": refused})

    def _entries(self, now: float) -> Iterator[tuple[str, tuple[WireJob, ...]]]:
        for urgency in Urgency:
            for kind in Kind:
                jobs = [
                    WireJob(ident, math.ceil((request.deadline - now) * 1000), request.request)
                    for ident, request in self._requests.items()
                    if request.kind is kind and request.errand.urgency is urgency
                ]
                for entry in together(jobs):
                    yield self._keys.jobs(kind, urgency), entry

    async def _send_promotions(self) -> None:
        """A worker that has the job is told. One that nobody has is asked again among the urgent ones: it would stand
        behind them all where it is."""
        while self._promoted:
            request = self._promoted[-1]
            if request.place is not None and not request.answer.done():
                ident = request.idents[-1]
                taken = await self._is_taken(*request.place)
                if ident in request.idents and not request.answer.done():  # nor was it meanwhile
                    self.say(Word.PROMOTE if taken else Word.WITHDRAW, ident)
                    if not taken:
                        self._ask_again(request)
            self._promoted.remove(request)

    async def _is_taken(self, stream: str, entry_id: bytes) -> bool:
        try:
            return bool(await self._client.xpending_range(stream, GROUP, entry_id, entry_id, 1))
        except ResponseError:  # no inference worker was ever there
            return False

    async def _send_words(self) -> None:
        if words := tuple(self._words):
            fields: dict[Any, Any] = {FIELD: pack_words(self._asker, words)}
            await self._client.xadd(self._keys.words, fields, maxlen=_WORD_ENTRIES_KEPT, approximate=True)
            self._words = [spoken for spoken in self._words if spoken not in words]
