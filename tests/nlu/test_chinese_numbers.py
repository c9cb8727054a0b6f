from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.chinese_numbers import rewrite_chinese_numbers

pytestmark = pytest.mark.unit

DIGITS = "零一二三四五六七八九"


def rewritten(text: str) -> str:
    for found in reversed(rewrite_chinese_numbers(text)):
        text = text[: found.start] + found.text + text[found.end :]
    return text


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("四四一七", "4417"),
        ("幺三八零零幺三八零零零", "13800138000"),
        ("零二零三", "0203"),
        ("二零二六年", "2026年"),
        ("十五", "15"),
        ("一百一十", "110"),
        ("一百十五", "115"),
        ("三百零五", "305"),
        ("一百二", "120"),
        ("两千五", "2500"),
        ("两千零五", "2005"),
        ("三万五", "35000"),
        ("一万零五十", "10050"),
        ("一百二十万", "1200000"),
        ("三百五十万零两百", "3500200"),
        ("一亿三千万", "130000000"),
        ("壹佰贰拾", "120"),
        ("兩萬三千", "23000"),
        ("两百二百五", "200 250"),
        ("3万5", "35000"),
        ("1.5万", "15000"),
        ("三点五万", "3.5万"),
    ],
)
def test_numbers_said(said: str, written: str) -> None:
    assert rewritten(said) == written


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("第三期", "第3期"),
        ("百分之五", "百分之5"),
        ("三分之一", "3分之1"),
        ("负五度", "负5度"),
        ("三小时", "3小时"),
        ("两个人", "2个人"),
        ("周五三点", "周五3点"),
        ("下午一点", "下午1点"),
        ("一块钱", "1块钱"),
        ("四十五块五", "45块5"),
        ("五十块三天", "50块3天"),
    ],
)
def test_one_numeral_is_a_number_where_something_is_counted(said: str, written: str) -> None:
    assert rewritten(said) == written


@pytest.mark.parametrize(
    "text",
    [
        "等一下",
        "快一点",
        "十分感谢",
        "一块去",
        "一小会儿",
        "三明治",
        "千万别忘",
        "万一",
        "星期三",
        "下周五",
        "礼拜一见",
    ],
)
def test_words_that_only_look_like_numbers_stay(text: str) -> None:
    assert rewritten(text) == text


@pytest.mark.parametrize(
    "text", ["十几块", "二十几个", "几十万", "数十万", "三四百", "两三天", "一两个", "三五天", "二三十", "一百二三十"]
)
def test_about_so_many_is_no_number(text: str) -> None:
    assert rewritten(text) == text


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("三点一四", "3.14"),
        ("四点五分", "4.5分"),
        ("三十六点五度", "36.5度"),
        ("零点五", "0.5"),
        ("三点零五万", "3.05万"),
        ("三点十四", "3点14"),
        ("三点零五", "3点05"),
        ("三点五十", "3点50"),
    ],
)
def test_a_point_or_an_hour(said: str, written: str) -> None:
    assert rewritten(said) == written


@settings(deadline=None)
@given(st.integers(11, 10**12 - 1))
def test_every_cardinal_is_read(value: int) -> None:
    assert rewritten(in_words(value)) == str(value)


@settings(deadline=None)
@given(st.text("0123456789", min_size=3, max_size=12))
def test_every_digit_string_is_read(digits: str) -> None:
    assert rewritten("".join(DIGITS[int(digit)] for digit in digits)) == digits


@given(st.text(DIGITS + "十百千万亿点块第周几两幺年月号个分元0123456789. ", max_size=14))
def test_rewritings_are_in_order_and_apart(text: str) -> None:
    done = 0
    for found in rewrite_chinese_numbers(text):
        assert done <= found.start < found.end <= len(text)
        done = found.end


def in_words(value: int) -> str:
    """Chinese for a number, the textbook way, as the other direction of what is tested."""
    if value < 10:
        return DIGITS[value]
    for size, name in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十")):
        if value >= size:
            head, rest = divmod(value, size)
            said = name if name == "十" and head == 1 and value < 20 else in_words(head) + name
            if not rest:
                return said
            return said + ("零" if rest < size // 10 else "") + in_words_after(rest)
    raise AssertionError(value)


def in_words_after(value: int) -> str:
    """After a larger unit, ten has its one: 一百一十."""
    return "一" + in_words(value) if 10 <= value < 20 else in_words(value)
