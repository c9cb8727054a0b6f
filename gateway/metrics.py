"""Prometheus metrics of the gateway: the budgets of the design as histograms, and what was refused or dropped.

In a deployment the processes share a folder of memory-mapped files (prometheus_client's multi-process mode,
PROMETHEUS_MULTIPROC_DIR), which the control plane reads. Nothing here runs per frame: sessions count frames in plain
integers and hand them over once a second.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary

from gateway.inference.batching import BatchReport
from gateway.inference.job_queue import Urgency
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["HttpMetrics", "InferenceMetrics", "Metrics"]

# Buckets stand close around the budgets (seconds): 20, 30, 200 ms for replies, 300 ms for barge-in, 20 ms for frames.
_REPLY = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.065, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
_FRAME = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)


_ENDED_BY = ("bot", "caller", "transfer", "lost", "error")
_REFUSED = ("unknown_path", "draining", "full", "models_busy", "store_away", "unauthorized")
_DROPPED = ("inbox", "monitor_events", "monitor_posts", "audio", "voice", "recording")
_RECORDS = ("published", "repeated", "posted", "failed", "given_up")


class Metrics:
    """One set per process. `registry` is the default one in a worker and a fresh one in tests."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.calls = Gauge(
            "voicegate_calls",
            "Calls in progress.",
            ["protocol"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.calls_started = Counter(
            "voicegate_calls_started", "Calls accepted.", ["protocol", "bot", "resumed"], registry=registry
        )
        self.calls_ended = Counter("voicegate_calls_ended", "Calls over, by how.", ["ended_by"], registry=registry)
        self.webhooks = Counter(
            "voicegate_webhooks", "Requests of flows to the operator's systems.", ["outcome"], registry=registry
        )
        self.assistant = Counter(
            "voicegate_assistant",
            "Answers asked of bots' assistants, by what came of them.",
            ["outcome"],
            registry=registry,
        )
        self.records = Counter("voicegate_records", "Call records.", ["outcome"], registry=registry)
        self.webhook_time = Histogram(
            "voicegate_webhook_seconds",
            "From a flow's request to its answer, or to giving up.",
            buckets=_HTTP,
            registry=registry,
        )
        self.offers = Counter(
            "voicegate_offers", "Callers who had been cut off, asked whether to go on.", registry=registry
        )
        self.store_away = Gauge(
            "voicegate_store_away",
            "Workers that do not reach the state store.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.store_steps = Counter(
            "voicegate_store_steps",
            "Dialogue steps taken while the store was away, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.refused = Counter("voicegate_refused", "Connections refused.", ["reason"], registry=registry)
        self.peer_faults = Counter("voicegate_peer_faults", "What peers did wrong.", ["code"], registry=registry)
        self.first_utterance = Histogram(
            "voicegate_first_utterance_seconds",
            "From the call's start to its first prompt sample (budget p99 0.2).",
            buckets=_REPLY,
            registry=registry,
        )
        self.endpoint_to_reply = Histogram(
            "voicegate_endpoint_to_reply_seconds",
            "From the end of the tail to the reply's first prompt sample (budget p50 0.02, p99 0.2).",
            buckets=_REPLY,
            registry=registry,
        )
        self.barge_in = Histogram(
            "voicegate_barge_in_seconds",
            "From the first speech sample over a prompt to playout held (budget p99 0.3).",
            buckets=_REPLY,
            registry=registry,
        )
        self.stage = Histogram(
            "voicegate_stage_seconds",
            "Time of one stage of a turn.",
            ["stage"],
            buckets=_REPLY,
            registry=registry,
        )
        self.frame_delay = Histogram(
            "voicegate_frame_delay_seconds",
            "From when a caller's frame can be read to when it is (budget p99 0.02).",
            buckets=_FRAME,
            registry=registry,
        )
        self.turns = Counter("voicegate_turns", "Caller turns, by what came of them.", ["outcome"], registry=registry)
        self.overlaps = Counter(
            "voicegate_overlaps", "Speech over prompts, by what it was.", ["verdict"], registry=registry
        )
        self.fillers = Counter("voicegate_fillers", "Slow replies announced by a filler.", registry=registry)
        self.speculation = Counter("voicegate_speculation", "Work begun in the tail.", ["outcome"], registry=registry)
        self.dropped = Counter(
            "voicegate_dropped",
            "Events dropped because a call's queue was full.",
            ["kind"],
            registry=registry,
        )
        self.frames = Counter("voicegate_frames", "Inbound frames judged.", registry=registry)
        # There at zero before anything happens: Prometheus sees no increase in a series that begins with its first.
        for counter, words in (
            (self.calls_ended, _ENDED_BY),
            (self.refused, _REFUSED),
            (self.dropped, _DROPPED),
            (self.records, _RECORDS),
        ):
            for word in words:
                counter.labels(word)
        self.tasks = Gauge(
            "voicegate_tasks", "asyncio tasks of the workers.", registry=registry, multiprocess_mode="livesum"
        )


class InferenceMetrics:
    """What the engines did, by engine and urgency. One set per inference process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._jobs = Counter(
            "voicegate_inference_jobs", "Jobs an engine has run.", ["engine", "urgency"], registry=registry
        )
        self._shed = Counter(
            "voicegate_inference_shed",
            "Jobs refused because the queue was full, or their wait too long for their urgency.",
            ["engine", "urgency"],
            registry=registry,
        )
        self._queue = Histogram(
            "voicegate_inference_queue_seconds",
            "Time a job waited for its batch.",
            ["engine", "urgency"],
            buckets=_REPLY,
            registry=registry,
        )
        self._compute = Histogram(
            "voicegate_inference_compute_seconds", "Time of a batch.", ["engine"], buckets=_REPLY, registry=registry
        )
        self._batch = Histogram(
            "voicegate_inference_batch_size",
            "Jobs in a batch.",
            ["engine"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self._depth = Gauge(
            "voicegate_inference_queue_depth",
            "Jobs left waiting when a batch had run.",
            ["engine"],
            registry=registry,
            multiprocess_mode="livesum",
        )

        self._model_requests = Counter(
            "voicegate_model_requests",
            "Texts that a version of a bot's model was asked for, by what came of them.",
            ["bot", "version", "outcome"],
            registry=registry,
        )
        self._model_seconds = Histogram(
            "voicegate_model_seconds",
            "From a text's coming to its meaning.",
            ["bot", "version"],
            buckets=_REPLY,
            registry=registry,
        )
        self._faq = Counter(
            "voicegate_faq", "Texts looked up in a bot's FAQ, by what was found.", ["bot", "outcome"], registry=registry
        )
        self._model_score = Summary(
            "voicegate_model_score", "Probability of the intents given.", ["bot", "version"], registry=registry
        )
        self._second_opinions = Counter(
            "voicegate_second_opinions",
            "Doubtful texts that a larger model was asked for, by what came of it.",
            ["bot", "outcome"],
            registry=registry,
        )

    def model_answered(self, bot: str, version: str, seconds: float, meaning: Meaning) -> None:
        """Count one answer of a version of a bot's model."""
        outcome = "oos" if meaning.intent == OUT_OF_SCOPE else "intent"
        self._model_requests.labels(bot, version, outcome).inc()
        self._model_seconds.labels(bot, version).observe(seconds)
        self._model_score.labels(bot, version).observe(meaning.score)

    def model_failed(self, bot: str, version: str) -> None:
        """Count one text that a version failed on."""
        self._model_requests.labels(bot, version, "failed").inc()

    def faq_looked_up(self, bot: str, outcome: str) -> None:
        """Count one text looked up in a bot's FAQ."""
        self._faq.labels(bot, outcome).inc()

    def second_opinion(self, bot: str, outcome: str) -> None:
        """Count one doubtful text: "agreed", "changed", "late", "refused" or "failed" (the first answer stood)."""
        self._second_opinions.labels(bot, outcome).inc()

    def batch_ran(self, report: BatchReport) -> None:
        """Count one batch."""
        engine = report.batcher
        self._shed.labels(engine, Urgency.ENDPOINT.name.lower())  # there at zero, as those above
        for urgency, waited_s in zip(report.urgencies, report.queue_s, strict=True):
            self._jobs.labels(engine, urgency.name.lower()).inc()
            self._queue.labels(engine, urgency.name.lower()).observe(waited_s)
        self._compute.labels(engine).observe(report.compute_s)
        self._batch.labels(engine).observe(len(report.urgencies))
        self._depth.labels(engine).set(report.left_waiting)

    def job_shed(self, engine: str, urgency: Urgency) -> None:
        """Count one job that was refused."""
        self._shed.labels(engine, urgency.name.lower()).inc()


class HttpMetrics:
    """What the control plane's HTTP answered. One set per control process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._requests = Counter(
            "voicegate_http_requests", "HTTP requests answered.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "voicegate_http_request_seconds",
            "From a request's headers to the end of its answer.",
            ["route"],
            buckets=_HTTP,
            registry=registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request; `status` 0 is one whose peer went away before the answer."""
        self._requests.labels(route, str(status) if status else "gone").inc()
        self._seconds.labels(route).observe(seconds)
