"""chan_websocket by value: both forms of its texts, frames, a full queue, flushes, and what old builds leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from gateway.protocols.asterisk import MAX_COMMAND_BYTES, AsteriskProtocol
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    ClearPlayout,
    CloseCode,
    Command,
    DigitReceived,
    EndCall,
    MarkReached,
    MessageIgnored,
    PeerFault,
    ReplyDue,
    SendMark,
    SessionReady,
    SpeechEdge,
    WireEvent,
)

pytestmark = pytest.mark.unit

PLAIN = (
    "MEDIA_START connection_id:mc1 channel:WebSocket/mc1/0x7 channel_id:1.2 format:{} optimal_frame_size:{} ptime:20"
)
FORMATS = {
    "ulaw": (AudioFormat(encoding=Encoding.MULAW), 160),
    "alaw": (AudioFormat(encoding=Encoding.ALAW), 160),
    "slin": (AudioFormat(), 320),
    "slin16": (AudioFormat(sample_rate_hz=16000), 640),
}


def as_json(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields})


def started(*, text: str | None = None, query: dict[str, str] | None = None) -> AsteriskProtocol:
    protocol = AsteriskProtocol(query)
    (start,) = protocol.receive(text or PLAIN.format("ulaw", 160))
    assert isinstance(start, CallStart)
    return protocol


def start_of(text: str, query: dict[str, str] | None = None) -> CallStart:
    (start,) = AsteriskProtocol(query).receive(text)
    assert isinstance(start, CallStart)
    return start


# MEDIA_START.


@pytest.mark.parametrize("codec", list(FORMATS))
def test_a_start_in_either_form(codec: str) -> None:
    fmt, frame = FORMATS[codec]
    plain = start_of(PLAIN.format(codec, frame))
    in_json = start_of(
        as_json(
            "MEDIA_START",
            connection_id="mc1",
            channel="WebSocket/mc1/0x7",
            channel_id="1.2",
            format=codec,
            optimal_frame_size=frame,
            ptime=20,
            channel_variables={"CUSTOMER": "Sam", "NESTED": {"a": 1}, "EMPTY": ""},
            of_the_future=[1],
        )
    )
    assert plain.format == in_json.format == fmt
    assert plain.metadata == {"channel": "WebSocket/mc1/0x7", "channel_id": "1.2", "connection_id": "mc1"}
    assert in_json.metadata == {**plain.metadata, "CUSTOMER": "Sam"}
    assert plain.call_id is None, "the connection id names a section of a file, not a call"


@pytest.mark.parametrize(
    ("size", "query", "encoding", "rate"),
    [
        (160, {}, Encoding.MULAW, 8000),
        (160, {"format": "alaw"}, Encoding.ALAW, 8000),
        (320, {}, Encoding.PCM_S16LE, 8000),
        (640, {}, Encoding.PCM_S16LE, 16000),
    ],
)
def test_the_oldest_form_has_no_format(size: int, query: dict[str, str], encoding: Encoding, rate: int) -> None:
    start = start_of(f"MEDIA_START connection_id:mc1 channel:WebSocket/mc1 optimal_frame_size:{size}", query)
    assert (start.format.encoding, start.format.sample_rate_hz) == (encoding, rate)


def test_fields_of_later_builds_and_values_with_colons_do_no_harm() -> None:
    text = PLAIN.format("slin", 320) + " passthrough:false unbuffered:true channel:again:x strange"
    assert start_of(text).metadata["channel"] == "WebSocket/mc1/0x7"


def test_the_query_says_what_the_call_is() -> None:
    query = {"bot": "load", "call_id": "1750.4", "caller": "+1555", "language": "en", "token": "t", "amount": "12"}
    start = start_of(PLAIN.format("ulaw", 160), query)
    assert (start.bot, start.call_id, start.caller, start.language) == ("load", "1750.4", "+1555", "en")
    assert start.metadata["amount"] == "12" and "token" not in start.metadata


@pytest.mark.parametrize("codec", ["opus", "g722", "slin48", "x" * 500])
@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_codec_that_is_not_spoken_is_named_with_the_mend(codec: str, form: str) -> None:
    text = PLAIN.format(codec, 960) if form == "plain" else as_json("MEDIA_START", format=codec)
    (fault,) = AsteriskProtocol().receive(text)
    assert isinstance(fault, PeerFault) and fault.close_code == CloseCode.BAD_START
    assert "c(ulaw)" in fault.message and len(fault.message) < 200


def test_audio_before_the_start_is_kept_and_delivered_in_order() -> None:
    protocol = AsteriskProtocol()
    for number in range(5):
        assert protocol.receive(bytes([number]) * 160) == ()
    start, audio = protocol.receive(PLAIN.format("ulaw", 160))
    assert isinstance(start, CallStart)
    assert audio == AudioReceived(b"".join(bytes([number]) * 160 for number in range(5)))
    assert protocol.receive(b"x" * 160) == (AudioReceived(b"x" * 160),)


def test_no_more_than_two_seconds_are_kept() -> None:
    protocol = AsteriskProtocol()
    for number in range(200):
        protocol.receive(bytes([number]) * 160)
    _, audio = protocol.receive(PLAIN.format("ulaw", 160))
    assert isinstance(audio, AudioReceived)
    assert audio.data == b"".join(bytes([number]) * 160 for number in range(100, 200))


def test_a_driver_that_never_starts_is_taken_for_ulaw_and_heard_from_the_beginning() -> None:
    protocol = AsteriskProtocol()
    assert protocol.starts_within_ms == 2000
    protocol.receive(b"a" * 160)
    assert protocol.default_start().format.encoding is Encoding.MULAW
    assert protocol.receive(b"b" * 160) == (AudioReceived(b"a" * 160 + b"b" * 160),)
    assert protocol.receive(PLAIN.format("slin", 320)) == (MessageIgnored("late_start"),)
    assert AsteriskProtocol({"format": "slin16"}).default_start().format.sample_rate_hz == 16000
    assert AsteriskProtocol({"format": "mp3"}).default_start().format.encoding is Encoding.MULAW


# Other events.

EVENTS: list[tuple[str, str, list[WireEvent]]] = [
    ("DTMF_END digit:5 channel_id:1.2", as_json("DTMF_END", channel_id="1.2", digit="5"), [DigitReceived("5")]),
    ("DTMF_END digit:a channel_id:1.2", as_json("DTMF_END", digit="a"), [DigitReceived("A")]),
    ("DTMF_END digit:55", as_json("DTMF_END", digit=""), [MessageIgnored("bad_dtmf")]),
    ("MEDIA_MARK_PROCESSED p1", as_json("MEDIA_MARK_PROCESSED", correlation_id="p1"), [MarkReached("p1")]),
    ("MEDIA_MARK_PROCESSED a:b", as_json("MEDIA_MARK_PROCESSED", correlation_id="a:b"), [MarkReached("a:b")]),
    ("MEDIA_MARK_PROCESSED", as_json("MEDIA_MARK_PROCESSED", correlation_id=""), []),
    ("QUEUE_DRAINED", as_json("QUEUE_DRAINED", channel_id="1.2"), []),
    ("MEDIA_BUFFERING_COMPLETED x", as_json("MEDIA_BUFFERING_COMPLETED", correlation_id="x"), []),
    ("STATUS channel_id:1.2 queue_length:3 queue_full:false", as_json("STATUS", queue_length=3), []),
    (
        "ERROR channel_id:1.2 error_text:no: event:DTMF_END digit:5",
        as_json("ERROR", error_text="no"),
        [MessageIgnored("peer_error")],
    ),
    ("MEDIA_DANCE a:b", as_json("MEDIA_DANCE"), [MessageIgnored("unknown_event")]),
    ("  MEDIA_XOFF \n", as_json("MEDIA_XOFF"), []),
]


@pytest.mark.parametrize(("plain", "in_json", "events"), EVENTS)
def test_every_event_in_both_forms(plain: str, in_json: str, events: list[WireEvent]) -> None:
    assert list(started().receive(plain)) == events
    assert list(started().receive(in_json)) == events


@pytest.mark.parametrize("text", ["", " ", "{", "[1]", '{"event":7}', "\0", "\u2028", "{" * 3000])
def test_nonsense_is_counted_and_ends_nothing(text: str) -> None:
    for protocol in (AsteriskProtocol(), started()):
        (event,) = protocol.receive(text)
        assert isinstance(event, MessageIgnored)


# What we send.


@pytest.mark.parametrize("in_json", [False, True])
def test_commands_come_in_the_peers_own_form(in_json: bool) -> None:
    protocol = started(text=as_json("MEDIA_START", format="ulaw", optimal_frame_size=160) if in_json else None)
    sent = [*protocol.send(SendMark("p1")), *protocol.send(ClearPlayout()), *protocol.send(EndCall("done"))]
    if in_json:
        assert [json.loads(text) for text in sent] == [
            {"command": "MARK_MEDIA", "correlation_id": "p1"},
            {"command": "FLUSH_MEDIA"},
            {"command": "HANGUP"},
        ]
    else:
        assert sent == ["MARK_MEDIA p1", "FLUSH_MEDIA", "HANGUP"]
    assert protocol.send(SpeechEdge(started=True, at_ms=0)) == ()


@given(st.text(max_size=300), st.booleans())
def test_no_command_is_longer_than_the_driver_takes(name: str, in_json: bool) -> None:
    protocol = started(text=as_json("MEDIA_START", format="ulaw") if in_json else None)
    commands: list[Command] = [SendMark(name), ClearPlayout(), EndCall(name)]
    for command in commands:
        for text in protocol.send(command):
            assert isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) <= MAX_COMMAND_BYTES


def test_the_channel_is_answered_where_the_dialplan_leaves_that_to_us() -> None:
    ready = SessionReady(call_id="c", resumed=False)
    assert started(query={"answer": "1"}).send(ready) == ("ANSWER",)
    assert started().send(ready) == ()


@pytest.mark.parametrize("codec", list(FORMATS))
@given(data=st.data())
def test_audio_of_any_size_goes_out_in_whole_frames(codec: str, data: st.DataObject) -> None:
    fmt, frame = FORMATS[codec]
    protocol = started(text=PLAIN.format(codec, frame))
    pieces = data.draw(st.lists(st.integers(1, 700).map(lambda n: bytes(range(256)) * 3 * n), max_size=6))
    pieces = [piece[: data.draw(st.integers(1, 1500))] for piece in pieces]
    sent = [message for piece in pieces for message in protocol.send_audio(piece)]
    assert all(len(message) == frame for message in sent)
    *rest, mark = protocol.send(SendMark("p1"))
    assert mark == "MARK_MEDIA p1" and all(len(message) == frame for message in rest)
    whole = b"".join(bytes(m) for m in (*sent, *rest) if not isinstance(m, str))
    said = b"".join(pieces)
    silence = {Encoding.MULAW: b"\xff", Encoding.ALAW: b"\xd5", Encoding.PCM_S16LE: b"\0"}[fmt.encoding]
    assert whole == said + silence * (-len(said) % frame)


@pytest.mark.parametrize("size", ["0", "-3", "x", "99999999", "321"])
def test_an_odd_frame_size_is_not_believed(size: str) -> None:
    protocol = started(text=PLAIN.format("slin", size))
    assert [len(message) for message in protocol.send_audio(bytes(640))] == [320, 320]


def test_an_own_frame_size_is_obeyed() -> None:
    protocol = started(text=PLAIN.format("ulaw", 240))  # 30 ms
    assert [len(message) for message in protocol.send_audio(bytes(160))] == []
    assert [len(message) for message in protocol.send_audio(bytes(160))] == [240]
    protocol.send(ClearPlayout())
    assert protocol.send(SendMark("p")) == ("MARK_MEDIA p",), "a flush forgets the beginning of a frame"


def test_a_full_driver_gets_nothing_until_it_says_so_and_then_everything_in_order() -> None:
    protocol = started()
    frame = [bytes([n]) * 160 for n in range(8)]
    assert list(protocol.send_audio(frame[0])) == [frame[0]]
    assert protocol.receive("MEDIA_XOFF") == ()
    assert list(protocol.send_audio(memoryview(frame[1]))) == []
    assert list(protocol.send(SendMark("p1"))) == []
    assert list(protocol.send_audio(frame[2])) == []
    assert protocol.receive("MEDIA_XON") == (ReplyDue((frame[1], "MARK_MEDIA p1", frame[2])),)
    assert list(protocol.send_audio(frame[3])) == [frame[3]]
    assert protocol.receive("MEDIA_XON") == ()


def test_a_long_wait_comes_out_in_bursts_that_say_xoff_again() -> None:
    protocol = started()
    protocol.receive("MEDIA_XOFF")
    for n in range(400):
        protocol.send_audio(bytes([n % 256]) * 160)
    (reply,) = protocol.receive("MEDIA_XON")
    assert isinstance(reply, ReplyDue)
    assert len(reply.messages) == 150, "800 and 150 are more than 900 and less than 1000"
    # Should it not say XOFF after all, the rest follows a little at a time.
    more = list(protocol.send_audio(b"z" * 160))
    assert more == [bytes([n]) * 160 for n in (150, 151, 152, 153)]


def test_a_flush_empties_what_waits_but_does_not_reopen_a_full_driver() -> None:
    protocol = started()
    protocol.receive("MEDIA_XOFF")
    protocol.send_audio(bytes(160))
    assert protocol.send(ClearPlayout()) == ("FLUSH_MEDIA",)
    assert list(protocol.send_audio(bytes(160))) == []
    assert protocol.receive("MEDIA_XON") == (ReplyDue((bytes(160),)),)


def test_what_waits_is_bounded() -> None:
    protocol = started()
    protocol.receive("MEDIA_XOFF")
    for _ in range(4000):
        protocol.send_audio(bytes(160))
    got = 0
    while replies := protocol.receive("MEDIA_XON"):
        (reply,) = replies
        assert isinstance(reply, ReplyDue)
        got += len(reply.messages)
    assert got == 3000, "a minute"


def test_passthrough_gets_audio_and_no_media_commands() -> None:
    for text in (
        PLAIN.format("ulaw", 0) + " passthrough:true",
        as_json("MEDIA_START", format="ulaw", passthrough=True),
    ):
        protocol = started(text=text)
        assert [len(message) for message in protocol.send_audio(bytes(160))] == [160]
        assert list(protocol.send(SendMark("p1"))) == [] and list(protocol.send(ClearPlayout())) == []
        assert protocol.send(EndCall("x")) != ()
