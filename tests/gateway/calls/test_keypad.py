"""Keys into entries: what ends one, and what was typed ahead. Time is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from dialogue.loop import KeyEntries
from gateway.calls.keypad import Keypad

pytestmark = pytest.mark.unit

MENU = KeyEntries(entries=frozenset({"1", "2", "0"}))
NUMBER = KeyEntries(entries=frozenset({"0"}), most_digits=40)
PIN = KeyEntries(entries=frozenset({"0"}), most_digits=4)


@dataclass
class Clock:
    """A loop of which only the timers are used."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay, call))
        return self.timers[-1]

    def time(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds
        for timer in list(self.timers):
            if timer.at <= self.now:
                self.timers.remove(timer)
                if not timer.cancelled:
                    timer.call()


@dataclass
class Timer:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Rig:
    keypad: Keypad
    clock: Clock
    entries: list[str]

    def type(self, keys: str) -> list[str]:
        for key in keys:
            self.keypad.press(key)
        return self.entries


@pytest.fixture
def rig() -> Rig:
    clock, entries = Clock(), list[str]()
    return Rig(Keypad(cast(asyncio.AbstractEventLoop, clock), entries.append), clock, entries)


def test_a_number_ends_with_hash_or_two_seconds_without_a_key(rig: Rig) -> None:
    rig.keypad.listen(NUMBER)
    assert rig.type("4417") == []
    assert rig.type("#") == ["4417"]
    rig.keypad.listen(NUMBER)
    rig.type("52")
    rig.clock.pass_s(1.9)
    rig.type("8")
    rig.clock.pass_s(1.9)
    assert rig.entries == ["4417"]
    rig.clock.pass_s(0.2)
    assert rig.entries == ["4417", "528"]


def test_a_menu_answers_at_once_and_its_hash_is_no_entry(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    assert rig.type("1#") == ["1"]
    rig.keypad.listen(MENU)
    rig.clock.pass_s(5)
    assert rig.entries == ["1"]
    assert rig.type("2") == ["1", "2"]


def test_a_number_of_known_length_needs_no_hash(rig: Rig) -> None:
    rig.keypad.listen(PIN)
    assert rig.type("0417#") == ["0417"]
    rig.keypad.listen(MENU)
    rig.clock.pass_s(5)
    assert rig.entries == ["0417"]


def test_the_habitual_hash_after_a_complete_entry_means_nothing_for_two_seconds(rig: Rig) -> None:
    rig.keypad.listen(PIN)
    rig.type("0417")
    assert rig.keypad.is_late_end("#") and not rig.keypad.is_late_end("1")
    rig.keypad.listen(KeyEntries(entries=frozenset({"#"})))
    rig.clock.pass_s(1)
    assert rig.type("#") == ["0417"], "it ended the number"
    assert rig.type("#") == ["0417", "#"]
    rig.keypad.listen(PIN)
    rig.type("0417")
    rig.keypad.listen(KeyEntries(entries=frozenset({"#"})))
    rig.clock.pass_s(3)
    assert rig.type("#") == ["0417", "#", "0417", "#"], "by now it is meant"


def test_keys_that_went_with_no_words_begin_the_entry_again(rig: Rig) -> None:
    rig.keypad.listen(PIN)
    rig.type("44")
    assert rig.keypad.take() == "44"
    rig.type("1")
    rig.keypad.put_back("44")
    assert rig.type("7") == ["4417"]


def test_what_is_forgotten_is_no_entry_and_the_next_key_is(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    assert rig.type("12") == ["1"], "nobody listens for the second one"
    rig.keypad.forget()
    rig.clock.pass_s(5)
    assert rig.entries == ["1"]
    assert rig.type("2") == ["1", "2"]


def test_an_entry_that_begins_another_waits(rig: Rig) -> None:
    rig.keypad.listen(KeyEntries(entries=frozenset({"1", "12"})))
    assert rig.type("1") == []
    rig.clock.pass_s(2)
    assert rig.entries == ["1"]
    rig.keypad.listen(KeyEntries(entries=frozenset({"1", "12"})))
    assert rig.type("12") == ["1", "12"]


def test_keys_that_nobody_waits_for_are_an_entry_after_the_gap(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    assert rig.type("77") == []
    rig.clock.pass_s(2)
    assert rig.entries == ["77"]


def test_what_is_typed_ahead_is_the_next_nodes(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    assert rig.type("12441") == ["1"]
    rig.clock.pass_s(10)
    assert rig.entries == ["1"], "nobody listens"
    rig.keypad.listen(MENU)
    assert rig.entries == ["1", "2"]
    rig.keypad.listen(PIN)
    assert rig.type("7") == ["1", "2", "4417"]


def test_two_numbers_ahead_are_parted_by_their_hashes(rig: Rig) -> None:
    rig.keypad.listen(NUMBER)
    rig.type("12#345#")
    rig.keypad.listen(NUMBER)
    assert rig.entries == ["12", "345"]


def test_hash_alone_is_an_entry(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    rig.type("#")
    rig.clock.pass_s(2)
    assert rig.entries == ["#"]


def test_the_oldest_keys_go(rig: Rig) -> None:
    rig.keypad.listen(NUMBER)
    rig.keypad.listen(KeyEntries())
    rig.type("1" * 60 + "2" * 10 + "#")
    assert rig.entries == ["1" * 53 + "2" * 10]


def test_keys_may_go_on_with_words(rig: Rig) -> None:
    rig.keypad.listen(NUMBER)
    rig.type("44")
    assert rig.keypad.take() == "44"
    rig.clock.pass_s(5)
    assert rig.entries == [] and rig.keypad.take() == ""


def test_what_was_typed_ahead_is_not_taken(rig: Rig) -> None:
    rig.keypad.listen(MENU)
    rig.type("12")
    assert rig.keypad.take() == ""
    rig.keypad.listen(MENU)
    assert rig.entries == ["1", "2"]


def test_closed_it_tells_nothing(rig: Rig) -> None:
    rig.type("4")
    rig.keypad.close()
    rig.clock.pass_s(10)
    assert rig.entries == []
