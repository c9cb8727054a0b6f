"""OpenTelemetry traces: one for each turn, from the caller's last sound to the bot's first.

    turn                            |----------------------------------------------|
      tail                          |--------------------------|
      asr, nlu (made in the tail)          |------||---|                            or behind it
      dialogue, tts                                            |---||--|

Built from the same events that watchers get, by a listener of its own: a worker without `monitoring.traces` builds
none. A span says what took how long, with the bot, the node, the intent and its model; never what somebody said.

The stages' lengths were measured; where they lie was not. Made during the tail, recognition is drawn from the pause
that begins it; otherwise all stages are drawn in their order from the end of the tail.

`TurnSpans` is pure. `TraceExport` needs the extra `otel`; its exporter posts from a thread of its own and drops what a
collector that is away does not take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from gateway import background
from gateway.monitoring.bus import EventBus
from gateway.monitoring.call_watch import BUDGETS_MS
from gateway.monitoring.events import (
    CallEnded,
    CallPresent,
    CallStarted,
    PromptStarted,
    Published,
    TurnUnderstood,
)

__all__ = ["Span", "TraceExport", "TracesMissingError", "TurnSpans"]

log = logging.getLogger(__name__)

_MOST_CALLS: Final = 10_000
_SPECULATED: Final = 1.0
"""`timing["speculated"]` of a turn whose words were ready when the tail ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stretch of time, in seconds since the epoch; `parts` lie within it."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, str | float | int | bool] = field(default_factory=dict)
    parts: tuple[Span, ...] = ()


@dataclass(slots=True)
class _Call:
    bot: str = ""
    protocol: str = ""
    understood: TurnUnderstood | None = None


class TurnSpans:
    """Events in, spans out. Calls whose end was never seen are forgotten, oldest first."""

    def __init__(self, *, pause_ms: float) -> None:
        """`pause_ms`: silence after which work on a turn begins early."""
        self._pause_s = pause_ms / 1000
        self._calls: dict[str, _Call] = {}

    def take(self, published: Published) -> Span | None:
        """The span that this event completes, if it does."""
        event, call = published.event, self._calls.get(published.call_id)
        if isinstance(event, CallEnded):
            self._calls.pop(published.call_id, None)
            return None
        if call is None:
            call = self._calls[published.call_id] = _Call()
            if len(self._calls) > _MOST_CALLS:
                del self._calls[next(iter(self._calls))]
        match event:
            case CallStarted() | CallPresent():
                call.bot, call.protocol = event.bot, event.protocol
            case TurnUnderstood():
                call.understood = event
            case PromptStarted() if event.timing.keys() & {"endpoint_to_reply_ms", "first_utterance_ms"}:
                return self._span(published, event, call)
        return None

    def _span(self, published: Published, event: PromptStarted, call: _Call) -> Span:
        timing, sounded = event.timing, published.time
        attributes: dict[str, str | float | int | bool] = {
            "voicegate.call_id": published.call_id,
            "voicegate.bot": call.bot,
            "voicegate.protocol": call.protocol,
            "voicegate.round_id": event.round_id,
            "voicegate.node": event.node,
        }
        if missed := [budget for budget, limit_ms in BUDGETS_MS.items() if timing.get(budget, 0.0) > limit_ms]:
            attributes["voicegate.budgets_missed"] = ",".join(missed)
        if "endpoint_to_reply_ms" not in timing:
            waited = timing["first_utterance_ms"] / 1000
            return Span(name="first words", start=sounded - waited, end=sounded, attributes=attributes)
        if call.understood is not None and call.understood.round_id == event.round_id:
            attributes["voicegate.intent"] = call.understood.intent
            attributes["voicegate.intent_score"] = call.understood.score
            attributes["voicegate.nlu_model"] = call.understood.model
        speculated = timing.get("speculated", 0.0)
        attributes["voicegate.speculated"] = speculated == _SPECULATED
        endpoint = sounded - timing["endpoint_to_reply_ms"] / 1000
        silent = endpoint - timing.get("tail_ms", 0.0) / 1000
        parts = tuple(self._parts(timing, silent, endpoint, sounded, early=speculated > 0))
        return Span(name="turn", start=silent, end=sounded, attributes=attributes, parts=parts)

    def _parts(
        self, timing: Mapping[str, float], silent: float, endpoint: float, sounded: float, *, early: bool
    ) -> Iterator[Span]:
        if endpoint > silent:
            yield Span(name="tail", start=silent, end=endpoint)
        at = min(silent + self._pause_s, endpoint) if early else endpoint
        for stage in ("asr", "nlu"):
            if f"{stage}_ms" in timing:
                end = min(at + timing[f"{stage}_ms"] / 1000, sounded)
                queued = {"voicegate.queue_ms": timing.get(f"{stage}_queue_ms", 0.0)}
                yield Span(name=stage, start=at, end=end, attributes=queued)
                at = end
        at = max(at, endpoint)
        for stage in ("dialogue", "tts"):
            if f"{stage}_ms" in timing:
                end = min(at + timing[f"{stage}_ms"] / 1000, sounded)
                yield Span(name=stage, start=at, end=end)
                at = end


class TracesMissingError(Exception):
    """`monitoring.traces` is set and OpenTelemetry is not installed; the message has the mend."""


class TraceExport:
    """A worker's traces, sent to a collector over OTLP/HTTP. An async context.

    Raises:
        TracesMissingError: at construction.
    """

    def __init__(self, bus: EventBus, endpoint: str, *, pause_ms: float, exporter: Any = None) -> None:
        """
        Args:
            endpoint: of the collector, such as http://127.0.0.1:4318/v1/traces.
            exporter: OpenTelemetry's `SpanExporter` in place of OTLP's.
        """
        try:  # an extra: half a second to import, and only for those who set it
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            message = f"monitoring.traces needs OpenTelemetry ({exc}); install it: pip install 'voicegate[otel]'"
            raise TracesMissingError(message) from exc
        self._trace = trace
        self._provider = TracerProvider(resource=Resource.create({"service.name": "voicegate"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("voicegate")
        self._bus = bus
        self._spans = TurnSpans(pause_ms=pause_ms)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> TraceExport:
        self._task = asyncio.create_task(self._run(), name="traces")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await background.stop([self._task])
        await asyncio.to_thread(self._provider.shutdown)

    async def _run(self) -> None:
        with self._bus.subscribe() as events:
            while True:
                for published in await events.some():
                    if (span := self._spans.take(published)) is not None:
                        self._record(span, None)

    def _record(self, span: Span, parent: Any) -> None:
        context = None if parent is None else self._trace.set_span_in_context(parent)
        made = self._tracer.start_span(
            span.name, context=context, start_time=_ns(span.start), attributes=dict(span.attributes)
        )
        for part in span.parts:
            self._record(part, made)
        made.end(end_time=_ns(span.end))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
