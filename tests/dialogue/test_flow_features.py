"""What flows can do beyond nodes in a row: sub-flows, conditions, early and changed slots, webhooks, records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.flow import Flow
from dialogue.flow_yaml import load_flow
from dialogue.slots import SlotValue
from dialogue.state import DialogueState, Promise
from dialogue.step import step
from dialogue.turns import (
    Action,
    CallerSilent,
    CallResumed,
    CallStarted,
    CallWebhook,
    DigitsPressed,
    Event,
    HangUp,
    Say,
    Transfer,
    WebhookAnswered,
)
from dialogue.yaml_source import Fault
from tests.dialogue.bot_calls import TODAY, last, said, spoken

pytestmark = pytest.mark.unit

FLOW = """\
start: greet
variables:
  bill: {type: amount, default: "84.50"}
slots:
  account: {type: digits, entity: digits, length: 11, checksum: luhn}
  pay_day: {type: date, entity: date, early: [promise, "greeting"]}
  visit_day: {type: date, entity: date}
  sum: {type: amount, entity: amount, default_from: bill}
  ticket: {type: digits, min_length: 3}
no_match: {prompts: ["Sorry?"], give_up: person}
resume: We were cut off.
anywhere:
  promise: {to: ask_account}
webhooks:
  note: {url: "https://crm.example/notes", send: [pay_day, sum, visit_day], take: {ticket: id}, retries: 1}
subflows:
  pick_day:
    start: ask
    nodes:
      ask: {ask: "Which day?", collect: day, then: check}
      check:
        ask: "{day}?"
        confirm: [day]
        on: {affirm: return, deny: {to: ask, forget: day}, not_sure: lost}
nodes:
  greet:
    say: Hello.
    ask: ["Will you pay?", {text: "It is much.", when: {bill: {over: 500}}}]
    on: {affirm: ask_account, visit: ask_visit}
  ask_account: {ask: "Your number?", collect: account, invalid: That is no number of ours., then: ask_day}
  ask_day:
    say: Now the day.
    use: pick_day
    with: {day: pay_day, lost: person}
    then: [{when: {sum: {at_least: "{bill}"}, pay_day: {at_most: in a month}}, to: all}, note]
  all: {say: "All of it, good.", then: note}
  ask_visit: {use: pick_day, with: {day: visit_day, lost: more}, then: agreed}
  agreed: {say: "Until {visit_day}.", callback: {date: visit_day, note: ticket}, then: more}
  note: {say: One moment., webhook: note, then: noted, failed: not_noted}
  noted: {say: "Your ticket is {ticket}.", promise: [pay_day, sum], outcome: promised, then: more}
  not_noted: {say: I could not note it., then: more}
  more:
    ask: Anything else?
    on:
      deny:
        - {needs: pay_day, changes: [pay_day, sum], to: ask_day.check}
        - {changes: visit_day, to: ask_visit.check}
        - bye
      inform: {changes: [pay_day, visit_day], stay: ask, say: Changed.}
      speak_to_person: person
  bye: {say: Bye., hang_up: done}
  person: {say: One moment., transfer: agent}
