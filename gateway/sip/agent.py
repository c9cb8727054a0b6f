"""The end of SIP that is called: datagrams in, datagrams and events out; no socket and no clock.

A leg is one call's signalling:

    offered --answer--> answered --ACK--> talking --BYE | hang_up--> over
    offered --CANCEL | refuse--> over
    answered --64 T1 without ACK--> over, with a BYE          answered --hang_up--> leaving --ACK--> over, with a BYE

What the shell is told: `Invited` (answer or refuse it), `Reoffered` (the same, within a call), `Acknowledged`, `Keyed`
(a key by INFO) and `LegOver`. What it says: `ring`, `answer`, `refuse`, `hang_up`, by the leg's key.

Odd cases: an INVITE that comes again is the same call, however late; one with the same call but another branch took two
ways (482); a CANCEL that comes too late changes nothing; what no transaction is kept for, because there are too many,
is answered all the same. A datagram that is no SIP is counted and forgotten.

Source: RFC 3261 sections 8.2, 9.2, 11.2, 12.2.2, 13.3, 14.2, 15.1.2; RFC 6026; RFC 6086 for INFO.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from gateway.sip.dialog import ALLOWED, Dialog, reply_address, respond, stamped
from gateway.sip.fields import (
    MAGIC_COOKIE,
    Address,
    bracketed,
    missing_header,
    parse_address,
    parse_cseq,
    parse_via,
    user_of,
)
from gateway.sip.message import Request, Response, SipParseError, parse_message
from gateway.sip.transactions import ClientTransaction, Datagram, ServerTransaction, TransactionState

__all__ = [
    "Acknowledged",
    "AgentEvent",
    "EndedBy",
    "Invited",
    "Keyed",
    "LegOver",
    "Reoffered",
    "UserAgent",
]

_ALLOW: Final = ("allow", ", ".join(ALLOWED))
_SDP: Final = "application/sdp"
_MAX_TRANSACTIONS: Final = 2000
_INFO_SIGNAL: Final = re.compile(r"(?:signal\s*=\s*)?([0-9*#A-D])\s*", re.IGNORECASE)
_INFO_TYPES: Final = frozenset({"application/dtmf-relay", "application/dtmf"})


class EndedBy(StrEnum):
    """Why a leg is over."""

    CALLER = "caller"
    CANCELLED = "cancelled"
    US = "us"
    UNACKNOWLEDGED = "unacknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """Somebody calls. `body` is the offer; empty: we are to make one."""

    key: str
    call_id: str
    caller: str
    dialled: str
    source: Address
    local: Address
    body: bytes


@dataclass(frozen=True, slots=True)
class Reoffered:
    """A new offer within a call: hold, or another address. Empty: we are to make one."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Our answer has arrived; `body` is the caller's answer where the offer was ours."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key that came as SIP INFO."""

    key: str
    digit: str


@dataclass(frozen=True, slots=True)
class LegOver:
    """The leg's key means nothing any more."""

    key: str
    ended_by: EndedBy


AgentEvent: TypeAlias = Datagram | Invited | Reoffered | Acknowledged | Keyed | LegOver


class _LegState(StrEnum):
    OFFERED = "offered"
    ANSWERED = "answered"
    LEAVING = "leaving"
    TALKING = "talking"


@dataclass(slots=True)
class _Leg:
    key: str
    dialog: Dialog
    invite: ServerTransaction
    """The newest INVITE: the one to answer, or whose answer waits for its ACK."""
    peer: Address
    local: Address
    state: _LegState = _LegState.OFFERED


_TransactionKey: TypeAlias = tuple[str, ...]


