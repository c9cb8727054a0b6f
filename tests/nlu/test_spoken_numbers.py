from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.spoken_numbers import rewrite_numbers

pytestmark = pytest.mark.unit


def rewritten(text: str) -> str:
    words = text.split()
    for rewrite in reversed(rewrite_numbers(words)):
        words[rewrite.first : rewrite.last] = [rewrite.text]
    return " ".join(words)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("four four one seven", "4417"),
        ("forty four seventeen", "4417"),
        ("double five oh triple two", "550222"),
        ("oh two oh three", "0203"),
        ("seven oh", "70"),
        ("oh one more thing", "oh 1 more thing"),
        ("three point one four", "3.14"),
        ("point taken", "point taken"),
        ("two hundred and five", "205"),
        ("two hundred three hundred", "200 300"),
        ("one hundred five thousand two", "105002"),
        ("one million two hundred thousand and six", "1200006"),
        ("twelve hundred", "1200"),
        ("a thousand and one", "1001"),
        ("a day", "a day"),
        ("hundred", "hundred"),
        ("20 thousand", "20000"),
        ("200 300", "200 300"),
        ("300 four five", "300 45"),
        ("five and six", "5 and 6"),
        ("the eleventh of may", "the 11th of may"),
        ("march first", "march 1st"),
        ("second of june", "2nd of june"),
        ("twenty second", "22nd"),
        ("which one", "which one"),
        ("this one oh one", "this 101"),
    ],
)
def test_numbers_said(said: str, written: str) -> None:
    assert rewritten(said) == written


@settings(deadline=None)
@given(st.integers(0, 999_999_999))
def test_every_cardinal_is_read(value: int) -> None:
    assert rewritten(in_words(value)) == str(value)


@settings(deadline=None)
@given(st.text("0123456789", min_size=2, max_size=12))
def test_every_digit_string_is_read(digits: str) -> None:
    names = "zero one two three four five six seven eight nine".split()
    assert rewritten(" ".join(names[int(digit)] for digit in digits)) == digits


def in_words(value: int) -> str:
    """English for a number, the textbook way, as the other direction of what is tested."""
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen"
    ).split()
    tens = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
    if value < 20:
        return ones[value]
    if value < 100:
        return tens[value // 10] + (f" {ones[value % 10]}" if value % 10 else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if value >= size:
            rest = value % size
            return f"{in_words(value // size)} {name}" + (f" {in_words(rest)}" if rest else "")
    raise AssertionError(value)
