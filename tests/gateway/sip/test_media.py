"""A call's audio without a network: jitter, loss, silence, hold, keys, and who may speak. Time is an argument."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from audio.framing import encode
from gateway.sip.fields import Address
from gateway.sip.jitter import JitterBuffer
from gateway.sip.media import Media, MediaTick
from gateway.sip.rtp import RtpPacket, RtpSender, parse_rtp
from gateway.sip.sdp import Agreed, Codec, Direction
from tests.gateway.harness import speech

pytestmark = pytest.mark.unit

MULAW = AudioFormat(encoding=Encoding.MULAW)
QUIET = b"\xff"
DELAY = QUIET * 320
PHONE = Address("10.0.0.9", 5004)
SPOKEN = encode(MULAW, speech())
AUDIO = SPOKEN[: len(SPOKEN) // 160 * 160]
"""A caller who speaks for about a second, in whole frames."""


def test_audio_in_time_comes_out_as_it_went_in_40_ms_later() -> None:
    buffer = JitterBuffer(MULAW)
    out = b""
    for at in range(0, len(AUDIO), 160):
        buffer.push(7000 + at, AUDIO[at : at + 160])
        out += buffer.pull()
    assert DELAY + AUDIO == out + buffer.pull() + buffer.pull()
    assert buffer.lost == 0


@given(st.integers(0, 10_000))
def test_order_repetition_and_packet_size_do_not_matter(seed: int) -> None:
    """Packets of 5 to 20 ms, each up to 20 ms late and perhaps twice, over the timestamps' end."""
    rng = random.Random(seed)
    base = 2**32 - 1600
    packets: list[tuple[int, int, bytes]] = []
    at = 0
    while at < 8000:
        size = rng.choice((40, 80, 160)) if at else 160
        # A packet is sent when its last sample is there; the first defines the line and so comes in time.
        due = at + size + (rng.randrange(0, 160) if at else 0)
        packets += [(due, at, AUDIO[at : at + size])] * rng.choice((1, 1, 2))
        at += size
    total = at
    buffer, out, start = JitterBuffer(MULAW), b"", packets[0][0]
    for now in range(start, total + 8000, 160):
        for packet in sorted(packets):
            if now - 160 < packet[0] <= now:
                buffer.push((base + packet[1]) % 2**32, packet[2])
        out += buffer.pull()
    assert AUDIO[:total] in out


def test_packets_of_60_ms_lose_nothing() -> None:
    buffer, out = JitterBuffer(MULAW), b""
    for now in range(0, 8640, 160):
        if now % 480 == 320:
            buffer.push(now - 320, AUDIO[now - 320 : now + 160])
        out += buffer.pull()
    assert AUDIO[:8000] in out


def test_what_never_comes_is_silence_of_its_own_length() -> None:
    buffer = JitterBuffer(MULAW)
    out = b""
    for at in range(0, 8000, 160):
        if at not in (1600, 1760):
            buffer.push(at, AUDIO[at : at + 160])
        out += buffer.pull()
    out += buffer.pull() + buffer.pull()
    assert out == DELAY + AUDIO[:1600] + QUIET * 320 + AUDIO[1920:8000]


def test_a_stall_of_the_network_puts_no_hole_into_the_words() -> None:
    buffer = JitterBuffer(MULAW)
    given_at = []
    out = b""
    for step, at in enumerate(range(0, 8000, 160)):
        if not 20 <= step < 29:  # 180 ms in which nothing comes, then all of it at once
            late = range(20 * 160, at, 160) if step == 29 else ()
            for missed in late:
                buffer.push(missed, AUDIO[missed : missed + 160])
            buffer.push(at, AUDIO[at : at + 160])
        frame = buffer.pull()
        given_at.append(len(frame) // 160)
        out += frame
    out += buffer.pull() + buffer.pull()
    assert out == DELAY + AUDIO[:8000]
    assert given_at[20:30] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 8]


def test_a_phone_that_sends_nothing_in_silence_still_has_audio() -> None:
    buffer = JitterBuffer(MULAW)
    assert buffer.pull() == QUIET * 160, "before the first packet"
    buffer.push(1000, AUDIO[1600:1760])
    spoken = b"".join(buffer.pull() for _ in range(3))
    silent = [len(buffer.pull()) for _ in range(60)]
    assert spoken == DELAY + AUDIO[1600:1760]
    assert sum(silent) == 60 * 160 and silent[:10] == [0] * 10 and silent[11:] == [160] * 49
    buffer.push(1000 + 160 * 61, AUDIO[3200:3360])
    assert b"".join(buffer.pull() for _ in range(3)) == DELAY + AUDIO[3200:3360]


def test_a_line_that_became_long_is_shortened_in_quiet_places() -> None:
    buffer = JitterBuffer(MULAW)
    for at in range(0, 4800, 160):  # a burst of 600 ms
        buffer.push(at, QUIET * 160)
    for at in range(4800, 4800 + 200 * 160, 160):
        buffer.push(at, QUIET * 160)
        buffer.pull()
    assert buffer.waiting_samples <= 4 * 160


