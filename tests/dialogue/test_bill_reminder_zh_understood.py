"""账单提醒 with its own NLU artefact: what callers say, as text, from the greeting to where it should lead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

import pytest

from dialogue.bots import load_bot
from dialogue.rehearsal import rehearse
from dialogue.script import SCRIPTS_FOLDER, load_script
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.text_call import Understand
from dialogue.turns import CallerSaid, CallStarted, Say
from tests.dialogue.bot_calls import TODAY

if TYPE_CHECKING:  # torch takes seconds, and other test runs need none of it
    from nlu.engine import NluEngine

pytestmark = pytest.mark.model

BOT = load_bot("bill-reminder-zh")
TWIN = load_bot("bill-reminder")


@pytest.fixture(scope="module")
def engine() -> Iterator[NluEngine]:
    """The bundled artefact."""
    from nlu.engine import NluEngine

    assert BOT.nlu_path is not None
    yield NluEngine.load(BOT.nlu_path, device="cpu")


@pytest.fixture(scope="module")
def understand(engine: NluEngine) -> Understand:
    """The same words are understood once: callers of many scripts say them."""
    return cache(lambda words: engine.predict([words])[0])


def walk(engine: NluEngine, texts: list[str]) -> tuple[DialogueState, list[str]]:
    """The state after these turns, and each turn as "text -> intent -> reply" to read in a failure."""
    state, _ = step(BOT.flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
    trace = []
    for text in texts:
        (meaning,) = engine.predict([text])
        state, actions = step(BOT.flow, state, CallerSaid(text=text, meaning=meaning))
        reply = " ".join(action.text for action in actions if isinstance(action, Say))
        trace.append(f"{text} -> {meaning.intent} {meaning.score:.2f} -> {state.node}: {reply}")
    return state, trace


CALLS = {
    "promise": (
        ["喂，是我", "四四幺七", "什么时候到期啊", "下周五发工资再还", "对的", "没有了，谢谢"],
        ("goodbye", "promise_to_pay"),
    ),
    "paid": (
        ["是的，我是李明", "尾号四四一七", "我已经还了", "五二八九六", "对，没错", "没了，再见"],
        ("goodbye", "already_paid"),
    ),
    "corrected": (
        ["对", "没听清，再说一遍", "四四一七", "我明天先还四十块", "不对，是周一", "是的", "再见"],
        ("goodbye", "promise_to_pay"),
    ),
    "in one breath": (
        [
            "嗯是我",
            "四四一八，不对，是四四一七",
            "我要转人工，不对，先告诉我欠多少钱",
            "我周三还，不对，周五还",
            "好的",
            "没有了",
        ],
        ("goodbye", "promise_to_pay"),
    ),
    "call back": (["是我", "我在开会，晚点再打", "明天", "可以"], ("callback_noted", "call_back")),
    "dispute": (["我是", "四四一七", "账单不对", "你们多收了我两百块", "没有了"], ("goodbye", "dispute")),
    "person": (["你是谁", "是的", "转人工"], ("transfer_to_person", "transfer")),
    "typed": (
        ["对，我是李明。", "4417", "我12月1日还¥40。", "对！", "没有了，谢谢！"],
        ("goodbye", "promise_to_pay"),
    ),
    "wrong person": (["你打错了，我不是李明"], ("wrong_person", "wrong_person")),
    "no money": (["是我", "四四一七", "我失业了，没钱还", "好的"], ("transfer_to_person", "transfer")),
}


@pytest.mark.parametrize("name", CALLS)
def test_call(engine: NluEngine, name: str) -> None:
    texts, (node, disposition) = CALLS[name]
    state, trace = walk(engine, texts)
    assert (state.node, state.disposition) == (node, disposition), "\n".join(trace)


@pytest.mark.parametrize("file", ["calls.yaml", "changes.yaml", "lost.yaml"])
def test_scripted_callers_are_understood(understand: Understand, file: str) -> None:
    script, faults = load_script(BOT.directory / SCRIPTS_FOLDER / file)
    assert script is not None, faults
    for call in script.calls:
        done = rehearse(BOT, call, understand, today=script.today)
        assert done.passed, (call.name, list(done.mismatches()))


@pytest.mark.parametrize(
    ("name", "day", "amount"),
    [
        ("corrected", date(2026, 11, 23), "40.00"),
        ("typed", date(2026, 12, 1), "40.00"),
        ("promise", date(2026, 11, 27), None),
    ],
)
def test_values_are_those_said(engine: NluEngine, name: str, day: date, amount: str | None) -> None:
    state, trace = walk(engine, CALLS[name][0])
    said = state.slots.get("promise_amount")
    assert (state.slots["promise_date"].value, said and said.value) == (day.isoformat(), amount), trace


def test_values_are_read_back_in_chinese(engine: NluEngine) -> None:
    _, trace = walk(engine, CALLS["promise"][0])
    assert "八十四元五角" in trace[1]
    assert "十一月二十七号星期五还款八十四元五角，对吗" in trace[3]


@pytest.mark.parametrize(
    ("file", "least"),
    [("examples.dev.jsonl", 0.88), ("examples.test.jsonl", 0.8), ("examples.corrections.test.jsonl", 0.8)],
)
def test_examples_not_trained_on_are_understood(engine: NluEngine, file: str, least: float) -> None:
    """Room is left for another machine's arithmetic."""
    lines = (BOT.directory / file).read_text(encoding="utf-8").splitlines()
    examples = [json.loads(line) for line in lines]
    meanings = engine.predict([example["text"] for example in examples])
    right = sum(m.intent == example["intent"] for m, example in zip(meanings, examples, strict=True))
    assert right / len(examples) > least


def test_the_twins_are_one_dialogue() -> None:
    """Whoever reads calls need not care in which language they were."""
    assert BOT.flow.nodes.keys() == TWIN.flow.nodes.keys()
    assert BOT.flow.slots.keys() == TWIN.flow.slots.keys()
    assert BOT.flow.anywhere.keys() == TWIN.flow.anywhere.keys()
    for name, node in BOT.flow.nodes.items():
        twin = TWIN.flow.nodes[name]
        assert (node.on.keys(), node.then, node.outcome) == (twin.on.keys(), twin.then, twin.outcome)
