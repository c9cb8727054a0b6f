"""Who is alive, by the observer's clock alone."""

from __future__ import annotations

import pytest

from gateway.processes.liveness import Liveness

pytestmark = pytest.mark.unit


def observed(*looks: tuple[float, dict[str, int]]) -> tuple[list[dict[str, int]], Liveness]:
    liveness = Liveness(dead_after_s=3.0)
    return [liveness.look(counts, now) for now, counts in looks], liveness


def test_who_stops_counting_is_dead_and_who_counts_is_alive() -> None:
    dead, liveness = observed(*((float(n), {"a": n, "b": min(n, 2)}) for n in range(7)))
    assert dead == [{}, {}, {}, {}, {}, {"b": 2}, {"b": 2}]
    assert liveness.alive(6.0) == {"a"}


def test_a_count_that_was_never_seen_to_move_is_no_sign_of_life() -> None:
    _, liveness = observed((0.0, {"a": 7}))
    assert liveness.alive(0.0) == set()
    liveness.look({"a": 8}, 1.0)
    assert liveness.alive(1.0) == {"a"}
    assert liveness.alive(5.0) == set()  # nobody has looked since


@pytest.mark.parametrize("count", [1, 9])
def test_who_counts_again_lives_again_from_whatever_count(count: int) -> None:
    dead, liveness = observed(*((float(n), {"a": 5}) for n in range(5)), (5.0, {"a": count}))
    assert dead[3:] == [{"a": 5}, {"a": 5}, {}]
    assert liveness.alive(5.0) == {"a"}


def test_who_was_blind_begins_anew() -> None:
    """The server was away for a minute, or this process was stopped: nobody could be seen to count."""
    dead, _ = observed((0.0, {"a": 1}), (1.0, {"a": 1}), (61.0, {"a": 1}), (62.0, {"a": 1}), (63.0, {"a": 1}))
    assert dead == [{}] * 5


def test_who_takes_leave_is_forgotten() -> None:
    dead, liveness = observed((0.0, {"a": 1}), (1.0, {"a": 2}), (2.0, {}), *((n, {"a": 2}) for n in (3.0, 4.0, 5.0)))
    assert dead == [{}] * 6
    assert liveness.alive(5.0) == set()