"""
ACCOUNT = DigitsPressed(digits="79927398713")
YES, NO = said("affirm", "yes"), said("deny", "no")
FRIDAY = said("inform", "[friday](date)")
TICKET = WebhookAnswered(webhook="note", act=1, answer=(("id", "123"), ("more", "x")))


def load(tmp_path: Path, text: str = FLOW) -> tuple[Flow | None, list[Fault]]:
    path = tmp_path / "flow.yaml"
    path.write_text(text, encoding="utf-8")
    return load_flow(path, language="en")


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    found, faults = load(tmp_path)
    assert found is not None, [str(fault) for fault in faults]
    return found


def call(flow: Flow, *events: Event, **metadata: str) -> tuple[DialogueState, tuple[Action, ...]]:
    started = CallStarted(today=TODAY.isoformat(), at=10.0, metadata=tuple(metadata.items()))
    state, actions = step(flow, DialogueState(), started)
    for event in events:
        state, actions = step(flow, state, event)
    return state, actions


def value(state: DialogueState, name: str) -> str | None:
    return state.slots[name].value if name in state.slots else None


# Sub-flows


def test_a_sub_flow_fills_the_slot_of_its_use_and_returns_to_its_then(flow: Flow) -> None:
    state, actions = call(flow, YES, ACCOUNT)
    assert (state.node, spoken(actions)) == ("ask_day.ask", "Now the day. Which day?")
    state, actions = step(flow, state, FRIDAY)
    assert (state.node, spoken(actions)) == ("ask_day.check", "Friday, November 27th?")
    assert (value(state, "pay_day"), value(state, "visit_day")) == ("2026-11-27", None)
    state, _ = step(flow, state, YES)
    assert state.node == "note"


def test_another_use_has_nodes_slots_and_ways_out_of_its_own(flow: Flow) -> None:
    state, actions = call(flow, said("visit", "come by"), FRIDAY, YES)
    assert (state.node, value(state, "visit_day"), value(state, "pay_day")) == ("more", "2026-11-27", None)
    assert spoken(actions).startswith("Until Friday")
    unsure = said("not_sure", "i don't know")
    assert call(flow, said("visit", "come by"), FRIDAY, unsure)[0].node == "more"
    assert call(flow, YES, ACCOUNT, FRIDAY, unsure)[0].node == "person"


def test_a_call_goes_on_in_the_middle_of_a_sub_flow(flow: Flow) -> None:
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, CallResumed())
    assert (state.node, spoken(actions)) == ("ask_day.check", "We were cut off. Friday, November 27th?")


def test_a_sub_flow_may_use_another(tmp_path: Path) -> None:
    text = FLOW.replace(
        "subflows:",
        "subflows:\n  twice:\n    start: one\n    nodes:\n"
        "      one: {use: pick_day, with: {day: a, lost: out}, then: return}",
    ).replace("use: pick_day, with: {day: visit_day, lost: more}", "use: twice, with: {a: visit_day, out: more}")
    found, faults = load(tmp_path, text.replace("ask_visit.check", "ask_visit.one.check"))
    assert found is not None, [str(fault) for fault in faults]
    state, _ = call(found, said("visit", "come by"), FRIDAY)
    assert (state.node, value(state, "visit_day")) == ("ask_visit.one.check", "2026-11-27")


# Conditions


@pytest.mark.parametrize(
    ("amount", "day", "words"),
    [
        ("84.50", "2026-11-27", "All of it, good. One moment."),
        ("90.00", "2026-12-21", "All of it, good. One moment."),
        ("84.49", "2026-11-27", "One moment."),
        ("84.50", "2026-12-22", "One moment."),
        (None, "2026-11-27", "One moment."),
    ],
)
def test_branches_are_taken_by_their_conditions(flow: Flow, amount: str | None, day: str, words: str) -> None:
    state, _ = call(flow, YES, ACCOUNT, FRIDAY)
    slots = {**state.slots, "pay_day": SlotValue(day, day)}
    if amount is not None:
        slots["sum"] = SlotValue(amount, amount)
    _, actions = step(flow, replace(state, slots=slots), YES)
    assert spoken(actions) == words


def test_a_prompt_is_said_where_its_condition_holds(flow: Flow) -> None:
    assert "much" not in spoken(call(flow)[1])
    assert "It is much." in spoken(call(flow, bill="900")[1])


# Early and late


def test_a_slot_given_early_is_kept_and_its_question_passed_over(flow: Flow) -> None:
    state, _ = call(flow, said("promise", "i pay on [friday](date)"))
    assert (state.node, value(state, "pay_day")) == ("ask_account", "2026-11-27")
    state, actions = step(flow, state, ACCOUNT)
    assert (state.node, spoken(actions)) == ("ask_day.check", "Now the day. Friday, November 27th?")


def test_only_in_turns_of_its_intents_and_only_what_was_marked(flow: Flow) -> None:
    assert value(call(flow, said("affirm", "yes [friday](date)"))[0], "pay_day") is None
    assert value(call(flow, said("promise", "i pay on friday"))[0], "pay_day") is None
    assert value(call(flow, said("promise", "[friday](date)", score=1.0))[0], "visit_day") is None


def test_a_slot_changed_late_is_confirmed_again(flow: Flow) -> None:
    state, _ = call(flow, YES, ACCOUNT, FRIDAY, YES, TICKET)
    assert state.node == "more"
    changed, actions = step(flow, state, said("deny", "no make it [monday](date)"))
    assert (changed.node, spoken(actions)) == ("ask_day.check", "Monday, November 23rd?")
    assert value(changed, "pay_day") == "2026-11-23"
    assert step(flow, state, NO)[0].node == "bye"
    assert step(flow, state, said("deny", "no [friday](date) is fine"))[0].node == "bye"  # the same day is no change


def test_a_sum_that_stood_in_for_the_callers_own_is_changed_too(flow: Flow) -> None:
    state, _ = call(flow, YES, ACCOUNT, FRIDAY, YES, TICKET)
    assert (value(state, "sum"), value(state, "bill")) == (None, "84.50")
    changed, _ = step(flow, state, said("deny", "no make it [forty dollars](amount)"))
    assert (changed.node, value(changed, "sum")) == ("ask_day.check", "40.00")
    assert step(flow, state, said("deny", "no [$84.50](amount) is fine"))[0].node == "bye"


def test_a_change_is_of_the_slot_that_is_filled(flow: Flow) -> None:
    state, _ = call(flow, said("visit", "come by"), FRIDAY, YES)
    state, _ = step(flow, state, said("deny", "no on [monday](date)"))
    assert (state.node, value(state, "visit_day"), value(state, "pay_day")) == ("ask_visit.check", "2026-11-23", None)


def test_check_digits_are_checked(flow: Flow) -> None:
    state, actions = call(flow, YES, DigitsPressed(digits="79927398710"))
    assert state.node == "ask_account" and "no number of ours" in spoken(actions)


# Webhooks and records


def test_a_webhook_is_asked_and_its_answer_goes_on(flow: Flow) -> None:
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, YES)
    say, asked = actions
    assert isinstance(say, Say) and say.text == "One moment."
    send = (("pay_day", "2026-11-27"), ("sum", "84.50"))  # the bill stands in for the sum; no visit was agreed on
    assert asked == CallWebhook(webhook="note", node="note", act=1, send=send)
    state, actions = step(flow, state, TICKET)
    assert spoken(actions) == "Your ticket is one two three. Anything else?"
    assert (value(state, "ticket"), state.outcome) == ("123", "promised")
    assert state.promises == (Promise(node="noted", slots=send),)


@pytest.mark.parametrize("answer", [None, (), (("id", "no digits"),), (("ticket", "123"),)])
def test_without_a_good_answer_the_flow_goes_to_failed(flow: Flow, answer: tuple[tuple[str, str], ...] | None) -> None:
    asked = (YES, ACCOUNT, FRIDAY, YES)
    state, actions = call(flow, *asked, WebhookAnswered(webhook="note", act=1, answer=answer))
    assert spoken(actions) == "I could not note it. Anything else?"
    assert (state.node, state.promises, value(state, "ticket")) == ("more", (), None)


def test_while_a_webhook_is_asked_nobody_else_is_heard(flow: Flow) -> None:
    before, _ = call(flow, YES, ACCOUNT, FRIDAY, YES)
    for event in (NO, DigitsPressed(digits="1"), CallerSilent()):
        state, actions = step(flow, before, event)
        assert (state.node, actions) == ("note", ())
    assert step(flow, before, NO)[0].round_id == before.round_id + 1


def test_a_call_resumed_there_asks_again_under_the_same_number(flow: Flow) -> None:
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, YES, CallResumed())
    (asked,) = (action for action in actions if isinstance(action, CallWebhook))
    assert (asked.act, state.acts, spoken(actions)) == (1, 1, "We were cut off.")


def test_an_answer_to_what_is_not_asked_any_more_is_nothing(flow: Flow) -> None:
    asked = (YES, ACCOUNT, FRIDAY, YES)
    for late in (
        WebhookAnswered(webhook="note", act=2, answer=None),
        WebhookAnswered(webhook="other", act=1, answer=None),
    ):
        assert call(flow, *asked, late)[1] == ()
    assert call(flow, *asked, TICKET, TICKET)[1] == ()


def test_the_same_webhook_later_is_another_request_and_the_promise_is_replaced(flow: Flow) -> None:
    late = said("deny", "no make it [monday](date)")
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, YES, TICKET, late, YES)
    (asked,) = (action for action in actions if isinstance(action, CallWebhook))
    assert asked.act == 2
    state, _ = step(flow, state, WebhookAnswered(webhook="note", act=2, answer=(("id", "124"),)))
    assert [dict(promise.slots)["pay_day"] for promise in state.promises] == ["2026-11-23"]


def test_a_promise_whose_slot_is_forgotten_is_withdrawn(flow: Flow) -> None:
    late = said("deny", "no make it [monday](date)")
    state, _ = call(flow, YES, ACCOUNT, FRIDAY, YES, TICKET, late)
    assert state.promises
    state, _ = step(flow, state, NO)
    assert (state.node, state.promises) == ("ask_day.ask", ())


def test_a_call_back_agreed_on_is_noted(flow: Flow) -> None:
    state, _ = call(flow, said("visit", "come by"), FRIDAY, YES)
    assert state.callback == {"date": "2026-11-27"}


AGREED = """\
start: ask_day
slots:
  day: {type: date, entity: date}
  sum: {type: amount, entity: amount, default_from: bill}
  other: {type: date}
