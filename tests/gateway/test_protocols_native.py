"""`voicegate.v1` by value: what each message becomes, both ways, and that nothing a peer says raises."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding, UnsupportedFormatError
from gateway.protocols.native import NativeProtocol
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    ClearPlayout,
    CloseCode,
    Command,
    DigitReceived,
    EndCall,
    MarkReached,
    PeerFault,
    PromptStarted,
    ReportFault,
    SendMark,
    SessionReady,
    SpeechEdge,
    StopReceived,
    TransferCall,
    TurnHeard,
    TurnUnderstood,
    WireEvent,
)
from nlu.meaning import Meaning, Slot

pytestmark = pytest.mark.unit


def receive(*messages: dict[str, Any] | str | bytes) -> list[WireEvent]:
    """Events of a fresh connection on which these came."""
    protocol = NativeProtocol()
    events: list[WireEvent] = []
    for message in messages:
        events += protocol.receive(json.dumps(message) if isinstance(message, dict) else message)
    return events


# From the peer.


def test_a_start_message_whole() -> None:
    (event,) = receive(
        {
            "type": "start",
            "call_id": "a.b_c:1@x+y-z",
            "bot": "load",
            "language": "en",
            "caller": "+1 555",
            "encoding": "alaw",
            "sample_rate": 16000,
            "channels": 2,
            "metadata": {"name": "Zoë", "amount": 12.5, "vip": True, "nothing": None},
            "of the future": [1, 2],
        }
    )
    assert event == CallStart(
        format=AudioFormat(encoding=Encoding.ALAW, sample_rate_hz=16000, channels=2),
        call_id="a.b_c:1@x+y-z",
        bot="load",
        language="en",
        caller="+1 555",
        metadata={"name": "Zoë", "amount": "12.5", "vip": "True", "nothing": ""},
    )


def test_an_empty_start_is_the_default_call() -> None:
    nulls = dict.fromkeys(
        ("call_id", "bot", "language", "caller", "encoding", "sample_rate", "channels", "metadata"), None
    )
    for keys in ({}, nulls, {"encoding": "", "sample_rate": "", "metadata": {}}):
        assert receive({"type": "start", **keys}) == [CallStart(format=AudioFormat())]
    assert NativeProtocol().default_start() == CallStart(format=AudioFormat())


@pytest.mark.parametrize("rate", [8000, "8000", " 16000 ", "16000"])
@pytest.mark.parametrize("channels", [1, "2"])
def test_numbers_may_come_as_strings(rate: int | str, channels: int | str) -> None:
    (event,) = receive({"type": "start", "sample_rate": rate, "channels": channels})
    assert isinstance(event, CallStart)
    assert (event.format.sample_rate_hz, event.format.channels) == (int(rate), int(channels))


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"encoding": "opus"}, "opus"),
        ({"encoding": 7}, "encoding"),
        ({"sample_rate": 7999}, "7999"),
        ({"sample_rate": "8 kHz"}, "8 kHz"),
        ({"sample_rate": 8000.5}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": [8000]}, "sample_rate"),
        ({"channels": 0}, "channels"),
        ({"channels": "stereo"}, "stereo"),
        ({"call_id": "two words"}, "call_id"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"call_id": "line\n"}, "call_id"),
        ({"call_id": "ключ"}, "call_id"),
        ({"call_id": 7}, "call_id"),
        ({"bot": "x" * 513}, "bot"),
        ({"caller": ["+1"]}, "caller"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"deep": {"er": 1}}}, "deep"),
        ({"metadata": {str(n): "" for n in range(33)}}, "metadata"),
    ],
)
def test_a_start_that_cannot_be_used_names_the_key_and_changes_nothing(keys: dict[str, Any], named: str) -> None:
    fault, start = receive({"type": "start", **keys}, {"type": "start"})
    assert isinstance(fault, PeerFault)
    assert (fault.code, fault.close_code) == ("bad_start", CloseCode.BAD_START)
    assert named in fault.message
    assert isinstance(start, CallStart)


def test_long_metadata_is_cut() -> None:
    (event,) = receive({"type": "start", "metadata": {"k" * 600: "v" * 600}})
    assert isinstance(event, CallStart)
    assert event.metadata == {"k" * 512: "v" * 512}


def test_query_keys_are_the_start_and_a_start_message_after_them_is_late() -> None:
    protocol = NativeProtocol({"bot": "load", "sample_rate": "16000"})
    assert protocol.starts_within_ms == 0
    start = protocol.default_start()
    assert (start.bot, start.format.sample_rate_hz) == ("load", 16000)
    (fault,) = protocol.receive('{"type":"start","bot":"other"}')
    assert isinstance(fault, PeerFault) and fault.code == "late_start" and fault.close_code is None
    assert NativeProtocol({"token": "secret"}).starts_within_ms == 50  # no key of a start
    with pytest.raises(UnsupportedFormatError, match="7999"):
        NativeProtocol({"sample_rate": "7999"}).default_start()
    with pytest.raises(UnsupportedFormatError, match="call_id"):
        NativeProtocol({"call_id": "two words"}).default_start()


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(320), bytes(range(256))])
def test_binary_is_audio_as_it_came(data: bytes) -> None:
    assert receive(data) == [AudioReceived(data)]
    assert NativeProtocol.binary_is_audio, "or sessions would ask"


def test_a_start_behind_audio_or_another_start_is_a_fault_that_changes_nothing() -> None:
    for first in (b"", {"type": "start"}):
        *_, fault = receive(first, {"type": "start", "bot": "other"})
        assert isinstance(fault, PeerFault)
        assert (fault.code, fault.close_code) == ("late_start", None)


@pytest.mark.parametrize(("sent", "heard"), [(d, d.upper()) for d in "0123456789*#ABCDabcd"])
def test_every_key(sent: str, heard: str) -> None:
    assert receive({"type": "dtmf", "digit": sent}) == [DigitReceived(heard)]


def test_stop_and_marks() -> None:
    assert receive({"type": "stop"}, {"type": "mark_reached", "name": "p1"}) == [StopReceived(), MarkReached("p1")]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "dtmf"}, "bad_dtmf"),
        ({"type": "dtmf", "digit": ""}, "bad_dtmf"),
        ({"type": "dtmf", "digit": "55"}, "bad_dtmf"),
        ({"type": "dtmf", "digit": "5\n"}, "bad_dtmf"),
        ({"type": "dtmf", "digit": 5}, "bad_dtmf"),
        ({"type": "dtmf", "digit": "\u0665"}, "bad_dtmf"),
        ({"type": "mark_reached"}, "bad_mark"),
        ({"type": "mark_reached", "name": 1}, "bad_mark"),
        ({}, "unknown_type"),
        ({"type": "dance"}, "unknown_type"),
        ({"type": ["start"]}, "unknown_type"),
    ],
)
def test_a_wrong_message_is_told_and_the_call_goes_on(message: dict[str, Any], code: str) -> None:
    (fault,) = receive(message)
    assert isinstance(fault, PeerFault)
    assert (fault.code, fault.close_code) == (code, None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello", "null", "7", '"start"', "[1]", "{", '{"type":"stop"} {"type":"stop"}', "\ufeff{}"),
        '{"type":"start","sample_rate":' + "9" * 5000 + "}",
        '{"type":"start","bot":"\\ud800"}',
        '{"type":"start","metadata":{"\\udfff":"x"}}',
    ],
)
def test_no_json_object_ends_the_call_only_as_its_first_word(text: str) -> None:
    (first,) = receive(text)
    *_, later = receive({"type": "start"}, text)
    assert isinstance(first, PeerFault) and isinstance(later, PeerFault)
    assert (first.code, first.close_code) == ("bad_json", CloseCode.BAD_MESSAGE)
    assert (later.code, later.close_code) == ("bad_json", None)


@pytest.mark.parametrize("depth", [*range(100, 1100, 37), *range(900, 1000), 100_000])
def test_deep_nesting_is_a_fault_at_every_depth(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for text in (deep, f'{{"type":{deep}}}', f'{{"type":"start","metadata":{{"a":{deep}}}}}'):
        (event,) = receive(text)
        assert isinstance(event, PeerFault)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["type", "call_id", "bot", "encoding", "sample_rate", "channels", "metadata", "digit", "name"])
TYPED = st.dictionaries(KEYS, JSON, max_size=6).flatmap(
    lambda body: st.sampled_from(["start", "dtmf", "stop", "mark_reached", "?"]).map(
        lambda kind: {**body, "type": kind}
    )
)


@given(st.lists(st.binary(max_size=50) | st.text() | JSON.map(json.dumps) | TYPED.map(json.dumps), max_size=5))
def test_nothing_raises_and_every_event_can_be_answered(messages: list[str | bytes]) -> None:
    protocol = NativeProtocol()
    for message in messages:
        for event in protocol.receive(message):
            assert isinstance(event, get_args(WireEvent))
            if isinstance(event, CallStart):
                # What came in goes to the store, the log and the wire: it must be text that can be written.
                assert all(isinstance(text, str) for pair in event.metadata.items() for text in pair)
                repr(event).encode()
                json.dumps(event.metadata, ensure_ascii=False).encode()
            if isinstance(event, PeerFault):
                assert event.reason.isascii(), "it is logged, and quotes nobody"
                (told,) = protocol.send(ReportFault(event.code, event.message))
                assert isinstance(told, str) and len(told.encode()) < 8192


@given(st.dictionaries(KEYS, st.text(), max_size=6))
def test_no_query_raises_but_its_own_fault(query: dict[str, str]) -> None:
    protocol = NativeProtocol(query)
    try:
        assert isinstance(protocol.default_start(), CallStart)
    except UnsupportedFormatError as exc:
        assert str(exc)


# To the peer.

SAID: list[tuple[Command, dict[str, Any]]] = [
    (SessionReady(call_id="c", resumed=False), {"type": "ready", "call_id": "c", "resumed": False}),
    (SpeechEdge(started=True, at_ms=120), {"type": "speech_started", "at_ms": 120}),
    (SpeechEdge(started=False, at_ms=900), {"type": "speech_ended", "at_ms": 900}),
    (
        TurnHeard(round_id=2, text='say "ü"'),
        {"type": "transcript", "round_id": 2, "text": 'say "ü"', "final": True, "supersedes": None},
    ),
    (
        TurnUnderstood(round_id=2, meaning=Meaning("pay", 0.123456, (Slot("day", "friday", 3, 9),))),
        {
            "type": "intent",
            "round_id": 2,
            "intent": "pay",
            "score": 0.1235,
            "slots": [{"name": "day", "value": "friday", "start": 3, "end": 9}],
        },
    ),
    (
        PromptStarted(round_id=0, text="Hello", node="greet", timing={"tts_ms": 3.25}),
        {"type": "prompt", "round_id": 0, "text": "Hello", "node": "greet", "timing": {"tts_ms": 3.25}, "source": None},
    ),
    (SendMark("p1"), {"type": "mark", "name": "p1"}),
    (ClearPlayout(), {"type": "clear"}),
    (
        TransferCall(target="desk", context={"day": "friday"}),
        {"type": "transfer", "target": "desk", "context": {"day": "friday"}},
    ),
    (EndCall("promised"), {"type": "hangup", "reason": "promised"}),
    (ReportFault("bad_json", "no"), {"type": "error", "code": "bad_json", "message": "no"}),
]


@pytest.mark.parametrize(("command", "body"), SAID, ids=lambda value: type(value).__name__)
def test_every_command_is_one_json_text(command: Command, body: dict[str, Any]) -> None:
    (text,) = NativeProtocol().send(command)
    assert isinstance(text, str)
    assert json.loads(text) == body
    assert "\n" not in text


def test_every_command_has_its_line_above() -> None:
    assert {type(command) for command, _ in SAID} == set(get_args(Command))


def test_audio_goes_out_as_it_is() -> None:
    frame = memoryview(bytes(range(160)))
    (sent,) = NativeProtocol().send_audio(frame)
    assert sent is frame
