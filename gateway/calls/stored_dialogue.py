"""One call's dialogue over a store that may stumble, and over systems of the operator's that may not answer.

A step is asked for again for as long as a caller can be kept waiting: the same event is the same turn. A store that is
away for longer is for the conversation to take leave over (`StoreAwayError`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dialogue.bots import Bot
from dialogue.loop import DialogueLoop, Step
from dialogue.store import StoreAwayError, StoreError
from dialogue.turns import CallWebhook, EarlierCall, Event, WebhookAnswered
from gateway.calls.call_clock import CallClock
from gateway.calls.services import Services
from gateway.protocols.seam import CallStart

__all__ = ["StoredDialogue"]

log = logging.getLogger(__name__)

_STORE_RETRY_S = 0.2


class StoredDialogue:
    """Steps of `loop`, each stored before it is given.

    Every method raises FencedError where another connection has taken the call over, StoreAwayError and TimeoutError
    where the store does not answer, DialogueError where the state cannot be read.
    """

    def __init__(self, services: Services, bot: Bot, call_id: str, *, clock: CallClock) -> None:
        self.loop = DialogueLoop(bot, services.store, call_id, clock=clock)
        self._services = services
        self._bot = bot
        self._call_id = call_id

    async def open(self, start: CallStart, earlier: EarlierCall | None) -> Step:
        """The call's first step, or the one to go on with. Raises MetadataError where its metadata do not fit."""
        return await self._stored(lambda: self.loop.open(caller=start.caller, metadata=start.metadata, earlier=earlier))

    async def handle(self, event: Event) -> Step:
        """The step that an event leads to."""
        return await self._stored(lambda: self.loop.handle(event))

    async def ask(self, action: CallWebhook, round_id: int) -> Step:
        """Ask the operator's system, and the step that its answer leads to.

        Never before the step that decided it is stored: a call taken over from an older state could decide otherwise,
        and give another request the same number.
        """
        services = self._services
        try:
            async with asyncio.timeout(services.settings.webhooks.total_s):
                await services.store.settle(self._call_id)
        except TimeoutError:
            log.warning("webhook %s is not asked: the state store is away", action.webhook)
            services.metrics.webhooks.labels("store_away").inc()
            return await self.handle(WebhookAnswered(webhook=action.webhook, act=action.act, answer=None))
        answered = await services.webhooks.ask(action, bot=self._bot, call_id=self._call_id, round_id=round_id)
        return await self.handle(answered)

    def release(self) -> None:
        """Let go of what the store keeps in memory for the call."""
        self._services.store.release(self._call_id, self.loop.owner)

    async def _stored(self, step: Callable[[], Awaitable[Step]]) -> Step:
        async with asyncio.timeout(self._services.settings.limits.reply_s):
            while True:
                try:
                    return await step()
                except StoreAwayError:
                    raise
                except StoreError as exc:
                    log.warning("%s; trying again", exc)
                    await asyncio.sleep(_STORE_RETRY_S)