variables:
  bill: {type: amount, default: "84.50"}
no_match: {prompts: [Sorry.]}
anywhere:
  change: {changes: [day, sum], say: Changed., stay: ask}
  move: {changes: [day], to: check}
nodes:
  ask_day: {say: Hello., ask: "Which day?", collect: day, optional: [other], then: agreed}
  agreed: {promise: [day, sum], callback: {date: day, note: sum, until: other}, then: more}
  more: {ask: "Anything else?", on: {deny: bye}}
  check: {ask: "{day}?", confirm: [day], promise: [day], callback: {date: day}, on: {affirm: more}}
  bye: {say: Goodbye., hang_up: done}
"""


def on_record(state: DialogueState) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    return {promise.node: dict(promise.slots) for promise in state.promises}, dict(state.callback)


def test_a_slot_changed_where_it_stays_is_changed_on_the_record(tmp_path: Path) -> None:
    found, faults = load(tmp_path, AGREED)
    assert found is not None, [str(fault) for fault in faults]
    state, _ = call(found, said("inform", "[friday](date), [the thirtieth](other) at the latest"))
    friday, monday = {"day": "2026-11-27", "sum": "84.50"}, {"day": "2026-11-23", "sum": "84.50"}
    until = {"until": "2026-11-30"}
    assert on_record(state) == ({"agreed": friday}, {"date": "2026-11-27", "note": "84.50", **until})
    state, actions = step(found, state, said("change", "make it [monday](date)"))
    assert spoken(actions) == "Changed. Anything else?"
    assert on_record(state) == ({"agreed": monday}, {"date": "2026-11-23", "note": "84.50", **until})
    state, _ = step(found, state, said("change", "[forty dollars](amount)"))
    assert on_record(state) == ({"agreed": monday | {"sum": "40.00"}}, {"date": "2026-11-23", "note": "40.00", **until})


def test_a_slot_corrected_where_it_is_promised_is_changed_there(tmp_path: Path) -> None:
    found, faults = load(tmp_path, AGREED)
    assert found is not None, [str(fault) for fault in faults]
    state, _ = call(found, FRIDAY, said("move", "rather [monday](date)"), said("deny", "no [tuesday](date)"))
    promises, callback = on_record(state)
    assert promises == {"agreed": {"day": "2026-11-27", "sum": "84.50"}, "check": {"day": "2026-11-24"}}
    assert callback == {"date": "2026-11-24"}


@pytest.mark.parametrize(
    "events", [(FRIDAY, said("change", "[monday](date)")), (FRIDAY, said("move", "[monday](date)"))]
)
def test_a_correction_ends_a_row_of_failures(tmp_path: Path, events: tuple[Event, ...]) -> None:
    found, faults = load(tmp_path, AGREED)
    assert found is not None, [str(fault) for fault in faults]
    noise = said("oos", "blue paper garden", score=0.2)
    state, _ = call(found, *events, noise, noise, CallerSilent())
    assert (state.no_match, state.no_input) == (2, 1)
    corrected = said("change" if state.node == "more" else "deny", "no [tuesday](date)")
    after, _ = step(found, state, corrected)
    assert (after.node, after.no_match, after.no_input, after.total_no_match) == (state.node, 0, 0, 2)


def test_what_is_not_confirmed_yet_is_changed_without_the_record(tmp_path: Path) -> None:
    found, faults = load(tmp_path, AGREED.replace("promise: [day], callback: {date: day}, on: {affirm", "on: {affirm"))
    assert found is not None, [str(fault) for fault in faults]
    late = (said("move", "rather [monday](date)"), said("change", "or [tuesday](date)"))
    state, actions = call(found, FRIDAY, *late)
    assert spoken(actions) == "Changed. Tuesday, November 24th?"
    assert on_record(state)[0]["agreed"]["day"] == "2026-11-27"


def test_the_ends_are_as_before(flow: Flow) -> None:
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, YES, TICKET, NO)
    assert last(actions) == HangUp(disposition="promised") and state.started_at == 10.0
    state, actions = call(flow, YES, ACCOUNT, FRIDAY, said("not_sure", "i don't know"))
    assert isinstance(last(actions), Transfer)


# Faults


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("use: pick_day\n", "use: pick_days\n", "there is no sub-flow 'pick_days'"),
        ("subflows:", "subflows:\n  spare: {start: a, nodes: {a: {say: A., then: return}}}", "no node uses sub-flow"),
        ("    start: ask\n", "    start: aks\n", "there is no node 'aks' in sub-flow 'pick_day'"),
        ("with: {day: pay_day,", "with: {dya: pay_day,", "sub-flow 'pick_day' names no 'dya'"),
        ("with: {day: pay_day,", "with: {day: pya_day,", "there is no slot 'pya_day'"),
        ("lost: person}", "lost: persn}", "there is no node 'persn'"),
        (", lost: person", "", "there is no node 'lost'"),
        ("lost: more}, then: agreed", "lost: agreed}", "returns, and node 'ask_visit' has no 'then'"),
        ("affirm: return", "affirm: lost", "never returns to node 'ask_day'"),
        ('Which day?", collect', 'Which day?", use: pick_day, collect', "uses a sub-flow and does more"),
        ('ask: {ask: "Which day?", collect: day, then: check}', "ask: {use: pick_day, then: check}", "uses itself"),
        ("say: Bye., hang_up", "say: Bye., with: {a: b}, hang_up", "has 'with' but no 'use'"),
        ("  bye:", "  return:", "a node cannot be named 'return'"),
        ("  bye:", "  b.ye:", "a node cannot be named 'b.ye'"),
        ("{over: 500}", "{over: much}", "'much' is no amount"),
        ("{over: 500}", "{above: 500}", "unknown key 'above'"),
        ("{over: 500}", "{over: [1, 2]}", "has several values"),
        ("{bill: {over: 500}}", "{bil: {over: 500}}", "there is no slot 'bil'"),
        ("{bill: {over: 500}}", "{account: {over: 500}}", "a digits, which is not more or less"),
        ('at_least: "{bill}"', 'at_least: "{pay_day}"', "compared with date 'pay_day'"),
        ("in a month}}, to: all}, note]", "in a month}}, to: all}]", "is not always possible"),
        ("to: all}, note]", "to: all}, note, all]", "hides those after it"),
        ("to: all}, note]", "to: all, say: Hi.}, note]", "more than 'when' and 'to'"),
        ("checksum: luhn", "checksum: lunh", "did you mean 'luhn'?"),
        ("changes: [pay_day, sum], to", "changes: [pya_day], to", "there is no slot 'pya_day'"),
        ("webhook: note,", "webhook: nota,", "there is no webhook 'nota'"),
        (", failed: not_noted", "", "calls a webhook and then does nothing"),
        ("webhook: note,", "", "has 'failed' but no 'webhook'"),
        ("webhook: note,", "webhook: note, ask: Well,", "calls a webhook and yet waits"),
        ("failed: not_noted", "failed: note", "node 'note' leads back to itself"),
        ("https://crm.example/notes", "crm.example/notes", "no web address"),
        ("https://crm.example/notes", "https://crm.example:99999/notes", "no web address"),
        ("https://crm.example/notes", "https://crm.example:abc/notes", "no web address"),
        ("https://crm.example/notes", "https://crm.example/müller", "no web address"),
        ("https://crm.example/notes", "https://crm.example/my notes", "no web address"),
        ("https://crm.example/notes", "https://[::1/notes", "no web address"),
        ("take: {ticket: id}", "take: {tikcet: id}", "there is no slot 'tikcet'"),
        ("take: {ticket: id}, ", "", "{ticket} may have no value at node 'noted'"),
        ("promise: [pay_day, sum]", "promise: [payday, sum]", "there is no slot 'payday'"),
        ("callback: {date: visit_day", "callback: {date: visitday", "there is no slot 'visitday'"),
    ],
)
def test_fault(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in FLOW
    found, faults = load(tmp_path, FLOW.replace(old, new, 1))
    told = [f"{fault.what} ({fault.mend})" for fault in faults]
    assert found is None and any(what in one for one in told), told
    lines = FLOW.replace(old, new, 1).splitlines()
    assert all(fault.mend and 1 <= fault.line <= len(lines) for fault in faults)
    assert len(set(faults)) == len(faults)  # what is wrong in a sub-flow used twice is told once


# Names from a list

BRANCHES = """
start: ask_day
slots:
  day: {type: date}
  sum: {type: amount}
  branch: {type: choice, choices: {north: [north], harbour: [harbour, the port]}}
