"""One worker's events, from its calls to whoever listens.

    CallWatch --publish--> EventBus --> Subscription (bounded; full: its oldest goes, and is counted) --> a reader

While nobody listens `listening` is False, and calls build nothing: that flag is all that an event costs then. A
subscription never makes a call wait, whatever its reader does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway.monitoring.events import Published

__all__ = ["EventBus", "Subscription"]

_SIZE: Final = 4096


class Subscription:
    """One listener's queue. Use as a context: leaving it ends the subscription."""

    def __init__(self, bus: EventBus, size: int) -> None:
        self._bus = bus
        self._waiting: deque[Published] = deque(maxlen=size)
        self._news = asyncio.Event()
        self.dropped = 0
        """Events that were lost because the reader was behind."""

    def __enter__(self) -> Subscription:
        self._bus.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bus.remove(self)

    def put(self, event: Published) -> None:
        """Queue an event; where there is no room the oldest goes."""
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(event)
        self._news.set()

    async def some(self) -> list[Published]:
        """Everything that waits, oldest first; waits until there is something."""
        await self.wait()
        return self.take()

    async def wait(self) -> None:
        """Until something waits."""
        await self._news.wait()

    def take(self) -> list[Published]:
        """Everything that waits, oldest first; may be nothing."""
        self._news.clear()
        events = list(self._waiting)
        self._waiting.clear()
        return events


class EventBus:
    """One per worker."""

    __slots__ = ("_subscriptions", "listening")

    def __init__(self) -> None:
        self.listening = False
        """Whether an event would reach anybody; without it none is to be built."""
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(self, size: int = _SIZE) -> Subscription:
        """A subscription for all calls, to be entered. `size` is how many events may wait in it."""
        return Subscription(self, size)

    def publish(self, event: Published) -> None:
        """Hand an event to all who listen."""
        for subscription in self._subscriptions:
            subscription.put(event)

    def add(self, subscription: Subscription) -> None:
        """From now on this one gets every event."""
        self._subscriptions = (*self._subscriptions, subscription)
        self.listening = True

    def remove(self, subscription: Subscription) -> None:
        """This one gets no more."""
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
        self.listening = bool(self._subscriptions)
