"""What a worker has room for, by values; `test_streams.py` and `test_recovery.py` have the rest."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.streams.server import Room
from gateway.inference.streams.wire import ENTRY_JOBS

pytestmark = pytest.mark.unit


def filled(batch: int, *held: Urgency) -> Room:
    room = Room(batch)
    for urgency in held:
        room.take(Errand(urgency))
    return room


def free(room: Room) -> list[int]:
    return [room.free(urgency) for urgency in Urgency]


def test_an_urgencys_room_is_filled_by_what_is_as_urgent_and_by_nothing_less() -> None:
    assert free(filled(4)) == [8, 4, 2]
    assert free(filled(4, Urgency.PARTIAL)) == [8, 4, 1]
    assert free(filled(4, Urgency.SPECULATIVE)) == [8, 3, 1]
    assert free(filled(4, Urgency.ENDPOINT)) == [7, 3, 1]


def test_an_entry_of_speculations_leaves_endpoints_their_room() -> None:
    assert free(filled(1, *[Urgency.SPECULATIVE] * ENTRY_JOBS)) == [2, -7, -7]


def test_a_promoted_job_fills_the_endpoints_room() -> None:
    room, promoted = Room(1), Errand(Urgency.SPECULATIVE)
    room.take(promoted)
    promoted.promote(Urgency.ENDPOINT)
    assert free(room) == [1, 0, 0]
    room.give(promoted)
    assert free(room) == [2, 1, 1]


def test_a_dead_workers_jobs_find_the_endpoints_room_and_no_more_than_there_is_for_all() -> None:
    assert filled(1).spare() == filled(1, *[Urgency.SPECULATIVE] * ENTRY_JOBS).spare() == 2
    assert filled(1, Urgency.ENDPOINT, Urgency.ENDPOINT, Urgency.ENDPOINT).spare() == 0
    assert filled(1, *[Urgency.PARTIAL] * 1000).spare() == 0


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.sampled_from(["read", "promoted", "done"]), st.sampled_from(Urgency), st.randoms())),
)
def test_reading_where_there_is_room_holds_no_more_than_there_is_for_all(
    batch: int, steps: list[tuple[str, Urgency, Random]]
) -> None:
    """Entries are taken whole, so each urgency may pass its limit by one."""
    room, held = Room(batch), list[Errand]()
    for step, urgency, random in steps:
        if step == "read" and (space := room.free(urgency)) > 0:
            taken = [Errand(urgency) for _ in range((1 + space // ENTRY_JOBS) * ENTRY_JOBS)]
            held += taken
            for errand in taken:
                room.take(errand)
        elif held:
            errand = held[random.randrange(len(held))]
            if step == "promoted":
                errand.promote(Urgency.ENDPOINT)
            elif step == "done":
                held.remove(errand)
                room.give(errand)
        assert len(held) <= sum(free(Room(batch))) + len(Urgency) * ENTRY_JOBS


async def test_who_waits_for_room_goes_on_when_some_is_given_back() -> None:
    room, first = Room(1), Errand(Urgency.SPECULATIVE)
    room.take(first)
    waits = asyncio.create_task(room.wait(Urgency.PARTIAL))
    assert await room.wait(Urgency.ENDPOINT) == 2
    assert not waits.done()
    room.give(first)
    async with asyncio.timeout(5):
        assert await waits == 1
