"""What happens to a request while its asker waits for the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.inference.job_queue import Errand
from gateway.inference.streams.outbox import Outbox, StreamRequest
from gateway.inference.streams.wire import Kind, ShardKeys, Word

pytestmark = pytest.mark.unit


class Server:
    """Says of a job whether a worker has it, after something else has happened."""

    def __init__(self, taken: bool, meanwhile: Callable[[], None]) -> None:
        self._taken, self._meanwhile = taken, meanwhile

    def register_script(self, source: str) -> None:
        pass

    async def xpending_range(self, *args: object) -> list[dict[str, str]]:
        self._meanwhile()
        return [{"consumer": "a worker"}] if self._taken else []

    async def xadd(self, *args: Any, **options: Any) -> None:
        pass


@pytest.mark.parametrize("taken", [True, False])
async def test_a_job_that_is_answered_while_its_promotion_looks_for_it_needs_none(taken: bool) -> None:
    request = StreamRequest(Kind.ASR, b"", Errand(), time.monotonic() + 9, asyncio.get_running_loop().create_future())
    request.idents, request.sent, request.place = [7], True, ("jobs", b"1-1")

    def answered() -> None:
        request.idents.remove(7)
        request.answer.set_result({})

    again: list[StreamRequest] = []
    client: Any = Server(taken, answered)
    outbox = Outbox(client, ShardKeys("pool", 0), "asker", limit=9, ask_again=again.append)
    said: list[Word] = []
    outbox.say = lambda word, ident, body=None: said.append(word)  # type: ignore[method-assign]
    outbox.promote(request)
    await outbox.send()
    assert (said, again, outbox.is_empty) == ([], [], True)
