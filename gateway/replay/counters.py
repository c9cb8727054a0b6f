"""The gateway's own counters, read from its `/metrics` before and after a load."""

from __future__ import annotations

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from gateway.replay.record import Buckets, Frames

__all__ = ["MetricsError", "between", "fetch_metrics", "parse_metrics"]

_METRICS_S = 5.0


class MetricsError(Exception):
    """The gateway's metrics cannot be read; the message says why."""


def fetch_metrics(control_url: str, token: str | None) -> str:
    """The text of a control plane's `/metrics`; blocking.

    Raises:
        MetricsError: no answer, or none that is for us.
    """
    url = f"{control_url.rstrip('/')}/metrics"
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=_METRICS_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as exc:
        mend = "; the token needs the scope `monitor`" if exc.code in (401, 403) else ""
        raise MetricsError(f"{url} answers {exc.code} {exc.reason}{mend}") from exc
    except (OSError, ValueError) as exc:
        raise MetricsError(f"no answer from {url}: {exc}") from exc


def parse_metrics(text: str) -> Frames:
    """The counters a replay needs, out of Prometheus's text format; those not there are zero."""
    seen = started = 0.0
    delays: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "voicegate_frames_total":
                    seen += sample.value
                case "voicegate_calls_started_total":
                    started += sample.value
                case "voicegate_frame_delay_seconds_bucket":
                    end = float(sample.labels["le"])
                    delays[end] = delays.get(end, 0.0) + sample.value
    ends = tuple(sorted(delays))
    frame_delay = Buckets(ends, tuple(delays[end] for end in ends))
    return Frames(seen=int(seen), calls_started=int(started), frame_delay=frame_delay)


def between(before: Frames, after: Frames) -> Frames:
    """What was counted between two readings; a reading with a problem has it still."""
    if problem := before.problem or after.problem:
        return Frames(problem=problem)
    # A gateway that has served no call yet may have no series yet.
    nothing = Buckets(after.frame_delay.ends, (0.0,) * len(after.frame_delay.ends))
    earlier = before.frame_delay if before.frame_delay.ends else nothing
    return Frames(
        seen=after.seen - before.seen,
        calls_started=after.calls_started - before.calls_started,
        frame_delay=after.frame_delay.since(earlier),
    )
