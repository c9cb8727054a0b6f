"""Where the FAQ stands among what can answer a turn, and what its answer leaves as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.bots import load_bot
from dialogue.codec import decode_actions, decode_state, encode_actions, encode_state
from dialogue.flow import Flow
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.turns import Action, CallerSaid, CallStarted, Listen, Say
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning, Slot

pytestmark = pytest.mark.unit

FLOW = """
start: greet
min_score: 0.5
slots: {day: {type: date, latest_days: 31}, note: {type: text}}
no_match: {prompts: [Sorry., Sorry again.], give_up: bye}
anywhere: {repeat: {stay: repeat}, leave: bye}
nodes:
  greet: {say: Hello., ask: "Will you come?", on: {affirm: ask_day, deny: ask_note}}
  ask_day: {ask: "Which day?", collect: day, invalid: Too far away., then: check}
  check: {ask: "{day}?", confirm: [day], on: {affirm: eager}}
  eager: {ask: "Anything else?", faq: first, on: {affirm: silent, deny: bye}}
  silent: {ask: "Sure?", faq: never, on: {affirm: bye, "*": {say: All right., stay: ask}}}
  ask_note: {ask: "Why not?", collect: note, then: bye}
  bye: {say: Goodbye., hang_up: done}
"""
FAQ = """
entries:
  robot: {questions: Are you a robot, answer: I am one.}
  when: {questions: When did I say, when: {day: filled}, answer: "You said {day}."}
  left_out: {questions: What else, answer: {text: Nothing., needs: note}}
"""
TODAY = "2026-11-21"
ASKS_ROBOT = FaqMatch("robot", 0.6)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    folder: Path = tmp_path_factory.mktemp("asked")
    (folder / "bot.yaml").write_text("name: asked\nlanguage: en\nflow: flow.yaml\nnlu: nlu\n")
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "faq.yaml").write_text(FAQ)
    return load_bot(folder).flow


def at(flow: Flow, node: str, **slots: str) -> DialogueState:
    """A call that stands at this node."""
    state, _ = step(flow, DialogueState(), CallStarted(today=TODAY))
    for name, text in slots.items():
        state, _ = step(flow, replace(state, node=f"ask_{name}"), CallerSaid(text=text, meaning=Meaning("inform", 1.0)))
    return replace(state, node=node, history=(), visits={})


def hear(
    flow: Flow,
    state: DialogueState,
    text: str = "is this a machine",
    *,
    intent: str = OUT_OF_SCOPE,
    score: float = 0.9,
    faq: FaqMatch | None = ASKS_ROBOT,
    slots: tuple[Slot, ...] = (),
) -> tuple[DialogueState, tuple[Action, ...]]:
    return step(flow, state, CallerSaid(text=text, meaning=Meaning(intent, score, slots, faq)))


def words(actions: tuple[Action, ...]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Say)]


def test_the_answer_then_the_question_again(flow: Flow) -> None:
    state, actions = hear(flow, at(flow, "greet"))
    assert words(actions) == ["I am one.", "Will you come?"] and isinstance(actions[-1], Listen)
    assert (state.node, state.no_match, state.slots) == ("greet", 0, at(flow, "greet").slots)
    (turn,) = state.history
    assert (turn.source, turn.intent) == ("faq/robot", OUT_OF_SCOPE)
    assert state.sources == {"faq": 1}
    assert [action.source for action in actions if isinstance(action, Say)] == ["faq/robot", None]


def test_marks_of_the_source_survive_the_store(flow: Flow) -> None:
    state, actions = hear(flow, at(flow, "greet"))
    assert decode_state(encode_state(state)) == state
    assert decode_actions(encode_actions(actions)) == actions


def test_below_the_likeness_it_is_a_misunderstanding(flow: Flow) -> None:
    state, actions = hear(flow, at(flow, "greet"), faq=None)
    assert words(actions) == ["Sorry.", "Will you come?"] and state.no_match == 1


def test_misunderstandings_before_and_after_an_answer_go_on_counting(flow: Flow) -> None:
    state, _ = hear(flow, at(flow, "greet"), faq=None)
    state, _ = hear(flow, state)
    assert state.no_match == 1
    state, actions = hear(flow, state, faq=None)
    assert words(actions) == ["Sorry again.", "Will you come?"]


def test_an_intent_that_leads_somewhere_comes_first(flow: Flow) -> None:
    state, _ = hear(flow, at(flow, "greet"), intent="affirm")
    assert state.node == "ask_day"


@pytest.mark.parametrize(("intent", "score"), [("affirm", 0.4), ("inform", 0.9)])
def test_one_that_is_unsure_or_leads_nowhere_does_not(flow: Flow, intent: str, score: float) -> None:
    _, actions = hear(flow, at(flow, "greet"), intent=intent, score=score)
    assert words(actions)[0] == "I am one."


def test_the_very_words_come_before_everything(flow: Flow) -> None:
    asked = FaqMatch("robot", 1.0, verbatim=True)
    for node, intent in (("greet", "leave"), ("ask_note", "inform"), ("check", "affirm")):
        before = at(flow, node, day="friday")
        state, actions = hear(flow, before, "are you a robot", intent=intent, faq=asked)
        assert words(actions)[0] == "I am one." and (state.node, state.slots) == (node, before.slots)


def test_a_value_comes_before_the_faq(flow: Flow) -> None:
    state, _ = hear(flow, at(flow, "ask_day"), "on friday")
    assert state.node == "check" and state.slots["day"].value == "2026-11-27"
    state, actions = hear(flow, at(flow, "ask_day"), "in ninety days")
    assert words(actions) == ["Too far away.", "Which day?"]
    state, _ = hear(flow, at(flow, "ask_note"), "because of the weather")  # a free text takes every word
    assert state.slots["note"].value == "because of the weather"


def test_a_correction_comes_before_the_faq(flow: Flow) -> None:
    state, actions = hear(flow, at(flow, "check", day="friday"), "no on monday", slots=(Slot("day", "monday", 6, 12),))
    assert state.slots["day"].value == "2026-11-23" and words(actions) == ["Monday, November 23rd?"]


def test_a_node_may_have_it_first_or_never(flow: Flow) -> None:
    _, actions = hear(flow, at(flow, "eager"), intent="deny")
    assert words(actions) == ["I am one.", "Anything else?"]
    state, _ = hear(flow, at(flow, "eager"), intent="deny", faq=None)
    assert state.ended
    for asked in (ASKS_ROBOT, FaqMatch("robot", 1.0, verbatim=True)):
        _, actions = hear(flow, at(flow, "silent"), faq=asked)
        assert words(actions) == ["All right.", "Sure?"]


def test_what_does_not_hold_is_not_answered(flow: Flow) -> None:
    asked = FaqMatch("when", 0.9)
    assert words(hear(flow, at(flow, "greet"), faq=asked)[1])[0] == "Sorry."
    assert words(hear(flow, at(flow, "greet", day="friday"), faq=asked)[1])[0] == "You said Friday, November 27th."


@pytest.mark.parametrize("entry", ["left_out", "of another version"])
def test_an_answer_without_words_is_none(flow: Flow, entry: str) -> None:
    assert words(hear(flow, at(flow, "greet"), faq=FaqMatch(entry, 0.9))[1])[0] == "Sorry."


def test_questions_without_end_lead_out(flow: Flow) -> None:
    state, asked = at(flow, "greet"), 0
    while not state.ended:
        state, _ = hear(flow, state)
        asked += 1
    assert asked == 9  # max_repeats, and one
