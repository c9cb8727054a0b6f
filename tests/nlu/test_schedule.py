from __future__ import annotations

import pytest
import torch

from nlu.schedule import Schedule, computing_with, threads_for

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("examples", "epochs"), [(50, 20), (600, 15), (1500, 6), (15_000, 8)])
def test_the_schedule_fits_the_time_that_the_size_allows(examples: int, epochs: int) -> None:
    assert Schedule.for_size(examples).epochs == epochs
    assert Schedule.for_size(examples, 3).epochs == 3


@pytest.mark.parametrize(("examples", "epochs", "cycles"), [(600, None, 0), (15_000, None, 3), (15_000, 3, 1)])
def test_only_many_examples_are_learnt_in_cycles_too(examples: int, epochs: int | None, cycles: int) -> None:
    assert Schedule.for_size(examples, epochs).cycles == cycles
    assert Schedule.for_size(examples, epochs, pretrained=False).cycles == 0


def test_the_rate_rises_to_its_full_height_and_falls_to_zero() -> None:
    schedule = Schedule.for_size(600)
    assert [schedule.rate(done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_a_bots_own_examples_train_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr("os.getloadavg", lambda: (2.6, 9.0, 9.0))
    assert threads_for(3000) == 1
    assert threads_for(3001) == 5
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    assert threads_for(3001) == 1


def test_threads_are_given_back_after_a_failure() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), computing_with(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before
