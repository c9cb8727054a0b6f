from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.crf import Crf, Transitions, bio_rules, viterbi
from nlu.labels import SlotTags

pytestmark = pytest.mark.unit

TAGS = SlotTags(("a", "b"))  # O, B-a, B-b, I-a, I-b


def total(row: np.ndarray, path: tuple[int, ...], transitions: Transitions) -> float:
    steps = zip((-1, *path), path, strict=False)
    return float(sum(transitions[1 + before, tag] + row[at, tag] for at, (before, tag) in enumerate(steps)))


def paths(words: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(TAGS)), repeat=words))


def valid(path: tuple[int, ...]) -> bool:
    return all(tag < 3 or before in (tag, tag - 2) for before, tag in zip((0, *path), path, strict=False))


def test_the_rules_are_those_of_bio() -> None:
    rules = bio_rules(TAGS)
    for path in paths(3):
        score = total(np.zeros((3, len(TAGS)), dtype=np.float32), path, rules)
        assert (score == 0) == valid(path)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_best_path_is_the_best_of_all(seed: int, counts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(len(counts), max(counts), len(TAGS))).astype(np.float32)
    transitions = bio_rules(TAGS) + draw.normal(size=bio_rules(TAGS).shape).astype(np.float32)
    found = viterbi(scores, counts, transitions)
    for row, count, path in zip(scores, counts, found, strict=True):
        best = max(total(row[:count], other, transitions) for other in paths(count))
        assert valid(tuple(path))
        assert total(row[:count], tuple(path), transitions) == pytest.approx(best, abs=1e-4)


def test_a_line_without_words_has_no_tags() -> None:
    assert viterbi(np.zeros((2, 1, len(TAGS)), dtype=np.float32), [0, 1], bio_rules(TAGS))[0] == []


def test_a_model_without_slots_has_one_tag() -> None:
    none = SlotTags(())
    assert viterbi(np.zeros((1, 3, 1), dtype=np.float32), [3], bio_rules(none)) == [[0, 0, 0]]


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    torch.manual_seed(3)
    crf = Crf(TAGS)
    torch.nn.init.normal_(crf.learnt)
    scores = torch.randn(1, 3, len(TAGS)).expand(len(paths(3)), -1, -1)
    counts = torch.full((len(paths(3)),), 3)
    losses = crf.negative_log_likelihood(scores, torch.tensor(paths(3)), counts)
    assert float((-losses.detach()).exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(4)
    crf = Crf(TAGS)
    scores, targets = torch.randn(1, 2, len(TAGS)), torch.tensor([[1, 3]])
    padded = torch.cat([scores, torch.full((1, 3, len(TAGS)), 9.0)], dim=1)
    ignored = torch.cat([targets, torch.full((1, 3), -100)], dim=1)
    alone = crf.negative_log_likelihood(scores, targets, torch.tensor([2]))
    assert torch.allclose(alone, crf.negative_log_likelihood(padded, ignored, torch.tensor([2])))


def test_it_learns_what_follows_what() -> None:
    """Words that tell nothing, and targets whose second tag copies the first."""
    crf = Crf(TAGS)
    scores = torch.zeros(2, 2, len(TAGS))
    targets = torch.tensor([[1, 1], [2, 2]])
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        crf.negative_log_likelihood(scores, targets, torch.tensor([2, 2])).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    hints = np.zeros((2, 2, len(TAGS)), dtype=np.float32)
    hints[0, 0, 1] = hints[1, 0, 2] = 1.0
    assert viterbi(hints, [2, 2], crf.transitions()) == [[1, 1], [2, 2]]
