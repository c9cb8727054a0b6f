"""Numbers that callers were asked for: what is one, and what is several, part of one, or something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import chinese, english

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("three", 3),
        ("um, two of us. no, three", 3),
        ("twenty-five please", 25),
        ("one hundred and five", 105),
        ("fifteen hundred", 1500),
        ("1,200", 1200),
        ("a dozen", 12),
        ("half a dozen", 6),
        ("half dozen", 6),
        ("a half dozen", 6),
        ("two dozen", 24),
        ("two dozens", 24),
        ("just a couple", 2),
        ("zero", 0),
        ("0", 0),
        ("just one", 1),
        ("no one", None),
        ("2.5", None),
        ("the 3rd", None),
        ("2026-11-27", None),
        ("a few", None),
        ("", None),
        ("1 2 people", 12),
        ("two adults and one child", None),
        ("four people at seven", 4),
        ("4 people, room 12", 4),
        ("two or three", None),
        ("2-3", None),
        ("between two and four", None),
        ("three, not four", 3),
        ("two. no, one", 1),
        ("two, wait no one", None),
        ("5 pm", None),
        ("four people, 7:30", 4),
        ("four people at seven thirty", 4),
        ("twenty dollars", None),
        ("minus two", None),
        ("-2", None),
        ("one moment please", None),
        ("can you say that one more time", None),
        ("a couple hundred", 200),
        ("a couple of dozen", 24),
        ("hundred and five", 105),
        ("a hundred", 100),
        ("two million", 2000000),
        ("2 thousand", 2000),
        ("two and a half", None),
        ("two point five", None),
        ("the twenty third", None),
        ("thirty one", 31),
        ("no three", 3),
        ("two no three", 3),
        ("not four, five", 5),
        ("four, four people", 4),
        ("the two of us", 2),
        ("this one", None),
        ("december 12", None),
        ("12 december", None),
        ("a few hundred", None),
        ("two to four", None),
        ("make it six", 6),
        ("two, sorry, three", 3),
        ("we are 3.", 3),
        ("5 o'clock", None),
        ("i think four please", 4),
        ("thousand", 1000),
        ("three thousand two hundred", 3200),
        ("7 in the evening", None),
    ],
)
def test_english(text: str, number: int | None) -> None:
    assert english.find_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("三个人", 3),
        ("两位", 2),
        ("嗯，七", 7),
        ("零", 0),
        ("两", 2),
        ("就我一个", 1),
        ("一百零五间", 105),
        ("12", 12),
        ("不是三个是四个", 4),
        ("三天", 3),
        ("十几个", None),
        ("五六个人", None),
        ("三十多位", None),
        ("第三个", None),
        ("三月", None),
        ("没有", None),
        ("", None),
        ("十", 10),
        ("嗯，十", 10),
        ("七吧", 7),
        ("十吧", 10),
        ("两份", 2),
        ("三份", 3),
        ("三盒", 3),
        ("两杯", 2),
        ("三瓶", 3),
        ("两桌", 2),
        ("三名", 3),
        ("我们俩", 2),
        ("一打", 12),
        ("半打", 6),
        ("晚上七点半", None),
        ("四个人，七点半", 4),
        ("四位，19:30", 4),
        ("三块", None),
        ("二十元", None),
        ("-2", None),
        ("请再说一次", None),
        ("等一分钟", None),
        ("我有一个问题", None),
        ("两个大人一个小孩", None),
        ("四个人，要一个包间", None),
        ("3-4个", None),
        ("三到四个", None),
        ("三个，不是两个", 3),
        ("三个，不，四个", 4),
        ("两三个", None),
        ("二十来个", None),
        ("一千二", 1200),
        ("3年", 3),
        ("2026年", None),
        ("查一下", None),
        ("三口人", 3),
        ("两年", 2),
        ("三个半", None),
        ("1 2个", 12),
    ],
)
def test_chinese(text: str, number: int | None) -> None:
    assert chinese.find_number(text) == number


@given(st.integers(0, 999_999_999))
def test_numbers_read_back_are_the_number(number: int) -> None:
    assert english.find_number(english.say_number(number)) == number
    assert chinese.find_number(f"{chinese.say_number(number)}个") == number


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for find_number in (english.find_number, chinese.find_number):
        found = find_number(text)
        assert found is None or 0 <= found < 1_000_000_000
