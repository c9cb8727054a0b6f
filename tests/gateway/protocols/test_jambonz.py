"""jambonz listen and mod_audio_fork by value: concatenated and truncated texts, both playbacks, tails and marks."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat
from gateway.protocols.jambonz import JambonzProtocol
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
    StartAwaited,
    TransferCall,
    WireEvent,
)

pytestmark = pytest.mark.unit

PREAMBLE = {
    "sampleRate": 8000,
    "mixType": "mono",
    "callSid": "8f3c9e1a-6f1b-4f3a-9a53-0d5f4f6a7b8c",
    "direction": "inbound",
    "from": "+15551234567",
    "to": "+15557654321",
    "customerData": {"deep": 1},
    "amount": "84.50",
}


def started(query: dict[str, str] | None = None, **changes: Any) -> JambonzProtocol:
    protocol = JambonzProtocol(query)
    (start,) = protocol.receive(json.dumps({**PREAMBLE, **changes}))
    assert isinstance(start, CallStart)
    return protocol


def test_the_preamble() -> None:
    (start,) = JambonzProtocol().receive(json.dumps(PREAMBLE))
    assert start == CallStart(
        format=AudioFormat(),
        call_id="8f3c9e1a-6f1b-4f3a-9a53-0d5f4f6a7b8c",
        caller="+15551234567",
        metadata={"direction": "inbound", "to": "+15557654321", "amount": "84.50"},
    )


@pytest.mark.parametrize(("rate", "mix", "channels"), [(8000, "mono", 1), (16000, "stereo", 2), (16000, "mixed", 1)])
def test_rate_and_mix(rate: int, mix: str, channels: int) -> None:
    (start,) = JambonzProtocol().receive(json.dumps({**PREAMBLE, "sampleRate": rate, "mixType": mix}))
    assert isinstance(start, CallStart)
    assert (start.format.sample_rate_hz, start.format.channels) == (rate, channels)


def test_a_rate_that_calls_cannot_use_names_the_verb() -> None:
    (fault,) = JambonzProtocol().receive(json.dumps({**PREAMBLE, "sampleRate": 48000}))
    assert isinstance(fault, PeerFault) and fault.close_code == CloseCode.BAD_START
    assert "48000" in fault.message and "listen" in fault.message


def test_two_objects_in_one_text() -> None:
    both = json.dumps(PREAMBLE) + json.dumps({"event": "dtmf", "dtmf": "7", "duration": "1600"})
    start, digit = JambonzProtocol().receive(both)
    assert isinstance(start, CallStart) and digit == DigitReceived("7")
    keys = "".join(json.dumps({"event": "dtmf", "dtmf": key}) for key in "12#")
    assert list(started().receive(keys)) == [DigitReceived("1"), DigitReceived("2"), DigitReceived("#")]


@pytest.mark.parametrize("cut", range(0, 100, 3))
def test_a_preamble_cut_anywhere_begins_the_call_with_what_it_holds(cut: int) -> None:
    whole = json.dumps({**PREAMBLE, "sampleRate": 16000, "filler": "x" * 100})
    (start,) = JambonzProtocol().receive(whole[: len(whole) - 100 + cut if cut else -1])
    assert isinstance(start, CallStart)
    assert start.format.sample_rate_hz == 16000 and start.call_id == PREAMBLE["callSid"]


def test_free_metadata_of_the_bare_module() -> None:
    (start,) = JambonzProtocol({"rate": "16000"}).receive("any words")
    assert isinstance(start, CallStart)
    assert start.format.sample_rate_hz == 16000 and start.metadata == {"text": "any words"}


def test_an_empty_binary_message_is_no_error_and_no_audio() -> None:
    assert JambonzProtocol().receive(b"") == () == started().receive(b"")


@pytest.mark.parametrize("size", [320, 1, 32_000])
def test_whatever_was_buffered_is_one_message(size: int) -> None:
    assert list(started().receive(bytes(size))) == [AudioReceived(bytes(size))]


def test_audio_before_the_preamble_is_kept() -> None:
    protocol = JambonzProtocol()
    assert protocol.starts_within_ms == 2000, "a round trip and more, where nothing comes at all"
    assert list(protocol.receive(b"ab" * 160)) == [StartAwaited(100)]
    start, audio = protocol.receive(json.dumps(PREAMBLE))
    assert isinstance(start, CallStart) and audio == AudioReceived(b"ab" * 160)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('{"event":"dtmf","dtmf":"5","duration":"1600"}', [DigitReceived("5")]),
        ('{"event":"dtmf","dtmf":"x"}', [MessageIgnored("bad_dtmf")]),
        ('{"type":"mark","data":{"name":"p1","event":"playout"}}', [MarkReached("p1")]),
        ('{"type":"mark","data":{"name":"p1","event":"cleared"}}', []),
        ('{"type":"mark"}', [MessageIgnored("bad_mark")]),
        ('{"type":"playDone","data":{"id":"9"}}', []),
        ('{"type":"playDone"}', []),
        ('{"type":"dance"}', [MessageIgnored("unknown_event")]),
        ('{"event":"dtmf","dtmf":"5"}{"event":"dt', [DigitReceived("5"), MessageIgnored("bad_json")]),
        ("words", [MessageIgnored("bad_json")]),
    ],
)
def test_later_texts(text: str, events: list[WireEvent]) -> None:
    assert list(started().receive(text)) == events


# Streaming playback.


@given(st.lists(st.integers(-32768, 32767) | st.just(-1), max_size=300))
def test_streamed_audio_holds_no_mark_of_the_module(samples: list[int]) -> None:
    audio = np.array(samples, "<i2")
    (sent,) = started().send_audio(memoryview(audio.tobytes()))
    assert not isinstance(sent, str)
    heard = np.frombuffer(sent, "<i2")
    assert np.array_equal(heard, np.where(audio == -1, 0, audio))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_prompt_ends_with_its_mark_and_80_ms_of_silence_behind_it(rate: int) -> None:
    mark, tail = started(sampleRate=rate).send(SendMark("p1"))
    assert json.loads(str(mark)) == {"type": "mark", "data": {"name": "p1"}}
    assert tail == bytes(rate // 1000 * 80 * 2)


def test_no_more_than_30_marks_are_outstanding() -> None:
    protocol = started()
    assert sum(len(protocol.send(SendMark(f"p{n}"))) - 1 for n in range(40)) == 30
    protocol.receive('{"type":"mark","data":{"name":"p0","event":"playout"}}')
    assert len(protocol.send(SendMark("p41"))) == 2 and len(protocol.send(SendMark("p42"))) == 1
    protocol.send(ClearPlayout())
    for n in range(50):  # those of cleared audio may come back, or not
        protocol.receive(json.dumps({"type": "mark", "data": {"name": f"p{n}", "event": "cleared"}}))
    assert sum(len(protocol.send(SendMark(f"q{n}"))) - 1 for n in range(40)) == 30


def test_a_clear_kills_audio_and_marks() -> None:
    assert [json.loads(str(text))["type"] for text in started().send(ClearPlayout())] == ["killAudio", "clearMarks"]


# Files.


def test_files_are_played_one_behind_the_other_and_the_last_ones_end_is_the_mark() -> None:
    protocol = started({"playback": "files", "chunk_ms": "100"})
    assert protocol.ptime_ms == 100
    ids = []
    for piece in (bytes(1600), bytes(range(100))):
        (text,) = protocol.send_audio(piece)
        body = json.loads(str(text))
        assert body["type"] == "playAudio"
        data = body["data"]
        assert base64.b64decode(data.pop("audioContent"), validate=True) == piece
        ids.append(data.pop("id"))
        assert data == {"audioContentType": "raw", "sampleRate": 8000, "queuePlay": True}
    assert protocol.send(SendMark("p1")) == ()
    done = [list(protocol.receive(json.dumps({"type": "playDone", "data": {"id": id_}}))) for id_ in ids]
    assert done == [[], [MarkReached("p1")]]


def test_files_killed_are_no_news() -> None:
    protocol = started({"playback": "files"})
    protocol.send_audio(bytes(320))
    protocol.send(SendMark("p1"))
    assert [json.loads(str(text)) for text in protocol.send(ClearPlayout())] == [{"type": "killAudio"}]
    assert list(protocol.receive('{"type":"playDone","data":{"id":"1"}}')) == []


def test_a_file_is_far_below_what_the_module_takes() -> None:
    protocol = started({"playback": "files", "chunk_ms": "999999"}, sampleRate=16000)
    assert protocol.ptime_ms is not None
    (text,) = protocol.send_audio(bytes(32 * protocol.ptime_ms))
    assert isinstance(text, str) and len(text) < 665_600


def test_how_a_call_ends() -> None:
    protocol = started()
    commands: list[Command] = [
        TransferCall(target="desk", context={"a": "b"}),
        EndCall("done"),
        ReportFault("bad_start", "no"),
    ]
    assert [json.loads(str(text)) for command in commands for text in protocol.send(command)] == [
        {"type": "transfer", "data": {"target": "desk", "context": {"a": "b"}}},
        {"type": "disconnect", "data": {"reason": "done"}},
        {"type": "error", "data": {"code": "bad_start", "message": "no"}},
    ]
