"""SIP messages: what is read, what is refused, and that nothing a peer sends does more than that."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.fields import CSeq, Via, missing_header, parse_address, parse_cseq, parse_via, user_of
from gateway.sip.message import Headers, Request, Response, SipParseError, parse_message

pytestmark = pytest.mark.unit

INVITE = (
    b"INVITE sip:bot@10.0.0.5 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.9:5062;branch=z9hG4bK1;rport, SIP/2.0/UDP far.example.com;branch=z9hG4bK0\r\n"
    b"Max-Forwards: 70\r\n"
    b'f: "Miller, Ann" <sip:ann@example.com>;tag=a1\r\n'
    b"t: <sip:bot@10.0.0.5>\r\n"
    b"i: 77@10.0.0.9\r\n"
    b"CSeq: 314 INVITE\r\n"
    b"m: <sip:ann@10.0.0.9:5062>\r\n"
    b"Subject: a line\r\n  that goes on\r\n"
    b"c: application/sdp\r\n"
    b"l: 4\r\n\r\nv=0\r\n"
)


def test_a_request_is_read_with_compact_names_folded_lines_and_its_length() -> None:
    request = parse_message(INVITE)
    assert isinstance(request, Request)
    assert (request.method, request.uri, request.body) == ("INVITE", "sip:bot@10.0.0.5", b"v=0\r")
    headers = request.headers
    assert headers.get("call-id") == "77@10.0.0.9" and headers.get("subject") == "a line that goes on"
    assert len(headers.all("via")) == 2 and headers.all("from") == ['"Miller, Ann" <sip:ann@example.com>;tag=a1']
    assert missing_header(request) is None


def test_a_message_written_and_read_again_is_the_same() -> None:
    request = parse_message(INVITE)
    assert isinstance(request, Request)
    again = parse_message(request.encode())
    assert isinstance(again, Request)
    kept = [pair for pair in request.headers.pairs if pair[0] != "content-length"]
    assert [pair for pair in again.headers.pairs if pair[0] != "content-length"] == kept
    assert again.headers.get("content-length") == "4" and again.body == request.body


def test_a_response_is_read_and_written() -> None:
    response = parse_message(b"SIP/2.0 180 Ringing\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bK7\n\n")
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (180, "Ringing")
    assert response.encode().startswith(b"SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bK7\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"INVITE sip:a SIP/2.0\r\nVia: x\r\n",  # no empty line
        b"INVITE sip:a SIP/3.0\r\n\r\n",
        b"INVITE  SIP/2.0\r\n\r\n",
        b"SIP/2.0 999 Odd\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nno name\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nVia: a\x00b\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\nfour",
        b"INVITE sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"\x80\x00" * 50,
    ],
)
def test_what_is_no_sip_is_refused(data: bytes) -> None:
    with pytest.raises(SipParseError):
        parse_message(data)


damaged = st.builds(
    lambda at, size, put: INVITE[:at] + put + INVITE[at + size :],
    st.integers(0, len(INVITE)),
    st.integers(0, 20),
    st.binary(max_size=20),
)


@given(st.binary(max_size=200) | damaged)
def test_no_datagram_does_more_than_be_refused(data: bytes) -> None:
    try:
        message = parse_message(data)
    except SipParseError:
        return
    if isinstance(message, Request):
        missing_header(message)
        user_of(message.uri)
    parse_message(message.encode())


def test_the_top_via_says_where_answers_go() -> None:
    assert parse_via("SIP / 2.0 / UDP first.example.com: 4000 ;ttl=16 ;branch=z9hG4bK83;rport") == Via(
        host="first.example.com", port=4000, branch="z9hG4bK83", wants_rport=True
    )
    assert parse_via("SIP/2.0/UDP [2001:db8::1];branch=x") == Via(
        host="2001:db8::1", port=None, branch="x", wants_rport=False
    )
    for text in ("", "SIP/2.0/UDP", "HTTP/1.1 x", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:70000"):
        with pytest.raises(SipParseError):
            parse_via(text)


def test_an_address_is_read_with_brackets_and_without() -> None:
    assert parse_address('"A <b>, c" <sip:a@b;x=y>;tag=7;z').tag == "7"
    assert parse_address("sip:a@b;tag=8").uri == "sip:a@b" and parse_address("sip:a@b;tag=8").tag == "8"
    assert parse_address("<sip:a@b>").tag is None
    for text in ("", "nobody", "<>", '"open <sip:a@b'):
        with pytest.raises(SipParseError):
            parse_address(text)


def test_a_name_of_60_000_blanks_does_not_hold_up_the_others() -> None:
    begun = time.process_time()
    with pytest.raises(SipParseError):
        parse_address(f"a{' ' * 60_000}a")
    assert time.process_time() - begun < 2.0  # in quadratic time, a quarter of a minute


def test_a_sequence_number_has_its_method() -> None:
    assert parse_cseq("0009 bye") == CSeq(9, "BYE")
    for text in ("", "BYE", "9", "99999999999 BYE", "4294967295 BYE"):
        with pytest.raises(SipParseError):
            parse_cseq(text)


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:+15551234@example.com;user=phone", "+15551234"),
        ("sips:a%20b:secret@x", "a b"),
        ("tel:+1-555", "+1-555"),
        ("sip:example.com", ""),
        ("sip:%00%0aevil@x", "evil"),
    ],
)
def test_the_user_of_a_uri_is_printable(uri: str, user: str) -> None:
    assert user_of(uri) == user


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (b"CSeq: 314 INVITE\r\n", "cseq"),
        (b"t: <sip:bot@10.0.0.5>\r\n", "to"),
        (b"i: 77@10.0.0.9\r\n", "call-id"),
    ],
)
def test_a_request_without_what_it_needs_is_told_what(line: bytes, missing: str) -> None:
    request = parse_message(INVITE.replace(line, b""))
    assert isinstance(request, Request) and missing_header(request) == missing
    twice = parse_message(INVITE.replace(b"t: ", b"t: <sip:else@where>\r\nt: "))
    assert isinstance(twice, Request) and missing_header(twice) == "only one to"
    other = parse_message(INVITE.replace(b"314 INVITE", b"314 BYE"))
    assert isinstance(other, Request) and missing_header(other) == "a CSeq of the same method"


def test_only_the_first_element_of_a_header_is_exchanged() -> None:
    headers = Headers((("via", "one, two"), ("via", "three")))
    assert headers.with_first("via", "new").all("via") == ["new", "two", "three"]
    assert Headers().with_first("via", "new").all("via") == ["new"]
