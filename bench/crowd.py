"""Many calls at once, as far as watchers see them: scripted events, published where workers publish theirs.

No call stands behind them, so nothing but watching them costs: for pictures, and for how many a page can show. To
control planes it is one more worker, that has all these calls.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Final

import redis.asyncio as redis

from gateway.monitoring.call_watch import BUDGETS_MS
from gateway.monitoring.events import (
    BudgetMissed,
    CallEvent,
    CallPresent,
    CallStarted,
    NodeEntered,
    PromptEnded,
    PromptStarted,
    Published,
    SlotsFilled,
    SpeechEnded,
    SpeechStarted,
    TurnHeard,
    TurnUnderstood,
    to_json,
)
from gateway.monitoring.wire import EVENTS, ORDERS, Answer, Order, OrderKind
from nlu.meaning import OUT_OF_SCOPE

__all__ = ["EVENTS_A_TURN", "Crowd"]

EVENTS_A_TURN: Final = 7
_TICK_S: Final = 0.1
_TAIL_MS: Final = 800
_LONGEST_S: Final = 420.0
_TURNS: Final = (
    # said, intent, slot, reply
    ("yes speaking", "affirm", None, "Thank you. What are the last four digits of your account number?"),
    ("four four one seven", "give_digits", ("digits", "[number]"), "Your bill of eighty two dollars is due on Friday."),
    ("I want to pay it on the fifth", "promise_to_pay", ("date", "the fifth"), "Shall I note the fifth of December?"),
    ("no that is not right", "deny", None, "I am sorry. Which day suits you?"),
    ("can I talk to a person please", "ask_human", None, "I will put you through to a colleague."),
    ("the thing with the letter you know", OUT_OF_SCOPE, None, "I did not quite get that. Could you say it again?"),
    ("how much is it again", "ask_amount", None, "Eighty two dollars and forty cents."),
)
_NODES: Final = ("greet", "confirm_name", "account_digits", "tell_amount", "ask_date", "wrap_up")
_REPLIES_MS: Final = (3, 4, 5, 6, 8, 9, 12, 15, 19, 28, 44, 90, 230)


@dataclass(slots=True)
class _Call:
    call_id: str
    since: float
    facts: CallStarted
    seq: int = 0
    round_id: int = 0
    node: str = "greet"

    def line(self, event: CallEvent) -> str:
        self.seq += 1
        return self._told(event)

    def present(self) -> str:
        """Where it stands, for those who come later."""
        begun = self.facts
        return self._told(
            CallPresent(
                bot=begun.bot,
                bot_version=begun.bot_version,
                protocol=begun.protocol,
                language=begun.language,
                caller=begun.caller,
                models=begun.models,
                recorded=begun.recorded,
                started_at=self.since,
                node=self.node,
                slots={},
                turns=self.round_id,
                history=(),
                taken_over_by=None,
            )
        )

    def _told(self, event: CallEvent) -> str:
        now = time.time()
        return to_json(Published(event, self.call_id, self.seq, round((now - self.since) * 1000), now), None)


@dataclass(slots=True)
class Crowd:
    """So many calls. `seed` makes them the same each time."""

    calls: int
    seed: int = 7
    _random: random.Random = field(init=False)
    _calls: list[_Call] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        now = time.time()
        # They came one after the other, the last of them just now.
        since = sorted(now - self._random.uniform(0, _LONGEST_S) for _ in range(self.calls))
        self._calls = [_Call(f"crowd-{index:03d}", at, self._facts()) for index, at in enumerate(since)]

    async def run(self, redis_url: str, *, events_per_s: float) -> None:
        """Begin all calls, then let them talk until cancelled."""
        client = redis.Redis.from_url(redis_url, socket_timeout=None)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._answer(client))
                tasks.create_task(self._talk(client, events_per_s))
        finally:
            await client.aclose()

    async def _answer(self, client: redis.Redis) -> None:
        """As a worker does: to be asked which calls there are, and to have none of those that others ask for."""
        orders = client.pubsub(ignore_subscribe_messages=True)
        await orders.subscribe(ORDERS)
        async for message in orders.listen():
            order = Order.decoded(message["data"])
            if not order.reply_to:
                continue
            mine = [call for call in self._calls if order.call_id in ("", call.call_id)]
            lines = tuple(call.present() for call in mine) if order.kind is OrderKind.LIST else ()
            names = {"call_ids": [call.call_id for call in self._calls]} if order.kind is OrderKind.NAMES else None
            answer = Answer(id=order.id, worker="crowd", lines=lines, result=names)
            await client.publish(order.reply_to, answer.encoded())

    async def _talk(self, client: redis.Redis, events_per_s: float) -> None:
        await client.publish(EVENTS, "\n".join(call.line(call.facts) for call in self._calls))
        due = 0.0
        while True:
            due += events_per_s * _TICK_S / EVENTS_A_TURN
            lines: list[str] = []
            while due >= 1:
                due -= 1
                lines += self._turn(self._random.choice(self._calls))
            if lines:
                await client.publish(EVENTS, "\n".join(lines))
            await asyncio.sleep(_TICK_S)

    def _facts(self) -> CallStarted:
        pick = self._random.choice
        bot = pick(("bill-reminder", "bill-reminder", "bill-reminder-zh", "parcel-desk"))
        return CallStarted(
            bot=bot,
            bot_version="3",
            protocol=pick(("native", "asterisk", "twilio", "sip")),
            language="zh" if bot.endswith("zh") else "en",
            caller=pick(("[phone]", "[phone]", "lobby desk", "gate intercom", None)),
            models={"asr": "bundled", "nlu": "9f31c2d08a77"},
            recorded=False,
            resumed=False,
        )

    def _turn(self, call: _Call) -> list[str]:
        """What one turn brings, all at once."""
        pick = self._random.choice
        said, intent, slot, reply = pick(_TURNS)
        call.round_id += 1
        at_ms = round((time.time() - call.since) * 1000)
        reply_ms = pick(_REPLIES_MS) * self._random.uniform(0.8, 1.2)
        timing = {
            "tail_ms": float(_TAIL_MS),
            "asr_ms": self._random.uniform(40, 180),
            "asr_queue_ms": 4.0,
            "nlu_ms": 14.0,
        }
        timing |= {"dialogue_ms": 2.1, "tts_ms": 0.1, "speculated": 1.0, "endpoint_to_reply_ms": reply_ms}
        events: list[CallEvent] = [
            PromptEnded(heard=None),
            SpeechStarted(speech_ms=max(0, at_ms - 1900)),
            SpeechEnded(speech_ms=max(0, at_ms - _TAIL_MS)),
            TurnHeard(round_id=call.round_id, text=said, supersedes=None),
            TurnUnderstood(
                round_id=call.round_id,
                intent=intent,
                score=round(self._random.uniform(0.45 if intent == OUT_OF_SCOPE else 0.8, 1.0), 4),
                slots=(slot,) if slot else (),
                model="9f31c2d08a77",
            ),
        ]
        if slot:
            events.append(SlotsFilled(round_id=call.round_id, slots=dict([slot])))
        else:
            before, call.node = call.node, pick(_NODES)
            events.append(NodeEntered(round_id=call.round_id, node=call.node, before=before))
        events.append(PromptStarted(round_id=call.round_id, node=call.node, text=reply, timing=timing))
        if reply_ms > (limit_ms := BUDGETS_MS["endpoint_to_reply_ms"]):
            events.append(BudgetMissed(budget="endpoint_to_reply_ms", took_ms=round(reply_ms, 1), limit_ms=limit_ms))
        return [call.line(event) for event in events]
