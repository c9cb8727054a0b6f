from __future__ import annotations

import math

import pytest
import torch

from nlu.calibration import energies, fit_temperature, fit_threshold

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
