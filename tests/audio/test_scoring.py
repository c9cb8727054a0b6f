"""Error rates must not depend on how a number is written."""

from __future__ import annotations

import pytest

from audio.scoring import ErrorRates, normaliser, score

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("012", "zero one two", "0 1 2", "oh one two", "Zero, one; two."), "zero one two"),
        (("25", "twenty five", "twenty-five", "2 5"), "two five"),
        (("555-0123", "five five five zero one two three"), "five five five zero one two three"),
        (("0000", "zero zero zero zero", "double zero double zero"), "zero zero zero zero"),
        (("$120", "120 dollars", "one hundred and twenty dollars"), "one two zero dollars"),
        (("3.5", "three point five"), "three point five"),
        (("50%", "fifty percent"), "five zero percent"),
        (("the 1st", "The first"), "the one st"),
        (("I'll pay, um, Friday!", "i will pay friday"), "i will pay friday"),
        (("", "...", "uh"), ""),
    ],
)
def test_english_written_many_ways(texts: tuple[str, ...], words: str) -> None:
    assert {normaliser("en-US")(text) for text in texts} == {words}


def test_chinese_is_compared_by_characters() -> None:
    chinese = normaliser("zh-CN")
    assert chinese("我的帐号是１２３，谢谢。") == chinese("我的账号是幺二三 谢谢").replace("账", "帐")
    assert score(["四零零一"], ["4007"], "zh") == ErrorRates(wer=None, cer=0.25)


def test_errors_are_summed_over_lines() -> None:
    """One word of three wrong, and two invented where nothing was said: 3 / 3."""
    rates = score(["one two three", ""], ["one four three", "thank you"], "en")
    assert rates.wer == pytest.approx(1.0)
    assert score(["one"], ["one"], "en") == ErrorRates(wer=0.0, cer=0.0)


def test_nothing_said_has_no_rate() -> None:
    assert score(["", "..."], ["thank you", ""], "en") == ErrorRates(wer=None, cer=None)


def test_other_languages_lose_case_and_punctuation() -> None:
    assert score(["Grüß Gott, Müller!"], ["grüß gott müller"], "de") == ErrorRates(wer=0.0, cer=0.0)
