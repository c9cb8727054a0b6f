"""A hostile peer in every dialect: nothing it says raises, and whatever comes of it can be answered and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import UnsupportedFormatError
from gateway.calls.dialects import DIALECTS, recognise
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    ClearPlayout,
    Command,
    EndCall,
    MarkReached,
    PeerFault,
    ReplyDue,
    ReportFault,
    SendMark,
    SessionReady,
    SpeechEdge,
    TransferCall,
    WireEvent,
    WireProtocol,
)
from gateway.protocols.vosk import VoskEvent, VoskProtocol

pytestmark = pytest.mark.unit

Maker = Callable[[dict[str, str]], WireProtocol]
MAKERS: dict[str, Maker] = {dialect.name: dialect.make for dialect in DIALECTS if dialect.make is not None}

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = st.sampled_from(
    "event type start media mark dtmf digit name data stop payload track streamSid callSid sequenceNumber "
    "customParameters mediaFormat encoding sampleRate sample_rate rate mix mixType channels format channel_id "
    "optimal_frame_size passthrough channel_variables correlation_id id config eof reset token bot call_id".split()
)
EVENTS = st.sampled_from(
    "connected start media mark dtmf stop MEDIA_START DTMF_END MEDIA_XOFF MEDIA_XON MEDIA_MARK_PROCESSED STATUS "
    "ERROR playDone mark_reached".split()
)
BODY = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, PLAIN, max_size=4), max_size=6)
OBJECT = st.builds(lambda body, event: {**body, "event": event, "type": event}, BODY, EVENTS | JSON).map(json.dumps)
PLAIN_TEXT = st.builds(
    lambda event, words: " ".join([event, *words]),
    EVENTS,
    st.lists(st.builds(lambda key, value: f"{key}:{value}", KEYS, st.text(max_size=8)), max_size=5),
)
TWO = st.builds(lambda first, second, cut: (first + second)[: len(first) + cut], OBJECT, OBJECT, st.integers(-30, 30))
GOOD_STARTS = st.sampled_from(
    [
        "MEDIA_START connection_id:m format:ulaw optimal_frame_size:160",
        '{"event":"MEDIA_START","format":"slin16","optimal_frame_size":640}',
        '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1"},"sequenceNumber":"1"}',
        '{"sampleRate":8000,"mixType":"mono"}',
        '{"type":"start"}',
        "{}",
    ]
)
MESSAGE = st.binary(max_size=700) | st.text(max_size=60) | OBJECT | PLAIN_TEXT | TWO | GOOD_STARTS
QUERY = st.dictionaries(KEYS | st.sampled_from(["playback", "chunk_ms", "answer"]), st.text(max_size=12), max_size=5)
COMMANDS: list[Command] = [
    SessionReady(call_id="c", resumed=False),
    SpeechEdge(started=True, at_ms=1),
    SendMark("p1"),
    ClearPlayout(),
    TransferCall(target="x", context={"a": "b"}),
    EndCall("done"),
    ReportFault("code", "message"),
]
STEP: st.SearchStrategy[Any] = (
    MESSAGE | st.sampled_from(COMMANDS) | st.binary(max_size=400).map(lambda data: memoryview(data))
)


def check(event: Any) -> None:
    """What comes in goes to the store, the log and the wire: it must be text that can be written."""
    assert isinstance(event, get_args(WireEvent))
    if isinstance(event, CallStart):
        texts = [*event.metadata, *event.metadata.values(), event.call_id, event.bot, event.language, event.caller]
        for text in texts:
            if text is not None:
                assert isinstance(text, str) and len(text) <= 512
                text.encode()
        assert len(event.metadata) <= 64
    if isinstance(event, AudioReceived):
        assert isinstance(event.data, bytes)
    if isinstance(event, PeerFault):
        assert len(event.message) < 500
        event.message.encode()
        assert event.reason.isascii(), "it is logged, and quotes nobody: what peers say here is in any script"
    if isinstance(event, MarkReached):
        assert isinstance(event.name, str)
    if isinstance(event, ReplyDue):
        assert all(isinstance(message, str | bytes) for message in event.messages)


@pytest.mark.parametrize("name", MAKERS)
@given(query=QUERY, steps=st.lists(STEP, max_size=8), early=st.booleans())
def test_nothing_raises_in_any_order(
    name: str, query: dict[str, str], steps: list[str | bytes | memoryview | Command], early: bool
) -> None:
    protocol = MAKERS[name](query)
    if early:
        try:
            check(protocol.default_start())
        except UnsupportedFormatError as exc:
            assert str(exc)
    for step in steps:
        if isinstance(step, memoryview):
            for sent in protocol.send_audio(step[: len(step) // 2 * 2]):
                assert isinstance(sent, str | bytes | memoryview)
        elif isinstance(step, str | bytes):
            for event in protocol.receive(step):
                check(event)
        else:
            for message in protocol.send(step):
                assert isinstance(message, str | bytes)
                assert not isinstance(message, str) or message.encode()


@pytest.mark.parametrize("name", MAKERS)
@given(text=OBJECT, cut=st.integers(0, 400))
def test_texts_cut_anywhere(name: str, text: str, cut: int) -> None:
    protocol = MAKERS[name]({})
    for event in (*protocol.receive(text[:cut]), *protocol.receive(text)):
        check(event)


@given(st.lists(MESSAGE, max_size=6))
def test_vosk_raises_on_nothing(messages: list[str | bytes]) -> None:
    protocol = VoskProtocol()
    for message in messages:
        for event in protocol.receive(message):
            assert isinstance(event, get_args(VoskEvent))


@given(MESSAGE)
def test_every_first_message_is_recognised_or_audio(message: str | bytes) -> None:
    found = recognise(message)
    assert (found is None) == isinstance(message, bytes)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("depth", [100, 900, 990, 1000, 5000])
def test_deep_nesting_at_every_place(name: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for text in (
        deep,
        f'{{"event":{deep}}}',
        f'{{"event":"start","start":{{"a":{deep}}}}}',
        f'{{"sampleRate":{deep}}}',
    ):
        for event in MAKERS[name]({}).receive(text):
            check(event)
