"""Which question a text asks: by its very words, by the nearest vector, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlu.faq import ALWAYS, FaqIndex, FaqLookup, find_answers
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning
from nlu.sentences import CharacterGrams

pytestmark = pytest.mark.unit

QUESTIONS = [
    ("hours", "When are you open?"),
    ("hours", "What are your opening hours?"),
    ("parking", "Can I park there?"),
    ("price", "What does it cost?"),
]
CHINESE = [("hours", "营业时间是几点"), ("pay", "怎么缴费"), ("pay", "可以用微信交吗")]


def index(questions: list[tuple[str, str]], language: str = "en", **options: float) -> FaqIndex:
    return FaqIndex(CharacterGrams([wording for _, wording in questions], language), questions, **options)


ENGLISH = index(QUESTIONS)


@pytest.mark.parametrize("text", ["when are you open", "WHEN ARE YOU OPEN!", " When are you,  open "])
def test_the_very_words_are_found_however_they_are_written(text: str) -> None:
    assert ENGLISH.verbatim(text) == FaqMatch("hours", 1.0, verbatim=True)


@pytest.mark.parametrize("text", ["when are you", "are you open when", "when are you open now"])
def test_other_words_are_not_the_very_words(text: str) -> None:
    assert ENGLISH.verbatim(text) is None


def test_the_nearest_question_is_found_from_its_likeness_on() -> None:
    near, far = find_answers([FaqLookup(ENGLISH, "are you open now"), FaqLookup(ENGLISH, "my tooth hurts")])
    assert near is not None and (near.entry, near.verbatim) == ("hours", False) and 0.38 <= near.score <= 1
    assert far is None


def test_a_threshold_of_ones_own() -> None:
    text = "are you open now"
    (match,) = find_answers([FaqLookup(index(QUESTIONS, threshold=0.0), text)])
    assert match is not None
    assert find_answers([FaqLookup(index(QUESTIONS, threshold=0.99), text)]) == [None]


def test_texts_of_several_bots_go_together_and_keep_their_order() -> None:
    chinese = index(CHINESE, "zh")
    lookups = [
        FaqLookup(chinese, "可以缴费吗"),
        FaqLookup(ENGLISH, "can i park here"),
        FaqLookup(chinese, "几点营业"),
        FaqLookup(ENGLISH, "几点营业"),
    ]
    assert [match and match.entry for match in find_answers(lookups)] == ["pay", "parking", "hours", None]
    assert find_answers([]) == []


@pytest.mark.parametrize(
    ("unsure_below", "meaning", "wanted"),
    [
        (0.5, Meaning(OUT_OF_SCOPE, 0.9), True),
        (0.5, Meaning("affirm", 0.49), True),
        (0.5, Meaning("affirm", 0.5), False),
        (0.0, Meaning("affirm", 0.0), False),
        (ALWAYS, Meaning("affirm", 1.0), True),
    ],
)
def test_only_what_was_not_understood_is_looked_up(unsure_below: float, meaning: Meaning, wanted: bool) -> None:
    assert index(QUESTIONS, unsure_below=unsure_below).wants(meaning) is wanted


@given(st.lists(st.text(max_size=40), max_size=6))
def test_rows_are_no_longer_than_one_and_do_not_depend_on_company(texts: list[str]) -> None:
    space = CharacterGrams([wording for _, wording in QUESTIONS], "en")
    rows = space.embed(texts)
    assert rows.shape[0] == len(texts)
    for text, row in zip(texts, rows, strict=True):
        assert float(row @ row) <= 1 + 1e-5
        assert (space.embed([text])[0] == row).all()


def test_what_is_in_no_known_text_makes_a_text_like_none() -> None:
    space = CharacterGrams([wording for _, wording in QUESTIONS], "en")
    alone, beside = space.embed(["can i park there", "can i park there with xylophones quietly buzzing"])
    assert float(alone @ alone) == pytest.approx(1, abs=1e-5)
    assert float(alone @ beside) < 0.7