no_match: {prompts: [Sorry.]}
nodes:
  ask_day: {say: Hello., ask: "Which day?", collect: day, optional: [sum, branch], then: ask_sum}
  ask_sum: {ask: "How much?", collect: sum, then: ask_branch}
  ask_branch: {ask: "Which branch?", collect: branch, then: check}
  check: {ask: "{branch}?", confirm: [branch], on: {affirm: bye}}
  bye: {say: Goodbye., hang_up: done}
"""


def test_a_name_from_a_list_is_taken_where_the_node_names_the_slot(tmp_path: Path) -> None:
    found, faults = load(tmp_path, BRANCHES)
    assert found is not None, [str(fault) for fault in faults]
    at_once = said("inform", "[forty dollars](sum) [on friday](day) at the port")
    state, _ = call(found, at_once)
    assert (state.node, value(state, "branch"), value(state, "sum")) == ("check", "harbour", "40.00")
    state, _ = step(found, state, said("deny", "no the north one"))
    assert (state.node, value(state, "branch")) == ("check", "north")


def test_and_nowhere_else_unasked(tmp_path: Path) -> None:
    found, _ = load(tmp_path, BRANCHES.replace(", optional: [sum, branch]", ""))
    assert found is not None
    state, _ = call(found, said("inform", "[on friday](day) in the north [forty dollars](sum)"))
    assert (state.node, value(state, "branch")) == ("ask_branch", None)


HOW_MANY = """\
start: ask
keys: {"9": bye}
slots:
  guests: {type: number, minimum: 1, maximum: 20}
