"""`step` by whole calls of the bill reminder: every path, and the odd cases of its table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dialogue.bots import load_bot
from dialogue.slots import SlotType
from dialogue.state import HISTORY_TURNS, DialogueState
from dialogue.step import MetadataError, step
from dialogue.turns import (
    Action,
    CallEnded,
    CallerSaid,
    CallerSilent,
    CallResumed,
    CallStarted,
    DigitsPressed,
    Event,
    HangUp,
    Listen,
    Say,
    TimeRanOut,
    Transfer,
)
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY, last, said, spoken, started

pytestmark = pytest.mark.unit

FLOW = BILL_REMINDER.flow
YES = said("affirm", "yes speaking")
ACCOUNT = said("inform", "[four four one seven](digits)")
IDENTIFIED = [YES, ACCOUNT]


def call(*events: Event, **metadata: str) -> tuple[DialogueState, tuple[Action, ...]]:
    """A call up to and with these events; the last step's actions."""
    state, actions = started(**metadata)
    for event in events:
        assert not state.ended, f"the call was over before {event}"
        state, actions = step(FLOW, state, event)
    return state, actions


def test_the_greeting_names_the_customer_after_fixed_first_words() -> None:
    state, actions = started(customer_name="Mary Brown")
    first, second, listen = actions
    assert isinstance(first, Say) and first.text in {p.text for p in BILL_REMINDER.fixed_prompts()}
    assert isinstance(second, Say) and second.text == "Am I speaking with Mary Brown?"
    assert listen == Listen(node="greet", no_input_ms=6000, expect="yes_no")
    assert (state.node, state.round_id) == ("greet", 0)


