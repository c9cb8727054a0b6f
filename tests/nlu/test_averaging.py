from __future__ import annotations

import pytest
import torch

from nlu.averaging import WeightMean

pytestmark = pytest.mark.unit


def test_every_model_counts_alike() -> None:
    mean = WeightMean()
    for value in (1.0, 2.0, 6.0):
        mean.add({"w": torch.tensor([value, -value]), "b": torch.tensor(0.5)})
    assert mean.count == 3
    torch.testing.assert_close(mean.weights, {"w": torch.tensor([3.0, -3.0]), "b": torch.tensor(0.5)})


def test_what_was_taken_in_is_left_as_it_was() -> None:
    first = {"w": torch.tensor([1.0])}
    mean = WeightMean()
    mean.add(first)
    mean.add({"w": torch.tensor([3.0])})
    assert first["w"].tolist() == [1.0]


def test_a_mean_is_taken_up_again() -> None:
    whole, taken_up = WeightMean(), WeightMean()
    for value in (1.0, 2.0):
        whole.add({"w": torch.tensor([value])})
        taken_up.add({"w": torch.tensor([value])})
    taken_up = WeightMean(taken_up.count, taken_up.weights)
    for mean in (whole, taken_up):
        mean.add({"w": torch.tensor([6.0])})
    assert torch.equal(whole.weights["w"], taken_up.weights["w"])
