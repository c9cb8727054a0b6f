"""A caller who was cut off calls again: what is offered, and what each answer does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.bots import load_bot
from dialogue.coming_back import reads_as
from dialogue.flow import Flow
from dialogue.flow_yaml import load_flow
from dialogue.loop import DialogueLoop, KeyEntries
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import MemoryStore
from dialogue.turns import (
    Action,
    CallerSilent,
    CallResumed,
    CallStarted,
    DigitsPressed,
    EarlierCall,
    Event,
    Listen,
)
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, last, said, spoken

pytestmark = pytest.mark.unit

FLOW = """
start: greet
variables: {name: {type: text, default: Sam}}
slots:
  day: {type: date}
  account: {type: digits, length: 4}
no_input: {after_ms: 5000, prompts: [Still there], give_up: bye}
no_match: {prompts: [Sorry], give_up: bye}
COME_BACK
nodes:
  greet: {say: Hello., collect: account, ask: "Your account, {name}?", then: pick}
  pick: {collect: day, ask: "Which day?", then: check}
  check: {ask: "{day}, right?", outcome: named, on: {affirm: bye, deny: {to: pick, forget: [day]}}}
  bye: {say: Goodbye., hang_up: done}
"""


def read(folder: Path, come_back: str = "", language: str = "en") -> Flow:
    path = folder / "flow.yaml"
    path.write_text(FLOW.replace("COME_BACK", come_back), encoding="utf-8")
    flow, faults = load_flow(path, language=language)
    assert flow is not None, faults
    return flow


def cut_off(flow: Flow, *events: Event) -> EarlierCall:
    """An earlier call up to and with these events, of a caller named Ann."""
    state, _ = step(flow, DialogueState(), CallStarted(today=TODAY.isoformat(), metadata=(("name", "Ann"),)))
    for event in events:
        state, _ = step(flow, state, event)
    return EarlierCall(call_id="cut-off", state=state)


ACCOUNT = said("inform", "1234")
FRIDAY = said("inform", "[friday](day)")
START = CallStarted(today=TODAY.isoformat())


def back(flow: Flow, earlier: EarlierCall, *events: Event) -> tuple[DialogueState, tuple[Action, ...]]:
    """The new call, up to and with these events."""
    state, actions = step(flow, DialogueState(), replace(START, earlier=earlier))
    for event in events:
        state, actions = step(flow, state, event)
    return state, actions


def test_the_offer_names_neither_slots_nor_node_and_waits_for_yes_or_no(tmp_path: Path) -> None:
    flow = read(tmp_path)
    state, actions = back(flow, cut_off(flow, ACCOUNT, FRIDAY))
    assert spoken(actions) == "Welcome back. We were cut off before we had finished. Shall we go on where we were?"
    assert last(actions) == Listen(node="check", no_input_ms=5000, expect="yes_no")
    assert (state.returning, state.continues, state.turns, state.round_id) == (True, "cut-off", 0, 0)


@pytest.mark.parametrize("yes", [said("affirm", "yes please"), said("oos", "go on"), DigitsPressed(digits="1")])
def test_yes_goes_on_at_the_node_with_its_slots(tmp_path: Path, yes: Event) -> None:
    flow = read(tmp_path)
    state, actions = back(flow, cut_off(flow, ACCOUNT, FRIDAY), yes)
    assert spoken(actions) == "Good. Friday, November 27th, right?"
    assert (state.node, state.returning, state.outcome, state.continues) == ("check", False, "named", "cut-off")
    assert {name: slot.value for name, slot in state.slots.items()} == {
        "account": "1234",
        "day": "2026-11-27",
        "name": "Sam",  # the new call's own
    }
    state, _ = step(flow, state, said("affirm", "yes"))
    assert state.disposition == "named"


@pytest.mark.parametrize("no", [said("deny", "no thanks"), said("oos", "from the start"), DigitsPressed(digits="2")])
def test_no_begins_from_the_start_and_forgets(tmp_path: Path, no: Event) -> None:
    flow = read(tmp_path)
    state, actions = back(flow, cut_off(flow, ACCOUNT, FRIDAY), no)
    assert spoken(actions) == "All right, from the beginning. Hello. Your account, Sam?"
    assert (state.node, state.returning, state.outcome, state.continues) == ("greet", False, None, None)
    assert set(state.slots) == {"name"}


@pytest.mark.parametrize("unclear", [said("oos", "what"), CallerSilent(), DigitsPressed(digits="7")])
def test_what_is_neither_is_asked_once_more(tmp_path: Path, unclear: Event) -> None:
    flow = read(tmp_path)
    earlier = cut_off(flow, ACCOUNT)
    state, actions = back(flow, earlier, unclear)
    assert state.returning and spoken(actions).startswith("Welcome back.")
    assert step(flow, state, said("affirm", "yes"))[0].node == "pick"
    state, actions = step(flow, state, unclear)
    assert (state.node, spoken(actions)) == ("greet", "Hello. Your account, Sam?")
    silences = 2 if isinstance(unclear, CallerSilent) else 0
    assert (state.total_no_input, state.total_no_match) == (silences, 2 - silences)
    assert set(state.slots) == {"name"}


def test_what_is_checked_may_be_forgotten_and_the_rest_is_not_asked_again(tmp_path: Path) -> None:
    flow = read(tmp_path, "come_back: {ask: Again, go_on: Right., forget: [account]}")
    state, actions = back(flow, cut_off(flow, ACCOUNT, FRIDAY), said("affirm", "yes"))
    assert spoken(actions) == "Right. Hello. Your account, Sam?"
    state, actions = step(flow, state, ACCOUNT)
    assert (state.node, spoken(actions)) == ("check", "Friday, November 27th, right?")


def test_nothing_is_offered_where_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    flow = read(tmp_path)
    greeted, finished = cut_off(flow), cut_off(flow, ACCOUNT, FRIDAY, said("affirm", "yes"))
    gone = replace(greeted, state=replace(cut_off(flow, ACCOUNT).state, node="no longer there"))
    for earlier in (greeted, finished, gone):
        state, actions = back(flow, earlier)
        assert spoken(actions) == "Hello. Your account, Sam?" and not state.returning
    never = read(tmp_path, "come_back: {offer: false}")
    assert not back(never, cut_off(never, ACCOUNT))[0].returning


def test_who_is_cut_off_over_the_offer_and_calls_again_is_offered_the_same(tmp_path: Path) -> None:
    flow = read(tmp_path)
    offered, _ = back(flow, cut_off(flow, ACCOUNT, FRIDAY))
    state, actions = back(flow, EarlierCall(call_id="second", state=offered), said("affirm", "yes"))
    assert spoken(actions) == "Good. Friday, November 27th, right?"
    assert (state.node, state.continues, state.slots["account"].value) == ("check", "second", "1234")


def test_a_line_lost_over_the_offer_hears_it_again(tmp_path: Path) -> None:
    flow = read(tmp_path)
    state, actions = back(flow, cut_off(flow, ACCOUNT), CallResumed())
    assert state.returning and spoken(actions).startswith("Welcome back.")


@pytest.mark.parametrize(
    ("words", "meant"), [("继续吧", True), ("好的", True), ("不用了", False), ("重新开始", False), ("什么", None)]
)
def test_answers_in_chinese(words: str, meant: bool | None) -> None:
    flow = load_bot("bill-reminder-zh").flow
    assert flow.come_back is not None and "接着" in flow.come_back.ask[0].text
    assert reads_as(flow, words) is meant


async def test_the_loop_offers_to_a_new_call_only() -> None:
    store = MemoryStore()
    one = DialogueLoop(BILL_REMINDER, store, "one", today=lambda: TODAY)
    await one.open()
    await one.handle(said("affirm", "yes speaking"))
    await one.handle(said("inform", "[four four one seven](digits)"))
    earlier = EarlierCall(call_id="one", state=one.state)
    two = DialogueLoop(BILL_REMINDER, store, "two", today=lambda: TODAY)
    assert spoken((await two.open(earlier=earlier)).actions).startswith("Welcome back.")
    assert two.key_entries == KeyEntries(entries=frozenset("12"))
    step_ = await two.handle(DigitsPressed(digits="1"))
    assert step_.state.continues == "one" and not step_.state.returning
    assert "account_check" not in step_.state.slots  # whoever calls must show it again
    again = DialogueLoop(BILL_REMINDER, store, "two", today=lambda: TODAY)
    assert (await again.open(earlier=earlier)).resumed
