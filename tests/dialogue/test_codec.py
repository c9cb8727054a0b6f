"""State and actions survive the store's text form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.codec import CodecError, decode_actions, decode_state, encode_actions, encode_state
from dialogue.slots import SlotValue
from dialogue.state import DialogueState, Promise, Turn
from dialogue.turns import Action, CallWebhook, HangUp, Listen, Say, Transfer

pytestmark = pytest.mark.unit

words = st.text(max_size=12)
maybe_words = st.none() | words
pairs = st.lists(st.tuples(words, words), max_size=3).map(tuple)
counts = st.integers(0, 10**9)
turns = st.builds(
    Turn,
    round_id=counts,
    node=words,
    said=words,
    intent=words,
    score=st.floats(0, 1),
    reply=words,
)
states = st.builds(
    DialogueState,
    node=words,
    today=words,
    slots=st.dictionaries(words, st.builds(SlotValue, words, words), max_size=4),
    round_id=counts,
    turns=counts,
    no_input=counts,
    no_match=counts,
    outcome=maybe_words,
    disposition=maybe_words,
    ended_by=maybe_words,
    started_at=st.floats(0, 1e10),
    acts=counts,
    promises=st.lists(st.builds(Promise, node=words, slots=pairs), max_size=2).map(tuple),
    callback=st.dictionaries(words, words, max_size=2),
    sources=st.dictionaries(words, counts, max_size=2),
    history=st.lists(turns, max_size=3).map(tuple),
)
actions = st.one_of(
    st.builds(Say, text=words, node=words, recording=maybe_words, interruptible=st.booleans(), source=maybe_words),
    st.builds(Listen, node=words, no_input_ms=st.none() | counts, tail_ms=st.none() | counts, expect=maybe_words),
    st.builds(CallWebhook, webhook=words, node=words, act=counts, send=pairs),
    st.builds(Transfer, target=words, context=pairs),
    st.builds(HangUp, disposition=words),
)


@given(states)
def test_a_state_comes_back_as_it_was(state: DialogueState) -> None:
    assert decode_state(encode_state(state)) == state


@given(st.lists(actions, max_size=5))
def test_actions_come_back_as_they_were(said: list[Action]) -> None:
    assert decode_actions(encode_actions(said)) == tuple(said)


def test_text_is_stored_readably() -> None:
    assert "Grüße" in encode_actions([Say(text="Grüße", node="n")])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"version": 99, "slots": {}, "history": []}',
        '{"version": 1}',
        '{"version": 1, "slots": [], "history": []}',
        '{"version": 1, "slots": {}, "history": [], "colour": "red"}',
        '{"version": 1, "slots": {"a": {"text": "x"}}, "history": []}',
    ],
)
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="version|JSON"):
        decode_state(text)


@pytest.mark.parametrize("action", [{"do": "dance"}, {}, {"do": "say"}, {"do": "say", "text": "x", "volume": 1}])
def test_an_unknown_action_is_refused(action: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        decode_actions(json.dumps({"version": 1, "actions": [action]}))
