"""Media Streams by value: the exact messages, whose marks are news, and what is passed over."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    ClearPlayout,
    DigitReceived,
    EndCall,
    MarkReached,
    MessageIgnored,
    PeerFault,
    SendMark,
    StopReceived,
    TransferCall,
    WireEvent,
)
from gateway.protocols.twilio import TwilioProtocol

pytestmark = pytest.mark.unit

CALL, STREAM, ACCOUNT = "CA" + "2" * 32, "MZ" + "1" * 32, "AC" + "3" * 32
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


def message(event: str, sequence: int = 0, **fields: Any) -> str:
    numbered = {"sequenceNumber": str(sequence)} if sequence else {}
    return json.dumps({"event": event, **numbered, **fields, "streamSid": STREAM})


def start(sequence: int = 1, **changes: Any) -> str:
    body = {
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
        "callSid": CALL,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"bot": "load", "token": "secret", "caller": "+1555", "amount": "84.50"},
        **changes,
    }
    return message("start", sequence, start=body)


def media(sequence: int, audio: bytes = b"\xff" * 160, **changes: Any) -> str:
    body = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": base64.b64encode(audio).decode(), **changes}
    return message("media", sequence, media=body)


def started() -> TwilioProtocol:
    protocol = TwilioProtocol()
    protocol.receive(CONNECTED)
    protocol.receive(start())
    return protocol


def test_connected_start_media() -> None:
    protocol = TwilioProtocol()
    assert protocol.receive(CONNECTED) == ()
    (event,) = protocol.receive(start())
    assert event == CallStart(
        format=AudioFormat(encoding=Encoding.MULAW),
        call_id=CALL,
        bot="load",
        caller="+1555",
        metadata={"accountSid": ACCOUNT, "callSid": CALL, "streamSid": STREAM, "amount": "84.50"},
        token="secret",
    )
    assert "secret" not in repr(event)
    assert protocol.receive(media(2, b"abc")) == (AudioReceived(b"abc"),)


def test_a_stream_must_start_by_itself() -> None:
    assert TwilioProtocol().starts_within_ms is None


@pytest.mark.parametrize("rate", [8000, "8000"])
def test_numbers_may_be_strings(rate: int | str) -> None:
    (event,) = TwilioProtocol().receive(start(mediaFormat={"encoding": "audio/x-mulaw", "sampleRate": rate}))
    assert isinstance(event, CallStart)


@pytest.mark.parametrize(
    "changes",
    [
        {"mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 8000}},
        {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 16000}},
    ],
)
def test_another_format_is_refused_by_name(changes: dict[str, Any]) -> None:
    (event,) = TwilioProtocol().receive(start(**changes))
    assert isinstance(event, PeerFault) and "audio/x-mulaw at 8000" in event.message


def test_a_start_without_stream_cannot_be_answered() -> None:
    (event,) = TwilioProtocol().receive(json.dumps({"event": "start", "start": {"callSid": CALL}}))
    assert isinstance(event, PeerFault)


def test_media_out_of_the_call_is_passed_over() -> None:
    protocol = TwilioProtocol()
    assert protocol.receive(media(1)) == (MessageIgnored("media_out_of_call"),)
    protocol = started()
    assert protocol.receive(message("stop", 2, stop={"accountSid": ACCOUNT, "callSid": CALL})) == (StopReceived(),)
    assert protocol.receive(media(3)) == (MessageIgnored("media_out_of_call"),)


def test_our_own_voice_is_not_heard() -> None:
    assert started().receive(media(2, track="outbound")) == ()


@pytest.mark.parametrize("payload", ["%%%", "abc", 7, None, "YWJj\n", "ü"])
def test_a_payload_that_is_no_base64_is_passed_over(payload: object) -> None:
    assert started().receive(media(2, payload=payload)) == (MessageIgnored("bad_media"),)


def test_gaps_in_the_sequence_are_counted_and_the_audio_is_heard() -> None:
    protocol = started()
    assert protocol.receive(media(2, b"a")) == (AudioReceived(b"a"),)
    assert protocol.receive(media(5, b"b")) == (MessageIgnored("sequence_gap"), AudioReceived(b"b"))
    assert protocol.receive(media(6, b"c")) == (AudioReceived(b"c"),)
    assert protocol.receive(message("media", media={"payload": "YQ=="})) == (AudioReceived(b"a"),)
    assert protocol.receive(media(7, b"d")) == (AudioReceived(b"d"),)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (message("dtmf", 2, dtmf={"track": "inbound_track", "digit": "#"}), [DigitReceived("#")]),
        (message("dtmf", 2, dtmf={"digit": 5}), [DigitReceived("5")]),
        (message("dtmf", 2, dtmf={"digit": "55"}), [MessageIgnored("bad_dtmf")]),
        (message("dtmf", 2), [MessageIgnored("bad_dtmf")]),
        (message("mark", 2, mark={"name": "not ours"}), [MessageIgnored("bad_mark")]),
        (message("mark", 2, mark=[]), [MessageIgnored("bad_mark")]),
        (message("dance", 2), [MessageIgnored("unknown_event")]),
        (start(2), [MessageIgnored("late_start")]),
        ("", [MessageIgnored("bad_json")]),
        ("[1]", [MessageIgnored("bad_json")]),
        ('{"event":"media"', [MessageIgnored("bad_json")]),
        ("[" * 100_000, [MessageIgnored("bad_json")]),
    ],
)
def test_other_messages(text: str, events: list[WireEvent]) -> None:
    assert list(started().receive(text)) == events


def test_binary_is_counted() -> None:
    assert started().receive(b"\xff" * 160) == (MessageIgnored("unexpected_binary"),)


@given(st.binary(max_size=400))
def test_audio_goes_out_as_twilio_wants_it(audio: bytes) -> None:
    (text,) = started().send_audio(memoryview(audio))
    assert isinstance(text, str)
    assert json.loads(text) == {
        "event": "media",
        "streamSid": STREAM,
        "media": {"payload": base64.b64encode(audio).decode()},
    }


def test_20_ms_are_216_characters() -> None:
    (text,) = started().send_audio(bytes(160))
    assert isinstance(text, str) and len(json.loads(text)["media"]["payload"]) == 216


def test_marks_and_clears() -> None:
    protocol = started()
    assert [json.loads(str(text)) for text in (*protocol.send(SendMark("p1")), *protocol.send(ClearPlayout()))] == [
        {"event": "mark", "streamSid": STREAM, "mark": {"name": "p1"}},
        {"event": "clear", "streamSid": STREAM},
    ]


def test_marks_come_back_in_order_and_those_of_cleared_audio_are_no_news() -> None:
    protocol = started()
    returned = [message("mark", 2 + n, mark={"name": name}) for n, name in enumerate(("p1", "p1", "p2"))]
    protocol.send(SendMark("p1"))
    protocol.send(ClearPlayout())
    protocol.send(SendMark("p1"))  # the prompt was resumed and said to its end
    protocol.send(SendMark("p2"))
    assert protocol.receive(returned[0]) == (), "sent back by the clear"
    assert protocol.receive(returned[1]) == (MarkReached("p1"),)
    assert protocol.receive(returned[2]) == (MarkReached("p2"),)


def test_there_is_no_word_for_the_end_and_nothing_is_said_before_the_start() -> None:
    assert started().send(EndCall("done")) == () == started().send(TransferCall(target="+1", context={}))
    assert TwilioProtocol().send(ClearPlayout()) == () == TwilioProtocol().send(SendMark("p"))
