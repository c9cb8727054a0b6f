"""mod_audio_stream by value: what may come first, last or never, and both ways to speak."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from audio.formats import AudioFormat, UnsupportedFormatError
from gateway.protocols.freeswitch import FreeSwitchProtocol
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
    ReportFault,
    SendMark,
    SpeechEdge,
    StartAwaited,
    StopReceived,
    TransferCall,
    WireEvent,
)

pytestmark = pytest.mark.unit

RATES = (8000, 16000, 24000, 32000, 48000, 64000)


def start_of(text: str, query: dict[str, str] | None = None) -> CallStart:
    start, *_ = FreeSwitchProtocol(query).receive(text)
    assert isinstance(start, CallStart)
    return start


def test_metadata_of_the_deployer() -> None:
    metadata = {"uuid": "4f6c-0c2a", "caller": "+1555", "bot": "load", "language": "en", "amount": 84.5, "deep": [1]}
    assert start_of(json.dumps(metadata)) == CallStart(
        format=AudioFormat(),
        call_id="4f6c-0c2a",
        bot="load",
        language="en",
        caller="+1555",
        metadata={"amount": "84.5"},
    )


@pytest.mark.parametrize(
    ("metadata", "query", "rate", "channels"),
    [
        ({}, {}, 8000, 1),
        ({"sampleRate": 16000}, {}, 16000, 1),
        ({"rate": "16k", "mix": "stereo"}, {}, 16000, 2),
        ({"mix": "mixed"}, {"rate": "16000"}, 16000, 1),
        ({"sample_rate": 8000, "channels": 2}, {}, 8000, 2),
        ({"sample_rate": 8000}, {"rate": "16k", "mix": "stereo"}, 16000, 2),  # the query wins
    ],
)
def test_rate_and_channels_where_the_deployer_put_them(
    metadata: dict[str, Any], query: dict[str, str], rate: int, channels: int
) -> None:
    assert start_of(json.dumps(metadata), query).format == AudioFormat(sample_rate_hz=rate, channels=channels)


@pytest.mark.parametrize("metadata", [{"rate": 24000}, {"rate": "fast"}, {"channels": 3}, {"rate": 16000.5}])
def test_a_format_that_calls_cannot_use_says_what_would_do(metadata: dict[str, Any]) -> None:
    (fault,) = FreeSwitchProtocol().receive(json.dumps(metadata))
    assert isinstance(fault, PeerFault) and fault.close_code == CloseCode.BAD_START and " must be " in fault.message
    with pytest.raises(UnsupportedFormatError):
        FreeSwitchProtocol({key: str(value) for key, value in metadata.items()}).default_start()


def test_audio_first_then_metadata() -> None:
    protocol = FreeSwitchProtocol()
    assert [protocol.receive(bytes([n]) * 320) for n in range(3)] == [(StartAwaited(100),), (), ()]
    start, audio = protocol.receive('{"caller":"x"}')
    assert isinstance(start, CallStart)
    assert audio == AudioReceived(bytes(320) + b"\1" * 320 + b"\2" * 320)


def test_no_metadata_at_all() -> None:
    protocol = FreeSwitchProtocol({"rate": "16k"})
    assert protocol.starts_within_ms == 2000, "a round trip and more, where nothing comes at all"
    assert list(protocol.receive(b"a" * 640)) == [StartAwaited(100)]
    assert protocol.default_start().format.sample_rate_hz == 16000
    assert list(protocol.receive(b"b" * 640)) == [AudioReceived(b"a" * 640 + b"b" * 640)]
    assert list(protocol.receive(b"c" * 640)) == [AudioReceived(b"c" * 640)]


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("caller=5551234", {"text": "caller=5551234"}),
        ('{"caller":"+1555","amount":"84', {}),  # cut by the dialplan at a blank
        ('{"amount":"84","name":"Sam', {"amount": "84"}),
        ('"just a string"', {"text": '"just a string"'}),
        ("", {}),
        ("[1,2]", {"text": "[1,2]"}),
    ],
)
def test_metadata_that_is_no_json_or_cut_begins_a_call_all_the_same(text: str, metadata: dict[str, str]) -> None:
    assert start_of(text).metadata == metadata
    assert start_of('{"caller":"+1555","amount":"84').caller == "+1555"


@pytest.mark.parametrize("size", [1, 319, 320, 333, 3200])
def test_audio_of_any_size_is_handed_on(size: int) -> None:
    protocol = FreeSwitchProtocol()
    protocol.receive("{}")
    assert list(protocol.receive(bytes(size))) == [AudioReceived(bytes(size))]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('{"type":"dtmf","digit":"5"}', [DigitReceived("5")]),
        ('{"event":"DTMF","dtmf":"a"}', [DigitReceived("A")]),
        ('{"type":"dtmf"}', [MessageIgnored("bad_dtmf")]),
        ('{"type":"mark_reached","name":"p1"}', [MarkReached("p1")]),
        ('{"type":"mark_reached"}', [MessageIgnored("bad_mark")]),
        ('{"type":"stop"}', [StopReceived()]),
        ('{"type":"dtmf","digit":"1"}{"type":"dtmf","digit":"2"}', [DigitReceived("1"), DigitReceived("2")]),
        ('{"answer":42}', [MessageIgnored("unknown_event")]),
        ("good bye from the dialplan", [MessageIgnored("bad_json")]),
    ],
)
def test_later_texts_of_the_dialplan(text: str, events: list[WireEvent]) -> None:
    protocol = FreeSwitchProtocol()
    protocol.receive("{}")
    assert list(protocol.receive(text)) == events


@pytest.mark.parametrize("rate", [8000, 16000])
def test_json_playback_passes_a_strict_checker(rate: int) -> None:
    protocol = FreeSwitchProtocol({"rate": str(rate)})
    protocol.default_start()
    assert protocol.ptime_ms == 320
    audio = bytes(range(256)) * (rate // 8000 * 20)
    (text,) = protocol.send_audio(memoryview(audio))
    assert isinstance(text, str) and len(text) <= 16384
    body = json.loads(text)
    assert body == {"type": "streamAudio", "data": body["data"]}
    assert body["data"]["audioDataType"] == "raw" and body["data"]["sampleRate"] in RATES
    assert base64.b64decode(body["data"]["audioData"], validate=True) == audio


@pytest.mark.parametrize(("asked", "given"), [("1000", 1000), ("0", 20), ("99999", 10_000), ("333", 320), ("x", 320)])
def test_the_length_of_a_json_message_may_be_chosen(asked: str, given: int) -> None:
    assert FreeSwitchProtocol({"chunk_ms": asked}).ptime_ms == given
    by_metadata = FreeSwitchProtocol()
    by_metadata.receive(json.dumps({"chunk_ms": asked}))
    assert by_metadata.ptime_ms == given


def test_of_two_lengths_the_query_holds() -> None:
    protocol = FreeSwitchProtocol({"chunk_ms": "1000"})
    protocol.receive('{"chunk_ms": 2000}')
    assert protocol.ptime_ms == 1000


@pytest.mark.parametrize("where", ["query", "metadata"])
def test_binary_playback_is_audio_as_it_is(where: str) -> None:
    protocol = FreeSwitchProtocol({"playback": "binary"} if where == "query" else {})
    protocol.receive("{}" if where == "query" else '{"playback":"binary"}')
    frame = memoryview(bytes(320))
    (sent,) = protocol.send_audio(frame)
    assert sent is frame and protocol.ptime_ms is None


def test_commands_become_events_of_the_module() -> None:
    protocol = FreeSwitchProtocol()
    commands: list[Command] = [
        SendMark("p1"),
        ClearPlayout(),
        TransferCall(target="desk", context={"day": "friday"}),
        EndCall("done"),
        ReportFault("bad_start", "no"),
    ]
    assert [json.loads(str(text)) for command in commands for text in protocol.send(command)] == [
        {"type": "mark", "name": "p1"},
        {"type": "clear"},
        {"type": "transfer", "target": "desk", "context": {"day": "friday"}},
        {"type": "hangup", "reason": "done"},
        {"type": "error", "code": "bad_start", "message": "no"},
    ]
    assert protocol.send(SpeechEdge(started=True, at_ms=1)) == ()
