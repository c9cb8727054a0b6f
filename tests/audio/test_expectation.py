"""Words that answer a question, and when to believe that they were said: by value, no model."""

from __future__ import annotations

import pytest

from audio.asr import Expectation
from audio.expectation import Vocabulary, hint, is_plausible

pytestmark = pytest.mark.unit


def encode(text: str) -> list[int]:
    """A tokenizer that spells: every character is a token."""
    return [ord(char) for char in text]


def vocabulary(expect: Expectation, language: str | None = "en") -> Vocabulary:
    made = Vocabulary.of(expect, language, encode)
    assert made is not None
    return made


def test_tokens_are_those_that_spell_the_words_within_a_text() -> None:
    yes_no = vocabulary(Expectation.YES_NO)
    assert {ord(char) for char in " yesno"} <= yes_no.tokens
    assert not {ord(char) for char in "vxz"} & yes_no.tokens
    assert ord(" ") not in vocabulary(Expectation.YES_NO, "zh").tokens  # Chinese words do not stand apart


@pytest.mark.parametrize(
    ("expect", "text", "spelled"),
    [
        (Expectation.DIGITS, "four four one seven", True),
        (Expectation.DIGITS, "double oh nine", True),
        (Expectation.DIGITS, "fourone", False),  # its tokens are allowed, the word is none
        (Expectation.DIGITS, "my number is four", False),
        (Expectation.DIGITS, "", False),
        (Expectation.YES_NO, "yes that is right", False),
        (Expectation.YES_NO, "yeah okay", True),
        (Expectation.NUMBER, "a couple of dozen", True),
        (Expectation.NUMBER, "two hundred and five", True),
        (Expectation.NUMBER, "two of us", False),
        (Expectation.AMOUNT, "eighty four pounds and fifty pence", True),
        (Expectation.DATE, "on friday the twenty first of november", True),
        (Expectation.DATE, "when i get paid", False),
    ],
)
def test_a_text_is_an_answer_or_not(expect: Expectation, text: str, spelled: bool) -> None:
    assert vocabulary(expect).spells(text) is spelled


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("", True),
        ("four four one seven", True),
        ("fourone", True),  # of allowed tokens: a second decoding would write the same
        ("no", True),
        ("stop help", True),
        ("four one seven no wait", True),
        ("nine five stop", True),
        ("my four", False),
        ("may", False),
        ("i want to speak to a person", False),
    ],
)
def test_what_is_settled_needs_no_second_decoding(text: str, settled: bool) -> None:
    assert vocabulary(Expectation.DIGITS).settles(text, encode(text)) is settled


@pytest.mark.parametrize(
    ("expected", "free", "shortens"),
    [
        ("yes", "yes please", True),
        ("yes", "yes", False),
        ("yes sure", "yes shore", False),
        ("four one", "for one please", False),
        ("four one", "four", False),
    ],
)
def test_words_left_out_at_the_end_are_no_better_hearing(expected: str, free: str, shortens: bool) -> None:
    assert vocabulary(Expectation.YES_NO).shortens(expected, free) is shortens
    assert vocabulary(Expectation.YES_NO, "zh").shortens("是的", "是的吧")


@pytest.mark.parametrize("language", ["zh", "zh-CN", "yue"])
def test_chinese_is_judged_by_character(language: str) -> None:
    assert vocabulary(Expectation.DIGITS, language).spells("四四幺七")
    assert vocabulary(Expectation.NUMBER, language).spells("十二个")
    assert vocabulary(Expectation.YES_NO, language).spells("是的 没有错")
    assert not vocabulary(Expectation.DIGITS, language).spells("我要人工")


@pytest.mark.parametrize("expect", list(Expectation))
def test_every_expectation_is_known_in_both_languages_and_in_no_other(expect: Expectation) -> None:
    for language in ("en", "EN-us", "zh"):
        assert vocabulary(expect, language).words and hint(expect, language)
    for unknown in ("tlh", None):
        assert Vocabulary.of(expect, unknown, encode) is None
        assert hint(expect, unknown) == ""


@pytest.mark.parametrize(
    ("expected", "free", "plausible"),
    [
        ([-1.0, -0.1, -2.4], -0.2, True),
        ([-1.0, -0.1, -3.0], -0.2, False),  # one word that was not there outweighs two that could be
        ([-2.7], -0.2, True),  # at the margin
        ([-3.0], -1.0, True),  # what was heard freely was a guess too
        ([], -9.0, False),  # the constrained decoder had nothing to write
    ],
)
def test_the_weakest_expected_word_decides(expected: list[float], free: float, plausible: bool) -> None:
    assert is_plausible(expected, free, 2.5) is plausible
