"""The FAQ file: what is read, and every fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogue.bots import BotError, load_bot
from dialogue.conditions import Relation
from dialogue.flow import FaqPlace

pytestmark = pytest.mark.unit

FLOW = """
start: greet
variables: {shop: {type: text, default: Main Street}}
slots: {day: {type: date}}
nodes:
  greet: {say: Hello., ask: "Which day?", collect: day, then: bye, faq: first}
  bye: {say: Goodbye., hang_up: done}
"""
FAQ = """threshold: 0.7
entries:
  where:
    questions: ["Where are you?", What is the address]
    answer: "We are at {shop}."
  when:
    questions: When did I say?
    when: {day: filled}
    answer: ["You said {day}.", {text: "Shall I change it?", when: {day: {not: today}}}]
"""


def write(folder: Path, faq: str, *, flow: str = FLOW, nlu: str = "nlu: nlu\n") -> Path:
    (folder / "bot.yaml").write_text(f"name: asked\nlanguage: en\nflow: flow.yaml\n{nlu}")
    (folder / "flow.yaml").write_text(flow)
    (folder / "faq.yaml").write_text(faq)
    return folder


def test_a_file_is_read(tmp_path: Path) -> None:
    bot = load_bot(write(tmp_path, FAQ))
    faq = bot.flow.faq
    assert faq.threshold == 0.7 and list(faq.entries) == ["where", "when"]
    assert faq.entries["where"].questions == ("Where are you?", "What is the address")
    assert [condition.relation for condition in faq.entries["when"].when] == [Relation.FILLED]
    assert "Shall I change it?" in {prompt.text for prompt in bot.fixed_prompts()}
    assert bot.flow.nodes["greet"].faq is FaqPlace.FIRST


def test_a_bot_without_one_has_an_empty_one() -> None:
    assert not load_bot("load").flow.faq.entries


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("threshold: 0.7", "threshold: 7", 1, "'threshold'"),
        ("entries:", "entry:", 1, "has no 'entries'"),
        ('    answer: "We are at {shop}."\n', "", 4, "no 'answer'"),
        ("    questions: When did I say?\n", "", 7, "no 'questions'"),
        ("{shop}", "{shops}", 5, "which is no slot"),
        ("{shop}", "{day}", 5, "{day} may have no value"),
        ("    when: {day: filled}\n", "", 8, "{day} may have no value"),
        ("day: filled", "date: filled", 8, "no slot 'date'"),
        ('["Where', '[where are you!, "Where', 4, "asked twice, first on line 4, of 'where'"),
        ("When did I say?", "what is the ADDRESS", 7, "asked twice, first on line 4, of 'where'"),
        ("When did I say?", "'...'", 7, "without words"),
        ("When did I say?", "when " * 60, 7, "a question of 299 characters"),
        ("    questions: When", "    question: When", 7, "no 'questions'"),
    ],
)
def test_a_fault_has_its_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert old in FAQ
    with pytest.raises(BotError) as caught:
        load_bot(write(tmp_path, FAQ.replace(old, new)))
    found = [(Path(fault.file).name, fault.line) for fault in caught.value.faults if what in fault.what]
    assert found == [("faq.yaml", line)], caught.value


def test_faults_of_flow_and_faq_come_apart(tmp_path: Path) -> None:
    with pytest.raises(BotError, match=r"flow.yaml:6: unknown 'faq' 'fist' \(did you mean 'first'\?\)"):
        load_bot(write(tmp_path, FAQ, flow=FLOW.replace("faq: first", "faq: fist")))


def test_a_bot_that_understands_nothing_has_no_use_for_one(tmp_path: Path) -> None:
    with pytest.raises(BotError, match="without 'nlu' nobody looks into faq.yaml"):
        load_bot(write(tmp_path, FAQ, nlu=""))
