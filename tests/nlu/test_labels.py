from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from nlu.labels import SlotTags, Span

pytestmark = pytest.mark.unit

TAGS = SlotTags.of(["date", "amount", "date"])
O, B_AMOUNT, B_DATE, I_AMOUNT, I_DATE = range(5)  # noqa: E741 - BIO's own letter
WORDS = [(0, 3), (4, 6), (7, 10), (11, 15)]


def valid(tags: list[int]) -> bool:
    return all(tag <= B_DATE or (before in (tag, tag - 2)) for before, tag in itertools.pairwise([O, *tags]))


def test_names_are_sorted_and_single() -> None:
    assert (TAGS.names, len(TAGS)) == (("amount", "date"), 5)


def test_spans_become_tags_and_spans_again() -> None:
    spans = [Span("amount", 0, 6), Span("date", 7, 15)]
    tags = TAGS.tag(spans, WORDS)
    assert tags == [B_AMOUNT, I_AMOUNT, B_DATE, I_DATE]
    assert TAGS.spans(tags, WORDS) == spans


def test_neighbours_of_one_name_stay_two() -> None:
    spans = [Span("date", 0, 3), Span("date", 4, 6)]
    assert TAGS.spans(TAGS.tag(spans, WORDS), WORDS) == spans


def test_a_span_inside_a_word_takes_the_word() -> None:
    assert TAGS.tag([Span("date", 12, 13)], WORDS) == [O, O, O, B_DATE]


def test_unknown_names_are_passed_over() -> None:
    assert TAGS.tag([Span("place", 0, 3)], WORDS) == [O, O, O, O]


def test_i_without_b_is_never_decoded() -> None:
    scores = np.zeros((2, 5), np.float32)
    scores[:, I_DATE] = 9
    assert TAGS.decode(scores) == [B_DATE, I_DATE]


def test_no_words_and_no_slots_decode() -> None:
    assert TAGS.decode(np.zeros((0, 5), np.float32)) == []
    assert SlotTags(()).decode(np.zeros((3, 1), np.float32)) == [0, 0, 0]


@settings(deadline=None)
@given(np_st.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=st.integers(-9, 9)))
def test_decoding_finds_the_best_valid_sequence(scores: np.ndarray) -> None:
    def total(tags: tuple[int, ...] | list[int]) -> float:
        return float(sum(row[tag] for row, tag in zip(scores, tags, strict=True)))

    decoded = TAGS.decode(scores)
    assert valid(decoded)
    candidates = (tags for tags in itertools.product(range(5), repeat=len(scores)) if valid(list(tags)))
    assert total(decoded) == max(total(tags) for tags in candidates)
