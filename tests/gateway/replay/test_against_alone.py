"""Calls under load against calls alone: words heard otherwise, and endings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.replay.against_alone import OtherEnding, differences, other_endings
from gateway.replay.record import CallRecord
from tests.gateway.replay.test_report import call

pytestmark = pytest.mark.unit


def ended(by: str, word: str = "", *, caller: str = "anna", faults: tuple[str, ...] = ()) -> CallRecord:
    return replace(call(ended_by=by, caller=caller, faults=faults), disposition=word)


def test_turns_heard_otherwise_under_load_are_found() -> None:
    alone = [call("yes", "friday")]
    assert differences(alone, [call("yes", "friday")]) == (2, [])
    compared, (found,) = differences(alone, [call("yes", "five")])
    assert compared == 2
    assert (found.turn, found.recording, found.alone, found.heard) == (2, "1.wav", "friday", "five")


def test_a_turn_that_never_came_differs_unless_the_call_was_cut() -> None:
    alone = [call("yes", "friday")]
    compared, (found,) = differences(alone, [call("yes")])
    assert compared == 2 and (found.recording, found.heard) == ("1.wav", "")
    assert differences(alone, [call("yes", ended_by="caller")]) == (1, [])
    assert differences([call("yes", ended_by="caller")], [call("yes", "friday")]) == (1, [])


def test_a_caller_who_failed_alone_or_is_unknown_is_compared_with_nothing() -> None:
    assert differences([call("yes", faults=["lost"])], [call("no")]) == (0, [])
    assert differences([call("yes")], [call("no", caller="bert")]) == (0, [])


def test_calls_that_ended_otherwise_are_counted_by_how() -> None:
    alone = [ended("bot", "paid"), ended("transfer", "desk", caller="folder/bert")]
    under_load = [
        ended("bot", "paid"),
        *[ended("bot", "given_up", caller="folder/bert")] * 2,
        ended("transfer", "desk", caller="folder/bert"),
        ended("out_of_audio"),
    ]
    compared, (most, least) = other_endings(alone, under_load)
    assert compared == 5
    assert most == OtherEnding(caller="folder/bert", alone="transfer: desk", loaded="bot: given_up", calls=2)
    assert str(most) == "bert: bot: given_up instead of transfer: desk"
    assert (least.caller, least.alone, least.loaded, least.calls) == ("anna", "bot: paid", "out_of_audio", 1)


def test_an_ending_that_was_ours_or_a_failure_is_compared_with_nothing() -> None:
    alone = [ended("bot", "paid")]
    assert other_endings(alone, [ended("caller"), ended("error", faults=("1011",))]) == (0, [])
    assert other_endings([ended("caller")], [ended("bot", "paid")]) == (0, [])
    assert other_endings([ended("bot", faults=("late",))], [ended("bot", "paid")]) == (0, [])
    assert other_endings(alone, [ended("out_of_audio", caller="nobody")]) == (0, [])
