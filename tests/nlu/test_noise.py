from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlu.data import Example
from nlu.meaning import Slot
from nlu.noise import EnglishNoise, edited, sound

pytestmark = pytest.mark.unit

LEXICON = "the a to in play place song sung right write night knight two too west bam artist music list".split()


def example(text: str, *slots: str) -> Example:
    found = [Slot("x", value, text.index(value), text.index(value) + len(value)) for value in slots]
    return Example(text, "play", tuple(found), 3)


@pytest.mark.parametrize(("one", "other"), [("night", "knight"), ("knot", "not"), ("phone", "fone")])
def test_words_that_sound_alike_share_a_code(one: str, other: str) -> None:
    assert sound(one) == sound(other) != ""


@pytest.mark.parametrize(
    ("edits", "text", "slots"),
    [
        ([(5, 8, "their")], "play their song now", ["song"]),
        ([(4, 8, "")], "play song now", ["song"]),
        ([(9, 13, "sung")], "play the sung now", ["sung"]),
        ([(8, 13, "")], "play the now", []),
        ([(13, 13, " uh")], "play the song uh now", ["song"]),
        ([(8, 8, " uh")], "play the uh song now", ["song"]),
        ([(0, 9, ""), (5, 8, "lost")], "song now", ["song"]),
    ],
)
def test_slots_move_with_their_words(edits: list[tuple[int, int, str]], text: str, slots: list[str]) -> None:
    changed = edited(example("play the song now", "song"), edits)
    assert changed.text == text
    assert [slot.text for slot in changed.slots] == slots
    assert all(changed.text[slot.start : slot.end] == slot.text for slot in changed.slots)


@pytest.mark.parametrize(
    ("text", "slots", "edits", "changed", "kept"),
    [
        ("NY0", ["N", "0"], [(0, 3, "night")], "night", ["night"]),
        ("at NY 10 now", ["NY", "10"], [(3, 8, "")], "at  now", []),
        ("NY0 now", ["0 now"], [(0, 3, "night")], "night now", ["night now"]),
        ("go NY0", ["go N", "0"], [(3, 6, "by night")], "go by night", ["go by night"]),
    ],
)
def test_of_two_slots_that_share_a_replaced_word_the_first_has_it(
    text: str, slots: list[str], edits: list[tuple[int, int, str]], changed: str, kept: list[str]
) -> None:
    noisy = edited(example(text, *slots), edits)
    assert noisy.text == changed
    assert [slot.text for slot in noisy.slots] == kept
    assert all(noisy.text[slot.start : slot.end] == slot.text for slot in noisy.slots)


def test_misheard_words_are_known_words_of_like_sound() -> None:
    noise = EnglishNoise(LEXICON)
    chance = random.Random(0)
    heard = {noise.noisy(example("night"), 1.0, chance).text for _ in range(60)}
    assert "knight" in heard
    assert "music" not in heard


def test_a_long_word_falls_apart_into_two_known_ones() -> None:
    noise = EnglishNoise(LEXICON)
    chance = random.Random(0)
    assert "west bam" in {noise.noisy(example("westbam"), 1.0, chance).text for _ in range(60)}


def test_the_rate_is_about_what_was_asked_for() -> None:
    noise = EnglishNoise(LEXICON)
    chance = random.Random(1)
    line = example("play the song right now in the night")
    changed = sum(noise.noisy(line, 0.1, chance).text != line.text for _ in range(400))
    assert 0.4 < changed / 400 < 0.7  # 1 - 0.9^8 = 0.57


def test_the_same_chance_gives_the_same_copy() -> None:
    noise, line = EnglishNoise(LEXICON), example("play the right song", "song")

    def copies() -> list[Example]:
        chance = random.Random(3)
        return [noise.noisy(line, 0.5, chance) for _ in range(20)]

    assert copies() == copies()


@given(st.text(max_size=40), st.integers(0, 2**32), st.data())
def test_any_text_keeps_its_slots_in_order(text: str, seed: int, data: st.DataObject) -> None:
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4, unique=True)))
    slots = tuple(
        Slot("x", text[a:b], a, b) for a, b in zip(borders[::2], borders[1::2], strict=False) if text[a:b].strip()
    )
    noisy = EnglishNoise(LEXICON).noisy(Example(text, "play", slots), 0.5, random.Random(seed))
    assert len(noisy.slots) <= len(slots)
    done = 0
    for slot in noisy.slots:
        assert done <= slot.start < slot.end <= len(noisy.text)
        assert noisy.text[slot.start : slot.end] == slot.text
        done = slot.end
