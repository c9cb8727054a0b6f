"""Every dialect that a replay speaks, as whole calls with a worker; and the two lines that SIP has no use for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from audio.formats import AudioFormat, Encoding
from gateway.calls.dialects import DIALECTS, route
from gateway.protocols.jambonz import JambonzProtocol
from gateway.protocols.seam import AudioReceived, CallStart, ClearPlayout, DigitReceived, EndCall, MarkReached, SendMark
from gateway.replay.bench import Caller, Load, replay
from gateway.replay.call_ear import Recording
from gateway.replay.lines import REPLAYED, JambonzLine
from gateway.replay.record import Measured
from gateway.replay.report import report
from gateway.sip.line import CallFacts, DropPlayback, LineOver, PlayAudio, PlayMark
from tests.gateway.harness import FLOW, rig, speech

BRIEF = FLOW.replace("Hello this is the test bot speaking to you now and for quite a while", "Hello")
"""The test's bot, greeting in a word."""

FACTS = CallFacts(
    call_id="c-1",
    caller="",
    dialled="replay",
    format=AudioFormat(encoding=Encoding.MULAW),
    bot="tester",
    token="secret",
)


@pytest.mark.unit
def test_every_dialect_of_the_gateway_can_be_replayed() -> None:
    assert {name.removesuffix("-json") for name in REPLAYED} == {one.name for one in DIALECTS}
    for name, dialect in REPLAYED.items():
        found = route(dialect.line(FACTS).url("ws://host:1").removeprefix("ws://host:1").partition("?")[0])
        assert found is not None and found.dialect is not None and found.dialect.name == name.removesuffix("-json")


@pytest.mark.unit
def test_a_jambonz_line_and_the_gateway_understand_each_other() -> None:
    line, protocol = JambonzLine(FACTS), JambonzProtocol({"bot": "tester"})
    events = [event for message in line.hello() for event in protocol.receive(message)]
    (start,) = (event for event in events if isinstance(event, CallStart))
    assert (start.format, start.call_id, start.bot) == (line.format, "c-1", "tester")
    (audio,) = (event for message in line.speak(bytes(320)) for event in protocol.receive(message))
    assert isinstance(audio, AudioReceived) and len(audio.data) == 320
    assert [event for text in line.press("5") for event in protocol.receive(text)] == [DigitReceived("5")]

    def orders(messages: object) -> list[object]:
        return [order for message in messages for order in line.receive(message)]  # type: ignore[attr-defined]

    mark, tail = orders(protocol.send(SendMark("p1")))
    assert mark == PlayMark("p1") and tail == PlayAudio(bytes(1280)), "the silence that pushes the tail out"
    assert [event for text in line.played("p1") for event in protocol.receive(text)] == [MarkReached("p1")]
    protocol.send(SendMark("p2"))
    assert orders(protocol.send(ClearPlayout())) == [DropPlayback()]
    assert [event for text in line.dropped(["p2"]) for event in protocol.receive(text)] == []
    assert orders(protocol.send(EndCall("done"))) == [LineOver()]
    assert line.receive("[]") == line.receive('{"type": "mark", "data": 3}') == ()


@pytest.mark.unit
def test_a_vosk_client_takes_words_alone_for_a_turn() -> None:
    events = REPLAYED["vosk"].events()
    assert events is not None
    assert [events(text) for text in ('{"partial": "ye"}', '{"text": ""}', "[1]", b"x")] == [()] * 4
    for number, words in enumerate(("yes", "no"), 1):
        assert events(json.dumps({"text": words})) == ({"type": "transcript", "round_id": number, "text": words},)


@pytest.mark.e2e
async def test_a_call_in_every_dialect_ends_as_the_bot_ends_it(tmp_path: Path) -> None:
    async def one(dialect: str, port: int) -> Measured:
        callers = [Caller("anna", (Recording("yes.wav", speech()),))]
        load = Load(url=f"ws://127.0.0.1:{port}", callers=callers, calls=1, bot="tester", solo=False, dialect=dialect)
        return await replay(load)

    async with rig(tmp_path, hear="yes", flow=BRIEF) as running:
        measured = await asyncio.gather(*(one(dialect, running.port) for dialect in REPLAYED))
    for dialect, run in zip(REPLAYED, measured, strict=True):
        (record,) = run.records
        assert record.faults == (), dialect
        assert record.ended_by == ("out_of_audio" if dialect == "vosk" else "bot"), dialect
        assert len(record.turns) == 1 and record.turns[0].recording == "yes.wav", dialect
        assert (record.turns[0].transcript == "yes") is (dialect in ("native", "vosk")), dialect
        (reply,) = (point for point in record.points if point.name == "speech_end_to_reply_ms")
        assert 0 < reply.ms < 10_000, dialect
        heard = [point.name for point in record.points].count("first_utterance_ms")
        assert heard == (0 if dialect == "vosk" else 1), dialect
        verdicts = {line.name: line.verdict for line in report(run, machine={}, date="today").budgets}
        assert (verdicts["endpoint_to_reply_ms"] == "not measured") is (dialect != "native"), dialect
