"""English values, spoken and typed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import english

pytestmark = pytest.mark.unit

SATURDAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("four four one seven", ["4417"]),
        ("um four four uh one seven", ["4417"]),
        ("it's 4417", ["4417"]),
        ("44 17", ["4417"]),
        ("\uff14\uff14\uff11\uff17", ["4417"]),  # full width
        ("\u06f4", []),  # figures of other scripts are not English
        ("forty four seventeen", ["4417"]),
        ("double four one seven", ["4417"]),
        ("triple oh seven", ["0007"]),
        ("oh five oh nine", ["0509"]),
        ("no not four four one eight it is four four one seven", ["4418", "4417"]),
        ("the first one is a double", ["1"]),
        ("no digits here", []),
        ("", []),
    ],
)
def test_digit_runs(text: str, runs: list[str]) -> None:
    assert english.find_digit_runs(text) == runs


@given(st.text("0123456789", min_size=1, max_size=20))
def test_digits_read_back_are_the_digits(digits: str) -> None:
    assert "".join(english.find_digit_runs(english.say_digits(digits))) == digits


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("forty dollars", "40.00"),
        ("i can pay eighty four dollars and fifty cents", "84.50"),
        ("a hundred pounds", "100.00"),
        ("two hundred and ten euros", "210.00"),
        ("one thousand two hundred dollars", "1200.00"),
        ("$84.50", "84.50"),
        ("it was $1,200 in all", "1200.00"),
        ("84.50 dollars", "84.50"),
        ("eighty four fifty dollars", "84.50"),
        ("fifty cents", "0.50"),
        ("not forty dollars but fifty dollars", "50.00"),
        ("four four one seven", None),
        ("on the fifth of may", None),
        ("i owe nothing", None),
    ],
)
def test_amounts(text: str, amount: str | None) -> None:
    found = english.find_amount(text, bare=False)
    assert (None if found is None else str(found)) == amount


@pytest.mark.parametrize(
    ("text", "amount"), [("eighty four fifty", "84.50"), ("eighty four", "84.00"), ("84.5", "84.50")]
)
def test_a_bare_number_is_an_amount_only_where_one_was_asked_for(text: str, amount: str) -> None:
    assert str(english.find_amount(text, bare=True)) == amount
    assert english.find_amount(text, bare=False) is None


@given(st.decimals(min_value=Decimal("0.01"), max_value=99_999, places=2))
def test_amounts_read_back_are_the_amount(amount: Decimal) -> None:
    assert english.find_amount(english.say_amount(amount), bare=False) == amount


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("today", 0),
        ("right now", 0),
        ("tomorrow morning", 1),
        ("the day after tomorrow", 2),
        ("i will pay on friday", 6),
        ("this friday", 6),
        ("next friday", 6),
        ("saturday", 7),
        ("next saturday", 7),
        ("friday next week", 6),
        ("last friday", -1),
        ("yesterday", -1),
        ("in three days", 3),
        ("in two weeks", 14),
        ("in a week", 7),
        ("a week ago", -7),
        ("three days ago", -3),
        ("next week", 7),
        ("at the end of the month", 9),
        ("the first of the month", 10),
        ("next month", 10),
        ("november twenty seventh", 6),
        ("november the twenty seventh", 6),
        ("the twenty seventh of november", 6),
        ("the twenty seventh", 6),
        ("Nov 27", 6),
        ("27 November", 6),
        ("the 27th", 6),
        ("11/27", 6),
        ("2026-11-27", 6),
        ("not monday but tuesday", 3),
        ("on the weekend", 0),
    ],
)
def test_dates_from_a_saturday(text: str, days: int) -> None:
    assert english.find_date(text, SATURDAY) == SATURDAY + timedelta(days)


@pytest.mark.parametrize("text", ["", "soon", "may i ask", "february 30", "13/45", "yes"])
def test_what_is_no_date(text: str) -> None:
    assert english.find_date(text, SATURDAY) is None


def test_a_day_gone_by_is_next_years_unless_the_past_is_meant() -> None:
    assert english.find_date("october third", SATURDAY) == date(2027, 10, 3)
    assert english.find_date("october third", SATURDAY, past=True) == date(2026, 10, 3)
    assert english.find_date("friday", SATURDAY, past=True) == date(2026, 11, 20)
    assert english.find_date("the thirty first", SATURDAY) == date(2026, 12, 31)


@given(st.integers(0, 329), st.dates(date(2024, 1, 1), date(2030, 1, 1)))
def test_dates_read_back_are_the_date(ahead: int, today: date) -> None:
    day = today + timedelta(ahead)
    assert english.find_date(english.say_date(day, today), today) == day


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (date(2026, 11, 21), "today"),
        (date(2026, 11, 22), "tomorrow"),
        (date(2026, 11, 23), "Monday, November 23rd"),
        (date(2026, 12, 11), "Friday, December 11th"),
        (date(2028, 1, 1), "Saturday, January 1st, 2028"),
    ],
)
def test_dates_as_spoken(day: date, words: str) -> None:
    assert english.say_date(day, SATURDAY) == words


@given(st.text(max_size=80), st.dates(date(2020, 1, 1), date(2030, 12, 31)), st.booleans())
def test_no_text_breaks_a_reader(text: str, today: date, past: bool) -> None:
    for run in english.find_digit_runs(text):
        assert run.isascii() and run.isdecimal()
    amount = english.find_amount(text, bare=past)
    assert amount is None or amount >= 0
    assert isinstance(english.find_date(text, today, past=past), date | None)
    assert english.find_yes_no(text) in (True, False, None)


@given(
    st.lists(
        st.sampled_from(
            "a in the of and next last day week month two hundred thousand twenty first friday may ago 31 $".split()
        ),
        max_size=8,
    )
)
def test_no_jumble_of_value_words_breaks_a_reader(words: list[str]) -> None:
    text = " ".join(words)
    english.find_digit_runs(text)
    english.find_amount(text, bare=True)
    assert isinstance(english.find_date(text, SATURDAY), date | None)
