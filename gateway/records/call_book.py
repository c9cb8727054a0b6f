"""What is noted of a call beside its dialogue: that it began, what came of it, and where its caller can be found again.

Each note may fail without harm to the call: records are made up later by a sweep, and a caller who is not known is
offered nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from dialogue.bots import Bot
from dialogue.state import DialogueState
from dialogue.turns import EarlierCall
from gateway.calls.services import Services
from gateway.protocols.seam import CallStart
from gateway.records.callers import identity
from gateway.records.results import Origin, origin_of

__all__ = ["CallBook"]

log = logging.getLogger(__name__)

_LEAVE_S = 2.0


class CallBook:
    """One call's."""

    def __init__(self, services: Services, start: CallStart, bot: Bot, call_id: str) -> None:
        secret = services.settings.auth.secret
        self._services = services
        self._bot = bot
        self._call_id = call_id
        self._who = identity(start.caller, secret.get_secret_value() if secret is not None else None)
        self._origin: Origin | None = None

    async def earlier_call(self) -> EarlierCall | None:
        """The call that this caller was cut off from, if any."""
        callers = self._services.callers
        if callers is None or self._who is None or self._bot.flow.come_back is None or self._services.store.away:
            return None
        return await callers.earlier(self._who, self._call_id, self._bot.name)

    def began(self, models: Mapping[str, str], tasks: asyncio.TaskGroup, *, recorded: bool) -> None:
        """Note the call as open, in the background. `models` are versions by kind ("asr", "nlu")."""
        services = self._services
        if services.records is not None:
            self._origin = origin_of(self._bot, self._call_id, models, caller=self._who or "", recorded=recorded)
            tasks.create_task(services.records.opened(self._origin), name="record")
        if services.callers is not None and self._who is not None:
            tasks.create_task(services.callers.seen(self._who, self._call_id, self._bot.name), name="caller")

    async def ended(self, state: DialogueState, *, nlu_version: str) -> None:
        """Publish the record of a call whose end is stored. `nlu_version` answered its turns; empty: none was asked."""
        if self._services.records is not None and self._origin is not None:
            await self._services.records.ended(self._origin, state, nlu_version=nlu_version)

    async def left(self, state: DialogueState) -> None:
        """Note that the caller is gone: one whom the bot had more to say to may call again and go on."""
        if self._services.records is not None and self._origin is not None:
            self._services.records.left(self._origin)
        callers = self._services.callers
        if callers is None or self._who is None or self._services.store.away:
            return
        try:
            async with asyncio.timeout(_LEAVE_S):
                finished = state.disposition is not None
                await callers.left(self._who, self._call_id, self._bot.name, finished=finished)
        except TimeoutError:
            log.warning("where the caller left the call is not noted")
