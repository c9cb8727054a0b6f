"""The overload bench, small: a worker for three calls, three that talk, three that come too many; and its judgement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from bench.overload import Overload, Stretch, document, judge, overload, plot
from gateway.replay.call_ear import Recording
from gateway.replay.load import Caller, Load
from tests.gateway.harness import rig, speech

GOOD = Overload(
    capacity=2,
    capacity_from="named",
    stretches=[
        Stretch(
            name,
            from_s,
            from_s + 10.0,
            4,
            {"endpoint_to_reply_ms": {"p50": 3.0, "p99": 30.0}, "frame_delay_ms": {"p50": 1.0, "p99": 5.0}},
        )
        for name, from_s in (("alone", 0.0), ("crowd", 10.0), ("after", 20.0))
    ],
    talking=2,
    broken={},
    frames_lost=0,
    newcomers=5,
    refused={"503": 5},
    admitted=0,
    refusal_ms={"p50": 2.0, "p99": 4.0},
    refusal_told="503 Service Unavailable, Retry-After: 5: all lines are busy",
    late_ms={"p50": 0.5, "p99": 1.0, "max": 3.0},
    delays=[(1.0, 5.0)],
    replies=[(2.0, 3.0)],
    refusals=[(12.0, 2.0)],
)


def slow(at: int) -> Overload:
    """With one stretch in which replies took too long."""
    stretches = list(GOOD.stretches)
    figures = {**stretches[at].figures, "endpoint_to_reply_ms": {"p50": 3.0, "p99": 201.0}}
    stretches[at] = replace(stretches[at], figures=figures)
    return replace(GOOD, stretches=stretches)


@pytest.mark.unit
def test_what_breaks_the_promise_is_named() -> None:
    assert judge(GOOD) == []
    assert judge(slow(1)) == ["crowd: endpoint_to_reply_ms p99 201.0 > 200"]
    assert "name a smaller --capacity" in judge(slow(0))[0], "then nothing can be said of the crowd"
    for changed, named in (
        (replace(GOOD, broken={"lost": 1}), "1 calls of those who talked ended: lost"),
        (replace(GOOD, frames_lost=3), "3 frames"),
        (replace(GOOD, admitted=1), "1 newcomers were let in"),
        (replace(GOOD, refused={"503": 4, "500": 1}), "otherwise than with 503"),
        (replace(GOOD, refused={}), "nobody called"),
        (replace(GOOD, refusal_told="503 Service Unavailable: all lines are busy"), "without Retry-After"),
    ):
        (fault,) = judge(changed)
        assert named in fault


@pytest.mark.unit
def test_the_plot_stands_alone_and_the_document_is_json() -> None:
    drawn = plot(GOOD)
    assert drawn.startswith("<svg xmlns=") and drawn.count("<svg") == 5 and "2 calls talk" in drawn
    told = json.loads(json.dumps(document(GOOD), allow_nan=False))
    assert told["schema"] == "voicegate.overload/1" and told["refused"] == {"503": 5} and told["faults"] == []


@pytest.mark.e2e
async def test_those_who_talk_lose_nothing_and_newcomers_are_refused(tmp_path: Path) -> None:
    callers = [Caller("anna", (Recording("hm.wav", speech()),) * 50)]
    async with rig(tmp_path, hear="hm", environ={"VOICEGATE_LIMITS_CALLS_PER_WORKER": "3"}) as running:
        talk = Load(url=f"ws://127.0.0.1:{running.port}", callers=callers, calls=3, bot="tester", solo=False)
        found = await overload(talk, lambda: generate_latest(running.registry).decode(), seconds=1.5)
        refused, tasks = running.metric("voicegate_refused_total", reason="full"), running.metric("voicegate_tasks")
    assert (found.talking, found.broken, found.frames_lost, found.admitted) == (3, {}, 0, 0)
    assert found.newcomers == sum(found.refused.values()) >= 3 and set(found.refused) == {"503"}
    assert refused == found.newcomers + 1, "and the one that was asked by hand"
    assert tasks > 3, "three calls were there when it was counted last"
    assert found.refusal_told.startswith("503 Service Unavailable, Retry-After: 5")
    assert [stretch.name for stretch in found.stretches] == ["alone", "crowd", "after"]
    assert found.replies and found.delays
