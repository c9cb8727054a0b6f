"""The bus: nothing is built for nobody, and no listener makes a call wait."""

from __future__ import annotations

import asyncio

import pytest

from gateway.monitoring.bus import EventBus
from gateway.monitoring.events import CallerSilent, Published

pytestmark = pytest.mark.unit


def event(seq: int) -> Published:
    return Published(CallerSilent(), "c", seq, 0, 0.0)


def test_it_listens_only_while_somebody_does() -> None:
    bus = EventBus()
    assert not bus.listening
    with bus.subscribe() as one:
        with bus.subscribe():
            assert bus.listening
        assert bus.listening
        bus.publish(event(1))
        assert one.take() == [event(1)]
    assert not bus.listening
    bus.publish(event(2))
    assert one.take() == []


def test_a_slow_reader_loses_the_oldest_which_are_counted_and_others_lose_nothing() -> None:
    bus = EventBus()
    with bus.subscribe(size=3) as slow, bus.subscribe() as other:
        for seq in range(1, 11):
            bus.publish(event(seq))
        assert [one.seq for one in slow.take()] == [8, 9, 10]
        assert slow.dropped == 7
        assert (len(other.take()), other.dropped) == (10, 0)


async def test_a_reader_wakes_for_news_and_gets_all_that_waits_in_order() -> None:
    bus = EventBus()
    with bus.subscribe() as reader:
        waiting = asyncio.create_task(reader.some())
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.publish(event(1))
        bus.publish(event(2))
        async with asyncio.timeout(10):
            assert [one.seq for one in await waiting] == [1, 2]
