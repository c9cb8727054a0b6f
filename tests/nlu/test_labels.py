from __future__ import annotations

import pytest

from nlu.labels import SlotTags, Span

pytestmark = pytest.mark.unit

TAGS = SlotTags.of(["date", "amount", "date"])
O, B_AMOUNT, B_DATE, I_AMOUNT, I_DATE = range(5)  # noqa: E741 - BIO's own letter
WORDS = [(0, 3), (4, 6), (7, 10), (11, 15)]


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
