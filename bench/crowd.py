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
    PartialHeard,
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

__all__ = ["Crowd"]

_EVENTS_A_STEP: Final = 4.0  # as it comes out: three as a caller begins to speak, five as they are answered
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
_REPLIES_MS: Final = (3, 4, 5, 6, 8, 9, 12, 15, 19, 28, 44, 90)
_LATE_MS: Final = 240.0
_LATE_SHARE: Final = 0.01


@dataclass(slots=True)
class _Call:
    call_id: str
    since: float
    facts: CallStarted
    seq: int = 0
    round_id: int = 0
    node: str = "greet"
    saying: int | None = None
    """Of `_TURNS`, what its caller is in the middle of."""

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
                opening="",
                history=(),
                taken_over_by=None,
            )
        )

    def _told(self, event: CallEvent) -> str:
        return to_json(Published(event, self.call_id, self.seq, self.at_ms, time.time()), None)

    @property
    def at_ms(self) -> int:
        return round((time.time() - self.since) * 1000)


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
            due += events_per_s * _TICK_S / _EVENTS_A_STEP
            lines: list[str] = []
            while due >= 1:
                due -= 1
                lines += self._go_on(self._random.choice(self._calls))
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

    def _go_on(self, call: _Call) -> list[str]:
        """Its caller begins to speak; or has spoken, and is answered."""
        return self._speech(call) if call.saying is None else self._turn(call)

    def _speech(self, call: _Call) -> list[str]:
        call.saying = self._random.randrange(len(_TURNS))
        call.round_id += 1
        begun = " ".join(_TURNS[call.saying][0].split()[:3])
        events = (
            PromptEnded(heard=None),
            SpeechStarted(speech_ms=call.at_ms),
            PartialHeard(round_id=call.round_id, text=begun),
        )
        return [call.line(event) for event in events]

    def _turn(self, call: _Call) -> list[str]:
        pick = self._random.choice
        said, intent, slot, reply = _TURNS[call.saying or 0]
        call.saying = None
        at_ms = call.at_ms
        late = self._random.random() < _LATE_SHARE
        reply_ms = _LATE_MS if late else pick(_REPLIES_MS) * self._random.uniform(0.8, 1.2)
        timing = {
            "tail_ms": float(_TAIL_MS),
            "asr_ms": self._random.uniform(40, 180),
            "asr_queue_ms": 4.0,
            "nlu_ms": 14.0,
        }
        timing |= {"dialogue_ms": 2.1, "tts_ms": 0.1, "speculated": 1.0, "endpoint_to_reply_ms": reply_ms}
        events: list[CallEvent] = [
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
