"""Answers given once and kept: whoever asks the same again, at once or later, hears the same.

One Redis string per answer, `vg:{OWNER}:NAME`, which expires by itself. The hash tag keeps all of an owner's on one
node of a cluster, beside its dialogue.
"""

from __future__ import annotations

import redis.asyncio as redis
from redis.exceptions import RedisError

from dialogue.store import StoreError

__all__ = ["AnswerStore"]


class AnswerStore:
    """Over a client that decodes responses; whoever made the client closes it."""

    def __init__(self, client: redis.Redis, *, ttl_s: int) -> None:
        """`ttl_s`: how long an answer is kept, seconds."""
        self._client = client
        self._ttl_s = ttl_s

    async def find(self, owner: str, *names: str) -> list[str | None]:
        """The answers kept under these names. Raises StoreError."""
        try:
            found = await self._client.mget([_key(owner, name) for name in names])
        except (RedisError, OSError) as error:
            raise _no_answer(error) from error
        return [None if answer is None else str(answer) for answer in found]

    async def keep(self, owner: str, name: str, answer: str) -> str:
        """Keep an answer and return it, or the one that was there already: of two at once, both get the first.

        Raises:
            StoreError: it may or may not be kept; asking again is safe.
        """
        try:
            # One command decides; NX together with GET is Redis 7.0.
            earlier = await self._client.set(_key(owner, name), answer, ex=self._ttl_s, nx=True, get=True)
        except (RedisError, OSError) as error:
            raise _no_answer(error) from error
        return answer if earlier is None else str(earlier)


def _key(owner: str, name: str) -> str:
    return f"vg:{{{owner}}}:{name}"


def _no_answer(error: Exception) -> StoreError:
    return StoreError(f"the answer store did not answer ({type(error).__name__}); is Redis running and reachable?")
