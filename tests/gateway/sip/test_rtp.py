"""RTP packets, keys in them, and what the bot says on its way there."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sip.playback import Playback
from gateway.sip.rtp import RtpPacket, RtpSender, parse_rtp
from gateway.sip.telephone_event import KeyReader

pytestmark = pytest.mark.unit


def test_a_packet_is_read_past_sources_extension_and_padding() -> None:
    data = (
        bytes([0xB2, 0x80 | 8])  # padding, extension, two sources; marker
        + struct.pack(">HII", 65535, 7, 9)
        + bytes(8)
        + struct.pack(">HH", 1, 1)
        + bytes(4)
        + b"audio"
        + b"\0\0\3"
    )
    assert parse_rtp(data) == RtpPacket(
        payload_type=8, marker=True, sequence=65535, timestamp=7, ssrc=9, payload=b"audio"
    )


@given(st.binary(max_size=40))
def test_no_datagram_does_more_than_be_no_packet(data: bytes) -> None:
    packet = parse_rtp(data)
    assert packet is None or len(packet.payload) <= len(data) - 12


def test_packets_are_numbered_on_and_the_first_after_silence_is_marked() -> None:
    sender = RtpSender(ssrc=1, sequence=0xFFFF, timestamp=2**32 - 160)
    packets = [parse_rtp(sender.packet(0, bytes(160), 160)) for _ in range(2)]
    sender.skip(160)
    packets.append(parse_rtp(sender.packet(0, bytes(160), 160)))
    found = [(p.sequence, p.timestamp, p.marker) for p in packets if p is not None]
    assert found == [(0xFFFF, 2**32 - 160, True), (0, 0, False), (1, 320, True)]


def key(number: int, *, end: bool = False, duration: int = 160) -> bytes:
    return struct.pack(">BBH", number, 0x8A if end else 10, duration)


def test_a_key_is_told_once_however_often_it_is_sent() -> None:
    keys = KeyReader()
    told = [keys.push(100, key(1), 0.0), keys.push(100, key(1), 0.02)]
    told += [keys.push(100, key(1, end=True), 0.04) for _ in range(3)]
    told += [keys.push(900, key(1, end=True), 0.2), keys.push(100, key(1, end=True), 0.21)]
    assert told == ["", "", "1", "", "", "1", ""]


def test_a_key_whose_end_is_lost_is_told_by_the_next_one_or_by_time() -> None:
    keys = KeyReader()
    assert keys.push(100, key(10), 0.0) == ""
    assert keys.push(900, key(11, end=True), 0.1) == "*#"
    assert keys.push(1800, key(15), 0.2) == ""
    assert (keys.overdue(0.3), keys.overdue(0.6), keys.overdue(0.9)) == ("", "D", "")


@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=6)), max_size=20))
def test_keys_are_keys_whatever_comes(packets: list[tuple[int, bytes]]) -> None:
    keys = KeyReader()
    told = "".join(keys.push(timestamp, payload, 0.0) for timestamp, payload in packets) + keys.overdue(9.0)
    assert set(told) <= set("0123456789*#ABCD") and len(told) <= len(packets)


def test_marks_come_with_the_last_audio_before_them() -> None:
    playback = Playback(1000)
    playback.mark("at once")
    playback.put(b"a" * 480)
    playback.mark("p1")
    playback.put(b"b" * 10)
    playback.mark("p2")
    taken = [playback.take(160) for _ in range(5)]
    assert taken == [
        (b"a" * 160, ["at once"]),
        (b"a" * 160, []),
        (b"a" * 160, ["p1"]),
        (b"b" * 10, ["p2"]),
        (b"", []),
    ]


def test_a_beginning_waits_until_there_is_enough_or_for_three_takes() -> None:
    playback = Playback(1000)
    playback.put(b"a" * 160)
    assert [playback.take(160)[0] for _ in range(3)] == [b"", b"", b""]
    playback.put(b"b" * 160)
    assert [playback.take(160)[0] for _ in range(3)] == [b"a" * 160, b"b" * 160, b""]
    playback.put(b"c" * 480)
    assert playback.take(160)[0] == b"c" * 160


def test_what_is_dropped_is_gone_with_its_marks_and_what_is_too_much_never_comes() -> None:
    playback = Playback(500)
    playback.put(b"a" * 480)
    playback.mark("p1")
    playback.put(b"b" * 480)
    playback.mark("p2")
    assert playback.queued_samples == 500
    assert playback.drop() == ["p1", "p2"]
    assert (playback.queued_samples, playback.take(160)) == (0, (b"", []))


@given(st.lists(st.integers(1, 400), max_size=20), st.integers(1, 200))
def test_audio_in_pieces_of_any_size_comes_out_the_same(sizes: list[int], taken: int) -> None:
    playback = Playback(10_000)
    audio = bytes(range(256)) * 32
    at = 0
    for size in sizes:
        playback.put(audio[at : at + size])
        at += size
    out = b"".join(playback.take(taken)[0] for _ in range(at // taken + 5))
    assert out == audio[:at]
