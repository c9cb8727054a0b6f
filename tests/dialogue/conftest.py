"""What the tests of the store and of the loop over it share: each runs on both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TypeAlias

import pytest

from dialogue.store import MemoryStore, RedisStore, StateStore

_calls = count(1)
Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[StateStore]]


@pytest.fixture
def call_id() -> str:
    """A call of the test's own."""
    return f"dialogue-{next(_calls)}"


@pytest.fixture(params=["memory", "redis"])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Opens the store under test inside the test's loop."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None

    @asynccontextmanager
    async def open_store() -> AsyncIterator[StateStore]:
        if url is None:
            yield MemoryStore()
            return
        store = RedisStore.connect(url)
        try:
            yield store
        finally:
            await store.close()

    return open_store
