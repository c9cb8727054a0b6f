from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import t as student

from nlu.calibration import (
    FEW_LINES,
    _student_quantile,
    energies,
    fit_temperature,
    fit_threshold,
    middle_threshold,
)

pytestmark = pytest.mark.unit


def test_energy_is_log_sum_exp() -> None:
    assert energies(torch.tensor([[0.0, 0.0], [5.0, -100.0]])).tolist() == pytest.approx([math.log(2), 5.0])


def test_temperature_finds_the_scale_that_scores_were_sharpened_by() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn(20_000, 4, generator=generator) * 2
    intents = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest * 3, intents) == pytest.approx(3.0, rel=0.05)


def test_temperature_of_no_or_perfect_data_is_bounded() -> None:
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1.0
    assert fit_temperature(torch.eye(3) * 9, torch.arange(3)) == pytest.approx(0.5, rel=0.01)


def test_threshold_without_out_of_scope_lines_is_the_quantile() -> None:
    assert fit_threshold(torch.arange(101.0), torch.zeros(0), rejected_share=0.03) == pytest.approx(3.0)


def test_threshold_parts_what_can_be_parted() -> None:
    threshold = fit_threshold(torch.arange(10.0, 110.0), torch.tensor([1.0, 5.0, 9.0]))
    assert 9.0 < threshold <= 10.0


def test_threshold_never_rejects_more_than_its_share() -> None:
    in_scope = torch.arange(100.0)
    threshold = fit_threshold(in_scope, torch.full((50,), 60.0), rejected_share=0.05)
    assert float((in_scope < threshold).float().mean()) <= 0.05


def test_nothing_in_scope_rejects_nothing() -> None:
    assert fit_threshold(torch.zeros(0), torch.ones(3)) == -math.inf


def test_one_line_says_nothing_of_the_next() -> None:
    assert fit_threshold(torch.ones(1), torch.zeros(3)) == -math.inf


@pytest.mark.parametrize("count", [2, 4, 8, 24, FEW_LINES - 1])
def test_a_threshold_of_few_lines_keeps_its_promise_to_the_next_ones(count: int) -> None:
    """The quantile of four lines is the lowest of them, which one new line in five falls below."""
    generator = torch.Generator().manual_seed(count)
    draws = torch.randn(4000, count, generator=generator) * 3 + 7
    following = torch.randn(4000, generator=generator) * 3 + 7
    thresholds = torch.tensor([fit_threshold(few, torch.zeros(0), rejected_share=0.03) for few in draws])
    assert float((following < thresholds).float().mean()) < 0.04


def test_few_lines_and_some_out_of_scope_part_what_can_be_parted() -> None:
    threshold = fit_threshold(torch.tensor([4.0, 5.0, 5.5, 6.0]), torch.tensor([-9.0, -7.0, -8.0]))
    assert -7.0 < threshold < 4.0


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 98])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_students_quantile_is_the_tabled_one(degrees: int, share: float) -> None:
    assert _student_quantile(share, degrees) == pytest.approx(float(student.ppf(share, degrees)), rel=0.02)


def test_lines_learnt_by_heart_leave_the_middle() -> None:
    assert middle_threshold(torch.tensor([5.0, 7.0]), torch.tensor([-2.0, 0.0])) == pytest.approx(2.5)
    assert middle_threshold(torch.tensor([5.0]), torch.zeros(0)) == -math.inf
    assert middle_threshold(torch.zeros(0), torch.tensor([5.0])) == -math.inf
    assert middle_threshold(torch.tensor([1.0]), torch.tensor([5.0])) == -math.inf
