"""Yes and no in English, and what only sounds like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue import english

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "Yeah.", "yep", "sure", "yes that is right", "that's correct", "you're right", "Okay.", "that's fine"),
        *("of course", "uh-huh", "uh huh", "Mm-hmm.", "mhm", "alright", "All right.", "perfect", "sounds good"),
        *("that's true", "certainly", "go ahead", "works for me", "that works", "I do", "it is", "I'm fine with that"),
        *("no problem", "Yes, no problem at all.", "no worries", "Sure, why not?", "I don't see why not"),
        *("I don't mind", "yes that's not a problem", "nothing wrong with that", "that's not wrong", "I'm sure"),
        *("yes, right now", "I can't hear you. Yes.", "Is that right? Yes.", "uh yes", "friday is fine"),
    ],
)
def test_yes(text: str) -> None:
    assert english.find_yes_no(text) is True


@pytest.mark.parametrize(
    "text",
    [
        *("no", "Nope.", "nah", "never", "no no no", "no thanks", "not really", "not at all", "not yet", "not now"),
        *("no that's not right", "that's not right", "that doesn't sound right", "that wasn't right", "ain't right"),
        *(
            "it isn't",
            "that isn't right",
            "incorrect",
            "won't work",
            "that doesn't work",
            "I can't right now",
            "I don't",
        ),
        *("absolutely not", "of course not", "not exactly", "I cannot", "you have the wrong number"),
        *(
            "I don't think so",
            "I don't think that's right",
            "no, I don't know him",
            "okay, wait, no",
            "nuh uh",
            "uh-uh",
        ),
        "no, that's right",  # the refusal wins
        "yeah no",
        "no, why not friday",
    ],
)
def test_no(text: str) -> None:
    assert english.find_yes_no(text) is False


@pytest.mark.parametrize(
    "text",
    [
        *("friday", "", "hello", "maybe", "what", "pardon", "can you repeat that", "right now", "right away"),
        *(
            "is that right",
            "Is it correct?",
            "is that all right",
            "are you sure",
            "Are you sure that's right?",
            "isn't it due friday",
        ),
        *("okay, hold on", "Okay. Hold on.", "ok just a second", "sure, one moment", "I'm fine, thanks"),
        *("I don't know", "I'm not sure", "I am not quite sure that's right", "no idea", "yeah, I don't know"),
        *("I can't hear you", "I didn't catch that", "never mind", "don't worry", "what's wrong", "let me make sure"),
        *("yes but not friday", "yes, I have not paid", "yes that's not right"),
    ],
)
def test_neither(text: str) -> None:
    assert english.find_yes_no(text) is None


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert english.find_yes_no(text) in (True, False, None)