# Whole calls: (turn, node after it), then how the call ends.
PATHS = {
    "promise": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("ask_due_date", "when is it due"), "tell_bill"),
            (said("promise_to_pay", "i will pay on [friday](date)"), "confirm_promise"),
            (said("affirm", "yes that is correct"), "anything_else"),
            (said("goodbye", "no that is all thank you"), "goodbye"),
        ],
        HangUp(disposition="promise_to_pay"),
    ),
    "promise in steps": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("promise_to_pay", "i will pay it soon"), "ask_promise_date"),
            (said("inform", "the [third of december](date)"), "confirm_promise"),
            (said("affirm", "yes"), "anything_else"),
            (said("deny", "no"), "goodbye"),
        ],
        HangUp(disposition="promise_to_pay"),
    ),
    "promise corrected": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("promise_to_pay", "i can pay [forty dollars](amount) [tomorrow](date)"), "confirm_promise"),
            (said("deny", "no on [monday](date)"), "confirm_promise"),
            (said("deny", "no"), "ask_promise_date"),
            (said("inform", "[tuesday](date)"), "confirm_promise"),
            (said("affirm", "yes"), "anything_else"),
            (said("goodbye", "goodbye"), "goodbye"),
        ],
        HangUp(disposition="promise_to_pay"),
    ),
    "paid": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("already_paid", "i already paid"), "ask_reference"),
            (said("inform", "the reference number is [five two eight nine six](digits)"), "confirm_reference"),
            (said("affirm", "yes that is right"), "anything_else"),
            (said("deny", "no thank you"), "goodbye"),
        ],
        HangUp(disposition="already_paid"),
    ),
    "paid, reference at once, then corrected": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("already_paid", "i paid it the reference is [four four one](digits)"), "ask_reference"),
            (said("inform", "[four four one nine](digits)"), "confirm_reference"),
            (said("deny", "no it is [four four one eight](digits)"), "confirm_reference"),
            (said("affirm", "yes"), "anything_else"),
            (said("goodbye", "bye"), "goodbye"),
        ],
        HangUp(disposition="already_paid"),
    ),
    "paid, no reference": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("already_paid", "it has been paid"), "ask_reference"),
            (said("not_sure", "i don't know the number"), "anything_else"),
            (said("deny", "no"), "goodbye"),
        ],
        HangUp(disposition="already_paid"),
    ),
    "dispute": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("dispute", "this is a mistake"), "ask_dispute_reason"),
            (said("dispute", "i was charged twice"), "anything_else"),
            (said("deny", "no that is all"), "goodbye"),
        ],
        HangUp(disposition="dispute"),
    ),
    "dispute in words no intent has": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("dispute", "this is a mistake"), "ask_dispute_reason"),
            (said("oos", "the cat pressed the button", score=0.1), "anything_else"),
            (said("goodbye", "thanks bye"), "goodbye"),
        ],
        HangUp(disposition="dispute"),
    ),
    "call back": (
        [
            (YES, "check_account"),
            (said("call_back", "call me back later"), "ask_callback_date"),
            (said("inform", "[tomorrow](date)"), "confirm_callback"),
            (said("affirm", "yes please"), "callback_noted"),
        ],
        HangUp(disposition="call_back"),
    ),
    "call back, day and time at once": (
        [
            (said("call_back", "call me [monday](date) [at five thirty](time)"), "confirm_callback"),
            (said("deny", "no"), "ask_callback_date"),
            (said("not_sure", "i don't know"), "goodbye"),
        ],
        HangUp(disposition="no_outcome"),
    ),
    "cannot pay, to a person": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("cannot_pay", "i lost my job"), "offer_help"),
            (said("affirm", "yes please"), "transfer_to_person"),
        ],
        Transfer(target="agent"),
    ),
    "refused": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("deny", "no"), "offer_help"),
            (said("deny", "no thanks"), "refused"),
        ],
        HangUp(disposition="refused"),
    ),
    "refused, then promised": (
        [
            (YES, "check_account"),
            (ACCOUNT, "tell_bill"),
            (said("cannot_pay", "i can't pay"), "offer_help"),
            (said("promise_to_pay", "i will pay [next week](date)"), "confirm_promise"),
            (said("affirm", "yes"), "anything_else"),
            (said("goodbye", "bye"), "goodbye"),
        ],
        HangUp(disposition="promise_to_pay"),
    ),
    "wrong person": ([(said("deny", "no"), "wrong_person")], HangUp(disposition="wrong_person")),
    "wrong number": ([(said("wrong_person", "wrong number"), "wrong_person")], HangUp(disposition="wrong_person")),
    "do not call": ([(said("stop_calling", "stop calling me"), "do_not_call")], HangUp(disposition="do_not_call")),
    "who is this": (
        [
            (said("ask_who", "who is calling"), "greet"),
            (said("wait", "hold on"), "greet"),
            (said("repeat", "what did you say"), "greet"),
            (said("goodbye", "bye"), "goodbye"),
        ],
        HangUp(disposition="no_outcome"),
    ),
    "keeps the account number to himself": (
        [(YES, "check_account"), (said("not_sure", "i don't know"), "transfer_to_person")],
        Transfer(target="agent"),
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_path(name: str) -> None:
    turns, end = PATHS[name]
    state, _ = started()
    for event, node in turns:
        state, actions = step(FLOW, state, event)
        assert state.node == node, event
        assert spoken(actions)
        if not state.ended:
            assert isinstance(last(actions), Listen)
    ended = last(actions)
    assert replace(ended, context=()) == end if isinstance(ended, Transfer) else ended == end
    assert state.round_id == len(turns)


@pytest.mark.parametrize("node", [name for name, node in FLOW.nodes.items() if node.listens])
def test_a_person_can_be_asked_for_everywhere(node: str) -> None:
    state, _ = started()
    wish = said("speak_to_person", "i want to speak to a person")
    state, actions = step(FLOW, replace(state, node=node), wish)
    assert last(actions) == Transfer(
        target="agent",
        context=(
            ("customer_name", "Alex Green"),
            ("account_ending", "4417"),
            ("amount", "84.50"),
            ("due_date", "2026-11-24"),
        ),
    )
    assert state.disposition == "transfer"


def test_nothing_about_the_bill_is_said_to_someone_not_identified() -> None:
    for event in (
        said("ask_amount", "how much is it"),
        said("ask_due_date", "when is it due"),
        said("promise_to_pay", "i will pay [friday](date)"),
        said("dispute", "the bill is wrong"),
        said("already_paid", "i paid it"),
        said("cannot_pay", "i can't pay"),
    ):
        state, actions = call(event)
        assert "84" not in spoken(actions) and "November" not in spoken(actions)
        assert state.node in ("greet", "check_account")


def test_the_read_back_is_what_was_heard() -> None:
    promise = said("promise_to_pay", "i can pay [forty dollars](amount) on [friday](date)")
    state, actions = call(*IDENTIFIED, promise)
    assert spoken(actions) == "You will pay 40 dollars, Friday, November 27th. Is that right?"
    assert {n: s.value for n, s in state.slots.items() if n.startswith("promise")} == {
        "promise_date": "2026-11-27",
        "promise_amount": "40.00",
    }


def test_the_bills_amount_stands_in_for_one_not_named() -> None:
    _, actions = call(*IDENTIFIED, said("promise_to_pay", "i will pay [tomorrow](date)"), amount="12")
    assert spoken(actions) == "You will pay 12 dollars, tomorrow. Is that right?"


def test_a_value_that_the_nlu_did_not_mark_is_found_in_the_words() -> None:
    state, _ = call(*IDENTIFIED, said("promise_to_pay", "i will pay on friday"))
    assert state.slots["promise_date"].value == "2026-11-27"
    state, _ = call(YES, said("oos", "four four one seven", score=0.1))
    assert state.node == "tell_bill"


def test_a_later_promise_replaces_the_earlier() -> None:
    friday = said("promise_to_pay", "i will pay [friday](date)")
    monday = said("promise_to_pay", "i will pay [monday](date)")
    state, _ = call(*IDENTIFIED, friday, said("affirm", "yes"), monday)
    assert (state.node, state.slots["promise_date"].value) == ("confirm_promise", "2026-11-23")


def test_naming_the_same_day_while_agreeing_agrees() -> None:
    friday = said("promise_to_pay", "i will pay [friday](date)")
    state, _ = call(*IDENTIFIED, friday, said("affirm", "yes [friday](date)"))
    assert state.node == "anything_else"


def test_a_refused_value_says_why_and_escalates_to_a_person() -> None:
    wrong = said("inform", "[one two three four](digits)")
    state, actions = call(YES, wrong)
    assert "do not match" in spoken(actions) and last(actions) == Listen(
        node="check_account", no_input_ms=6000, tail_ms=1200, expect="digits"
    )
    assert "account_check" not in state.slots
    state, actions = call(YES, wrong, wrong, wrong)
    assert state.node == "transfer_confused" and isinstance(last(actions), Transfer)


def test_a_day_too_far_ahead_is_refused_on_the_way_in() -> None:
    state, actions = call(*IDENTIFIED, said("promise_to_pay", "i will pay [in two months](date)"))
    assert state.node == "ask_promise_date"
    assert spoken(actions) == "I can note a day within the next month. Which day will you pay?"


def test_words_that_no_one_understands_escalate_to_a_person() -> None:
    noise = said("oos", "blue paper garden", score=0.2)
    state, first = call(*IDENTIFIED, noise)
    state, second = step(FLOW, state, noise)
    assert spoken(first) != spoken(second)
    assert all("Which day" in spoken(actions) for actions in (first, second))
    state, third = step(FLOW, state, noise)
    assert state.node == "transfer_confused" and isinstance(last(third), Transfer)


@pytest.mark.parametrize(
    "event",
    [
        CallerSaid(text="", meaning=said("affirm", "").meaning),
        said("affirm", "yes", score=0.3),
        said("an intent this flow has not", "yes"),
    ],
)
def test_no_words_low_scores_and_strange_intents_are_not_understood(event: CallerSaid) -> None:
    state, actions = call(event)
    assert (state.node, state.no_match) == ("greet", 1)
    assert "Am I speaking" in spoken(actions)


def test_understanding_ends_the_count_of_failures() -> None:
    noise = said("oos", "blue paper garden", score=0.2)
    state, _ = call(noise, noise, YES, noise, noise)
    assert (state.node, state.no_match, state.total_no_match) == ("check_account", 2, 4)


def test_silence_escalates_to_the_end_of_the_call() -> None:
    state, first = call(CallerSilent())
    assert spoken(first).startswith("Are you still there?")
    state, _ = step(FLOW, state, CallerSilent())
    state, actions = step(FLOW, state, CallerSilent())
    assert state.node == "nobody_there" and last(actions) == HangUp(disposition="no_answer")
    assert state.round_id == 0


def test_silence_between_answers_does_not_add_up() -> None:
    state, _ = call(CallerSilent(), CallerSilent(), said("wait", "hold on"), CallerSilent(), CallerSilent())
    assert (state.node, state.no_input, state.total_no_input) == ("greet", 2, 4)


def test_silence_once_all_is_settled_is_a_goodbye() -> None:
    friday = said("promise_to_pay", "i will pay [friday](date)")
    state, actions = call(*IDENTIFIED, friday, said("affirm", "yes"), CallerSilent(), CallerSilent())
    assert state.node == "goodbye" and last(actions) == HangUp(disposition="promise_to_pay")


def test_digits_pressed_fill_a_digits_slot() -> None:
    state, _ = call(YES, DigitsPressed(digits="4417"))
    assert (state.node, state.slots["account_check"].value, state.round_id) == ("tell_bill", "4417", 2)


def test_keys_lead_where_the_flow_says() -> None:
    state, actions = call(YES, DigitsPressed(digits="0"))
    assert isinstance(last(actions), Transfer)
    state, actions = call(YES, DigitsPressed(digits="12"))
    assert (state.node, state.no_match) == ("check_account", 1) and "do not match" in spoken(actions)
    state, _ = call(DigitsPressed(digits="4417"))
    assert (state.node, state.no_match) == ("greet", 1)


def test_a_resumed_call_goes_on_with_its_question_and_slots() -> None:
    state, _ = call(*IDENTIFIED, CallEnded(by="error"))
    assert state.ended
    state, actions = step(FLOW, state, CallResumed())
    assert spoken(actions) == "I am sorry, we were cut off. Which day will you pay it?"
    assert not state.ended and state.slots["account_check"].value == "4417"


def test_a_call_resumed_after_the_bots_end_ends_again() -> None:
    state, _ = call(said("wrong_person", "wrong number"))
    ended, _ = step(FLOW, state, CallEnded(by="bot"))
    ended, actions = step(FLOW, ended, CallResumed())
    assert actions == (HangUp(disposition="wrong_person"),) and ended.ended


def test_last_words_that_a_lost_line_cut_are_said_again() -> None:
    """The call stood at its end while the goodbye was still to be heard: who came back was hung up on, unspoken to."""
    state, before = call(said("wrong_person", "wrong number"))
    _, actions = step(FLOW, state, CallResumed())
    assert spoken(actions) and spoken(actions) in spoken(before)
    assert actions[-1] == HangUp(disposition="wrong_person")
    state, _ = call(*IDENTIFIED)
    too_long, before = step(FLOW, state, TimeRanOut())
    assert step(FLOW, too_long, CallResumed())[1] == before


def test_a_call_resumed_after_it_was_ended_for_its_length_ends_again() -> None:
    state, _ = call(*IDENTIFIED)
    ended, _ = step(FLOW, state, TimeRanOut())
    for _ in range(2):
        ended, _ = step(FLOW, ended, CallEnded(by="bot"))
        ended, actions = step(FLOW, ended, CallResumed())
        assert actions == (HangUp(disposition="too_long"),) and ended.ended


def test_a_node_that_the_flow_has_no_more_starts_again_with_the_slots() -> None:
    state, _ = call(*IDENTIFIED)
    state, actions = step(FLOW, replace(state, node="removed"), CallResumed())
    assert state.node == "greet" and spoken(actions).startswith("Hello")
    assert "account_check" in state.slots


def test_nothing_is_said_after_the_end() -> None:
    ended, _ = call(said("wrong_person", "wrong number"))
    for event in (YES, CallerSilent(), DigitsPressed(digits="1")):
        _, actions = step(FLOW, ended, event)
        assert actions == ()


def test_a_call_that_has_had_its_turns_is_given_up() -> None:
    patient = replace(FLOW, max_repeats=None)
    again = said("repeat", "again")
    state, _ = started()
    for _ in range(30):
        state, _ = step(patient, state, again)
        assert state.node == "greet"
    state, actions = step(patient, state, again)
    assert state.node == "transfer_confused" and isinstance(last(actions), Transfer)


def test_a_caller_who_gets_nowhere_at_one_node_is_given_up() -> None:
    again = said("repeat", "again")
    state, _ = started()
    for _ in range(8):
        state, _ = step(FLOW, state, again)
        assert state.node == "greet"
    state, actions = step(FLOW, state, again)
    assert (state.node, state.history[-1].said) == ("transfer_confused", "again")
    assert "do not understand" in spoken(actions) and isinstance(last(actions), Transfer)


def test_two_nodes_that_lead_to_each_other_are_a_circle_too() -> None:
    """A date named and taken back again and again fills no more slots than the first time."""
    state, _ = call(*IDENTIFIED)
    friday, no = said("promise_to_pay", "on [friday](date)"), said("deny", "no")
    turns = 0
    while state.disposition is None:
        state, _ = step(FLOW, state, no if state.node == "confirm_promise" else friday)
        turns += 1
        assert turns < 30
    assert state.node == "transfer_confused" and turns <= 18


def test_a_new_value_counts_the_turns_at_a_node_afresh() -> None:
    flow = replace(FLOW, max_repeats=2)
    state, _ = started()
    for event in (said("ask_who", "who is it"), said("ask_who", "who"), YES, said("repeat", "what"), ACCOUNT):
        state, _ = step(flow, state, event)
    assert (state.node, dict(state.visits), state.most_slots) == ("tell_bill", {"tell_bill": 1}, len(state.slots))


def test_a_call_whose_time_is_up_is_taken_leave_of() -> None:
    state, _ = call(*IDENTIFIED)
    ended, actions = step(FLOW, state, TimeRanOut())
    assert actions[-1] == HangUp(disposition="too_long") and "end this call" in spoken(actions)
    assert ended.disposition == "too_long"
    assert step(FLOW, ended, TimeRanOut()) == (ended, ())
    promised, _ = call(*IDENTIFIED, said("promise_to_pay", "on [friday](date)"), YES)
    assert step(FLOW, promised, TimeRanOut())[1][-1] == HangUp(disposition="promise_to_pay")


def test_what_asks_is_marked_as_a_question() -> None:
    _, greeting = started()
    assert [(a.text[:5], a.question) for a in greeting if isinstance(a, Say)] == [("Hello", False), ("Am I ", True)]
    load = load_bot("load").flow
    _, actions = step(load, DialogueState(), CallStarted(today=TODAY.isoformat()))
    assert [a.question for a in actions if isinstance(a, Say)] == [True], "a node that only says, asks by it"


def test_what_was_heard_of_a_prompt_is_kept_with_the_turn_that_cut_it() -> None:
    state, _ = started()
    state, _ = step(FLOW, state, replace(YES, heard="Hello, this is River"))
    state, _ = step(FLOW, state, DigitsPressed(digits="4417", heard="Thank you."))
    state, _ = step(FLOW, state, said("repeat", "again"))
    assert [turn.heard for turn in state.history] == ["Hello, this is River", "Thank you.", None]


def test_history_keeps_the_last_turns() -> None:
    patient = replace(FLOW, max_repeats=None)
    state, _ = started()
    for n in range(HISTORY_TURNS + 3):
        state, _ = step(patient, state, said("repeat", f"again {n}"))
    assert [turn.round_id for turn in state.history] == list(range(4, HISTORY_TURNS + 4))
    assert state.history[-1].said == f"again {HISTORY_TURNS + 2}"


@pytest.mark.parametrize(("name", "value"), [("amount", "a lot"), ("due_date", "soon"), ("account_ending", "12")])
def test_metadata_that_a_variable_cannot_take_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(MetadataError, match=name):
        started(**{name: value})


@pytest.mark.parametrize(("amount", "why"), [("-120.5", "below 0"), ("1e16", "more than 12 figures")])
def test_a_sum_that_would_be_read_out_as_another_begins_no_call(amount: str, why: str) -> None:
    with pytest.raises(MetadataError, match=rf"'amount' is no amount that the bot can use \({why}\)"):
        started(amount=amount)


def test_metadata_of_machines_are_the_same_in_every_language() -> None:
    flow = load_bot("bill-reminder-zh").flow
    name = flow.slots["customer_name"]
    flow = replace(flow, slots={**flow.slots, "vip": replace(name, name="vip", type=SlotType.YES_NO, default="false")})
    for given, value in (((("vip", "True"),), "yes"), ((("vip", "False"),), "no"), ((), "no")):
        state, _ = step(flow, DialogueState(), CallStarted(today=TODAY.isoformat(), metadata=given))
        assert state.slots["vip"].value == value


def test_a_variable_without_value_or_default_is_missed_before_the_call() -> None:
    slots = {**FLOW.slots, "amount": replace(FLOW.slots["amount"], default=None)}
    with pytest.raises(MetadataError, match="'amount' is missing"):
        step(replace(FLOW, slots=slots), DialogueState(), CallStarted(today=TODAY.isoformat()))


def test_metadata_of_other_purposes_are_no_fault() -> None:
    state, _ = started(campaign="autumn")
    assert "campaign" not in state.slots


def test_the_same_events_give_the_same_state() -> None:
    events = [event for event, _ in PATHS["promise"][0]]
    assert call(*events) == call(*events)


def test_the_load_bot_answers_everything_and_never_ends() -> None:
    flow = load_bot("load").flow
    state, actions = step(flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
    assert last(actions) == Listen(node="listening", no_input_ms=None)
    for n in range(200):
        event = CallerSaid(text="x" * (n % 2), meaning=said("oos", "", score=n / 200).meaning)
        state, actions = step(flow, state, event)
        assert spoken(actions) and isinstance(last(actions), Listen)
    assert not state.ended
