"""Times of day as callers say them, in English and Chinese, and as they are read back."""

from __future__ import annotations

import json
from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import chinese_times, english_times
from dialogue.slots import LANGUAGES, InvalidValue, SlotSpec, SlotType, SlotValue, parse_slot, say_slot
from tests.dialogue.bot_calls import BILL_REMINDER

pytestmark = pytest.mark.unit

times = st.builds(time, st.integers(0, 23), st.integers(0, 59))

ENGLISH = {
    "at five thirty": time(17, 30),
    "five thirty pm": time(17, 30),
    "at 5:30 p.m.": time(17, 30),
    "17:30": time(17, 30),
    "05:30": time(5, 30),
    "half past five": time(17, 30),
    "a quarter to six": time(17, 45),
    "quarter past nine in the morning": time(9, 15),
    "twenty past ten": time(10, 20),
    "ten to nine in the morning": time(8, 50),
    "nine oh five": time(9, 5),
    "eleven o'clock": time(11),
    "two a m": time(2),
    "at twelve in the morning": time(0),
    "12 pm": time(12),
    "at noon": time(12),
    "midnight": time(0),
    "eight in the evening": time(20),
    "seven twenty five tonight": time(19, 25),
    "after 6.": time(18),
    "not at five, at six": time(18),
    "on friday at three please": time(15),
}
CHINESE = {
    "下午五点半": time(17, 30),
    "早上九点": time(9),
    "十七点三十分": time(17, 30),
    "晚上八点一刻": time(20, 15),
    "五点": time(17),
    "17:30": time(17, 30),
    "17：30": time(17, 30),
    "差一刻六点": time(17, 45),
    "凌晨两点": time(2),
    "九点零五分": time(9, 5),
    "中午": time(12),
    "中午十二点": time(12),
    "明天下午四点钟打给我": time(16),
    "晚上大概八点": time(20),
    "晚上吧，八点": time(20),
    "晚八点": time(20),
    "早上的七点": time(7),
    "早七点": time(7),
    "晚上十二点": time(0),
    "今晚十二点": time(0),
    "夜里两点": time(2),
    "凌晨十二点半": time(0, 30),
    "三点太早，四点吧": time(16),
    "最晚三点": time(15),
    "最早五点": time(17),
    "早上不行，三点": time(15),
    "四点，不是三点": time(16),
    "是不是四点": time(16),
    "6:30，不，7点": time(19),
    "7点，不，6:30": time(18, 30),
    "中午，不，两点": time(14),
    "差10分8点": time(19, 50),
    "差一刻八点": time(19, 45),
    "三点差五分": time(14, 55),
    "晚上差十分十二点": time(23, 50),
    "早上差10分12点": time(11, 50),
    "三点过一刻": time(15, 15),
    "05:30": time(5, 30),
}


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert english_times.find_time(text, bare=False) == ENGLISH[text]


@pytest.mark.parametrize("text", CHINESE)
def test_chinese(text: str) -> None:
    assert chinese_times.find_time(text, bare=False) == CHINESE[text]


@pytest.mark.parametrize(
    "text", ["", "on friday", "five", "in five days", "forty dollars", "four four one seven", "12/1"]
)
def test_what_is_no_time_in_english(text: str) -> None:
    assert english_times.find_time(text, bare=False) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "下周五",
        "四四幺七",
        "三点多",
        "八十四块",
        "十一月二十号",
        "一点也不",
        "三点不行",
        "不是三点",
        "不是17:30",
        "中午不行",
        "三点到五点",
        "三点钟到五点钟",
        "3到5点",
        "三点或四点",
        "三点四点都行",
        "早一点",
        "晚一点",
        "便宜一点",
        "24点",
        "25:10",
    ],
)
def test_what_is_no_time_in_chinese(text: str) -> None:
    assert chinese_times.find_time(text, bare=False) is None


def test_an_hour_alone_is_a_time_where_it_was_asked_for() -> None:
    assert english_times.find_time("five please", bare=True) == time(17)
    assert english_times.find_time("eleven", bare=True) == time(11)
    assert chinese_times.find_time("5", bare=True) == time(17)
    for text in ("一点", "一点吧", "中午，不，一点"):
        assert chinese_times.find_time(text, bare=True) == time(13)


@pytest.mark.parametrize(
    "text",
    [
        "等我一分钟",
        "两位",
        "十二号",
        "两个小时后",
        "三点多",
        "24点",
        "早一点",
        "晚一点",
        "就一点",
        "第三",
        "晚上一次性还清",
        "不是5",
        "三点不行",
        "50%",
    ],
)
def test_what_counts_something_else_is_no_hour_in_chinese(text: str) -> None:
    assert chinese_times.find_time(text, bare=True) is None


ASKED_IN_ENGLISH = {
    "6 pm not 7 pm": time(18),
    "not before six": time(18),
    "i can't do five, six": time(18),
    "monday at 3 and not at 5": time(15),
    "tonight at eight": time(20),
    "Friday evening at 8": time(20),
    "in the evening, maybe eight": time(20),
    "8:30 tomorrow evening": time(20, 30),
    "five, in the evening": time(17),
    "tomorrow morning at seven": time(7),
    "not in the morning, at five": time(17),
    "good evening, at eight": time(8),
    "2 at night": time(2),
    "12 at night": time(0),
    "quarter to twelve at night": time(23, 45),
    "eight at night": time(20),
    "five to seven": time(18, 55),
    "seventeen past five": time(17, 17),
    "17 minutes to 5": time(16, 43),
    "quarter to eight": time(19, 45),
    "a quarter of eight": time(19, 45),
    "ten till four": time(15, 50),
    "five-thirty": time(17, 30),
    "6:30, no 7": time(19),
    "at five, sorry, six": time(18),
    "noon, no, one": time(13),
    "not noon, one o'clock": time(13),
    "12 noon": time(12),
    "nov 3 at five": time(17),
    "2026-11-27 at five": time(17),
    "one": time(13),
}


