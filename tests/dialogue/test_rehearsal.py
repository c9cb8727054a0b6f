"""Scripted conversations run: those of the bundled bots pass, and each kind of difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogue.bots import bundled_bots, load_bot
from dialogue.rehearsal import Rehearsal, rehearse
from dialogue.script import SCRIPTS_FOLDER, Call, load_script
from nlu.meaning import Meaning
from tests.dialogue.bot_calls import BILL_REMINDER, TODAY

pytestmark = pytest.mark.unit

BUNDLED = [
    (name, path.name)
    for name in bundled_bots()
    for path in sorted((load_bot(name).directory / SCRIPTS_FOLDER).glob("*.yaml"))
]


def calls_of(path: Path) -> tuple[Call, ...]:
    found, faults = load_script(path)
    assert found is not None, [str(fault) for fault in faults]
    return found.calls


def run(tmp_path: Path, turns: str, *, rest: str = "") -> Rehearsal:
    """One call of the bill reminder, with meanings as scripted."""
    path = tmp_path / "calls.yaml"
    path.write_text(f"today: {TODAY}\ncalls:\n  one:\n    turns: {turns}\n{rest}", encoding="utf-8")
    (call,) = calls_of(path)
    return rehearse(BILL_REMINDER, call, None, today=TODAY)


@pytest.mark.parametrize(("name", "file"), BUNDLED)
def test_the_flows_of_bundled_bots_go_as_scripted(name: str, file: str) -> None:
    bot = load_bot(name)
    script, faults = load_script(bot.directory / SCRIPTS_FOLDER / file)
    assert script is not None, faults
    for call in script.calls:
        done = rehearse(bot, call, None, today=script.today)
        assert done.passed, (call.name, list(done.mismatches()))


@pytest.mark.parametrize(("name", "least"), [("bill-reminder", 30), ("bill-reminder-zh", 20)])
def test_both_bill_reminders_have_callers_who_end_in_every_way(name: str, least: int) -> None:
    bot = load_bot(name)
    calls = [call for path in (bot.directory / SCRIPTS_FOLDER).glob("*.yaml") for call in calls_of(path)]
    assert len(calls) >= least
    ends = {node.outcome or node.hang_up for node in bot.flow.nodes.values() if node.outcome or node.hang_up}
    assert {call.ends for call in calls} - {None} == ends
    assert any(call.transfer for call in calls)


@pytest.mark.parametrize(
    ("expected", "key", "got"),
    [
        ("node: tell_bill", "node", "check_account"),
        ("hears: goodbye", "hears", "Thank you. What are the last four digits of your account number?"),
        ("hears_not: LAST four", "hears_not", "Thank you. What are the last four digits of your account number?"),
        ("slots: {promise_date: '2026-11-27'}", "slots.promise_date", "empty"),
        ("slots: {amount: null}", "slots.amount", "84.50"),
    ],
)
def test_what_does_not_hold_is_told_with_its_line(tmp_path: Path, expected: str, key: str, got: str) -> None:
    done = run(tmp_path, f"[{{caller: 'yes', intent: affirm, {expected}}}]")
    (mismatch,) = done.mismatches()
    assert (mismatch.key, mismatch.got, mismatch.line, done.passed) == (key, got, 4, False)


def test_an_end_that_does_not_come(tmp_path: Path) -> None:
    done = run(tmp_path, "[{caller: 'yes', intent: affirm}]", rest="    ends: promised\n    transfer: agent\n")
    assert [(m.key, m.got) for m in done.at_end] == [
        ("ends", "the call goes on at node check_account"),
        ("transfer", "no transfer"),
    ]


def test_an_end_that_comes_too_early(tmp_path: Path) -> None:
    done = run(tmp_path, "[{caller: 'no', intent: deny}, {caller: hello}]")
    (mismatch,) = done.at_end
    assert (mismatch.key, mismatch.expected) == ("turns", "hello") and "wrong_person" in mismatch.got


def test_metadata_that_the_bot_refuses(tmp_path: Path) -> None:
    done = run(tmp_path, "[{silence: true}]", rest="    metadata: {amount: a lot}\n")
    (mismatch,) = done.mismatches()
    assert mismatch.key == "metadata" and "amount" in mismatch.got


def test_with_a_model_the_intent_is_what_it_must_find(tmp_path: Path) -> None:
    path = tmp_path / "calls.yaml"
    path.write_text(f"today: {TODAY}\ncalls: {{one: {{turns: [{{caller: 'yes', intent: affirm}}]}}}}\n")
    (call,) = calls_of(path)
    heard = []

    def understand(words: str) -> Meaning:
        heard.append(words)
        return Meaning("deny", 0.75)

    done = rehearse(BILL_REMINDER, call, understand, today=TODAY)
    assert heard == ["yes"]
    assert [(m.key, m.expected, m.got) for m in done.mismatches()] == [("intent", "affirm", "deny 0.75")]


def test_the_script_is_the_operators_system(tmp_path: Path) -> None:
    (tmp_path / "bot.yaml").write_text("name: asking\nlanguage: en\nflow: flow.yaml\n")
    (tmp_path / "flow.yaml").write_text(
        "start: ask\nslots: {ticket: {type: digits}}\n"
        "webhooks: {note: {url: 'https://crm.example/', take: {ticket: id}}}\n"
        "nodes:\n  ask: {say: One moment., webhook: note, then: noted, failed: sorry}\n"
        "  noted: {say: 'It is {ticket}.', hang_up: noted}\n  sorry: {say: Sorry., hang_up: not_noted}\n"
    )
    path = tmp_path / "calls.yaml"
    path.write_text(
        f"today: {TODAY}\ncalls:\n  answers: {{turns: [{{webhook: {{id: '12'}}, hears: one two}}], ends: noted}}\n"
        "  fails: {turns: [{webhook: failed, hears: Sorry}], ends: not_noted}\n"
    )
    for call in calls_of(path):
        done = rehearse(load_bot(tmp_path), call, None, today=TODAY)
        assert done.passed, list(done.mismatches())