no_match: {prompts: ["Sorry?"], give_up: bye}
nodes:
  ask:
    ask: How many?
    collect: guests
    invalid: One to twenty.
    then: [{when: {guests: {over: 8}}, to: large}, small]
  small: {say: "{guests} at one table.", ask: "Right?", on: {affirm: small}}
  large: {say: "{guests} in the hall.", ask: "Right?", on: {affirm: large}}
  bye: {hang_up: no_match}
"""


@pytest.mark.parametrize(
    ("answer", "reached", "count"),
    [
        (said("inform", "there will be four of us"), "small", "4"),
        (said("oos", "a dozen"), "large", "12"),
        (DigitsPressed(digits="10"), "large", "10"),
        (said("inform", "twenty five"), "ask", None),
        (DigitsPressed(digits="0"), "ask", None),
    ],
)
def test_how_many_is_asked_said_or_keyed_and_compared(
    tmp_path: Path, answer: Event, reached: str, count: str | None
) -> None:
    flow, faults = load(tmp_path, HOW_MANY)
    assert flow is not None, [str(fault) for fault in faults]
    assert flow.nodes["ask"].expect == "number"
    state, actions = call(flow, answer)
    assert state.node == reached
    if count:
        assert state.slots["guests"].value == count and spoken(actions).startswith(count)
    else:
        assert spoken(actions).startswith("One to twenty.")


def test_a_key_of_the_flow_is_no_count(tmp_path: Path) -> None:
    flow, faults = load(tmp_path, HOW_MANY)
    assert flow is not None, [str(fault) for fault in faults]
    state, actions = call(flow, DigitsPressed(digits="9"))
    assert state.node == "bye" and "guests" not in state.slots and last(actions) == HangUp(disposition="no_match")
    state, _ = call(flow, DigitsPressed(digits="09"))
    assert state.slots["guests"].value == "9"


# One value, one slot

STAY = """\
start: greet
slots:
  arrival: {type: date, early: book}
  departure: {type: date}
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4}
  phone: {type: digits, length: 11}
  room: {type: choice, choices: {single: [single], double: [double]}}
  board: {type: choice, choices: {full: [full board], half: [half board]}}
