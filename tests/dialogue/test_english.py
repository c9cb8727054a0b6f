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
        ("no not four four one eight it is four four one seven", ["4417"]),
        ("4417 not 4418", ["4417"]),
        ("it's not 4418", []),
        ("four four one eight no four four one seven", ["4418", "4417"]),
        ("4, 4, 1, 7.", ["4417"]),  # as Whisper writes it
        ("44, 17.", ["4417"]),
        ("4,417", ["4417"]),
        ("Last four 4417.", ["4417"]),
        ("the last 4 are 4417", ["4417"]),
        ("treble four nought", ["4440"]),
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


@pytest.mark.parametrize("words", ["a week from ", "one thousand ", "not ", "friday or ", "five thirty "])
def test_no_length_breaks_a_reader(words: str) -> None:
    text = words * 500
    english.find_amount(text, bare=True)
    english.find_time(text, bare=True)
    assert isinstance(english.find_date(text, SATURDAY), date | None)


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


SUNDAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Monday, not Friday.", date(2026, 11, 23)),
        ("not monday, tuesday", date(2026, 11, 24)),
        ("I can't. Monday is fine", date(2026, 11, 23)),
        ("I can't do friday, monday", date(2026, 11, 23)),
        ("why not friday", date(2026, 11, 27)),
        ("if not friday, monday", date(2026, 11, 23)),
        ("not until friday", date(2026, 11, 27)),
        ("I can't pay until friday", date(2026, 11, 27)),
        ("I'm not sure, friday", date(2026, 11, 27)),
        ("friday isn't a problem", date(2026, 11, 27)),
        ("friday is no problem", date(2026, 11, 27)),
        ("friday, the 27th", date(2026, 11, 27)),
        ("friday or the 27th", date(2026, 11, 27)),  # two names of one day
        ("monday or tuesday, no, wednesday", date(2026, 11, 25)),
        ("Third.", date(2026, 12, 3)),
        ("the second", date(2026, 12, 2)),
        ("november the first", date(2027, 11, 1)),
        ("first of december", date(2026, 12, 1)),
        ("Monday first thing", date(2026, 11, 23)),
        ("two weeks from today", date(2026, 12, 6)),
        ("two weeks from the day after tomorrow", date(2026, 12, 8)),
        ("a week from monday", date(2026, 11, 30)),
        ("a week from the fifth", date(2026, 12, 12)),
        ("three days from now", date(2026, 11, 25)),
        ("the fifth of next month", date(2026, 12, 5)),
        ("friday of next week", date(2026, 11, 27)),
        ("the end of november", date(2026, 11, 30)),
        ("the end of next month", date(2026, 12, 31)),
        ("within two weeks", date(2026, 12, 6)),
        ("what about today", SUNDAY),
        ("27/11", date(2026, 11, 27)),
        ("27/11/2026", date(2026, 11, 27)),
        ("11/12", date(2027, 11, 12)),
        ("2026/11/27", date(2026, 11, 27)),
        ("Sept 5", date(2027, 9, 5)),
        ("Nov. 27", date(2026, 11, 27)),
        ("January 5th, 2028", date(2028, 1, 5)),
        ("wed", date(2026, 11, 25)),
        ("fri", date(2026, 11, 27)),
        ("thursday's good", date(2026, 11, 26)),
        ("tomorrow's fine", date(2026, 11, 23)),
    ],
)
def test_dates_beside_other_words(text: str, day: date) -> None:
    assert english.find_date(text, SUNDAY) == day


@pytest.mark.parametrize(
    "text",
    [
        *("not friday", "anything but friday", "any day but friday", "I can't do Friday", "friday doesn't work"),
        *("I'm not free friday", "I won't be home on friday", "I don't think friday works"),
        *("I can't right now", "I can't today", "friday is too early", "Friday I can't."),
        *("monday or tuesday", "either monday or on tuesday", "today or tomorrow", "between monday and wednesday"),
        *("one second", "give me a second", "let me check first", "the first available", "first of all"),
        *("November 31st", "february 29th", "what day is it today", "What's the date today?", "what's today"),
    ],
)
def test_what_names_no_one_day(text: str) -> None:
    assert english.find_date(text, SUNDAY) is None


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$50, not $60", "50.00"),
        ("not more than 50", "50.00"),
        ("I can't pay $200", None),
        ("I can't pay fifty, forty", "40.00"),
        ("not forty, fifty", "50.00"),
        ("one hundred, two hundred is too much", "100.00"),
        ("fifty dollars in two weeks", "50.00"),
        ("$50 for 6 months", "50.00"),
        ("50 on December 5", "50.00"),
        ("fifty on the twenty seventh", "50.00"),
        ("forty at three o'clock", "40.00"),
        ("I pay fifty, account 4417", "50.00"),
        ("fifty dollars 27 november", "50.00"),
        ("fifty dollars, no, sixty", "60.00"),
        ("fifty dollars sorry sixty", "60.00"),
        ("i may pay fifty", "50.00"),
        ("one moment, please", None),
        ("20%", None),
        ("in two weeks", None),
        ("at 7:30", None),
        ("between forty and fifty", None),
        ("forty and fifty", None),
        ("forty or fifty", None),
        ("forty to fifty dollars", None),
        ("$40-50", None),
        ("eighty four point five", "84.50"),
        ("forty point two five", "40.25"),
        ("a dollar fifty", "1.50"),
        ("2k", "2000.00"),
        ("two grand", "2000.00"),
        ("$1.2 million", "1200000.00"),
        ("20,50 euros", "20.50"),
        ("1,200", "1200.00"),
        ("one thousand, two hundred dollars", "1200.00"),
        ("fifty dollars, and twenty five cents", "50.25"),
        ("forty dollars and fifty", "40.50"),
        ("9" * 30, None),
    ],
)
def test_amounts_beside_other_words(text: str, amount: str | None) -> None:
    found = english.find_amount(text, bare=True)
    assert (None if found is None else str(found)) == amount


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("in full, not monthly", 0),
        ("I don't want monthly", 0),
        ("I can't do monthly", 0),
        ("why not monthly", 15),
        ("monthly, not monthly", 7),
        ("not weekly, monthly", 18),
        ("bimonthly", 0),
    ],
)
def test_a_refused_mention_is_none(text: str, end: int) -> None:
    assert english.last_mention(text, "monthly") == end
    assert english.mentions(text, "monthly") == (text != "bimonthly")
