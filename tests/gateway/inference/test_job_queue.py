"""Which jobs go first, which share a batch, and what is expected of a wait: by values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inference.job_queue import Errand, JobQueue, QueuedJob, Urgency

pytestmark = pytest.mark.unit


def queued(
    name: str, cost: int = 100, urgency: Urgency = Urgency.ENDPOINT, since: float = 0.0, deadline: float = 100.0
) -> QueuedJob[str, None]:
    return QueuedJob(name, None, cost, Errand(urgency), since, deadline)


def filled(*jobs: QueuedJob[str, None], **limits: float) -> JobQueue[str, None]:
    queue: JobQueue[str, None] = JobQueue(**{"max_batch": 8, "max_cost": 10_000, **limits})  # type: ignore[arg-type]
    for job in jobs:
        queue.push(job)
    return queue


def names(jobs: list[QueuedJob[str, None]]) -> list[str]:
    return [job.job for job in jobs]


def test_the_urgent_go_first_and_the_oldest_among_equals() -> None:
    queue = filled(
        queued("partial", urgency=Urgency.PARTIAL, since=0),
        queued("speculation", urgency=Urgency.SPECULATIVE, since=1),
        queued("late endpoint", since=3),
        queued("early endpoint", since=2),
        max_batch=2,
    )
    assert names(queue.take(4.0)[0]) == ["early endpoint", "late endpoint"]
    assert names(queue.take(4.0)[0]) == ["speculation", "partial"]
    assert queue.take(4.0) == ([], [])


def test_a_promoted_job_overtakes() -> None:
    promoted = queued("b", urgency=Urgency.SPECULATIVE, since=5)
    queue = filled(queued("a", urgency=Urgency.SPECULATIVE, since=1), promoted, max_batch=1)
    promoted.errand.promote(Urgency.ENDPOINT)
    promoted.errand.promote(Urgency.PARTIAL)  # never back
    assert names(queue.take(6.0)[0]) == ["b"]


def test_promotion_is_told_once_to_whoever_carries_it() -> None:
    told: list[Urgency] = []
    errand = Errand(Urgency.PARTIAL)
    errand.on_promotion(told.append)
    errand.promote(Urgency.SPECULATIVE)
    errand.promote(Urgency.SPECULATIVE)
    assert told == [Urgency.SPECULATIVE]


def test_one_padded_length_a_batch_where_the_engine_pads() -> None:
    jobs = (queued("s1", 100, since=0), queued("l1", 300, since=1), queued("s2", 100, since=2))
    assert names(filled(*jobs, max_padding=0).take(3.0)[0]) == ["s1", "s2"]
    assert names(filled(*jobs).take(3.0)[0]) == ["s1", "l1", "s2"]


def test_jobs_of_about_one_length_share_a_batch_and_the_others_get_the_next() -> None:
    queue = filled(*(queued(str(n), n, since=at) for at, n in enumerate((12, 40, 14, 10, 37, 6))), max_padding=0.2)
    assert names(queue.take(9.0)[0]) == ["12", "14", "10"]  # 42 computed for 36; with the 6, 56 for 42
    assert names(queue.take(9.0)[0]) == ["40", "37"]
    assert names(queue.take(9.0)[0]) == ["6"]


def test_as_much_padding_as_another_batch_would_cost_is_no_waste() -> None:
    jobs = [queued(str(n), n, since=at) for at, n in enumerate((12, 20, 6, 90))]
    assert names(filled(*jobs, max_padding=0, batch_cost=30).take(9.0)[0]) == ["12", "20", "6"]  # 22 of padding
    assert names(filled(*jobs, max_padding=0, batch_cost=20).take(9.0)[0]) == ["12", "20"]


@given(
    st.lists(st.tuples(st.integers(1, 70), st.sampled_from(Urgency)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.1, 0.5, math.inf]),
    st.integers(0, 40),
)
def test_every_job_runs_once_within_the_bounds_and_the_most_urgent_oldest_first(
    jobs: list[tuple[int, Urgency]], max_padding: float, batch_cost: int
) -> None:
    waiting = [queued(str(at), cost, urgency, since=at) for at, (cost, urgency) in enumerate(jobs)]
    queue = filled(*waiting, max_batch=8, max_cost=200, max_padding=max_padding, batch_cost=batch_cost)
    ran: list[str] = []
    while len(queue):
        left = [job for job in waiting if job.job not in ran]
        batch, late = queue.take(99.0)
        assert batch[0] is min(left, key=lambda job: (job.errand.urgency, job.since)) and not late
        padded, real = max(job.cost for job in batch) * len(batch), sum(job.cost for job in batch)
        assert len(batch) <= 8
        assert len(batch) == 1 or (padded <= 200 and padded <= real * (1 + max_padding) + batch_cost)
        ran += names(batch)
    assert sorted(ran, key=int) == names(waiting)


def test_nobody_less_urgent_rides_along_while_somebody_more_urgent_is_left_out() -> None:
    jobs = (
        queued("e12", 12, since=0),
        queued("e90", 90, since=1),
        queued("e14", 14, since=2),
        queued("s12", 12, Urgency.SPECULATIVE, since=0),
    )
    queue = filled(*jobs, max_padding=0.2)
    assert names(queue.take(3.0)[0]) == ["e12", "e14"]
    assert names(queue.take(3.0)[0]) == ["e90"]
    assert names(queue.take(3.0)[0]) == ["s12"]
    without_the_long = filled(*(job for job in jobs if job.job != "e90"), max_padding=0.2)
    assert names(without_the_long.take(3.0)[0]) == ["e12", "e14", "s12"]


def test_the_less_urgent_ride_along_as_far_as_the_more_urgent_hardly_notice() -> None:
    jobs = [queued("e1", 10), queued("e2", 12), *(queued(f"s{n}", 10, Urgency.SPECULATIVE, n) for n in range(1, 6))]
    queue = filled(*jobs, max_ride_cost=30)
    assert names(queue.take(9.0)[0]) == ["e1", "e2", "s1", "s2"]  # 48 computed, where the two alone take 24
    assert names(queue.take(9.0)[0]) == ["s3", "s4", "s5"], "among themselves there is no such bound"
    assert names(filled(*jobs, max_ride_cost=0).take(9.0)[0]) == ["e1", "e2"]
    assert len(filled(*jobs).take(9.0)[0]) == 7


def test_a_batch_stops_where_its_longest_times_its_count_would_pass_the_cap() -> None:
    queue = filled(queued("a", 100, since=0), queued("b", 400, since=1), queued("c", 100, since=2), max_cost=900)
    assert names(queue.take(3.0)[0]) == ["a", "b"]
    assert names(queue.take(3.0)[0]) == ["c"]
    alone = filled(queued("huge", 5000), max_cost=900)
    assert names(alone.take(1.0)[0]) == ["huge"]  # too big for any batch still has to run


def test_what_is_late_is_named_and_what_is_gone_is_not() -> None:
    gone = queued("gone")
    gone.gone = True
    queue = filled(queued("late", deadline=1.0), gone, queued("fine"))
    batch, late = queue.take(2.0)
    assert (names(batch), names(late), len(queue)) == (["fine"], ["late"], 0)


def test_the_expected_wait_counts_what_is_ahead_at_the_measured_pace() -> None:
    queue = filled(queued("e", 200), queued("s", 300, Urgency.SPECULATIVE), queued("p", 500, Urgency.PARTIAL))
    assert queue.expected_wait_s(Urgency.PARTIAL, 0.0) == 0.0  # nothing has been measured yet
    queue.ran([queued("done", 100)], 0.1)  # 1 ms a unit
    assert queue.expected_wait_s(Urgency.ENDPOINT, 0.0) == pytest.approx(0.2)
    assert queue.expected_wait_s(Urgency.SPECULATIVE, 0.0) == pytest.approx(0.5)
    assert queue.expected_wait_s(Urgency.PARTIAL, 0.0) == pytest.approx(1.0)


def test_what_a_job_takes_by_itself_is_known_once_a_pace_is() -> None:
    queue = filled(queued("a", 100), engines=2)
    assert queue.expected_run_s(3000) == 0.0
    queue.ran([queued("done", 100), queued("too", 100)], 0.1)
    assert queue.expected_run_s(3000) == pytest.approx(1.5)  # whatever waits, and on one of the engines


def test_a_running_batch_is_waited_for_too_and_only_for_its_rest() -> None:
    queue = filled(queued("a", 100))
    queue.ran([queued("done", 100)], 0.1)
    batch, _ = queue.take(10.0)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 10.04) == pytest.approx(0.06)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 11.0) == 0.0
    queue.ran(batch, 0.1)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 10.04) == 0.0


def test_several_engines_are_waited_for_as_long_as_the_first_of_them() -> None:
    queue = filled(queued("a", 100), queued("b", 300), max_batch=1, engines=2)
    queue.ran([queued("done", 100)], 0.1)
    first, _ = queue.take(10.0)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 10.0) == pytest.approx(0.15)  # one is free: half of b
    second, _ = queue.take(10.0)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 10.0) == pytest.approx(0.1)
    queue.failed(first)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 10.0) == 0.0
    assert names(second) == ["b"]


def test_the_pace_follows_the_engine() -> None:
    queue = filled(queued("a", 100))
    queue.ran([queued("x", 100)], 0.1)
    for _ in range(30):
        queue.ran([queued("x", 100)], 0.4)
    assert queue.expected_wait_s(Urgency.ENDPOINT, 0.0) == pytest.approx(0.4, rel=0.01)
