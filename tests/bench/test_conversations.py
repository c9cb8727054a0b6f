"""What a step of the conversations bench is judged by, what is told of it, and the bot that is talked to."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bench.conversation_setup import Plan, callers, quick_bot, speech_s
from bench.conversation_steps import (
    Climb,
    Step,
    barge_in,
    document,
    judge,
    plot,
    summary,
    with_own_budgets,
)
from bench.process_watch import Engine, ProcessWatch, engines_between, mean_shares
from dialogue.bots import load_bot
from gateway.inference.batching import BatchReport
from gateway.inference.job_queue import Urgency
from gateway.metrics import InferenceMetrics, Metrics
from gateway.replay.against_alone import OtherEnding
from gateway.replay.record import Buckets, Point
from gateway.replay.report import Report, Verdict
from tests.gateway.replay.test_report import call, judged, line, measured

pytestmark = pytest.mark.unit

OVERS = Buckets((0.2, 0.3, math.inf), (3.0, 4.0, 4.0))


def told(**ms: float) -> Report:
    plain = call("yes", ended_by="bot")
    run = measured([replace(plain, points=tuple(Point(name, 1.5, value) for name, value in ms.items()))] * 2, [plain])
    return with_own_budgets(judged(run), barge_in=OVERS, worker_cpu_s=0.002, frames=200)


def step(report: Report, **changes: object) -> Step:
    plain = Step(
        calls=2,
        began_s=0.0,
        report=report,
        cores={"worker": 0.5, "client": 0.2},
        engines={
            "asr": Engine(jobs=4, batches=2, queue_ms={"p50": 5.0, "p99": None}, busy_share=0.5, shed=1),
        },
        words_not_known={"guessed": 1, "unknown": 0},
        frames_per_s=100.0,
        turns_per_s=0.4,
        faults=judge(report),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # tests name fields


def test_the_budgets_that_a_replay_cannot_know() -> None:
    found = told(nlu_ms=20.0)
    assert line(found, "barge_in_ms").verdict is Verdict.MET and line(found, "barge_in_ms").figures["p99"] == 300
    assert line(found, "frame_cpu_us").figures == {"mean": pytest.approx(10.0)}
    assert line(found, "frame_cpu_us").verdict is line(found, "intent_ms").verdict is Verdict.MET
    slow = with_own_budgets(judged(measured([call("a", nlu_ms=90.0)])), barge_in=OVERS, worker_cpu_s=1, frames=200)
    for name in ("frame_cpu_us", "intent_ms"):
        assert line(slow, name).verdict is Verdict.NOT_MEASURED and "decides nothing" in line(slow, name).note
    late = Buckets(OVERS.ends, (0.0, 0.0, 4.0))
    missed = with_own_budgets(judged(measured([call("a")])), barge_in=late, worker_cpu_s=0, frames=0)
    assert line(missed, "barge_in_ms").verdict is missed.verdict is Verdict.MISSED


def test_why_a_step_did_not_hold() -> None:
    assert judge(told(endpoint_to_reply_ms=5.0)) == []
    other = OtherEnding(caller="callers/anna", alone="bot: done", loaded="bot: given_up", calls=2)
    assert judge(replace(told(endpoint_to_reply_ms=250.0), endings=[other])) == [
        "endpoint_to_reply_ms (load): p50 250 > 20, p99 250 > 200",
        "2 calls ended otherwise: anna: bot: given_up instead of bot: done",
    ]


def test_everything_is_told_written_and_drawn() -> None:
    climb = Climb(speech_share=0.33, call_s=36.0, steps=[step(told(endpoint_to_reply_ms=5.0)), step(told(), calls=3)])
    climb.watch.looks = []
    climb.began = climb.watch.look().at
    climb.watch.looks.append(replace(climb.watch.look(), at=climb.began + 5))
    assert climb.carried == 3
    text = summary(climb.steps[0])
    assert "2 calls: every budget held" in text and "worker 0.50 (4 calls a core)" in text
    assert "waited p50 / p99 5 / off scale ms" in text and "words not known: guessed 1, unknown 0" in text
    whole = json.loads(json.dumps(document(Plan(calls=3, first=2), climb), allow_nan=False))
    assert whole["carried"] == 3 and whole["steps"][0]["engines"]["asr"]["mean_batch"] == 2
    drawn = plot(Plan(calls=3, first=2), climb)
    assert drawn.startswith("<svg xmlns=") and "worker: cores" in drawn and "3 with every budget held" in drawn


def test_a_barge_in_is_read_from_the_gateways_metrics() -> None:
    registry = CollectorRegistry()
    Metrics(registry).barge_in.observe(0.25)
    counted = barge_in(generate_latest(registry).decode())
    assert counted.percentile(0.5) == 0.3 and counted.counts[-1] == 1


def test_engines_are_judged_by_what_was_added_to_their_metrics() -> None:
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    metrics.batch_ran(BatchReport("asr", (Urgency.ENDPOINT,), (4.0,), 0.5, 0))
    before = generate_latest(registry).decode()
    metrics.batch_ran(BatchReport("asr", (Urgency.ENDPOINT, Urgency.SPECULATIVE), (0.004, 0.018), 0.5, 0))
    metrics.job_shed("asr", Urgency.PARTIAL)
    found = engines_between(before, generate_latest(registry).decode(), 2.0)["asr"]
    assert (found.jobs, found.batches, found.mean_batch, found.busy_share, found.shed) == (2, 1, 2.0, 0.25, 1)
    assert found.queue_ms == {"p50": 5.0, "p99": 20.0}


def test_cpu_is_the_kernels_count_by_what_a_process_is() -> None:
    watch = ProcessWatch()
    first = watch.look()
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    after = watch.look()
    assert after.cpu_s["client"] - first.cpu_s["client"] >= 0.05  # in ticks of 10 ms, as the kernel counts
    assert mean_shares(first, after)["client"] > 0
    ((at_s, cores),) = watch.shares("client", first.at)
    assert at_s > 0 and cores > 0 and watch.shares("worker", first.at) == [(at_s, 0.0)]


def test_the_bot_is_the_bundled_one_with_a_quick_voice(tmp_path: Path) -> None:
    bundled, quick = load_bot("bill-reminder"), load_bot(quick_bot(tmp_path / "bot", 240))
    assert (bundled.voice.rate, quick.voice.rate) == (160, 240)
    assert (
        quick.flow == bundled.flow
        and quick.nlu_path is not None
        and os.path.samefile(quick.nlu_path, bundled.nlu_path or "")
    )


def test_one_of_the_callers_interrupts() -> None:
    first, second, hasty = callers()
    assert [said.over_ms for said in hasty.recordings] == [None, None, 1500, None, None, None]
    assert all(said.over_ms is None for caller in (first, second) for said in caller.recordings)
    assert 10 < speech_s(first) < speech_s(second) < 15
