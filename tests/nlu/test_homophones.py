from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlu.data import Example
from nlu.homophones import ChineseNoise, syllable
from nlu.meaning import Slot

pytestmark = pytest.mark.unit

EXAMPLE = Example("我下周五还三百块钱", "promise", (Slot("date", "下周五", 1, 4), Slot("amount", "三百块钱", 5, 9)))
NOISE = ChineseNoise([EXAMPLE.text, "账单多少钱"])


@pytest.mark.parametrize(
    ("chars", "sound"),
    [
        ("是事时十使", "shi"),
        ("钱前千", "qian"),
        ("单但", "dan"),
        ("绿律", "lv"),
        ("啊阿", "a"),
        ("做坐", "zuo"),
        ("还海", "hai"),
    ],
)
def test_characters_have_their_syllable(chars: str, sound: str) -> None:
    assert {syllable(char) for char in chars} == {sound}


def test_what_is_no_common_character_has_none() -> None:
    assert [syllable(char) for char in "a1。嘅"] == [None] * 4


def test_most_errors_sound_the_same() -> None:
    chance = random.Random(1)
    pairs = [
        (before, after)
        for _ in range(200)
        for noisy in [NOISE.noisy(Example("账单不对", "dispute", ()), 1.0, chance).text]
        if len(noisy) == 4
        for before, after in zip("账单不对", noisy, strict=True)
    ]
    same = sum(syllable(before) == syllable(after) for before, after in pairs)
    assert 0.5 < same / len(pairs) < 0.95
    assert any(after in "战站占" for before, after in pairs if before == "账")  # zhang heard as zhan


def test_the_rate_is_about_the_share_of_errors() -> None:
    chance = random.Random(2)
    text = "请问你们的账单为什么多收了我的电费"
    wrong = sum(
        a != b
        for _ in range(300)
        for noisy in [NOISE.noisy(Example(text, "dispute", ()), 0.1, chance).text]
        if len(noisy) == len(text)
        for a, b in zip(text, noisy, strict=True)
    )
    assert 0.04 < wrong / (300 * len(text)) < 0.12


def test_numerals_are_not_misheard() -> None:
    chance = random.Random(3)
    assert NOISE.noisy(Example("四四一七", "inform", ()), 1.0, chance).text == "四四一七"


def test_the_same_seed_gives_the_same_copy() -> None:
    first, again = (NOISE.noisy(EXAMPLE, 0.5, random.Random(4)) for _ in range(2))
    assert first == again


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_slots_move_along(seed: int, rate: float) -> None:
    noisy = NOISE.noisy(EXAMPLE, rate, random.Random(seed))
    assert noisy.text.strip()
    for slot in noisy.slots:
        assert noisy.text[slot.start : slot.end] == slot.text
