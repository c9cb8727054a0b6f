"""What a prompt looks like when espeak-ng gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_stub.spoken_form import spoken_form

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("You owe $42.50.", "You owe 42 dollars and 50 cents."),
        ("$1,250 or $1", "1250 dollars or 1 dollar"),
        ("only $0.05", "only 5 cents"),
        ("£3.01 and €2.00", "3 pounds and 1 penny and 2 euros"),
        ("£0.20", "20 pence"),
        ("$42.5 is left as it is", "$42.5 is left as it is"),
        ("due 2026-11-27", "due November 27th 2026"),
        (
            "due 2026-12-01, 2026-01-22, 2026-03-13",
            "due December 1st 2026, January 22nd 2026, March 13th 2026",
        ),
        ("not a date: 2026-13-45", "not a date: 2026-13-45"),
        ("account 48219370.", "account 4 8 2, 1 9 3, 7 0."),
        ("code 0482", "code 0 4 8, 2"),
        ("4821 is short enough to count", "4821 is short enough to count"),
        ("12345.67 and 0.5 are quantities", "12345.67 and 0.5 are quantities"),
        ("reference AB12C", "reference eh B 1, 2 C"),
        ("PIN or OK", "PIN or OK"),
        ("one\x00two\nthree", "one two three"),
    ],
)
def test_english(written: str, spoken: str) -> None:
    assert spoken_form(written, "en-us+f3") == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("账单是128.5元", "账单是128.5元"),
        ("请在2026-11-27前付款", "请在11月27号前付款"),
        ("账号48219370", "账号4 8 2, 1 9 3, 7 0"),
    ],
)
def test_chinese(written: str, spoken: str) -> None:
    assert spoken_form(written, "cmn") == spoken


@given(st.text(max_size=60), st.sampled_from(["en-us", "en", "cmn", "yue", "de"]))
def test_is_settled_after_one_pass_and_keeps_every_digit_of_a_number(text: str, voice: str) -> None:
    once = spoken_form(text, voice)
    assert spoken_form(once, voice) == once
    assert not any(ord(symbol) < 32 for symbol in once)


@given(st.from_regex(r"\A[1-9][0-9]{4,11}\Z"))
def test_a_long_number_keeps_its_digits_in_order(number: str) -> None:
    spoken = spoken_form(f"account {number}", "en-us")
    assert [symbol for symbol in spoken if symbol.isdigit()] == list(number)
    assert spoken.removeprefix("account ").replace(",", "").split() == list(number)
