"""The bill reminder with its own NLU artefact: what callers say, as text, to the intended node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

import pytest

from dialogue.rehearsal import rehearse
from dialogue.script import SCRIPTS_FOLDER, load_script
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.text_call import Understand
from dialogue.turns import CallerSaid, CallStarted
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY

if TYPE_CHECKING:  # torch takes seconds, and other test runs need none of it
    from nlu.engine import NluEngine

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine() -> Iterator[NluEngine]:
    """The bundled artefact."""
    from nlu.engine import NluEngine

    assert BILL_REMINDER.nlu_path is not None
    yield NluEngine.load(BILL_REMINDER.nlu_path, device="cpu")


@pytest.fixture(scope="module")
def understand(engine: NluEngine) -> Understand:
    """The same words are understood once: callers of many scripts say them."""
    return cache(lambda words: engine.predict([words])[0])


def walk(engine: NluEngine, texts: list[str]) -> tuple[DialogueState, list[str]]:
    """The state after these turns, and each turn as "text -> intent -> node" to read in a failure."""
    state, _ = step(BILL_REMINDER.flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
    trace = []
    for text in texts:
        (meaning,) = engine.predict([text])
        state, _ = step(BILL_REMINDER.flow, state, CallerSaid(text=text, meaning=meaning))
        trace.append(f"{text} -> {meaning.intent} {meaning.score:.2f} -> {state.node}")
    return state, trace


CALLS = {
    "promise": (
        [
            "yes speaking",
            "four four one seven",
            "when is it due",
            "i can pay on friday",
            "yes that is correct",
            "no that is all",
        ],
        ("goodbye", "promise_to_pay"),
    ),
    "paid": (
        [
            "yes this is me",
            "four four one seven",
            "i already paid",
            "five two eight nine six",
            "yes that is right",
            "no thank you",
        ],
        ("goodbye", "already_paid"),
    ),
    "corrected": (
        [
            "yes",
            "can you repeat that",
            "four four one seven",
            "i can pay forty dollars tomorrow",
            "no on monday",
            "yes that is right",
            "goodbye",
        ],
        ("goodbye", "promise_to_pay"),
    ),
    "call back": (["yes i am", "call me back later", "tomorrow", "yes please"], ("callback_noted", "call_back")),
    "dispute": (
        ["speaking", "four four one seven", "this is a mistake", "i was charged twice", "no that is all"],
        ("goodbye", "dispute"),
    ),
    "person": (["who is calling", "yes", "i want to speak to a person"], ("transfer_to_person", "transfer")),
    "typed": (
        ["Yes, this is Alex.", "It's 4417", "I'll pay $40 on 12/1.", "Yes!", "No, that's all. Thanks!"],
        ("goodbye", "promise_to_pay"),
    ),
    "misheard": (
        ["is that is me speaking", "for four one seven", "four four one seven", "i will pay an friday", "yes"],
        ("anything_else", None),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_call(engine: NluEngine, name: str) -> None:
    texts, (node, disposition) = CALLS[name]
    state, trace = walk(engine, texts)
    assert (state.node, state.disposition) == (node, disposition), "\n".join(trace)


@pytest.mark.parametrize("file", ["happy.yaml", "unhappy.yaml", "changes.yaml", "lost.yaml", "spoken.yaml"])
def test_scripted_callers_are_understood(understand: Understand, file: str) -> None:
    script, faults = load_script(BILL_REMINDER.directory / SCRIPTS_FOLDER / file)
    assert script is not None, faults
    for call in script.calls:
        done = rehearse(BILL_REMINDER, call, understand, today=script.today)
        assert done.passed, (call.name, list(done.mismatches()))


def test_values_are_those_said(engine: NluEngine) -> None:
    texts, _ = CALLS["corrected"]
    state, trace = walk(engine, texts)
    assert state.slots["promise_amount"].value == "40.00", trace
    assert state.slots["promise_date"].value == date(2026, 11, 23).isoformat(), trace


def test_dev_examples_are_understood(engine: NluEngine) -> None:
    """The dev sentences are unlike those trained on; room is left for another machine's arithmetic."""
    path = BILL_REMINDER.directory / "examples.dev.jsonl"
    examples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    meanings = engine.predict([example["text"] for example in examples])
    right = sum(m.intent == example["intent"] for m, example in zip(meanings, examples, strict=True))
    assert right / len(examples) > 0.8
