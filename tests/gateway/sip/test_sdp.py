"""Session descriptions: offers as phones write them, and our answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.fields import Address
from gateway.sip.sdp import Codec, Direction, NoCommonCodecError, SdpError, agree, answer, offer, parse_offer

pytestmark = pytest.mark.unit

BARESIP = b"""v=0\r
o=- 3873 1 IN IP4 192.168.1.7\r
s=-\r
c=IN IP4 192.168.1.7\r
t=0 0\r
a=tool:baresip 1.0.0\r
m=audio 25064 RTP/AVP 96 8 0 101\r
b=AS:125\r
a=rtpmap:96 opus/48000/2\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-15\r
a=rtcp:25065\r
a=sendrecv\r
a=ptime:20\r
"""
# A desk phone with video and an encrypted stream in front of the plain one; static codecs without rtpmap.
MANY = b"""v=0
o=phone 1 1 IN IP4 10.0.0.1
s=call
t=0 0
a=sendonly
m=video 5004 RTP/AVP 99
c=IN IP4 10.0.0.2
m=audio 5006 RTP/SAVP 0
c=IN IP4 10.0.0.2
m=audio 5008/2 RTP/AVP 0 8
c=IN IP4 10.0.0.3/127
m=application 5010 UDP/BFCP *
"""


def told(body: bytes) -> list[str]:
    return body.decode().split("\r\n")


def test_the_offerer_s_first_codec_that_is_spoken_here_is_agreed_on() -> None:
    agreed = agree(parse_offer(BARESIP))
    assert (agreed.codec, agreed.payload_type, agreed.event_payload) == (Codec.PCMA, 8, 101)
    assert agreed.remote == Address("192.168.1.7", 25064) and agreed.caller_sends and agreed.caller_hears


def test_the_answer_has_one_codec_our_address_and_the_same_number_for_keys() -> None:
    offered = parse_offer(BARESIP)
    lines = told(answer(offered, agree(offered), host="10.1.1.1", port=40000, session_id=9, version=2))
    assert lines[:5] == ["v=0", "o=- 9 2 IN IP4 10.1.1.1", "s=voicegate", "c=IN IP4 10.1.1.1", "t=0 0"]
    assert "m=audio 40000 RTP/AVP 8 101" in lines and "a=rtpmap:101 telephone-event/8000" in lines
    assert "a=ptime:20" in lines and "a=sendrecv" in lines


def test_of_many_streams_one_is_taken_and_the_others_are_refused_in_their_places() -> None:
    offered = parse_offer(MANY)
    agreed = agree(offered)
    assert (agreed.codec, agreed.remote, agreed.event_payload) == (Codec.PCMU, Address("10.0.0.3", 5008), None)
    assert agreed.direction is Direction.SENDONLY and not agreed.caller_sends and not agreed.caller_hears
    lines = told(answer(offered, agreed, host="::1", port=40002, session_id=1, version=1))
    assert [line for line in lines if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 99",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 40002 RTP/AVP 0",
        "m=application 0 UDP/BFCP *",
    ]
    assert "c=IN IP6 ::1" in lines and "a=recvonly" in lines


def test_an_answer_of_ours_is_an_offer_that_can_be_read() -> None:
    made = parse_offer(offer(tuple(Codec), host="10.1.1.1", port=40000, session_id=1, version=1))
    assert [codec for _, codec in made.codecs] == [Codec.PCMU, Codec.PCMA]
    assert made.remote == Address("10.1.1.1", 40000) and made.event_payload == 101


@pytest.mark.parametrize(
    ("change", "direction", "sends", "hears"),
    [
        ((b"a=sendrecv", b"a=sendonly"), Direction.SENDONLY, False, False),
        ((b"a=sendrecv", b"a=recvonly"), Direction.RECVONLY, False, True),
        ((b"a=sendrecv", b"a=inactive"), Direction.INACTIVE, False, False),
        ((b"c=IN IP4 192.168.1.7", b"c=IN IP4 0.0.0.0"), Direction.INACTIVE, False, False),
    ],
)
def test_hold_is_understood_in_every_form(
    change: tuple[bytes, bytes], direction: Direction, sends: bool, hears: bool
) -> None:
    agreed = agree(parse_offer(BARESIP.replace(*change)))
    assert (agreed.direction, agreed.caller_sends, agreed.caller_hears) == (direction, sends, hears)


def test_a_call_keeps_its_codec() -> None:
    offered = parse_offer(BARESIP)
    assert agree(offered, keep=Codec.PCMU).codec is Codec.PCMU
    with pytest.raises(NoCommonCodecError, match="PCMU"):
        agree(parse_offer(BARESIP.replace(b" 8 0 101", b" 8 101")), keep=Codec.PCMU)


@pytest.mark.parametrize(
    ("body", "error", "told_of"),
    [
        (b"", SdpError, "v="),
        (b"v=0\r\n", SdpError, "m="),
        (BARESIP.replace(b"c=IN IP4 192.168.1.7\r\n", b""), SdpError, "c="),
        (BARESIP.replace(b" 96 8 0 101", b" 96 18"), NoCommonCodecError, "PCMU"),
        (BARESIP.replace(b"audio 25064", b"audio 0"), NoCommonCodecError, "PCMU"),
        (BARESIP.replace(b"audio 25064", b"audio " + b"1" * 5000), NoCommonCodecError, "PCMU"),
        (BARESIP.replace(b"RTP/AVP", b"RTP/SAVP"), NoCommonCodecError, "RTP/AVP"),
        (b"v=0\r\n" + b"a=x\r\n" * 600, SdpError, "lines"),
    ],
)
def test_what_cannot_be_used_says_why(body: bytes, error: type[SdpError], told_of: str) -> None:
    with pytest.raises(error, match=told_of):
        parse_offer(body)


@given(
    st.binary(max_size=100)
    | st.builds(
        lambda at, size, put: MANY[:at] + put + MANY[at + size :],
        st.integers(0, len(MANY)),
        st.integers(0, 20),
        st.binary(max_size=10),
    )
)
def test_no_description_does_more_than_be_refused(body: bytes) -> None:
    try:
        offered = parse_offer(body)
    except SdpError:
        return
    written = answer(offered, agree(offered), host="10.1.1.1", port=4, session_id=1, version=1)
    assert written.count(b"m=") >= len(offered.streams)