@pytest.mark.parametrize("text", ASKED_IN_ENGLISH)
def test_a_time_asked_for_in_english(text: str) -> None:
    assert english_times.find_time(text, bare=True) == ASKED_IN_ENGLISH[text]


@pytest.mark.parametrize(
    "text",
    [
        *("not 7 pm", "seven doesn't work", "i can't at five", "anything but five o'clock"),
        *("from 9 to 5", "2 to 3 pm", "5 pm to 6 pm", "five or six", "noon or one", "between five and six", "4-5"),
        *("one second", "one moment please", "that one", "I have one question", "one more thing", "for two people"),
        *("tuesday the twenty fourth", "may 3", "nov 3", "$20", "twenty dollars", "4 4 1 7", "half seven"),
    ],
)
def test_what_is_no_one_time_though_one_was_asked_for_in_english(text: str) -> None:
    assert english_times.find_time(text, bare=True) is None


@given(times)
def test_what_is_read_back_is_heard_as_the_same(value: time) -> None:
    assert english_times.find_time(f"at {english_times.say_time(value)}", bare=False) == value
    assert chinese_times.find_time(chinese_times.say_time(value), bare=False) == value


def test_how_times_are_said() -> None:
    said = [time(17, 30), time(9), time(12), time(0), time(0, 5)]
    assert [english_times.say_time(value) for value in said] == ["5:30 pm", "9 am", "noon", "midnight", "12:05 am"]
    assert [chinese_times.say_time(value) for value in (time(17, 30), time(14, 5))] == ["下午五点半", "下午两点零五分"]


def test_most_times_of_the_examples_are_read() -> None:
    lines = (BILL_REMINDER.directory / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    marked = [
        example["text"][slot["start"] : slot["end"]]
        for example in map(json.loads, lines)
        for slot in example["slots"]
        if slot["name"] == "time"
    ]
    exact = {text for text in marked if text not in ("in the morning", "in the afternoon", "in the evening")}
    read = {text for text in exact if english_times.find_time(text, bare=True) is not None}
    assert len(exact) > 20 and exact == read


def test_a_time_is_a_slot() -> None:
    spec = SlotSpec(name="when", type=SlotType.TIME, entity="time", earliest=time(8), latest=time(18))
    today = date(2026, 11, 21)
    assert parse_slot(spec, "half past five", today=today, known={}) == SlotValue("half past five", "17:30")
    assert isinstance(parse_slot(spec, "at nine in the evening", today=today, known={}), InvalidValue)
    assert parse_slot(spec, "five", today=today, known={}) is None
    assert parse_slot(spec, "five", today=today, known={}, asked=True) == SlotValue("five", "17:00")
    assert say_slot(spec, "17:30", today=today) == "5:30 pm"


def test_a_time_is_read_in_every_language() -> None:
    words = {"en": "half past five in the afternoon", "zh": "下午五点半"}
    assert words.keys() == LANGUAGES.keys()
    for language, text in words.items():
        spec = SlotSpec(name="when", type=SlotType.TIME, entity="time", language=language)
        assert parse_slot(spec, text, today=date(2026, 11, 21), known={}) == SlotValue(text, "17:30")


EVENING = SlotSpec(name="at", type=SlotType.TIME, entity="time", earliest=time(18), latest=time(22))
BREAKFAST = SlotSpec(name="at", type=SlotType.TIME, entity="time", latest=time(10, 30))
EVENING_ZH = SlotSpec(name="at", type=SlotType.TIME, entity="time", language="zh", earliest=time(18), latest=time(22))


@pytest.mark.parametrize(
    ("slot", "text", "value"),
    [
        (EVENING, "at eight", "20:00"),
        (EVENING, "half past nine", "21:30"),
        (EVENING, "quarter to ten", "21:45"),
        (EVENING, "at seven", "19:00"),
        (BREAKFAST, "at seven", "07:00"),
        (BREAKFAST, "at nine", "09:00"),
        (EVENING_ZH, "八点", "20:00"),
        (EVENING_ZH, "九点半", "21:30"),
    ],
)
def test_an_hour_without_a_part_of_the_day_is_in_the_half_that_the_slot_takes(
    slot: SlotSpec, text: str, value: str
) -> None:
    assert parse_slot(slot, text, today=date(2026, 11, 21), known={}) == SlotValue(text, value)


@pytest.mark.parametrize(
    ("slot", "text", "reason"),
    [
        (EVENING, "at eight in the morning", "before 18:00"),
        (EVENING, "08:00", "before 18:00"),
        (EVENING, "at five", "before 18:00"),
        (EVENING, "at twelve", "before 18:00"),
        (BREAKFAST, "at twelve", "after 10:30"),
        (BREAKFAST, "at seven in the evening", "after 10:30"),
        (EVENING_ZH, "早上八点", "before 18:00"),
    ],
)
def test_a_part_of_the_day_that_is_said_stands(slot: SlotSpec, text: str, reason: str) -> None:
    assert parse_slot(slot, text, today=date(2026, 11, 21), known={}) == InvalidValue(reason)
