from __future__ import annotations

import pytest
import torch

from nlu.scope import Scope

pytestmark = pytest.mark.unit


def wordings(count: int, seed: int) -> torch.Tensor:
    """Points along two directions of ten."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, generator=generator) @ torch.eye(2, 10) + 1.0


def intent_scores(count: int) -> torch.Tensor:
    return torch.linspace(1.0, 2.0, count)[:, None] * torch.tensor([[1.0, 0.0]])


@pytest.fixture
def scope() -> Scope:
    return Scope.fit(wordings(50, 0), intent_scores(20), wordings(20, 1), held_out=True)


def test_dev_lines_have_mean_zero_and_spread_one_in_both_views(scope: Scope) -> None:
    scores = scope.scores(intent_scores(20), wordings(20, 1))
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)
    assert 0.0 < float(scores.std()) <= 2.0  # the sum of two of spread one


def test_claimed_and_near_is_more_in_scope_than_either_less(scope: Scope) -> None:
    near = wordings(50, 0)[:1]
    far = near + torch.eye(10)[9:] * 50
    sure, unsure = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.1, 0.0]])
    best = float(scope.scores(sure, near))
    assert best > float(scope.scores(unsure, near))
    opposite = 2 * scope.centre - far
    assert best > float(scope.scores(sure, opposite))


def test_a_training_line_is_not_its_own_neighbour() -> None:
    """Where dev lines are the training lines, all would be as near as can be, and a new line strange."""
    lines = wordings(20, 0)
    fair = Scope.fit(lines, intent_scores(20), lines, held_out=False)
    assert float(fair.means[1]) < 1.0
    flattered = Scope.fit(lines, intent_scores(20), lines, held_out=True)
    assert float(flattered.means[1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("dev_lines", [0, 1])
def test_one_example_is_enough(dev_lines: int) -> None:
    scope = Scope.fit(wordings(1, 0), intent_scores(dev_lines), wordings(dev_lines, 0), held_out=False)
    assert torch.isfinite(scope.scores(intent_scores(3), wordings(3, 2))).all()


def test_it_is_stored_with_the_weights(scope: Scope) -> None:
    state = {"head.w": torch.ones(1)} | scope.state()
    again = Scope.take_from(state)
    assert list(state) == ["head.w"]
    assert again is not None
    assert torch.equal(again.examples, scope.examples)
    assert Scope.take_from(state) is None
    with pytest.raises(KeyError):
        Scope.take_from({"scope.centre": torch.ones(1)})
