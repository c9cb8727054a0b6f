"""The gateway's counters: as its own registry writes them, over HTTP, and what can go wrong there."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.metrics import Metrics
from gateway.replay.counters import MetricsError, between, fetch_metrics, parse_metrics
from gateway.replay.record import Buckets, Frames

pytestmark = pytest.mark.unit


def test_counters_are_read_as_the_gateway_writes_them() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.frames.inc(500)
    metrics.calls_started.labels("native", "load", "false").inc(2)
    metrics.calls_started.labels("twilio", "load", "false").inc()
    for delay_s in (0.0005, 0.0005, 0.004, 3.0):
        metrics.frame_delay.observe(delay_s)
    found = parse_metrics(generate_latest(registry).decode())
    assert (found.problem, found.seen, found.calls_started) == ("", 500, 3)
    assert found.frame_delay.percentile(0.5) == 0.001
    assert found.frame_delay.percentile(0.75) == 0.005
    assert found.frame_delay.percentile(1.0) == math.inf


def test_what_lies_between_two_readings() -> None:
    delay = Buckets((1.0, math.inf), (3, 4))
    after = Frames(seen=70, calls_started=5, frame_delay=delay)
    assert between(Frames(seen=50, calls_started=4, frame_delay=delay), after) == Frames(
        seen=20, calls_started=1, frame_delay=Buckets((1.0, math.inf), (0, 0))
    )
    assert between(Frames(), after) == after  # no call yet, no series yet
    assert between(Frames(problem="down"), after).problem == "down"
    assert between(after, Frames(problem="gone")).problem == "gone"


@pytest.fixture
def control() -> Iterator[str]:
    """A control plane that wants the token "good"."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["Authorization"] == "Bearer good" and self.path == "/metrics"
            self.send_response(200 if good else 403)
            self.end_headers()
            self.wfile.write(b"voicegate_frames_total 7.0\n")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_metrics_over_http(control: str) -> None:
    assert fetch_metrics(f"{control}/", "good") == "voicegate_frames_total 7.0\n"
    with pytest.raises(MetricsError, match="403 Forbidden; the token needs the scope `monitor`"):
        fetch_metrics(control, None)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:8080", "http://[broken"])
def test_a_control_plane_that_does_not_answer_is_named(address: str) -> None:
    with pytest.raises(MetricsError, match="no answer from"):
        fetch_metrics(address, None)