class UserAgent:
    """All legs of one socket. Times are monotonic seconds."""

    def __init__(
        self,
        local_of: Callable[[Address], Address],
        *,
        max_calls: int,
        make_token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """
        Args:
            local_of: our own address as this peer reaches it.
            max_calls: legs at once; one more is told 486.
            make_token: a new tag or branch.
        """
        self._local_of = local_of
        self._max_calls = max_calls
        self._make_token = make_token
        self._legs: dict[str, _Leg] = {}
        self._servers: dict[_TransactionKey, ServerTransaction] = {}
        self._clients: dict[str, ClientTransaction] = {}
        self._stateless_tag = make_token()
        self.malformed = 0
        """Datagrams that were no SIP, or requests that could not be read."""

    @property
    def legs(self) -> int:
        """Calls in progress."""
        return len(self._legs)

    @property
    def idle(self) -> bool:
        """Nothing of ours waits for an answer."""
        return not self._legs and all(one.get_timer() is None for one in self._clients.values())

    def receive(self, data: bytes, source: Address, now: float) -> list[AgentEvent]:
        """One datagram. Never raises on what a peer sends."""
        if not data.strip(b"\r\n\0 \t"):
            return []  # keeps a router's door open (RFC 5626 section 4.4.1)
        try:
            message = parse_message(data)
        except SipParseError:
            self.malformed += 1
            return []
        if isinstance(message, Response):
            return self._response(message, now)
        if missing := missing_header(message):
            self.malformed += 1
            return self._malformed(message, source, missing)
        request = stamped(message, source)
        if request.method == "ACK":
            return self._ack(request, now)
        if known := self._servers.get(_transaction_key(request, request.method)):
            return list(known.repeated())
        transaction = ServerTransaction(request, reply_address(request, source))
        if len(self._servers) >= _MAX_TRANSACTIONS:
            if request.method == "INVITE":
                return self._refuse(transaction, 503, now, ("retry-after", "5"))
        else:
            self._servers[_transaction_key(request, request.method)] = transaction
        if request.method == "CANCEL":
            return self._cancel(transaction, now)
        if parse_address(request.headers.get("to") or "").tag is not None:
            return self._within(transaction, source, now)
        match request.method:
            case "INVITE":
                return self._invite(transaction, source, now)
            case "OPTIONS":
                return self._respond(transaction, 200, now, _ALLOW, ("accept", _SDP))
        return self._refuse(transaction, 405, now, _ALLOW)

    # What the shell says. A key that means nothing is of a call that has just ended.

    def ring(self, key: str, now: float) -> list[AgentEvent]:
        """Tell the caller that it rings."""
        if leg := self._legs.get(key):
            return self._respond(leg.invite, 180, now, self._contact(leg), tag=key)
        return []

    def answer(self, key: str, body: bytes, now: float) -> list[AgentEvent]:
        """Take the call, or the new offer within it, with this session description."""
        leg = self._legs.get(key)
        if leg is None:
            return []
        if leg.state is _LegState.OFFERED:
            leg.state = _LegState.ANSWERED
        return self._respond(leg.invite, 200, now, self._contact(leg), _ALLOW, tag=key, body=body)

    def refuse(self, key: str, status: int, now: float) -> list[AgentEvent]:
        """Refuse the call; or the new offer, and then the call goes on as it was."""
        leg = self._legs.get(key)
        if leg is None:
            return []
        headers = (("retry-after", "5"),) if status == 503 else ()
        events = self._respond(leg.invite, status, now, *headers, tag=key)
        return [*events, self._over(leg, EndedBy.US)] if leg.state is _LegState.OFFERED else events

    def hang_up(self, key: str, now: float) -> list[AgentEvent]:
        """End the call, in whatever state it is."""
        leg = self._legs.get(key)
        if leg is None:
            return []
        match leg.state:
            case _LegState.OFFERED:
                return self.refuse(key, 503, now)
            case _LegState.ANSWERED | _LegState.LEAVING:
                leg.state = _LegState.LEAVING  # no BYE before the ACK (section 15)
                return []
            case _LegState.TALKING:
                return [*self._bye(leg, now), self._over(leg, EndedBy.US)]

    def get_timer(self) -> float | None:
        """When `handle_timer` next has something to do; None: nothing waits."""
        return min((at for one in self._timed() if (at := one.get_timer()) is not None), default=None)

    def handle_timer(self, now: float) -> list[AgentEvent]:
        """Everything that is due at `now`."""
        events: list[AgentEvent] = []
        for transaction in self._timed():
            if (at := transaction.get_timer()) is not None and at <= now:
                events += transaction.handle_timer(now)
        for leg in tuple(self._legs.values()):
            if leg.invite.unanswered:  # section 13.3.1.4: the call is there, its caller is not
                events += [*self._bye(leg, now), self._over(leg, EndedBy.UNACKNOWLEDGED)]
        over = TransactionState.OVER
        self._servers = {key: one for key, one in self._servers.items() if one.state is not over}
        self._clients = {key: one for key, one in self._clients.items() if one.state is not over}
        return events

    def _timed(self) -> Iterable[ServerTransaction | ClientTransaction]:
        return (*self._servers.values(), *self._clients.values())

    # Requests.

    def _invite(self, transaction: ServerTransaction, source: Address, now: float) -> list[AgentEvent]:
        request = transaction.request
        headers = request.headers
        key = self._make_token()
        if required := headers.all("require"):
            return self._refuse(transaction, 420, now, ("unsupported", ", ".join(required)))
        if not request.uri.lower().startswith(("sip:", "sips:", "tel:")):
            return self._refuse(transaction, 416, now)
        if request.body and _content_type(request) != _SDP:
            return self._refuse(transaction, 415, now, ("accept", _SDP))
        if any(_same_call(request, leg.invite.request) for leg in self._legs.values()):
            return self._refuse(transaction, 482, now)
        try:
            dialog = Dialog.of(request, key)
        except SipParseError:
            return self._refuse(transaction, 400, now)
        if len(self._legs) >= self._max_calls:
            return self._refuse(transaction, 486, now)
        leg = self._legs[key] = _Leg(key, dialog, transaction, source, self._local_of(source))
        return [
            *self._respond(transaction, 100, now),
            Invited(
                key=key,
                call_id=dialog.call_id,
                caller=user_of(parse_address(dialog.remote_field).uri),
                dialled=user_of(request.uri),
                source=source,
                local=leg.local,
                body=request.body,
            ),
        ]

    def _ack(self, request: Request, now: float) -> list[AgentEvent]:
        refused = self._servers.get(_transaction_key(request, "INVITE"))
        if refused is not None and refused.state is TransactionState.COMPLETED:
            refused.acknowledged(now)
            return []
        leg = self._leg_of(request)
        if leg is None or _sequence(request) != _sequence(leg.invite.request) or not leg.invite.acknowledged(now):
            return []
        if leg.state is _LegState.LEAVING:
            return [*self._bye(leg, now), self._over(leg, EndedBy.US)]
        leg.state = _LegState.TALKING
        return [Acknowledged(leg.key, request.body)]

    def _cancel(self, transaction: ServerTransaction, now: float) -> list[AgentEvent]:
        invite = self._servers.get(_transaction_key(transaction.request, "INVITE"))
        leg = next((leg for leg in self._legs.values() if leg.invite is invite), None)
        if invite is None or leg is None:
            return self._refuse(transaction, 481, now)
        events = self._respond(transaction, 200, now, tag=leg.key)
        if leg.state is _LegState.OFFERED:
            events += [*self._respond(invite, 487, now, tag=leg.key), self._over(leg, EndedBy.CANCELLED)]
        return events

    def _within(self, transaction: ServerTransaction, source: Address, now: float) -> list[AgentEvent]:
        """A request within a dialog."""
        request = transaction.request
        leg = self._leg_of(request)
        if leg is None:
            return self._refuse(transaction, 481, now)
        if request.method == "INVITE" and leg.state is not _LegState.TALKING:
            return self._refuse(transaction, 491, now)
        if not leg.dialog.follows(request):
            return self._refuse(transaction, 500, now)
        leg.peer = source
        match request.method:
            case "BYE":
                events = self._respond(transaction, 200, now)
                events += self._respond(leg.invite, 487, now, tag=leg.key)  # where it was not answered yet
                leg.invite.acknowledged(now)  # nobody will do so any more
                return [*events, self._over(leg, EndedBy.CALLER)]
            case "INVITE":
                return self._reinvite(leg, transaction, now)
            case "OPTIONS":
                return self._respond(transaction, 200, now, _ALLOW, ("accept", _SDP))
            case "INFO":
                return self._info(leg, transaction, now)
        return self._refuse(transaction, 405, now, _ALLOW)

    def _reinvite(self, leg: _Leg, transaction: ServerTransaction, now: float) -> list[AgentEvent]:
        request = transaction.request
        if request.body and _content_type(request) != _SDP:
            return self._refuse(transaction, 415, now, ("accept", _SDP))
        try:
            leg.dialog.retargeted(request)
        except SipParseError:
            return self._refuse(transaction, 400, now)
        leg.invite = transaction
        return [Reoffered(leg.key, request.body)]

    def _info(self, leg: _Leg, transaction: ServerTransaction, now: float) -> list[AgentEvent]:
        request = transaction.request
        if not request.body:
            return self._respond(transaction, 200, now)
        if _content_type(request) not in _INFO_TYPES:
            return self._refuse(transaction, 415, now, ("accept", ", ".join(sorted(_INFO_TYPES))))
        lines = request.body.decode("ascii", "replace").splitlines()
        digit = next((found[1].upper() for line in lines if (found := _INFO_SIGNAL.fullmatch(line.strip()))), None)
        events = self._respond(transaction, 200, now)
        return [*events, Keyed(leg.key, digit)] if digit else events

    def _response(self, response: Response, now: float) -> list[AgentEvent]:
        vias = response.headers.all("via")
        try:
            branch = parse_via(vias[0]).branch.removeprefix(MAGIC_COOKIE) if vias else ""
        except SipParseError:
            branch = ""
        if client := self._clients.get(branch):
            client.answered(response.status)
        else:
            self.malformed += 1
        return []

    # Answers and endings.

    def _respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *headers: tuple[str, str],
        tag: str | None = None,
        body: bytes = b"",
    ) -> list[AgentEvent]:
        tag = None if status == 100 else tag or self._stateless_tag
        response = respond(transaction.request, status, tag=tag, headers=headers, body=body)
        return list(transaction.respond(response, now))

    def _refuse(
        self, transaction: ServerTransaction, status: int, now: float, *headers: tuple[str, str]
    ) -> list[AgentEvent]:
        return self._respond(transaction, status, now, *headers)

    def _malformed(self, request: Request, source: Address, missing: str) -> list[AgentEvent]:
        """A request without a field that it needs: told so, where it says how to answer it."""
        try:
            stamp = stamped(request, source)
            to = reply_address(stamp, source)
        except (SipParseError, IndexError):
            return []
        if request.method == "ACK":
            return []
        warning = ("warning", f'399 voicegate "missing or unreadable: {missing}"')
        return [Datagram(respond(stamp, 400, headers=(warning,)).encode(), to)]

    def _bye(self, leg: _Leg, now: float) -> Sequence[Datagram]:
        branch = self._make_token()
        request = leg.dialog.request("BYE", local=leg.local, branch=branch)
        client = self._clients[branch] = ClientTransaction(request, leg.peer, now)
        return client.start()

    def _over(self, leg: _Leg, ended_by: EndedBy) -> LegOver:
        del self._legs[leg.key]
        return LegOver(leg.key, ended_by)

    def _contact(self, leg: _Leg) -> tuple[str, str]:
        return "contact", f"<sip:voicegate@{bracketed(leg.local.host)}:{leg.local.port}>"

    def _leg_of(self, request: Request) -> _Leg | None:
        headers = request.headers
        leg = self._legs.get(parse_address(headers.get("to") or "").tag or "")
        if leg is None or leg.dialog.call_id != headers.get("call-id"):
            return None
        same_peer = (parse_address(headers.get("from") or "").tag or "") == leg.dialog.remote_tag
        return leg if same_peer else None


def _transaction_key(request: Request, method: str) -> _TransactionKey:
    """What tells a repeated request from a new one (section 17.2.3); ACK and CANCEL find their INVITE by it."""
    top = request.headers.all("via")[0]
    via = parse_via(top)
    if via.branch.startswith(MAGIC_COOKIE):
        return (method, via.branch, via.host, str(via.port))
    headers = request.headers
    tag = parse_address(headers.get("from") or "").tag or ""
    return (method, headers.get("call-id") or "", tag, str(_sequence(request)), top)


def _sequence(request: Request) -> int:
    return parse_cseq(request.headers.get("cseq") or "").number


def _same_call(one: Request, other: Request) -> bool:
    """The same INVITE by another way (section 8.2.2.2)."""
    tags = [parse_address(request.headers.get("from") or "").tag for request in (one, other)]
    ids = [(request.headers.get("call-id"), request.headers.get("cseq")) for request in (one, other)]
    return tags[0] == tags[1] and ids[0] == ids[1]


def _content_type(request: Request) -> str:
    return (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
