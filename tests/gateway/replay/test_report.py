"""What a replay says of its measurements: quantiles, verdicts, frames lost, what differs, the document, the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.replay.against_alone import OtherEnding
from gateway.replay.page import page
from gateway.replay.record import Buckets, CallRecord, Client, Frames, Measured, Point, Sample, Turn
from gateway.replay.report import SCHEMA, BudgetLine, Report, Verdict, percentile, quantiles, report

pytestmark = pytest.mark.unit

ENDS = (0.01, 0.02, 0.05, math.inf)
CLIENT = Client(cpu_share=0.1, late_p50_ms=0.1, late_p99_ms=2.0, late_max_ms=9.0, messages=500)


def call(
    *words: str, ended_by: str = "out_of_audio", faults: Sequence[str] = (), caller: str = "anna", **ms: float
) -> CallRecord:
    return CallRecord(
        caller=caller,
        ended_by=ended_by,
        faults=tuple(faults),
        turns=tuple(Turn(f"{at}.wav", text) for at, text in enumerate(words)),
        points=tuple(Point(name, 1.5, value) for name, value in ms.items()),
        frames_sent=100,
    )


def measured(records: Sequence[CallRecord], alone: Sequence[CallRecord] = (), **changes: object) -> Measured:
    plain = Measured(
        url="ws://127.0.0.1:1/v1/call",
        own_gateway=True,
        bot="load",
        callers={"anna": ["0.wav"]},
        calls=2,
        ramp_s=0.0,
        duration_s=None,
        wall_s=10.0,
        alone=alone,
        records=records,
        samples=[Sample(at_s=1.0, calls=2, cpu_share=0.1, late_ms=1.0)],
        frames=Frames(
            seen=100 * len(records), calls_started=len(records), frame_delay=Buckets(ENDS, (98, 99, 100, 100))
        ),
        client=CLIENT,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # tests name fields


def judged(run: Measured) -> Report:
    return report(run, machine={"cpu": "test", "cores": "2"}, date="2026-11-21T10:00:00+00:00")


def line(result: Report, name: str, under: str = "load") -> BudgetLine:
    (found,) = [budget for budget in result.budgets if (budget.name, budget.under) == (name, under)]
    return found


def test_quantiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert quantiles(values) == {"p50": 100, "p90": 180, "p99": 198, "max": 200}
    assert quantiles([7.0]) == {"p50": 7, "p90": 7, "p99": 7, "max": 7}
    assert quantiles([]) == {}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_occurred_and_its_share_is_not_above_it(values: list[float], q: float) -> None:
    found = percentile(sorted(values), q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) * (1 - 1e-12)


def test_a_budget_is_met_missed_or_not_measured() -> None:
    good = call(first_utterance_ms=30.0, endpoint_to_reply_ms=20.0, speech_end_to_reply_ms=900.0)
    result = judged(measured([good]))
    assert line(result, "first_utterance_ms").verdict is Verdict.MET
    assert line(result, "endpoint_to_reply_ms").verdict is Verdict.MET
    assert line(result, "speech_end_to_reply_ms", "tail 800 ms").verdict is Verdict.MISSED  # p50: 800 + 60 + 20
    assert line(result, "speech_end_to_reply_ms", "tail 800 ms").limits == {"p50": 880, "p99": 1060}
    for name, why in (("barge_in_ms", "speaks over"), ("frame_cpu_us", "frame_path"), ("intent_ms", "5,000")):
        assert line(result, name).verdict is Verdict.NOT_MEASURED and why in line(result, name).note
    assert result.verdict is Verdict.MISSED


def test_turns_are_judged_by_the_tail_that_ended_them() -> None:
    points = tuple(Point("speech_end_to_reply_ms", 1.0, ms, tail) for ms, tail in ((870.0, 800.0), (1270.0, 1200.0)))
    result = judged(measured([replace(call(), points=points)]))
    for tail in (800, 1200):
        found = line(result, "speech_end_to_reply_ms", f"tail {tail} ms")
        assert (found.n, found.verdict) == (1, Verdict.MET)
        assert found.limits == {"p50": tail + 80, "p99": tail + 260}


def test_the_greeting_has_a_budget_of_its_own_when_nothing_else_runs() -> None:
    slow = call(first_utterance_ms=31.0)
    result = judged(measured([slow], alone=[slow]))
    assert line(result, "first_utterance_ms").verdict is Verdict.MET
    assert line(result, "first_utterance_ms", "alone").verdict is Verdict.MISSED


def test_a_failed_call_misses_whatever_the_budgets_say() -> None:
    result = judged(measured([call(), call(ended_by="error", faults=["refused"]), call(ended_by="caller")]))
    assert (result.placed, result.ok, result.failed, result.cut) == (3, 2, 1, 1)
    assert result.failures == {"refused": 1} and result.ended_by == {"out_of_audio": 1, "error": 1, "caller": 1}
    assert result.verdict is Verdict.MISSED
    assert judged(measured([call()])).verdict is Verdict.MET


def test_frames_lost_are_those_sent_and_not_judged() -> None:
    lossy = judged(measured([call(), call()], frames=Frames(seen=197, calls_started=2)))
    assert line(lossy, "frames_lost").figures == {"lost": 3} and lossy.verdict is Verdict.MISSED
    hanging_up = replace(call(ended_by="bot"), frames_at_end=2)
    kept = judged(measured([hanging_up], frames=Frames(seen=98, calls_started=1)))
    assert line(kept, "frames_lost").verdict is Verdict.MET


def test_frames_are_not_judged_where_others_called_too_or_metrics_are_missing() -> None:
    shared = line(judged(measured([call()], frames=Frames(seen=900, calls_started=9))), "frames_lost")
    assert shared.verdict is Verdict.NOT_MEASURED and "9 calls" in shared.note
    blind = judged(measured([call()], frames=Frames(problem="no answer")))
    for name in ("frames_lost", "frame_delay_ms"):
        assert line(blind, name).verdict is Verdict.NOT_MEASURED and line(blind, name).note == "no answer"


def test_frame_delay_is_the_upper_end_of_the_lags_bucket() -> None:
    found = line(judged(measured([call()])), "frame_delay_ms")
    assert found.figures == {"p50": 10, "p90": 10, "p99": 20, "max": 50} and found.verdict is Verdict.MET
    late = Frames(seen=100, calls_started=1, frame_delay=Buckets(ENDS, (98, 98, 98, 100)))
    past = judged(measured([call()], frames=late))
    assert line(past, "frame_delay_ms").verdict is Verdict.MISSED
    (document,) = [entry for entry in past.document()["budgets"] if entry["name"] == "frame_delay_ms"]
    assert document["figures"]["p99"] is None  # JSON has no infinity


def test_buckets_of_a_stretch_of_time() -> None:
    assert Buckets(ENDS, (5, 6, 6, 9)).since(Buckets(ENDS, (5, 5, 5, 5))) == Buckets(ENDS, (0, 1, 1, 4))
    assert Buckets(ENDS, (0, 0, 0, 0)).percentile(0.5) is None
    assert Buckets((), ()).percentile(0.5) is None


def test_a_caller_who_failed_alone_is_told_and_compared_with_nothing() -> None:
    result = judged(measured([call("no")], alone=[call("yes", faults=["lost"])]))
    assert "failed alone" in result.warnings[0]
    assert (result.turns_compared, result.endings_compared) == (0, 0)
    assert "Not compared" in page(result)


def test_a_call_that_ends_otherwise_than_its_caller_alone_is_told() -> None:
    alone = replace(call("yes", ended_by="bot"), disposition="paid")
    result = judged(measured([alone, replace(alone, disposition="given_up")], alone=[alone]))
    assert (result.endings_compared, result.endings_differing) == (2, 1)
    told = {"caller": "anna", "alone": "bot: paid", "loaded": "bot: given_up", "calls": 1}
    assert result.document()["endings"] == [told]
    assert "1 of 2 calls ended otherwise" in page(result) and "bot: given_up" in page(result)
    assert result.verdict is Verdict.MET, "what was said is not what was promised"


def test_a_client_that_is_itself_too_slow_says_so() -> None:
    assert judged(measured([call()])).warnings == []
    late = judged(measured([call()], client=replace(CLIENT, late_p99_ms=21.0)))
    assert not late.client_verdict.kept_up and late.warnings == [late.client_verdict.why]
    assert "the client was late, results are its own" in late.warnings[0] and "p99 21.0" in late.warnings[0]
    busy = judged(measured([call()], client=replace(CLIENT, processes=2, cpu_share=1.1, busiest_share=0.71)))
    assert "the client was busy" in busy.warnings[0] and "busiest 71% of its own" in busy.warnings[0]
    assert "--processes 3" in busy.warnings[0]
    assert "The client was busy" in page(busy)


def test_the_document_is_json_with_everything() -> None:
    result = judged(measured([call("yes", endpoint_to_reply_ms=12.0, asr_ms=40.0)], alone=[call("no")]))
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["latencies"]["endpoint_to_reply_ms"] == [[1.5, 12.0]]
    assert document["stages"]["asr_ms"]["p99"] == 40
    assert document["differences"][0]["alone"] == "no"
    assert document["machine"]["cores"] == "2" and document["client"]["messages"] == 500
    assert [entry["verdict"] for entry in document["budgets"]].count("met") == 3


def test_every_key_of_the_document_is_documented() -> None:
    told = (Path(__file__).parents[3] / "docs" / "replay.md").read_text(encoding="utf-8")
    document = judged(measured([call("yes", endpoint_to_reply_ms=12.0)])).document()
    assert document["schema"] == SCHEMA and f"`{SCHEMA}`" in told
    inner = [*document["load"], *document["client"], *document["client_verdict"], *document["samples"][0]]
    keys = {*document, *inner, *document["budgets"][0]}
    keys |= {each.name for each in fields(OtherEnding)}
    assert [key for key in sorted(keys) if f"`{key}`" not in told] == []


def test_the_page_stands_alone_and_escapes_what_callers_said() -> None:
    words = "<script>alert(1)</script>"
    text = page(judged(measured([call(words, endpoint_to_reply_ms=12.0)], alone=[call("no")])))
    assert words not in text and "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "") and "src=" not in text and "<link" not in text
    assert "prefers-color-scheme: dark" in text and text.count("<svg") >= 3
    assert 'class="met"' in text and "not measured" in text


def test_the_page_of_a_run_without_any_answer_says_so() -> None:
    text = page(judged(measured([call(ended_by="error", faults=["refused"])], samples=[])))
    assert "Nothing was measured" in text and "refused" in text


def test_a_products_dialect_is_judged_by_what_can_be_heard_from_here() -> None:
    heard = replace(call("", speech_end_to_reply_ms=850.0, first_utterance_ms=20.0))
    result = judged(measured([heard], alone=[heard], dialect="twilio"))
    untold = line(result, "endpoint_to_reply_ms")
    assert untold.verdict is Verdict.NOT_MEASURED and "twilio does not tell" in untold.note
    assert line(result, "speech_end_to_reply_ms", "tail 800 ms").verdict is Verdict.MET
    assert "by this client" in line(result, "first_utterance_ms").note
    assert result.turns_compared == 0, "it tells no words, so all would be the same"


def test_at_twice_the_speed_the_tail_takes_half_the_time() -> None:
    result = judged(measured([call(speech_end_to_reply_ms=700.0)], speed=2.0))
    assert line(result, "speech_end_to_reply_ms", "tail 800 ms").limits == {"p50": 450, "p99": 630}
    assert "speed 2" in result.warnings[0]
