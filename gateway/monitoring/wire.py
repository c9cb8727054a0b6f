"""What control planes and workers say to each other through Redis: channels, orders, answers.

    control plane --orders--> every worker             JSON, on one channel
    worker --answer--> that control plane               JSON, on a channel of its own
    worker --notice--> every control plane              that it is there (again), or that it has told too little
    worker --events--> control planes that watch        JSON lines, redacted or raw, on two channels
    worker --audio of a call--> those that listen       binary, on a channel for each call
    control plane --a supervisor's voice--> worker      binary, on a channel for each supervisor's connection

Pub/sub and no streams: what nobody hears is not kept. An order goes to every worker of every gateway that shares the
Redis; the one that has the call carries it out. PUBLISH tells how many got it, and each of them answers: so nobody has
to keep a list of workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "AUDIT_STREAM",
    "EVENTS",
    "LEASE_S",
    "NOTICES",
    "ORDERS",
    "RAW_EVENTS",
    "RENEW_S",
    "Act",
    "Answer",
    "Order",
    "OrderKind",
    "audio_channel",
    "voice_channel",
]

_PREFIX: Final = "vg:{monitor}:"
ORDERS: Final = f"{_PREFIX}orders"
NOTICES: Final = f"{_PREFIX}notices"
EVENTS: Final = f"{_PREFIX}events"
RAW_EVENTS: Final = f"{_PREFIX}events:raw"
AUDIT_STREAM: Final = f"{_PREFIX}audit"

LEASE_S: Final = 6.0
"""Watching, listening and taking over end by themselves where they are not renewed for so long."""
RENEW_S: Final = 2.0


def audio_channel(call_id: str) -> str:
    """Where a call's audio goes while somebody listens."""
    return f"{_PREFIX}audio:{call_id}"


def voice_channel(session: str) -> str:
    """Where the voice of a supervisor comes from who has taken a call over with this connection."""
    return f"{_PREFIX}voice:{session}"


class OrderKind(StrEnum):
    """What a worker may be asked."""

    WATCH = "watch"
    """Publish events; `raw` as they are."""
    LIST = "list"
    """Tell every call; with `call_id`, that one."""
    NAMES = "names"
    """Tell the ids of all calls."""
    LISTEN = "listen"
    """Publish a call's audio, or go on with it."""
    UNLISTEN = "unlisten"
    """This one's connection is over: it listens no more, and has no call."""
    ACT = "act"
    """Do something to a call."""
    KEEP = "keep"
    """Go on speaking in a call that was taken over."""


class Act(StrEnum):
    """What a supervisor may do to a call, also the word of its event."""

    LISTEN = "listen"
    UNLISTEN = "unlisten"
    WHISPER = "whisper"
    TAKE_OVER = "take_over"
    HAND_BACK = "hand_back"
    HANG_UP = "hang_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order. `sender` is the control plane, `reply_to` where it waits for answers; without one nobody does."""

    kind: OrderKind
    sender: str
    id: int = 0
    reply_to: str = ""
    call_id: str = ""
    raw: bool = False
    act: Act | None = None
    by: str = ""
    """Who acts or listens, for people to read."""
    session: str = ""
    """Of whose connections this one is: what a lease belongs to."""
    from_whom: str = ""
    """The supervisor from whom a call may be taken, or handed back, who has it with another connection."""
    text: str = ""
    """What is whispered."""

    def encoded(self) -> str:
        """For the channel."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)

    @classmethod
    def decoded(cls, message: bytes | str) -> Order:
        """The inverse.

        Raises:
            ValueError: no order, or one of another version of ours.
        """
        body = json.loads(message)
        if not isinstance(body, dict):
            raise ValueError("an order is a JSON object")
        known = {each.name for each in fields(cls)}
        kept = {name: value for name, value in body.items() if name in known}
        act = Act(kept.pop("act")) if "act" in kept else None
        try:
            return cls(kind=OrderKind(kept.pop("kind")), act=act, **kept)
        except (KeyError, TypeError) as error:
            raise ValueError(f"an order without all that it needs: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A worker's answer to the order `id`. Neither `lines`, `result` nor `fault`: the call is not this worker's."""

    id: int
    worker: str
    lines: tuple[str, ...] = ()
    """Calls, each as the JSON of a `CallPresent`."""
    result: Mapping[str, Any] | None = None
    fault: tuple[str, str] | None = None
    """Why it was not done: a code for programs, a message for people."""
    epoch: int = 0
    """The call's at this worker."""

    @property
    def is_mine(self) -> bool:
        """Whether the worker has the call."""
        return bool(self.lines) or self.result is not None or self.fault is not None

    def encoded(self) -> str:
        """For the channel."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def decoded(cls, message: bytes | str) -> Answer:
        """The inverse.

        Raises:
            ValueError: no answer.
        """
        try:
            body = json.loads(message)
            fault = body["fault"]
            return cls(
                id=body["id"],
                worker=body["worker"],
                lines=tuple(body["lines"]),
                result=body["result"],
                fault=None if fault is None else (fault[0], fault[1]),
                epoch=body["epoch"],
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"an answer without all that it needs: {error}") from None
