from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.chinese_text import say_chinese, write_chinese
from nlu.draft import Draft
from nlu.normalization import normalize

pytestmark = pytest.mark.unit

PIECES = (
    "三百五十元 四十五块五 ¥45.50 一点半 3:30 5% 百分之 二零二六年 十一月 21日 2026-11-21 100-150元 -5度 第三期 十几 "
    "幺三八 3万 点五 块 毛 分 元 周 五 零 两 几 的 , 。 . - ５ 账单 pay 4417"
).split()
TEXTS = st.lists(st.sampled_from([*PIECES, " "]), max_size=10).map("".join)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("45.5元", "四十五块五"),
        ("¥45.50", "四十五块五毛钱"),
        ("￥1,200", "一千二百元"),
        ("3.85元", "三块八毛五"),
        ("100.05元", "一百块零五分"),
        ("200元", "两百块钱"),
        ("2026年11月21日", "二零二六年十一月二十一号"),
        ("2026-11-21还", "二零二六年十一月二十一号还"),
        ("12月05日", "十二月五号"),
        ("3点30", "三点半"),
        ("下午3:30", "下午三点三十分"),
        ("3点15", "三点一刻"),
        ("8:45见", "八点三刻见"),
        ("下午3:00", "下午三点钟"),
        ("5%的利息", "百分之五的利息"),
        ("100%是", "百分之百是"),
        ("100-150元", "一百到一百五十元"),
        ("3小时 - 4小时", "三小时到四小时"),
        ("-5度", "负五度"),
        ("３００元", "三百元"),
        ("账号4417", "账号四 四 一 七"),
        ("帮我查账单，不对，是查余额。", "帮我查账单 不对 是查余额"),
    ],
)
def test_typed_and_spoken_text_meet(typed: str, said: str) -> None:
    assert normalize(typed).text == normalize(said).text


@pytest.mark.parametrize(
    ("raw", "found", "expected"),
    [
        ("我付四十五块五吧", "45.5元", "四十五块五"),
        ("二零二六年十一月二十一号之前", "2026年11月21号", "二零二六年十一月二十一号"),
        ("周五下午三点半。", "3点30", "三点半"),
        ("大概一百二十万元", "1200000", "一百二十万"),
        ("涨了百分之五", "5", "五"),
    ],
)
def test_spans_come_back_in_raw_offsets(raw: str, found: str, expected: str) -> None:
    normal = normalize(raw)
    start = normal.text.index(found)
    raw_start, raw_end = normal.to_raw(start, start + len(found))
    assert raw[raw_start:raw_end] == expected
    assert normal.to_normal(raw_start, raw_end) == (start, start + len(found))


@pytest.mark.parametrize("text", ["十几块", "等我一下", "星期三", "五十块三明治", "尾号4417"])
def test_what_is_no_sum_stays(text: str) -> None:
    assert normalize(text).text == text.replace("五十", "50")


@given(st.text(st.characters(blacklist_categories=("Lo",), blacklist_characters="〇¥￥"), max_size=30))
def test_text_without_chinese_is_left_alone(text: str) -> None:
    draft = Draft.of(text)
    assert write_chinese(draft) is draft
    assert say_chinese(draft) is draft


@settings(deadline=None)
@given(TEXTS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalize(text).text
    assert normalize(once).text == once
