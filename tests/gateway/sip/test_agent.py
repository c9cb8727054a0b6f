"""Signalling without a network: every timer of RFC 3261 that matters, in virtual time."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sip.agent import Acknowledged, AgentEvent, EndedBy, Invited, Keyed, LegOver, Reoffered, UserAgent
from gateway.sip.fields import Address
from gateway.sip.message import Request, Response, parse_message
from gateway.sip.transactions import Datagram

pytestmark = pytest.mark.unit

BRIDGE = Address("10.0.0.5", 5060)
PHONE = Address("10.0.0.9", 5062)
SDP = b"v=0\r\n"


def request(
    method: str = "INVITE",
    *,
    branch: str = "z9hG4bK1",
    tag: str = "",
    sequence: int = 1,
    call: str = "c1",
    body: bytes = SDP,
    extra: str = "",
) -> bytes:
    to = f";tag={tag}" if tag else ""
    head = (
        f"{method} sip:bot@10.0.0.5 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 10.0.0.9:5062;branch={branch};rport\r\n"
        "Record-Route: <sip:10.0.0.8;lr>\r\n"
        "From: <sip:ann@example.com>;tag=a1\r\n"
        f"To: <sip:bot@10.0.0.5>{to}\r\n"
        f"Call-ID: {call}\r\nCSeq: {sequence} {method}\r\n"
        "Contact: <sip:ann@10.0.0.9:5062>\r\n"
        f"{extra}"
    )
    typed = "Content-Type: application/sdp\r\n" if body and "Content-Type" not in extra else ""
    return f"{head}{typed}\r\n".encode() + body


class Line:
    """A user agent and what a phone sees of it."""

    def __init__(self, *, max_calls: int = 2) -> None:
        numbers = count()
        self._open: set[str] = set()
        self.agent = UserAgent(lambda peer: BRIDGE, max_calls=max_calls, make_token=lambda: f"t{next(numbers)}")
        self.now = 100.0

    def receive(self, data: bytes, source: Address = PHONE) -> list[AgentEvent]:
        return self._noted(self.agent.receive(data, source, self.now))

    def open_keys(self) -> list[str]:
        """Legs that were offered and are not over, as far as their datagrams and timers said."""
        return sorted(self._open)

    def _noted(self, events: list[AgentEvent]) -> list[AgentEvent]:
        for event in events:
            if isinstance(event, Invited):
                self._open.add(event.key)
            elif isinstance(event, LegOver):
                self._open.discard(event.key)
        return events

    def invited(self, **changes: str) -> str:
        """A call that was offered; its key."""
        events = self.receive(request(**changes))  # type: ignore[arg-type]
        (offered,) = [event for event in events if isinstance(event, Invited)]
        return offered.key

    def talking(self) -> str:
        key = self.invited()
        self.agent.answer(key, SDP, self.now)
        assert self.receive(request("ACK", branch="z9hG4bK2", tag=key, body=b"")) == [Acknowledged(key, b"")]
        return key

    def wait(self, seconds: float) -> list[tuple[float, AgentEvent]]:
        """Let time pass: what happens, and when."""
        end, happened = self.now + seconds, []
        while (at := self.agent.get_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            events = self._noted(self.agent.handle_timer(self.now))
            happened += [(round(self.now - end + seconds, 3), event) for event in events]
        self.now = end
        return happened


def statuses(events: list[AgentEvent]) -> list[int]:
    found = [parse_message(event.data) for event in events if isinstance(event, Datagram)]
    return [message.status for message in found if isinstance(message, Response)]


def methods(events: list[AgentEvent]) -> list[str]:
    found = [parse_message(event.data) for event in events if isinstance(event, Datagram)]
    return [message.method for message in found if isinstance(message, Request)]


def test_an_offered_call_tells_who_calls_and_is_answered_with_tag_contact_and_route() -> None:
    line = Line()
    events = line.receive(request())
    assert statuses(events) == [100]
    (offered,) = [event for event in events if isinstance(event, Invited)]
    assert (offered.caller, offered.dialled, offered.call_id, offered.body) == ("ann", "bot", "c1", SDP)
    assert offered.local == BRIDGE and offered.source == PHONE
    assert statuses(line.agent.ring(offered.key, line.now)) == [180]
    (sent,) = line.agent.answer(offered.key, SDP, line.now)
    assert isinstance(sent, Datagram) and sent.to == PHONE
    answer = parse_message(sent.data)
    assert isinstance(answer, Response) and answer.body == SDP
    assert answer.headers.get("to") == f"<sip:bot@10.0.0.5>;tag={offered.key}"
    assert answer.headers.get("contact") == "<sip:voicegate@10.0.0.5:5060>"
    assert answer.headers.get("record-route") == "<sip:10.0.0.8;lr>"
    via = answer.headers.get("via") or ""
    assert ";received=10.0.0.9;rport=5062" in via


def test_answers_go_to_the_via_s_port_where_no_rport_is_asked_for() -> None:
    line = Line()
    (sent, *_) = line.receive(request().replace(b";rport", b""), Address("10.0.0.9", 33000))
    assert isinstance(sent, Datagram) and sent.to == Address("10.0.0.9", 5062)


def test_an_invite_that_comes_again_is_the_same_call() -> None:
    line = Line()
    key = line.invited()
    assert statuses(line.receive(request())) == [100]
    line.agent.ring(key, line.now)
    assert statuses(line.receive(request())) == [180]
    line.agent.answer(key, SDP, line.now)
    assert statuses(line.receive(request())) == [200]
    line.receive(request("ACK", branch="z9hG4bK2", tag=key, body=b""))
    assert line.receive(request()) == [], "a late copy after the ACK"
    assert line.agent.legs == 1


def test_a_200_is_repeated_until_its_ack_and_its_call_is_given_up_without_one() -> None:
    line = Line()
    key = line.invited()
    line.agent.answer(key, SDP, line.now)
    happened = line.wait(40)
    times = [at for at, event in happened if statuses([event]) == [200]]
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    ((at, over),) = [(at, event) for at, event in happened if isinstance(event, LegOver)]
    assert (at, over) == (32.0, LegOver(key, EndedBy.UNACKNOWLEDGED))
    assert methods([event for at, event in happened if at == 32.0]) == ["BYE"]


def test_a_refusal_is_repeated_until_its_ack() -> None:
    line = Line()
    key = line.invited()
    refused = line.agent.refuse(key, 503, line.now)
    assert statuses(refused) == [503] and LegOver(key, EndedBy.US) in refused
    assert [statuses([event]) for _, event in line.wait(1.5)] == [[503], [503]]
    assert line.receive(request("ACK", tag=key, body=b"")) == []
    assert line.wait(100) == [] and line.agent.get_timer() is None


def test_a_caller_who_cancels_is_told_so_twice_and_a_late_cancel_changes_nothing() -> None:
    line = Line()
    key = line.invited()
    events = line.receive(request("CANCEL", body=b""))
    assert statuses(events) == [200, 487] and LegOver(key, EndedBy.CANCELLED) in events
    assert statuses(line.receive(request("CANCEL", body=b""))) == [200], "the same one again"
    assert line.agent.answer(key, SDP, line.now) == [] and line.agent.ring(key, line.now) == []
    other = Line()
    other.talking()
    assert statuses(other.receive(request("CANCEL", body=b""))) == [200] and other.agent.legs == 1
    assert statuses(other.receive(request("CANCEL", branch="z9hG4bKx", body=b""))) == [481]


def test_a_bye_ends_the_call_once_and_is_answered_however_often_it_comes() -> None:
    line = Line()
    key = line.talking()
    bye = request("BYE", branch="z9hG4bK3", tag=key, sequence=2, body=b"")
    events = line.receive(bye)
    assert statuses(events) == [200] and LegOver(key, EndedBy.CALLER) in events
    assert statuses(line.receive(bye)) == [200]
    assert statuses(line.receive(request("BYE", branch="z9hG4bK4", tag=key, sequence=3, body=b""))) == [481]
    assert line.wait(100) == []


@pytest.mark.parametrize("answered", [False, True])
def test_a_bye_before_the_ack_leaves_nothing_ringing(answered: bool) -> None:
    line = Line()
    key = line.invited()
    if answered:
        line.agent.answer(key, SDP, line.now)
    events = line.receive(request("BYE", branch="z9hG4bK3", tag=key, sequence=2, body=b""))
    assert statuses(events) == ([200] if answered else [200, 487])
    line.receive(request("ACK", tag=key, body=b""))
    assert line.wait(100) == [] and line.agent.legs == 0


def test_our_goodbye_follows_the_route_and_is_repeated_until_it_is_answered() -> None:
    line = Line()
    key = line.talking()
    sent, over = line.agent.hang_up(key, line.now)
    assert over == LegOver(key, EndedBy.US) and isinstance(sent, Datagram) and sent.to == PHONE
    bye = parse_message(sent.data)
    assert isinstance(bye, Request) and bye.uri == "sip:ann@10.0.0.9:5062"
    assert bye.headers.get("route") == "<sip:10.0.0.8;lr>"
    assert bye.headers.get("from") == f"<sip:bot@10.0.0.5>;tag={key}"
    assert bye.headers.get("to") == "<sip:ann@example.com>;tag=a1" and not line.agent.idle
    assert [at for at, _ in line.wait(2)] == [0.5, 1.5]
    vias = bye.headers.get("via")
    ok = f"SIP/2.0 200 OK\r\nVia: {vias}\r\nCSeq: 1 BYE\r\n\r\n".encode()
    assert line.receive(ok) == [] and line.agent.idle
    assert line.wait(100) == [] and line.agent.hang_up(key, line.now) == []


def test_a_goodbye_that_nobody_answers_is_given_up() -> None:
    line = Line()
    line.agent.hang_up(line.talking(), line.now)
    assert max(at for at, _ in line.wait(100)) == 31.5
    assert line.agent.idle and line.agent.get_timer() is None


def test_who_hangs_up_before_the_ack_says_bye_after_it() -> None:
    line = Line()
    key = line.invited()
    line.agent.answer(key, SDP, line.now)
    assert line.agent.hang_up(key, line.now) == []
    events = line.receive(request("ACK", branch="z9hG4bK2", tag=key, body=b""))
    assert methods(events) == ["BYE"] and LegOver(key, EndedBy.US) in events


def test_a_new_offer_within_the_call_is_answered_or_refused_and_the_call_goes_on() -> None:
    line = Line()
    key = line.talking()
    events = line.receive(request(branch="z9hG4bK5", tag=key, sequence=2))
    assert events == [Reoffered(key, SDP)]
    assert statuses(line.receive(request(branch="z9hG4bK6", tag=key, sequence=2))) == [500], "an old number"
    assert statuses(line.agent.answer(key, SDP, line.now)) == [200]
    assert line.receive(request("ACK", branch="z9hG4bK7", tag=key, sequence=2, body=b"")) == [Acknowledged(key, b"")]
    line.receive(request(branch="z9hG4bK8", tag=key, sequence=3))
    assert statuses(line.agent.refuse(key, 488, line.now)) == [488] and line.agent.legs == 1
    unready = Line()
    other = unready.invited()
    assert statuses(unready.receive(request(branch="z9hG4bK9", tag=other, sequence=2))) == [491]


def test_keys_by_info_are_told_and_other_bodies_are_not_taken() -> None:
    line = Line()
    key = line.talking()

    def info(number: int, content: str, body: bytes) -> list[AgentEvent]:
        extra = f"Content-Type: {content}\r\n"
        branch = f"z9hG4bKi{number}"
        return line.receive(request("INFO", branch=branch, tag=key, sequence=number, body=body, extra=extra))

    assert Keyed(key, "5") in info(2, "application/dtmf-relay", b"Signal= 5\r\nDuration= 160\r\n")
    assert Keyed(key, "#") in info(3, "application/dtmf", b"#")
    assert statuses(info(4, "application/dtmf-relay", b"Signal=flash")) == [200]
    assert statuses(info(5, "text/plain", b"5")) == [415]
    assert statuses(line.receive(request("INFO", branch="z9hG4bKi6", tag=key, sequence=6, body=b""))) == [200]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(extra="Require: 100rel\r\n"), 420),
        (request(extra="Content-Type: multipart/mixed\r\n"), 415),
        (request().replace(b"INVITE sip:", b"INVITE http:"), 416),
        (request().replace(b"Contact: <sip:ann@10.0.0.9:5062>\r\n", b""), 400),
        (request().replace(b"CSeq: 1 INVITE", b"CSeq: one INVITE"), 400),
        (request(tag="nobody"), 481),
        (request("REGISTER", body=b""), 405),
        (request("OPTIONS", body=b""), 200),
        (request("BYE", body=b"", tag="nobody"), 481),
    ],
)
def test_what_is_no_call_is_answered_with_the_reason(data: bytes, status: int) -> None:
    line = Line()
    assert statuses(line.receive(data)) == [status] and line.agent.legs == 0


def test_one_call_too_many_is_busy_and_the_same_call_by_two_ways_is_one() -> None:
    line = Line(max_calls=1)
    line.invited()
    assert statuses(line.receive(request(branch="z9hG4bK8", call="c2"))) == [486]
    assert statuses(line.receive(request(branch="z9hG4bK9"))) == [482]
    assert line.agent.legs == 1


def test_a_flood_of_requests_is_answered_and_not_remembered() -> None:
    line = Line()
    for number in range(2500):
        assert statuses(line.receive(request("OPTIONS", branch=f"z9hG4bKf{number}", body=b""))) == [200]
    assert statuses(line.receive(request(branch="z9hG4bKnew"))) == [503]
    line.wait(40)
    assert isinstance(line.receive(request(branch="z9hG4bKnewer", call="c9"))[-1], Invited)


def test_noise_is_counted_and_keep_alives_are_not() -> None:
    line = Line()
    for noise in (b"\r\n\r\n", b"", b"\0\0\0\0"):
        assert line.receive(noise) == []
    assert line.agent.malformed == 0
    assert line.receive(b"GET / HTTP/1.1\r\n\r\n") == [] and line.agent.malformed == 1
    assert line.receive(b"SIP/2.0 200 OK\r\n\r\n") == [] and line.agent.malformed == 2


pieces = st.sampled_from(
    [
        request(),
        request("ACK", tag="t1", body=b""),
        request("ACK", branch="z9hG4bK2", tag="t1", body=b""),
        request("CANCEL", body=b""),
        request("BYE", branch="z9hG4bK3", tag="t1", sequence=2, body=b""),
        request(branch="z9hG4bK5", tag="t1", sequence=3),
        request(branch="z9hG4bK6", call="c2"),
        request("OPTIONS", branch="z9hG4bK7", body=b""),
    ]
)
damaged = st.builds(lambda data, at, put: data[:at] + put + data[at + 1 :], pieces, st.integers(0, 400), st.binary())
steps = st.one_of(pieces, damaged, st.floats(0, 40), st.sampled_from(["answer", "refuse", "hang_up", "ring"]))


@settings(max_examples=150)
@given(st.lists(steps, max_size=14))
def test_in_any_order_nothing_breaks_and_every_leg_ends(told: list[bytes | float | str]) -> None:
    line = Line()
    open_legs: set[str] = set()

    def note(events: list[AgentEvent]) -> None:
        for event in events:
            if isinstance(event, Invited):
                open_legs.add(event.key)
            elif isinstance(event, LegOver):
                open_legs.remove(event.key)

    for step in told:
        if isinstance(step, bytes):
            note(line.receive(step))
        elif isinstance(step, float):
            note([event for _, event in line.wait(step)])
        else:
            for key in sorted(open_legs):
                match step:
                    case "answer":
                        note(line.agent.answer(key, SDP, line.now))
                    case "refuse":
                        note(line.agent.refuse(key, 488, line.now))
                    case "ring":
                        note(line.agent.ring(key, line.now))
                    case _:
                        note(line.agent.hang_up(key, line.now))
        assert line.agent.legs == len(open_legs) <= 2
    for key in sorted(open_legs):
        note(line.agent.hang_up(key, line.now))
    note([event for _, event in line.wait(100)])
    assert not open_legs and line.agent.get_timer() is None
