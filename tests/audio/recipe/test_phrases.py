"""The grammar: every name resolves, text is plain, test templates never reach training."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.recipe import phrases
from audio.recipe.phrases import (
    draw_sentence,
    draw_template,
    fill_slots,
    is_test_template,
    plain_words,
)
from audio.recipe.spoken_forms import SLOTS, digits

pytestmark = pytest.mark.unit

SEEDS = st.integers(min_value=0, max_value=2**32)


def test_every_rule_and_slot_that_is_named_exists() -> None:
    for alternatives in phrases.RULES.values():
        for alternative in alternatives:
            assert set(re.findall(r"\{(\w+)\}", alternative)) <= phrases.RULES.keys()
            assert set(re.findall(r"\b[A-Z][A-Z0-9]*\b", alternative)) <= SLOTS.keys()
    assert phrases.TOPICS.keys() <= phrases.RULES.keys()


@given(seed=SEEDS)
def test_training_and_test_templates_are_disjoint_whatever_the_seed(seed: int) -> None:
    assert not is_test_template(draw_template(Random(seed)))
    assert is_test_template(draw_template(Random(seed), test=True))


@given(seed=SEEDS, test=st.booleans())
def test_a_seed_fixes_the_sentence_and_it_holds_words_only(seed: int, test: bool) -> None:
    sentence = draw_sentence(Random(seed), test=test)
    assert sentence == draw_sentence(Random(seed), test=test)
    assert re.fullmatch(r"[a-z']+( [a-z']+)*", sentence)


@given(seed=SEEDS, count=st.integers(min_value=1, max_value=12))
def test_digits_are_as_many_as_asked(seed: int, count: int) -> None:
    total = repeat = 0
    for word in digits(Random(seed), count).split():
        if word in ("double", "triple"):
            repeat = {"double": 1, "triple": 2}[word]
        else:
            total, repeat = total + 1 + repeat, 0
    assert total == count


def test_short_answers_and_bare_slots_belong_to_both_sides() -> None:
    assert not any(is_test_template(template) for template in ("yes", "DN", "yes please", "DATE TIME"))


def test_slots_are_filled_and_other_words_kept() -> None:
    filled = fill_slots(Random(3), "i will pay AMT DATE")
    assert filled.startswith("i will pay ") and filled == filled.lower()


def test_written_text_becomes_plain_words() -> None:
    assert plain_words("I\u2019d like a \u201cRe-fund\u201d, now!".replace("\u201c", '"').replace("\u201d", '"')) == (
        "i'd like a re fund now"
    )