no_match: {prompts: [Sorry.]}
nodes:
  greet: {say: Hello., ask: "What is it?", on: {stay: ask_arrival, book: ask_departure, pay: ask_account}}
  ask_arrival: {ask: "From when?", collect: arrival, optional: [room, board], then: ask_departure}
  ask_departure: {ask: "Until when?", collect: departure, then: check}
  check: {ask: "{departure}?", confirm: [arrival, departure], on: {affirm: bye}}
  ask_account: {ask: "Your number?", collect: account, optional: phone, then: ask_pin}
  ask_pin: {ask: "Your PIN?", collect: pin, then: bye}
  bye: {say: Goodbye., hang_up: done}
"""
STAYING = said("stay", "a room please")


@pytest.mark.parametrize(
    ("events", "node", "slots"),
    [
        ([STAYING, said("inform", "on friday")], "ask_departure", {"arrival": "2026-11-27"}),
        ([STAYING, said("inform", "on [friday](arrival)")], "ask_departure", {"arrival": "2026-11-27"}),
        ([said("stay", "i come on friday")], "ask_departure", {"arrival": "2026-11-27"}),
        (
            [STAYING, said("inform", "[friday](arrival) to [monday the thirtieth](departure)")],
            "check",
            {"arrival": "2026-11-27", "departure": "2026-11-30"},
        ),
        ([said("pay", "i pay"), DigitsPressed(digits="4417")], "ask_pin", {"account": "4417"}),
        ([said("pay", "i pay"), said("inform", "four four one seven")], "ask_pin", {"account": "4417"}),
        (
            [said("pay", "i pay"), DigitsPressed(digits="4417"), DigitsPressed(digits="1234")],
            "bye",
            {"account": "4417", "pin": "1234"},
        ),
        (  # of another kind: digits in another number
            [said("pay", "i pay"), said("inform", "four four one seven, and i am on 13800138000")],
            "ask_pin",
            {"account": "4417", "phone": "13800138000"},
        ),
        (  # of another kind: choices between other names
            [STAYING, said("inform", "[friday](arrival) a double room with half board")],
            "ask_departure",
            {"arrival": "2026-11-27", "room": "double", "board": "half"},
        ),
        ([said("book", "i come on [friday](arrival)")], "ask_departure", {"arrival": "2026-11-27"}),  # kept early
        (  # the answer to a question stays one, whatever the understanding took it for
            [said("book", "a room"), said("book", "on [friday](arrival)")],
            "check",
            {"arrival": "2026-11-27", "departure": "2026-11-27"},
        ),
    ],
)
def test_a_value_fills_one_slot_of_its_kind(
    tmp_path: Path, events: list[Event], node: str, slots: dict[str, str]
) -> None:
    found, faults = load(tmp_path, STAY)
    assert found is not None, [str(fault) for fault in faults]
    state, _ = call(found, *events)
    assert (state.node, {name: slot.value for name, slot in state.slots.items()}) == (node, slots)


def test_a_correction_is_of_the_slot_it_is_marked_for_else_of_the_first(tmp_path: Path) -> None:
    found, _ = load(tmp_path, STAY)
    assert found is not None
    both = said("inform", "[friday](arrival) to [monday the thirtieth](departure)")
    state, _ = call(found, STAYING, both, said("deny", "no on saturday"))
    assert (value(state, "arrival"), value(state, "departure")) == ("2026-11-28", "2026-11-30")
    state, _ = call(found, STAYING, both, said("deny", "no until [wednesday](departure)"))
    assert (value(state, "arrival"), value(state, "departure")) == ("2026-11-27", "2026-11-25")
    state, _ = call(found, STAYING, both, said("affirm", "yes from [friday](arrival)"))
    assert (state.node, value(state, "departure")) == ("bye", "2026-11-30")
