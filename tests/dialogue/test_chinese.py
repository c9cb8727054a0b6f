"""Chinese values, spoken and typed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import chinese
from dialogue.slots import InvalidValue, SlotSpec, SlotType, SlotValue, parse_slot, say_slot

pytestmark = pytest.mark.unit

SATURDAY = date(2026, 11, 21)
VALUE_WORDS = (
    "下 上 个 月 周 星期 五 末 底 号 日 三 十 两 几 百 天 后 前 过 块 元 角 分 幺 零 点 半 年 明 今 4417 11/27 , 不 是"
).split()


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("四四一七", ["4417"]),
        ("嗯四四，呃，一七", ["4417"]),
        ("尾号是4417", ["4417"]),
        ("44 17", ["4417"]),
        ("\uff14\uff14\uff11\uff17", ["4417"]),  # full width
        ("四十四 十七", ["4417"]),
        ("四 四 幺 七", ["4417"]),
        ("四，四一，七", ["4417"]),
        ("不是四四一八，是四四一七", ["4418", "4417"]),
        ("幺三八零零幺三八零零零", ["13800138000"]),
        ("帮我查一下", []),
        ("我找一个人", ["1"]),
        ("零", ["0"]),
        ("4417，不是4418", ["4417"]),
        ("是不是4417", ["4417"]),
        ("不是4418", []),
        ("", []),
    ],
)
def test_digit_runs(text: str, runs: list[str]) -> None:
    assert chinese.find_digit_runs(text) == runs


@given(st.text("0123456789", min_size=1, max_size=20))
def test_digits_read_back_are_the_digits(digits: str) -> None:
    assert "".join(chinese.find_digit_runs(chinese.say_digits(digits))) == digits


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("四十块", "40.00"),
        ("我先还八十四块五吧", "84.50"),
        ("一百元", "100.00"),
        ("两百一十块钱", "210.00"),
        ("一千二", None),
        ("一千二百元", "1200.00"),
        ("¥84.50", "84.50"),
        ("一共1,200元", "1200.00"),
        ("八十四元五角", "84.50"),
        ("一万五千块", "15000.00"),
        ("1.5万元", "15000.00"),
        ("五毛", "0.50"),
        ("不是四十块是五十块", "50.00"),
        ("三百多块", None),
        ("十几块钱", None),
        ("四四一七", None),
        ("五月五号", None),
        ("五百块，不是三百块", "500.00"),
        ("不是三百块", None),
        ("是不是五百块", "500.00"),
        ("没有五百块，只有三百块", "300.00"),
        ("我拿不出五百块", None),
        ("五百块钱太多了，三百块行吗", "300.00"),
        ("五百块没问题", "500.00"),
        ("五百块不能再多了", "500.00"),
        ("三百块到五百块", None),
        ("三百到五百块", None),
        ("三百块或者五百块", None),
        ("三百块或者五百块，不，就四百块", "400.00"),
        ("999999999999999999999999999999元", None),
    ],
)
def test_amounts(text: str, amount: str | None) -> None:
    found = chinese.find_amount(text, bare=False)
    assert (None if found is None else str(found)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("八十四", "84.00"),
        ("一千二吧", "1200.00"),
        ("84.5", "84.50"),
        ("五百不是三百", "500.00"),
        ("每个月五十", "50.00"),
        ("五百分期还", "500.00"),
    ],
)
def test_a_bare_number_is_an_amount_only_where_one_was_asked_for(text: str, amount: str) -> None:
    assert str(chinese.find_amount(text, bare=True)) == amount
    assert chinese.find_amount(text, bare=False) is None


@pytest.mark.parametrize(
    "text",
    [
        "三百多吧",
        "下周五",
        "二十号",
        "三天后",
        "十几",
        "三点半",
        "三点二十",
        "7:30",
        "百分之五十",
        "50%",
        "五成",
        "十一月二十七",
        "11/27",
        "等我一分钟",
        "三口人",
        "三百到五百",
        "50-100",
        "三百或五百",
        "不是三百",
        "五百太多了",
    ],
)
def test_what_is_counted_is_no_bare_amount(text: str) -> None:
    assert chinese.find_amount(text, bare=True) is None


@given(st.decimals(min_value=Decimal("0.01"), max_value=99_999_999, places=2))
def test_amounts_read_back_are_the_amount(amount: Decimal) -> None:
    assert chinese.find_amount(chinese.say_amount(amount), bare=False) == amount


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        ("84.50", "yuan", "八十四元五角"),
        ("2.05", "yuan", "两元零五分"),
        ("0.55", "yuan", "五角五分"),
        ("0.00", "yuan", "零元"),
        ("212.00", "yuan", "两百一十二元"),
        ("10010.00", "yuan", "一万零一十元"),
        ("84.50", "dollar", "八十四点五美元"),
        ("84.00", "euro", "八十四欧元"),
    ],
)
def test_amounts_as_spoken(amount: str, currency: str, words: str) -> None:
    assert chinese.say_amount(Decimal(amount), currency) == words


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("今天", 0),
        ("我现在就还", 0),
        ("明天上午", 1),
        ("明儿吧", 1),
        ("后天", 2),
        ("大后天", 3),
        ("我周五还", 6),
        ("这周五", 6),
        ("下周五", 6),
        ("下周五发工资再还", 6),
        ("礼拜天", 1),
        ("周六", 7),
        ("下个星期六", 7),
        ("下下周一", 9),
        ("上周五", -8),
        ("昨天", -1),
        ("三天后", 3),
        ("过三天", 3),
        ("再过两个星期", 14),
        ("两周以内", 14),
        ("一个礼拜后", 7),
        ("半个月后", 15),
        ("三天前", -3),
        ("下周", 7),
        ("月底", 9),
        ("这个月底之前", 9),
        ("下个月一号", 10),
        ("下个月", 10),
        ("下月初", 10),
        ("下月五号", 14),
        ("十二月初", 10),
        ("十一月二十七号", 6),
        ("十一月二十七", 6),
        ("11月27日星期五", 6),
        ("二十七号", 6),
        ("二零二六年十一月二十七号", 6),
        ("今年十二月一号", 10),
        ("元旦", 41),
        ("年底", 40),
        ("11/27", 6),
        ("2026-11-27", 6),
        ("不是周一是周二", 3),
        ("周末", 0),
        ("星期五，二十七号", 6),
        ("周六吧，周五不行", 7),
        ("周五不行，周六吧", 7),
        ("周一，不是周五", 2),
        ("是不是周五", 6),
        ("周五行不行", 6),
        ("周五可不可以", 6),
        ("周五没问题", 6),
        ("今天没空，明天吧", 1),
        ("我今天没钱，周五吧", 6),
        ("把周五改到周六", 7),
        ("周一或者周二，不，周三", 4),
        ("现在就还，没问题", 0),
        ("我现在没问题", 0),
        ("下下个月五号", 45),
        ("下个月的五号", 14),
        ("周5", 6),
        ("下周1", 2),
        ("2026/11/27", 6),
        ("2026.11.27", 6),
        ("27/11", 6),
    ],
)
def test_dates_from_a_saturday(text: str, days: int) -> None:
    assert chinese.find_date(text, SATURDAY) == SATURDAY + timedelta(days)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "过几天",
        "过两三天",
        "等有钱了",
        "二月三十号",
        "13/45",
        "是的",
        "账号4417",
        "三天",
        "号码",
        "一百号人",
        "周五不行",
        "除了周五都行",
        "周五除外",
        "不是周五",
        "今天不行",
        "周五下午没空",
        "周五太早了",
        "我现在在开车",
        "现在不方便",
        "今天几号",
        "今天是星期几",
        "周一或者周二",
        "周一到周三",
        "27到28号",
        "周一还是周二好",
        "十一月三十一号",
        "分3期",
        "每周50块",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert chinese.find_date(text, SATURDAY) is None


def test_a_day_gone_by_is_next_years_unless_the_past_is_meant() -> None:
    assert chinese.find_date("十月三号", SATURDAY) == date(2027, 10, 3)
    assert chinese.find_date("十月三号", SATURDAY, past=True) == date(2026, 10, 3)
    assert chinese.find_date("周五", SATURDAY, past=True) == date(2026, 11, 20)
    assert chinese.find_date("三十一号", SATURDAY) == date(2026, 12, 31)


@given(st.integers(0, 400), st.dates(date(2024, 1, 1), date(2030, 1, 1)))
def test_dates_read_back_are_the_date(ahead: int, today: date) -> None:
    day = today + timedelta(ahead)
    assert chinese.find_date(chinese.say_date(day, today), today) == day


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (date(2026, 11, 21), "今天"),
        (date(2026, 11, 22), "明天"),
        (date(2026, 11, 23), "十一月二十三号星期一"),
        (date(2026, 12, 2), "十二月二号星期三"),
        (date(2028, 1, 2), "二零二八年一月二号星期日"),
    ],
)
def test_dates_as_spoken(day: date, words: str) -> None:
    assert chinese.say_date(day, SATURDAY) == words


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("是的", True),
        ("嗯对", True),
        ("没错", True),
        ("没问题", True),
        ("可以的", True),
        ("喂，是我", True),
        ("不是", False),
        ("不对，是周一", False),
        ("好的，不用了", False),
        ("没有", False),
        ("打错了", False),
        ("不好意思", None),
        ("周五", None),
        ("你是谁", None),
        ("嗯", True),
        ("嗯？", None),
        ("确定", True),
        ("不确定", None),
        ("肯定是", True),
        ("肯定不行", False),
        ("确定不了", False),
        ("需要", True),
        ("需要多少钱", None),
        ("不需要", False),
        ("都行", True),
        ("就是我", True),
        ("對", True),
        ("沒錯", True),
        ("沒有", False),
        ("拒绝", False),
        ("算了", False),
        ("我打算了一下", None),
        ("不用了，算了吧", False),
        ("转人工，算了，你直接说欠多少", None),
        ("电费多算了", None),
        ("就是我明天再还", None),
        ("十点以后都行", None),
        ("嗯不知道", None),
        ("嗯，我没听清", None),
        ("嗯，没有错", True),
        ("不知道，等等，是下周二", None),
        ("可能是四四一七", None),
        ("是骗子吗", None),
        ("不是已经交了吗", None),
        ("没有问题", True),
        ("有没有问题", None),
        ("没有问题了", False),
        ("没意见", True),
        ("是的不用改", True),
        ("不用改了", False),
        ("可能吧", None),
        ("可能是", None),
        ("可是我已经还了", None),
        ("可是我没钱", False),
        ("可以", True),
        ("可以再说一遍吗", None),
        ("我可以周五还吗", None),
        ("可以吗", None),
        ("好的，可以吗", True),
        ("不行吗", None),
        ("别再打了好吗", False),
        ("对，我不是说了吗", True),
        ("是吗", None),
        ("是谁", None),
        ("是这样，我想改时间", None),
        ("是这样的，没错", True),
        ("对了，我想问一下", None),
        ("对了，是的", True),
        ("对，但是不是今天", False),
        ("不知道", None),
        ("没听清", None),
        ("先别挂", None),
        ("要", True),
        ("要是周五呢", None),
        ("要不是你打来，我都忘了", None),
        ("要不周五吧", None),
        ("要不要再说一遍", None),
        ("要不算了", False),
        ("我要不了那么多", False),
        ("好，等一下", None),
        ("好贵", None),
        ("不客气", None),
        ("差不多", None),
    ],
)
def test_yes_and_no(text: str, answer: bool | None) -> None:
    assert chinese.find_yes_no(text) is answer


@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(VALUE_WORDS), max_size=10).map("".join)),
    st.dates(date(2020, 1, 1), date(2030, 12, 31)),
    st.booleans(),
)
def test_no_text_breaks_a_reader(text: str, today: date, past: bool) -> None:
    for run in chinese.find_digit_runs(text):
        assert run.isdecimal()
    amount = chinese.find_amount(text, bare=past)
    assert amount is None or amount >= 0
    assert isinstance(chinese.find_date(text, today, past=past), date | None)
    assert chinese.find_yes_no(text) in (True, False, None)


def test_slots_speak_their_language() -> None:
    amount = SlotSpec(name="s", entity="s", type=SlotType.AMOUNT, language="zh", minimum=Decimal(5))
    assert parse_slot(amount, "四十块", today=SATURDAY, known={}) == SlotValue("四十块", "40.00")
    assert isinstance(parse_slot(amount, "两块钱", today=SATURDAY, known={}), InvalidValue)
    assert say_slot(amount, "84.50", today=SATURDAY) == "八十四元五角"
    plan = SlotSpec(
        name="p", entity="p", type=SlotType.CHOICE, language="zh", choices=(("monthly", ("每个月", "按月")),)
    )
    assert parse_slot(plan, "我想按月还", today=SATURDAY, known={}) == SlotValue("我想按月还", "monthly")
    spans = SlotSpec(
        name="s", entity="s", type=SlotType.CHOICE, language="zh", choices=(("year", ("年",)), ("half", ("半年",)))
    )
    for words, name in (("半年。", "half"), ("一年", "year"), ("不是半年，是一年", "year")):
        assert parse_slot(spans, words, today=SATURDAY, known={}) == SlotValue(words, name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("全额", "full"),
        ("不要全额", None),
        ("不要，全额", "full"),
        ("要不要全额", "full"),
        ("全额，不是按月", "full"),
        ("按月，不要全额", "monthly"),
        ("全额还是按月？按 月吧", "monthly"),
        ("全额，不按月", "full"),
        ("要不按月吧", "monthly"),
    ],
)
def test_a_choice_that_is_denied_is_not_taken(text: str, value: str | None) -> None:
    plan = SlotSpec(
        name="p",
        entity="p",
        type=SlotType.CHOICE,
        language="zh",
        choices=(("monthly", ("每个月", "按月")), ("full", ("全额",))),
    )
    assert parse_slot(plan, text, today=SATURDAY, known={}) == (value and SlotValue(text, value))
