"""The second track in the dialogue: heard where nothing else answers, and able to do nothing but be heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.bots import Bot, BotError, load_bot
from dialogue.rehearsal import rehearse
from dialogue.script import load_script
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.turns import CallerSaid, CallStarted, DigitsPressed, Listen, Say
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning
from tests.dialogue.bot_calls import TODAY

pytestmark = pytest.mark.unit

BOT = """
name: asked
language: en
flow: flow.yaml
nlu: nlu
assistant: {url: "https://models.example.com/v1", model: small-1}
"""
FLOW = """
start: greet
slots: {day: {type: date, latest_days: 31}, note: {type: text}}
no_match: {prompts: [Sorry., Sorry again.], give_up: bye}
keys: {"1": bye}
nodes:
  greet: {say: Hello., ask: "Will you come?", on: {affirm: ask_day, deny: ask_note, other: quiet}}
  ask_day: {ask: "Which day?", collect: day, invalid: Too far away., then: bye}
  ask_note: {ask: "Why not?", collect: note, then: bye}
  quiet: {ask: "Sure?", assistant: false, on: {affirm: bye, deny: anything}}
  anything: {ask: "Well?", on: {"*": {say: I see., stay: ask}, affirm: bye}}
  bye: {say: Goodbye., hang_up: done}
"""
FAQ = "entries: {robot: {questions: Are you a robot, answer: I am one.}}\n"
ANSWER = ("It is near.", "Take the {bus}.")


def write(folder: Path, bot: str = BOT) -> Path:
    (folder / "bot.yaml").write_text(bot)
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "faq.yaml").write_text(FAQ)
    return folder


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Bot:
    return load_bot(write(tmp_path_factory.mktemp("asked")))


def at(bot: Bot, node: str) -> DialogueState:
    state, _ = step(bot.flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
    return replace(state, node=node)


def hear(
    bot: Bot,
    state: DialogueState,
    text: str = "is it far",
    *,
    intent: str = OUT_OF_SCOPE,
    faq: FaqMatch | None = None,
    answer: tuple[str, ...] = ANSWER,
) -> tuple[DialogueState, list[str]]:
    said = CallerSaid(text=text, meaning=Meaning(intent, 1.0, faq=faq), assistant=answer)
    state, actions = step(bot.flow, state, said)
    return state, [action.text for action in actions if isinstance(action, Say)]


def test_its_words_are_said_and_marked_and_nothing_else_changes(bot: Bot) -> None:
    before = at(bot, "greet")
    said = CallerSaid(text="is it far", meaning=Meaning(OUT_OF_SCOPE, 0.0), assistant=ANSWER)
    state, actions = step(bot.flow, before, said)
    assert [(a.text, a.source) for a in actions if isinstance(a, Say)] == [
        ("It is near.", "assistant"),
        ("Take the {bus}.", "assistant"),
        ("Will you come?", None),
    ]
    assert isinstance(actions[-1], Listen)
    (turn,) = state.history
    assert (turn.source, turn.unanswered) == ("assistant", False)
    assert state.sources == {"assistant": 1}
    kept = replace(state, history=(), visits={}, round_id=0, turns=0, sources={})
    assert kept == replace(before, history=(), visits={}, round_id=0, turns=0)


def test_without_it_the_turn_is_a_misunderstanding_and_says_so(bot: Bot) -> None:
    state, words = hear(bot, at(bot, "greet"), answer=())
    assert words == ["Sorry.", "Will you come?"] and state.history[-1].unanswered
    assert hear(bot, state, answer=())[0].sources == {"none": 2}


@pytest.mark.parametrize(
    ("node", "text", "options", "first"),
    [
        ("greet", "yes", {"intent": "affirm"}, "Which day?"),
        ("greet", "are you a robot", {"faq": FaqMatch("robot", 0.7)}, "I am one."),
        ("ask_day", "on friday", {}, "Goodbye."),
        ("ask_day", "in ninety days", {}, "Too far away."),
        ("ask_note", "it is too far", {}, "Goodbye."),
        ("anything", "hm", {}, "I see."),
        ("greet", "", {}, "Sorry."),
    ],
)
def test_whatever_else_answers_comes_first(
    bot: Bot, node: str, text: str, options: dict[str, object], first: str
) -> None:
    state, words = hear(bot, at(bot, node), text, answer=ANSWER if text else (), **options)  # type: ignore[arg-type]
    assert words[0] == first and not state.history[-1].unanswered


def test_a_node_may_do_without(bot: Bot) -> None:
    state, words = hear(bot, at(bot, "quiet"))
    assert words == ["Sorry.", "Sure?"] and state.history[-1].unanswered


def test_keys_that_mean_nothing_are_no_question(bot: Bot) -> None:
    state, _ = step(bot.flow, at(bot, "greet"), DigitsPressed(digits="7"))
    assert state.no_match == 1 and not state.history[-1].unanswered


def test_answers_without_end_lead_out(bot: Bot) -> None:
    state, turns = at(bot, "greet"), 0
    while not state.ended:
        state, _ = hear(bot, state)
        turns += 1
    assert turns == 9 and state.disposition == "done"


def test_what_is_left_out_is_as_usual(bot: Bot) -> None:
    assert bot.assistant is not None
    assert (bot.assistant.wait_ms, bot.assistant.max_chars, bot.assistant.history) == (500, 300, 4)
    assert "promise nothing" in bot.assistant.instructions
    assert load_bot("load").assistant is None


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("{model: small-1}", "'assistant' of the bot has no 'url'"),
        ("{url: 'https://models.example.com/'}", "has no 'model'"),
        ("{url: models.example.com, model: small-1}", "has no web address"),
        ("{url: 'https://models.example.com:port/', model: small-1}", "has no web address"),
        ("{url: 'https://models.example.com/é', model: small-1}", "has no web address"),
        ("{url: 'https://a.example/', model: m, wait_ms: 9000}", "'wait_ms'"),
        ("{url: 'https://a.example/', model: m, max_chars: 5}", "'max_chars'"),
        ("{url: 'https://a.example/', model: m, history: 11}", "'history'"),
        ("{url: 'https://a.example/', model: m, key: abc}", "unknown key 'key'"),
    ],
)
def test_a_fault_of_the_section(tmp_path: Path, section: str, what: str) -> None:
    text = BOT.splitlines()
    with pytest.raises(BotError) as caught:
        load_bot(write(tmp_path, "\n".join([*text[:-1], f"assistant: {section}"])))
    (fault,) = caught.value.faults
    assert what in fault.what and fault.line == len(text)


def test_a_script_says_what_it_would_say(bot: Bot, tmp_path: Path) -> None:
    path = tmp_path / "calls.yaml"
    path.write_text(
        f"today: {TODAY}\ncalls:\n  far:\n    turns:\n"
        "      - {caller: is it far, assistant: [It is near., Go.], hears: [near. Go., Will you come], node: greet}\n"
        "      - {caller: 'yes', intent: affirm, assistant: Well done., hears_not: Well done, node: ask_day}\n"
    )
    script, faults = load_script(path)
    assert script is not None, faults
    done = rehearse(bot, script.calls[0], None, today=TODAY)
    assert done.passed, list(done.mismatches())
    assert [exchange.source for exchange in done.exchanges] == [None, "assistant", None]
