"""What kind of words a text is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.backchannels import Manner, manner_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("Mm-hmm.", Manner.LISTENING),
        ("uh-huh, uh-huh", Manner.LISTENING),
        ("Oh, okay", Manner.AGREEING),
        ("That’s right", Manner.AGREEING),
        ("yeah hello", Manner.GREETING),
        ("Hello?", Manner.GREETING),
        ("okay?", Manner.OTHER),
        ("嗯？", Manner.OTHER),
        ("嗯 嗯", Manner.LISTENING),
        ("好的好的，ok", Manner.AGREEING),
        ("喂？你好", Manner.GREETING),
        ("uh uh", Manner.OTHER),
        ("不对", Manner.OTHER),
        ("对不起", Manner.OTHER),
        ("yeah but when", Manner.OTHER),
        ("right now", Manner.OTHER),
        ("4417", Manner.OTHER),
        ("Oh, I agree with you.", Manner.AGREEING),
        ("well that's true", Manner.AGREEING),
        ("alright then", Manner.AGREEING),
        ("mmmm uhhh hahaha", Manner.LISTENING),
        ("m m m", Manner.LISTENING),
        ("oh my goodness", Manner.LISTENING),
        ("Oh really?", Manner.LISTENING),
        ("Okay, is that right?", Manner.AGREEING),
        ("Is it?", Manner.LISTENING),
        ("oh, you don't?", Manner.LISTENING),
        ("you don't have it", Manner.OTHER),
        ("i don't", Manner.OTHER),
        ("Yes?", Manner.GREETING),
        ("yeah?", Manner.GREETING),
        ("well", Manner.OTHER),
        ("i think", Manner.OTHER),
        ("that's not true", Manner.OTHER),
        ("how much", Manner.OTHER),
        ("我知道了", Manner.AGREEING),
        ("嗯，那行", Manner.AGREEING),
        ("原来是这样啊", Manner.AGREEING),
        ("真的吗？", Manner.LISTENING),
        ("喂，哪位啊", Manner.GREETING),
        ("对了", Manner.OTHER),
        ("行了", Manner.OTHER),
        ("我是", Manner.OTHER),
        ("对吗", Manner.OTHER),
        ("知道吗", Manner.OTHER),
        ("", Manner.OTHER),
        ("...", Manner.OTHER),
    ],
)
def test_a_text_is_of_a_kind_where_it_is_made_of_its_words_alone(text: str, manner: Manner) -> None:
    assert manner_of(text) is manner


@given(st.lists(st.sampled_from(["yeah", "Okay,", "对", "好的", "mm", "right"]), min_size=1, max_size=8))
def test_agreement_said_often_is_agreement(words: list[str]) -> None:
    expected = Manner.LISTENING if set(words) == {"mm"} else Manner.AGREEING
    if "mm mm" not in " ".join(words):  # which is a refusal
        assert manner_of(" ".join(words)) is expected


@given(st.text(max_size=60))
def test_any_text_has_a_kind_and_one_more_word_makes_it_more(text: str) -> None:
    assert manner_of(text) in Manner
    assert manner_of(f"{text.rstrip('?？ ')} bill") is Manner.OTHER
