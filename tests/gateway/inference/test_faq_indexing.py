"""The bundled bots' FAQs by their real vectors: as good as docs/nlu.md says, and the scripts go as written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.faq import count, read_asked
from dialogue.bots import load_bot
from dialogue.rehearsal import rehearse
from dialogue.script import SCRIPTS_FOLDER, load_script
from gateway.cli.bot_model import understanding_of
from gateway.inference.faq_indexing import faq_indexes
from nlu.faq import FaqIndex, FaqLookup, find_answers
from nlu.meaning import OUT_OF_SCOPE, Meaning
from nlu.sentence_encoder import SentenceEncoder
from nlu.sentences import CharacterGrams

pytestmark = pytest.mark.model

NAMES = ("bill-reminder", "bill-reminder-zh")
BOTS = {name: load_bot(name) for name in NAMES}


@pytest.fixture(scope="module")
def indexes() -> dict[str, FaqIndex]:
    twin = replace(BOTS["bill-reminder"], name="twin")
    return faq_indexes([*BOTS.values(), twin, load_bot("load")], device="cpu")


def test_only_bots_with_an_faq_have_an_index(indexes: dict[str, FaqIndex]) -> None:
    assert set(indexes) == {*NAMES, "twin"}
    assert isinstance(indexes["bill-reminder"].space, SentenceEncoder)
    assert isinstance(indexes["bill-reminder-zh"].space, CharacterGrams)


def test_bots_of_one_language_share_the_encoder(indexes: dict[str, FaqIndex]) -> None:
    assert indexes["twin"].space is indexes["bill-reminder"].space


@pytest.mark.parametrize(
    ("name", "right", "wrong", "unasked"), [("bill-reminder", 29, 2, 1), ("bill-reminder-zh", 32, 3, 5)]
)
def test_test_lines_are_answered_as_measured(
    indexes: dict[str, FaqIndex], name: str, right: int, wrong: int, unasked: int
) -> None:
    figures = count(indexes[name], read_asked(BOTS[name].directory / "faq.test.jsonl"), indexes[name].threshold)
    assert figures.right >= right and figures.wrong <= wrong and figures.unasked <= unasked, figures


def test_lines_to_measure_by_are_not_those_of_the_faq() -> None:
    for bot in BOTS.values():
        entries = bot.flow.faq.entries
        questions = {question.casefold().strip("?.") for entry in entries.values() for question in entry.questions}
        asked = [one for part in ("dev", "test") for one in read_asked(bot.directory / f"faq.{part}.jsonl")]
        assert not questions & {one.text for one in asked}
        assert {one.entry for one in asked} == {*entries, None}


def test_what_is_not_understood_is_unsure_by_the_flow(indexes: dict[str, FaqIndex]) -> None:
    index = indexes["bill-reminder"]
    assert index.wants(Meaning(OUT_OF_SCOPE, 0.9)) and index.wants(Meaning("affirm", 0.49))
    assert not index.wants(Meaning("affirm", 0.51))


def test_texts_of_both_languages_in_one_batch(indexes: dict[str, FaqIndex]) -> None:
    asked = [
        FaqLookup(indexes["bill-reminder-zh"], "会不会停电"),
        FaqLookup(indexes["bill-reminder"], "what time do you close"),
    ]
    found = find_answers(asked)
    assert [match and match.entry for match in found] == ["late_fee", "opening_hours"]


@pytest.mark.parametrize("name", NAMES)
def test_scripts_go_as_written_with_the_bots_own_model(name: str) -> None:
    bot = BOTS[name]
    understand = understanding_of(bot)
    script, faults = load_script(bot.directory / SCRIPTS_FOLDER / "faq-asked.yaml")
    assert script is not None, faults
    for call in script.calls:
        done = rehearse(bot, call, understand, today=script.today)
        assert done.passed, (call.name, list(done.mismatches()))
