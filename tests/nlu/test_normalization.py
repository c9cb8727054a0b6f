from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.normalization import normalize

pytestmark = pytest.mark.unit

SPOKEN = "zero one two seven ten twelve twenty forty hundred thousand and oh double triple point a first third fifth"
WORDS = st.sampled_from(
    [
        *SPOKEN.split(),
        *"may of the this account o'clock $45.50 £1 5:30 5pm p m 4417 4 1,250 44-17 4417-2231 & % 3rd ! .".split(),
        *("三百五十元", "一三八", "千万", "５", "Ａ", "é", "\u3000", "ﬁ", "´", "한", "ते", "ตั้", "\u0301", "❤\ufe0f"),
    ]
)
TEXTS = st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS).map("".join))


@pytest.mark.parametrize(
    ("typed", "spoken"),
    [
        ("My account is 4417.", "my account is four four one seven"),
        ("Account 4417-2231", "account four four one seven double two three one"),
        ("It's 4 4 1 7!", "it's four four one seven"),
        ("I'll pay $45.50", "i'll pay forty five dollars and fifty cents"),
        ("$1,250", "twelve hundred fifty dollars"),
        ("£1.20?", "one pound and twenty pence"),
        ("$2 million", "two million dollars"),
        ("42.5%", "forty two point five percent"),
        ("March 3rd, 2026", "march third twenty twenty six"),
        ("the 21st of May", "the twenty first of may"),
        ("at 5:30 PM", "at five thirty p m"),
        ("9 a.m. sharp", "nine am sharp"),
        ("5pm", "five pm"),
        ("$50½", "fifty dollars and fifty cents"),
        ("2¾ miles", "2.75 miles"),
        ("3⅓", "3 1/3"),
        ("½ an hour", "1/2 an hour"),
        ("1⁄2 an hour", "1/2 an hour"),
        ("in 1984", "in nineteen eighty four"),
        ("1905", "nineteen oh five"),
        ("120000", "a hundred and twenty thousand"),
        ("I’m here…", "i'm here"),
        ("ＡＢＣ　１２３", "abc one two three"),
        ("check-in  now", "check in now"),
        ("付350元", "付三百五十元"),
        ("13800", "一三八零零"),
        ("20000元", "两万元"),
    ],
)
def test_typed_and_spoken_text_meet(typed: str, spoken: str) -> None:
    assert normalize(typed).text == normalize(spoken).text


@pytest.mark.parametrize(
    "text", ["wait a second", "first of all", "this one", "oh well", "half past", "千万别忘", "星期三", "add it"]
)
def test_words_that_only_look_like_numbers_stay(text: str) -> None:
    assert normalize(text).text == text


@pytest.mark.parametrize(
    ("raw", "found", "expected"),
    [
        ("Account: four four one seven.", "4417", "four four one seven"),
        ("I'll pay $45.50 today", "45 dollars and 50 cents", "$45.50"),
        ("pay  on MAY ５th ok", "may 5th", "MAY ５th"),
        ("我要付三百五十元", "350", "三百五十"),
        ("ﬁve apples", "5", "ﬁve"),
    ],
)
def test_spans_come_back_in_raw_offsets(raw: str, found: str, expected: str) -> None:
    normal = normalize(raw)
    start = normal.text.index(found)
    raw_start, raw_end = normal.to_raw(start, start + len(found))
    assert raw[raw_start:raw_end] == expected
    assert normal.to_normal(raw_start, raw_end) == (start, start + len(found))


@pytest.mark.parametrize(
    ("raw", "normal", "expected"),
    [
        ("go to Joe's Bar (Main Street), please", "joe's bar main street", "Joe's Bar (Main Street)"),
        ("去庆丰包子铺（前门店）吃", "庆丰包子铺 前门店", "庆丰包子铺（前门店）"),
        ("(see the bar) now", "the bar", "the bar"),
    ],
)
def test_a_bracket_that_opens_within_a_span_closes_with_it(raw: str, normal: str, expected: str) -> None:
    text = normalize(raw)
    start = text.text.index(normal)
    raw_start, raw_end = text.to_raw(start, start + len(normal))
    assert raw[raw_start:raw_end] == expected


@pytest.mark.parametrize(
    ("raw", "normal", "expected"),
    [
        ("fly to Washington D.C. today", "washington d c", "Washington D.C."),
        ("at 7 a. m. please", "7 am", "7 a. m."),
        ("at 7 a. m. please", "7", "7"),
        ("at 7 p.m.", "7 pm", "7 p.m."),
        ("pay 4.5. thanks", "4.5", "4.5"),
        ("see you. bye.", "bye", "bye"),
    ],
)
def test_an_abbreviation_keeps_its_last_point(raw: str, normal: str, expected: str) -> None:
    text = normalize(raw)
    start = text.text.index(normal)
    raw_start, raw_end = text.to_raw(start, start + len(normal))
    assert raw[raw_start:raw_end] == expected


def test_a_span_that_cuts_a_number_gets_all_of_it() -> None:
    normal = normalize("code four four one seven")
    assert normal.to_normal(10, 14) == (5, 9)


def test_a_span_of_which_nothing_is_left_is_none() -> None:
    assert normalize("yes ... no").to_normal(4, 7) is None


@pytest.mark.parametrize(
    "text", ["नमस्ते दुनिया", "สวัสดีครับ ตั้งปลุก", "مَرحَبًا", "chào buổi sáng", "こんにちは ガス代", "i\u0307stanbul"]
)
def test_marks_are_part_of_their_word(text: str) -> None:
    assert normalize(f"{text}!").text == text


def test_a_span_has_the_marks_on_its_last_character() -> None:
    """Tokenizers that drop accents end a word before its last vowel sign."""
    raw = "कल सात बजे उठाओ"
    start = raw.index("सात")
    assert raw[slice(*normalize(raw).to_raw(start, raw.index("बजे") + 2))] == "सात बजे"


def test_what_only_changes_how_a_sign_is_drawn_goes_with_it() -> None:
    assert normalize("❤\ufe0f ok 1\ufe0f\u20e3 👨\u200d👩").text == "ok 1"


def test_text_without_words_is_empty() -> None:
    assert [normalize(text).text for text in ("", "  ", "?!", "\u200b…")] == ["", "", "", ""]


@settings(deadline=None)
@given(TEXTS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalize(text).text
    assert normalize(once).text == once


@settings(deadline=None)
@given(TEXTS)
def test_every_character_has_a_raw_span(text: str) -> None:
    normal = normalize(text)
    assert len(normal.starts) == len(normal.ends) == len(normal.text)
    assert all(0 <= start < end <= len(text) for start, end in zip(normal.starts, normal.ends, strict=True))
    assert list(normal.starts) == sorted(normal.starts)
    assert list(normal.ends) == sorted(normal.ends)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 30), st.integers(0, 30))
def test_raw_spans_map_to_covering_spans(text: str, start: int, length: int) -> None:
    normal = normalize(text)
    end = min(len(text), start + length)
    if start >= end or (span := normal.to_normal(start, end)) is None:
        return
    raw_start, raw_end = normal.to_raw(*span)
    assert raw_start < end
    assert start < raw_end
