"""When a worker looks for garbage in everything: not because it has grown, but because calls are over."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.processes.full_collections import FullCollections

pytestmark = pytest.mark.unit


class Ended:
    """A call that is over: its objects point at each other."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collections() -> Iterator[FullCollections]:
    before = gc.get_threshold()
    try:
        yield FullCollections(0.0)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_a_worker_that_only_fills_is_not_stopped(collections: FullCollections) -> None:
    assert not any(collections.look(float(calls) / 10, connections=calls, calls=calls) for calls in range(5000))


@pytest.mark.parametrize(("calls", "gone"), [(10, 200), (199, 200), (1000, 1000)])
def test_as_many_gone_as_there_are_calls_are_worth_it_once(collections: FullCollections, calls: int, gone: int) -> None:
    assert not collections.look(1.0, connections=calls + gone - 1, calls=calls)
    ended = weakref.ref(Ended())
    assert ended() is not None
    assert collections.look(2.0, connections=calls + gone, calls=calls)
    assert ended() is None
    assert not collections.look(3.0, connections=calls + gone + 1, calls=calls)


def test_while_no_call_is_open_few_are_enough(collections: FullCollections) -> None:
    assert not collections.look(1.0, connections=19, calls=0)
    assert not collections.look(1.0, connections=21, calls=1)
    assert collections.look(2.0, connections=21, calls=0)
    assert not collections.look(3.0, connections=21, calls=0)


def test_every_ten_minutes_whatever_there_is(collections: FullCollections) -> None:
    assert not collections.look(599.0, connections=1, calls=1)
    assert collections.look(600.0, connections=1, calls=1)
    assert not collections.look(1199.0, connections=1, calls=1)


def test_the_young_are_collected_as_ever_and_the_old_not(collections: FullCollections) -> None:
    full = gc.get_stats()[2]["collections"]
    kept = [Ended() for _ in range(200_000)]
    assert gc.get_stats()[0]["collections"] > 100
    assert gc.get_stats()[2]["collections"] == full and len(kept) == 200_000
