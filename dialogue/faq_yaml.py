"""A bot's FAQ: YAML in, `Faq` out, or every fault at once with its line.

```yaml
threshold: 0.55                       # how near a question must be; by default as measured for the language
entries:
  ways_to_pay:
    questions: [How can I pay?, Can I pay by card?, Do you take bank transfers?]
    answer: You can pay on our web page or at any post office.      # a prompt, or a list of them, as in a flow
  due_date:
    questions: [When is it due?]
    when: {account_check: filled}     # answered only where this holds
    answer: "It is due {due_date}."
```
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dialogue.flow import Faq, FaqEntry, Flow
from dialogue.flow_check import check_faq
from dialogue.flow_parts import FlowParts
from dialogue.yaml_source import Fault, Faults, Located, Section, read_yaml
from nlu.normalization import bare_letters

__all__ = ["FAQ_FILE", "MAX_QUESTION_CHARS", "load_faq"]

FAQ_FILE = "faq.yaml"
"""Where a bot keeps its FAQ."""

MAX_QUESTION_CHARS = 200
"""A longer wording is no question that anybody asks on the phone."""


def load_faq(path: Path, flow: Flow) -> tuple[Faq | None, list[Fault]]:
    """Read and check a bot's FAQ: it and no faults, or None and all of them."""
    faults = Faults(str(path))
    top = read_yaml(path, "the FAQ", faults)
    if top is None:
        return None, faults.found
    parts = FlowParts(faults, path.parent)
    parts.slots |= flow.slots
    top.require("entries", "add an `entries:` section, or remove the file")
    threshold = top.decimal("threshold", low=0, high=1)
    section = top.section("entries")
    asked: dict[str, Located] = {}
    entries = dict(_entries(parts, section, asked)) if section else {}
    top.finish()
    faq = Faq(entries=entries, threshold=None if threshold is None else float(threshold))
    check_faq(flow, faq, parts.references, faults)
    return (None if faults.found else faq), sorted(faults.found, key=lambda fault: fault.line)


def _entries(parts: FlowParts, entries: Section, asked: dict[str, Located]) -> Iterator[tuple[str, FaqEntry]]:
    """`asked` collects the wordings, and where each was first."""
    for name, _, value in entries.entries():
        section = Section(value, f"FAQ entry {name!r}", parts.faults)
        section.require("questions", "write how callers ask it, in several ways")
        section.require("answer", "write what the bot answers")
        questions = section.texts("questions")
        for question in questions:
            _check_question(parts.faults, question, name, asked)
        answer, when = parts.prompts(section, "answer"), parts.conditions(section)
        section.finish()
        if questions and answer:
            yield name, FaqEntry(questions=tuple(question.text for question in questions), answer=answer, when=when)


def _check_question(faults: Faults, question: Located, entry: str, asked: dict[str, Located]) -> None:
    words = bare_letters(question.text)
    if not words:
        faults.add(question.line, f"a question without words: {question.text!r}", "write it as a caller says it")
    elif len(question.text) > MAX_QUESTION_CHARS:
        what = f"a question of {len(question.text)} characters; callers ask in at most {MAX_QUESTION_CHARS}"
        faults.add(question.line, what, "shorten it")
    elif words in asked:
        first = asked[words]
        where = f"on line {first.line}, of {first.text!r}"
        faults.add(question.line, f"{question.text!r} is asked twice, first {where}", "keep one")
    else:
        asked[words] = Located(entry, question.line)
