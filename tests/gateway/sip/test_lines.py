"""Each line against the gateway's own protocol of that dialect: what one says the other understands, both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from gateway.calls.dialects import DIALECTS as GATEWAY_DIALECTS
from gateway.calls.dialects import route
from gateway.protocols.seam import (
    AudioReceived,
    CallStart,
    ClearPlayout,
    DigitReceived,
    EndCall,
    MarkReached,
    SendMark,
    StopReceived,
    TransferCall,
    WireEvent,
    WireProtocol,
)
from gateway.sip.line import CallFacts, DropPlayback, Line, LineOrder, LineOver, PlayAudio, PlayMark
from gateway.sip.lines import DIALECTS, AsteriskLine

pytestmark = pytest.mark.unit

ALAW = AudioFormat(encoding=Encoding.ALAW)
GATEWAY = "ws://127.0.0.1:8765"
ALL = sorted(DIALECTS)


def facts(**changes: str) -> CallFacts:
    known = {"call_id": "sip-1", "caller": "+1555", "dialled": "bot", "bot": "tester", "token": "secret", **changes}
    return CallFacts(format=ALAW, **known)


def protocol_of(line: Line) -> WireProtocol:
    """The gateway's end, made as its port would from the line's request."""
    path, _, query = line.url(GATEWAY).removeprefix(GATEWAY).partition("?")
    found = route(path)
    assert found is not None and found.dialect is not None and found.dialect.make is not None
    assert set(line.subprotocols) <= set(found.dialect.subprotocols)
    return found.dialect.make(dict(pair.split("=", 1) for pair in query.replace("%2B", "+").split("&") if pair))


def told(protocol: WireProtocol, messages: Sequence[str | bytes]) -> list[WireEvent]:
    return [event for message in messages for event in protocol.receive(message)]


@pytest.mark.parametrize("dialect", ALL)
def test_the_gateway_knows_the_call_from_the_first_messages(dialect: str) -> None:
    line = DIALECTS[dialect](facts())
    protocol = protocol_of(line)
    known_at_once = [protocol.default_start()] if protocol.starts_within_ms == 0 else []
    events = told(protocol, line.hello())
    (start,) = [*known_at_once, *(event for event in events if isinstance(event, CallStart))]
    assert start.format == line.format
    assert (start.call_id, start.caller, start.bot) == ("sip-1", "+1555", "tester")
    assert line.format.encoding is {"twilio": Encoding.MULAW, "freeswitch": Encoding.PCM_S16LE}.get(
        dialect, Encoding.ALAW
    )
    shown = line.headers().get("Authorization", "") + (start.token or "")
    assert shown in ("Bearer secret", "Basic YXN0ZXJpc2s6c2VjcmV0", "secret")


@pytest.mark.parametrize("dialect", ALL)
def test_audio_keys_marks_and_the_end_are_understood_both_ways(dialect: str) -> None:
    line = DIALECTS[dialect](facts())
    protocol = protocol_of(line)
    told(protocol, line.hello())
    frames = (bytes(range(256)) * 5)[: line.format.bytes_per_ms * 40]
    heard = b"".join(e.data for e in told(protocol, line.speak(frames)) if isinstance(e, AudioReceived))
    assert heard == frames
    assert told(protocol, line.press("*")) == [DigitReceived("*")]

    def orders(messages: Sequence[str | bytes | memoryview]) -> list[LineOrder]:
        return [
            order
            for message in messages
            for order in line.receive(message if isinstance(message, str) else bytes(message))
        ]

    size = line.format.bytes_per_ms * (protocol.ptime_ms or 20)
    said = orders(protocol.send_audio(bytes(size)))
    assert b"".join(order.data for order in said if isinstance(order, PlayAudio)) == bytes(size)
    assert orders(protocol.send(SendMark("p1"))) == [PlayMark("p1")]
    assert told(protocol, line.played("p1")) == [MarkReached("p1")]
    orders(protocol.send(SendMark("p2")))
    assert orders(protocol.send(ClearPlayout())) == [DropPlayback()]
    assert told(protocol, line.dropped(["p2"])) == [], "a mark that was thrown away is no news"
    if dialect != "twilio":  # which has no word for it
        assert orders(protocol.send(EndCall("done"))) == [LineOver()]
    if dialect in ("native", "freeswitch"):
        assert orders(protocol.send(TransferCall(target="desk", context={}))) == [LineOver()]
    if dialect in ("native", "twilio"):  # the others close
        assert told(protocol, line.hang_up()) == [StopReceived()]


def test_every_dialect_of_the_gateway_that_calls_can_speak_has_a_line_or_is_known_not_to() -> None:
    without = {"jambonz", "vosk"}
    assert {one.name for one in GATEWAY_DIALECTS} - without == {name.removesuffix("-json") for name in ALL}


def test_an_address_with_a_path_and_a_query_is_used_as_it_is() -> None:
    line = DIALECTS["asterisk"](facts())
    assert line.url("wss://pbx/asterisk/TOKEN?bot=other") == (
        "wss://pbx/asterisk/TOKEN?call_id=sip-1&caller=%2B1555&bot=other"
    )
    assert DIALECTS["twilio"](facts()).url("wss://bot?x=1") == "wss://bot/twilio", "Twilio delivers no query"


def test_asterisk_says_that_it_is_full_and_that_it_has_room_again() -> None:
    line = AsteriskLine(facts())
    said = [line.queued(ms) for ms in (17_900, 18_000, 18_020, 16_000, 15_980, 0)]
    assert said == [(), ("MEDIA_XOFF",), (), (), ("MEDIA_XON",), ()]
    (text,) = AsteriskLine(facts(), as_json=True).queued(18_000)
    assert isinstance(text, str) and json.loads(text)["event"] == "MEDIA_XOFF"


def test_asterisk_throws_away_what_its_driver_does() -> None:
    line = AsteriskLine(facts())
    assert line.receive(bytes(161)) == (PlayAudio(bytes(160)),), "the rest of an uneven message"
    assert line.receive(f"MARK_MEDIA {'x' * 128}") == (), "a command of more than 128 bytes"
    line.receive("START_MEDIA_BUFFERING")
    assert line.receive(bytes(100)) == [] and line.receive(bytes(100)) == [PlayAudio(bytes(160))]
    assert line.receive("STOP_MEDIA_BUFFERING") == (PlayAudio(bytes(40)),)


@pytest.mark.parametrize("dialect", ALL)
@given(message=st.text(max_size=80) | st.binary(max_size=400) | st.from_regex(r'\{"(type|event|command)":.{0,60}\}'))
def test_nothing_the_gateway_says_breaks_a_line(dialect: str, message: str | bytes) -> None:
    line = DIALECTS[dialect](facts())
    line.hello()
    for order in line.receive(message):
        assert isinstance(order, PlayAudio | PlayMark | DropPlayback | LineOver)
