"""SIP transactions over UDP: who repeats what, for how long, and what a repetition of the peer's is answered with.

    INVITE   proceeding --2xx--> accepted --ACK--> acknowledged --L--> over        (RFC 6026)
                                 accepted --64 T1 without ACK--> over, `unanswered`
             proceeding --300..699--> completed --ACK--> confirmed --I--> over
                                      completed --64 T1 (H)--> over
    others   proceeding --final--> completed --J--> over
    ours     calling --final--> completed                calling --64 T1 (F)--> completed, `unanswered`

A final answer to an INVITE is repeated at T1, 2 T1, ... up to T2 until its ACK comes; other answers are repeated only
when the request is. RFC 3261 leaves the repetition of a 2xx to the layer above; here it is one table.

Time is an argument: `get_timer` says when `handle_timer` next has something to do.

Source: RFC 3261 sections 13.3.1.4 and 17.1.2, 17.2; RFC 6026 sections 7 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.sip.fields import Address
from gateway.sip.message import Request, Response

__all__ = ["ClientTransaction", "Datagram", "ServerTransaction", "T1_S", "TransactionState"]

T1_S: Final = 0.5
T2_S: Final = 4.0
T4_S: Final = 5.0
_GIVE_UP_S: Final = 64 * T1_S


@dataclass(frozen=True, slots=True)
class Datagram:
    """Send this."""

    data: bytes
    to: Address


class TransactionState(StrEnum):
    """As drawn above."""

    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    ACKNOWLEDGED = "acknowledged"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    OVER = "over"


class _Repeater:
    """When to send again: T1, doubled each time up to T2, until `give_up_at`."""

    __slots__ = ("_wait_s", "give_up_at", "next_at")

    def __init__(self, now: float) -> None:
        self._wait_s = T1_S
        self.next_at = now + T1_S
        self.give_up_at = now + _GIVE_UP_S

    def due(self, now: float) -> bool:
        """Whether it is time to send again; the next time is then set."""
        if now < self.next_at:
            return False
        self._wait_s = min(2 * self._wait_s, T2_S)
        self.next_at = now + self._wait_s
        return True


class ServerTransaction:
    """One request of the peer's and our answers to it."""

    def __init__(self, request: Request, reply_to: Address) -> None:
        self.request = request
        self.reply_to = reply_to
        self.state = TransactionState.PROCEEDING
        self.unanswered = False
        """A final answer of ours was never acknowledged: the peer is gone."""
        self._last: bytes | None = None
        self._repeater: _Repeater | None = None
        self._over_at: float | None = None

    @property
    def is_invite(self) -> bool:
        """INVITEs are answered in three steps, all else in two."""
        return self.request.method == "INVITE"

    def respond(self, response: Response, now: float) -> Sequence[Datagram]:
        """Answer; ignored once a final answer was given."""
        if self.state is not TransactionState.PROCEEDING:
            return ()
        self._last = response.encode()
        if response.status >= 200:
            if not self.is_invite:
                self.state, self._over_at = TransactionState.COMPLETED, now + _GIVE_UP_S
            else:
                self.state = TransactionState.ACCEPTED if response.status < 300 else TransactionState.COMPLETED
                self._repeater = _Repeater(now)
        return (Datagram(self._last, self.reply_to),)

    def repeated(self) -> Sequence[Datagram]:
        """The peer sent the request again: give it the last answer again, if its ACK is not on its way."""
        waiting = (TransactionState.PROCEEDING, TransactionState.ACCEPTED, TransactionState.COMPLETED)
        return (Datagram(self._last, self.reply_to),) if self._last and self.state in waiting else ()

    def acknowledged(self, now: float) -> bool:
        """The ACK is here; whether it was the first one."""
        match self.state:
            case TransactionState.ACCEPTED:
                # Kept on, so that a late copy of the INVITE is no new call (RFC 6026 section 7.1, timer L).
                self.state, self._over_at = TransactionState.ACKNOWLEDGED, now + _GIVE_UP_S
            case TransactionState.COMPLETED if self.is_invite:
                self.state, self._over_at = TransactionState.CONFIRMED, now + T4_S
            case _:
                return False
        self._repeater = None
        return True

    def get_timer(self) -> float | None:
        """When something is due; None: only the peer or the call can go on."""
        if self._repeater is not None:
            return min(self._repeater.next_at, self._repeater.give_up_at)
        return self._over_at

    def handle_timer(self, now: float) -> Sequence[Datagram]:
        """What is due at `now`."""
        if self._repeater is not None:
            if now >= self._repeater.give_up_at:
                self.unanswered, self.state, self._repeater = True, TransactionState.OVER, None
            elif self._repeater.due(now) and self._last:
                return (Datagram(self._last, self.reply_to),)
        elif self._over_at is not None and now >= self._over_at:
            self.state = TransactionState.OVER
            self._over_at = None
        return ()


class ClientTransaction:
    """One request of ours (never an INVITE) until it is answered."""

    def __init__(self, request: Request, to: Address, now: float) -> None:
        self._data = request.encode()
        self._to = to
        self._repeater = _Repeater(now)
        self.state = TransactionState.PROCEEDING
        self.unanswered = False

    def start(self) -> Sequence[Datagram]:
        """Send it for the first time."""
        return (Datagram(self._data, self._to),)

    def answered(self, status: int) -> None:
        """A response came; a provisional one changes nothing that matters here."""
        if status >= 200:
            self.state = TransactionState.OVER

    def get_timer(self) -> float | None:
        """When something is due; None: over."""
        if self.state is TransactionState.OVER:
            return None
        return min(self._repeater.next_at, self._repeater.give_up_at)

    def handle_timer(self, now: float) -> Sequence[Datagram]:
        """What is due at `now`."""
        if self.state is TransactionState.OVER:
            return ()
        if now >= self._repeater.give_up_at:
            self.unanswered, self.state = True, TransactionState.OVER
            return ()
        return (Datagram(self._data, self._to),) if self._repeater.due(now) else ()