def test_timestamps_that_jump_begin_a_new_line() -> None:
    buffer = JitterBuffer(MULAW)
    buffer.push(0, AUDIO[:160])
    buffer.push(10_000_000, AUDIO[1600:1760])
    assert b"".join(buffer.pull() for _ in range(3)) == DELAY + AUDIO[1600:1760]
    for late in range(12):  # a sender that began again a little lower
        buffer.push(9_995_000 + late * 160, AUDIO[late * 160 : late * 160 + 160])
    assert buffer.lost == 10 and buffer.waiting_samples >= 480


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=600), st.booleans()), max_size=30))
def test_a_buffer_is_bounded_whatever_comes(packets: list[tuple[int, bytes, bool]]) -> None:
    buffer = JitterBuffer(MULAW)
    for timestamp, payload, pull in packets:
        buffer.push(timestamp, payload)
        if pull:
            assert len(buffer.pull()) % 160 == 0
        assert buffer.waiting_samples <= 2000 * 8 + 600


# The call.


def agreed(direction: Direction = Direction.SENDRECV, remote: Address = PHONE) -> Agreed:
    return Agreed(codec=Codec.PCMU, payload_type=0, event_payload=101, remote=remote, direction=direction)


def made(direction: Direction = Direction.SENDRECV) -> Media:
    media = Media(
        agreed(direction), signalling_host="192.0.2.1", sender=RtpSender(ssrc=1, sequence=0, timestamp=0), now=0.0
    )
    media.opened = True
    return media


def packet(at: int, payload: bytes = AUDIO[1600:1760], payload_type: int = 0, ssrc: int = 5) -> bytes:
    return RtpPacket(
        payload_type=payload_type, marker=False, sequence=at & 0xFFFF, timestamp=at, ssrc=ssrc, payload=payload
    ).encode()


def ticks(media: Media, now: float, count: int = 3) -> list[MediaTick]:
    return [media.tick(now) for _ in range(count)]


def test_nothing_is_played_before_the_caller_has_our_answer() -> None:
    media = made()
    media.opened = False
    media.play(b"a" * 160)
    assert [tick.packet for tick in ticks(media, 0.0)] == [None] * 3 and media.queued_ms == 20
    media.opened = True
    media.play(b"b" * 320)
    media.mark("p1")
    (first, _, last) = ticks(media, 0.1)
    assert first.packet is not None and first.packet.to == PHONE
    sent = parse_rtp(first.packet.data)
    assert sent is not None and (sent.payload, sent.marker, sent.payload_type) == (b"a" * 160, True, 0)
    assert last.marks == ("p1",) and media.queued_ms == 0


def test_ticks_keep_their_pace_and_a_long_stall_is_not_made_up_for() -> None:
    media = made()
    count, now = 0, 0.0
    while now < 10.0:
        while media.due(now):
            media.tick(now)
            count += 1
        now += 0.0173
    assert count == 500
    stalled = now + 5.0
    assert media.due(stalled)
    media.tick(stalled)
    assert not media.due(stalled)


def test_on_hold_nothing_is_heard_and_nothing_said_and_prompts_pass() -> None:
    media = made()
    media.agree_again(agreed(Direction.SENDONLY), 1.0)
    media.receive(packet(100), PHONE, 1.0)
    media.play(b"a" * 480)
    media.mark("p1")
    passed = ticks(media, 1.0)
    assert [tick.packet for tick in passed] == [None] * 3 and passed[2].marks == ("p1",)
    assert b"".join(tick.heard for tick in passed) == QUIET * 480 and media.silent_s(100.0) == 0.0
    media.agree_again(agreed(), 2.0)
    (back, *_) = ticks(media, 2.0)
    assert back.packet is not None
    sent = parse_rtp(back.packet.data)
    assert sent is not None and sent.marker and sent.timestamp == 3 * 160, "time went on in silence"
    assert media.silent_s(5.0) == 3.0


def test_audio_goes_where_the_caller_s_comes_from_and_strangers_are_not_heard() -> None:
    media = made()
    behind_router = Address("192.0.2.1", 61000)
    assert media.receive(packet(0), Address("203.0.113.7", 5004), 0.0) == "" and media.strangers == 1
    media.receive(packet(0), behind_router, 0.0)
    media.receive(packet(160), Address("192.0.2.1", 7), 0.1)
    assert media.strangers == 2, "another port of that host while the first is heard"
    (tick, *_) = ticks(media, 0.1)
    assert tick.packet is not None and tick.packet.to == behind_router
    media.receive(packet(320), PHONE, 0.2)
    (tick, *_) = ticks(media, 0.2)
    assert tick.packet is not None and tick.packet.to == PHONE, "the described address needs no guess"


def test_a_name_in_a_description_is_not_looked_up() -> None:
    media = made()
    media.agree_again(agreed(remote=Address("phone.example.com", 5004)), 0.0)
    (tick, *_) = ticks(media, 0.0)
    assert tick.packet is not None and tick.packet.to == Address("192.0.2.1", 5004)


def test_keys_and_audio_of_other_payload_types_are_told_apart() -> None:
    media = made()
    media.receive(packet(0, payload_type=18), PHONE, 5.0)
    assert media.silent_s(6.0) == 6.0, "a codec that was not agreed on is nothing"
    begun = struct.pack(">BBH", 9, 10, 160)
    assert media.receive(packet(0, begun, 101), PHONE, 5.0) == ""
    assert media.tick(5.5).digits == "9"
    assert media.silent_s(6.0) == 1.0


def test_another_stream_of_the_caller_is_heard_at_once() -> None:
    media = made()
    media.receive(packet(50_000), PHONE, 0.0)
    ticks(media, 0.0)
    media.receive(packet(49_000, AUDIO[3200:3360], ssrc=6), PHONE, 0.1)
    heard = b"".join(tick.heard for tick in ticks(media, 0.1))
    assert heard == DELAY + AUDIO[3200:3360]
    assert np.any(np.frombuffer(heard, np.uint8) != 0xFF)
