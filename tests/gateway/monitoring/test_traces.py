"""Traces: which spans a turn's events make, and that a collector gets them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.monitoring.events import CallEnded, CallEvent, CallStarted, PromptStarted, Published, TurnUnderstood
from gateway.monitoring.traces import Span, TraceExport, TurnSpans
from tests.gateway.harness import rig, silence, speech

pytestmark = pytest.mark.unit

STARTED = CallStarted(
    bot="b", bot_version="1", protocol="native", language="en", caller="+100", models={}, recorded=False, resumed=False
)
TIMING = {
    "tail_ms": 800.0,
    "asr_ms": 30.0,
    "asr_queue_ms": 2.0,
    "nlu_ms": 10.0,
    "nlu_queue_ms": 1.0,
    "dialogue_ms": 4.0,
    "tts_ms": 1.0,
}


def published(event: CallEvent, at: float, call_id: str = "c") -> Published:
    return Published(event=event, call_id=call_id, seq=1, at_ms=0, time=at)


def prompt(round_id: int, **timing: float) -> PromptStarted:
    return PromptStarted(round_id=round_id, node="ask", text="my number is 4417", timing=timing)


def turn(spans: TurnSpans, *, speculated: float | None, reply_ms: float) -> Span:
    """The span of a turn whose reply sounds at 100 s."""
    spans.take(published(STARTED, 90.0))
    understood = TurnUnderstood(round_id=1, intent="pay", score=0.9, slots=(("date", "friday"),), model="m1")
    spans.take(published(understood, 99.9))
    early = {} if speculated is None else {"speculated": speculated}
    span = spans.take(published(prompt(1, **TIMING, **early, endpoint_to_reply_ms=reply_ms), 100.0))
    assert span is not None
    return span


def test_a_turn_whose_words_were_ready_is_drawn_from_the_pause() -> None:
    span = turn(TurnSpans(pause_ms=250), speculated=1.0, reply_ms=5.0)
    assert (span.name, span.start, span.end) == ("turn", pytest.approx(99.195), 100.0)
    assert [(part.name, round(part.start, 3), round(part.end, 3)) for part in span.parts] == [
        ("tail", 99.195, 99.995),
        ("asr", 99.445, 99.475),
        ("nlu", 99.475, 99.485),
        ("dialogue", 99.995, 99.999),
        ("tts", 99.999, 100.0),
    ]
    assert span.attributes["voicegate.speculated"] is True
    assert (span.attributes["voicegate.intent"], span.attributes["voicegate.nlu_model"]) == ("pay", "m1")
    assert "voicegate.budgets_missed" not in span.attributes


def test_without_speculation_all_stages_follow_the_tail_and_stay_within_the_turn() -> None:
    span = turn(TurnSpans(pause_ms=250), speculated=None, reply_ms=900.0)
    asr, nlu, dialogue, tts = span.parts[1:]
    assert asr.start == pytest.approx(99.1) and nlu.end == pytest.approx(dialogue.start) == pytest.approx(99.14)
    assert tts.end <= span.end and all(span.start <= part.start <= part.end <= span.end for part in span.parts)
    assert span.attributes["voicegate.budgets_missed"] == "endpoint_to_reply_ms"


def test_nobody_s_words_are_in_a_span() -> None:
    def texts(span: Span) -> str:
        return repr(span.attributes) + "".join(map(texts, span.parts))

    told = texts(turn(TurnSpans(pause_ms=250), speculated=1.0, reply_ms=5.0))
    assert not any(word in told for word in ("4417", "friday", "+100"))


def test_first_words_are_a_span_and_a_prompt_behind_another_is_none() -> None:
    spans = TurnSpans(pause_ms=250)
    spans.take(published(STARTED, 90.0))
    greeting = spans.take(published(prompt(0, tts_ms=0.1, first_utterance_ms=20.0), 90.02))
    assert greeting is not None and (greeting.name, greeting.start) == ("first words", pytest.approx(90.0))
    assert spans.take(published(prompt(0, tts_ms=0.1), 91.0)) is None


def test_calls_that_never_end_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.monitoring.traces._MOST_CALLS", 3)
    spans = TurnSpans(pause_ms=250)
    for number in range(5):
        spans.take(published(STARTED, 90.0, call_id=f"c{number}"))
    assert list(spans._calls) == ["c2", "c3", "c4"]
    ended = CallEnded(ended_by="bot", disposition=None, duration_s=1, turns=1)
    spans.take(published(ended, 91.0, call_id="c3"))
    assert list(spans._calls) == ["c2", "c4"]


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP collector's address, and the bodies that came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_call_s_turns_reach_a_collector(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (address, bodies):
        async with rig(tmp_path, hear="more") as running:
            async with TraceExport(running.services.bus, address, pause_ms=250):
                await asyncio.sleep(0)  # the listener is in its place from the next turn of the loop on
                peer = await running.peer(start={"call_id": "traced"})
                await peer.event("mark")
                await peer.say(type="mark_reached", name="p1")
                await peer.send(speech())
                await peer.send(silence(1000))
                await peer.event("prompt", count=2)
                await peer.event("mark", count=2)
        sent = [
            span
            for body in bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    roots = {span.name: span for span in sent if not span.parent_span_id}
    assert set(roots) == {"first words", "turn"}
    parts = [span for span in sent if span.parent_span_id == roots["turn"].span_id]
    assert {"tail", "asr", "nlu", "dialogue", "tts"} == {span.name for span in parts}
    assert all(span.trace_id == roots["turn"].trace_id for span in parts)
    known = {pair.key: pair.value.string_value for pair in roots["turn"].attributes}
    assert (known["voicegate.call_id"], known["voicegate.intent"]) == ("traced", "more")
