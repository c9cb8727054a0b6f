"""Bots: the bundled ones are sound, and a broken one says everything that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dialogue.bots import BotError, LargerModel, Voice, bundled_bots, load_bot

pytestmark = pytest.mark.unit

BUNDLED = Path(load_bot("bill-reminder").directory)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bot of the test's own, without its artefact."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "bot", ignore=shutil.ignore_patterns("nlu")))


@pytest.mark.parametrize("name", bundled_bots())
def test_bundled_bots_are_sound(name: str) -> None:
    bot = load_bot(name)
    assert bot.name == name
    first = bot.flow.nodes[bot.flow.start].say[0]
    assert bot.fixed_prompts()[0].text == first.text


def test_fixed_prompts_have_no_values_and_no_doubles() -> None:
    prompts = load_bot("bill-reminder").fixed_prompts()
    assert all("{" not in prompt.text for prompt in prompts)
    assert len({prompt.text for prompt in prompts}) == len(prompts) > 30


def test_the_load_bot_borrows_an_artefact() -> None:
    assert load_bot("load").nlu_path == load_bot("bill-reminder").nlu_path


def test_a_bot_is_loaded_from_its_folder(copy: Path) -> None:
    bot = load_bot(copy)
    assert (bot.name, bot.directory, bot.nlu_path) == ("bill-reminder", copy, copy / "nlu")


def test_a_second_opinion_names_a_larger_model(copy: Path) -> None:
    file = copy / "bot.yaml"
    text = file.read_text()
    assert load_bot(copy).second_opinion is None
    file.write_text(text + "second_opinion: {nlu: large, below: 0.7, within_ms: 150}\n")
    assert load_bot(copy).second_opinion == LargerModel(nlu_path=copy / "large", below=0.7, within_s=0.15)
    file.write_text(text + "second_opinion: {nlu: large}\n")
    assert load_bot(copy).second_opinion == LargerModel(nlu_path=copy / "large", below=0.9, within_s=0.2)


@pytest.mark.parametrize(
    ("written", "language", "voice"),
    [
        ("", "en", Voice("en-us", 160)),
        ("", "zh", Voice("cmn", 150)),
        ("voice: {rate: 200}", "zh", Voice("cmn", 200)),
        ("voice: {name: yue}", "zh", Voice("yue", 150)),
    ],
)
def test_a_bot_without_a_voice_has_its_languages(copy: Path, written: str, language: str, voice: Voice) -> None:
    (copy / "bot.yaml").write_text(f"name: b\nlanguage: {language}\nflow: flow.yaml\n{written}")
    (copy / "flow.yaml").write_text("start: a\nnodes: {a: {say: Hi., hang_up: x}}")
    (copy / "faq.yaml").unlink(missing_ok=True)
    assert load_bot(copy).voice == voice


def test_examples_mark_what_the_flow_reads(copy: Path) -> None:
    """Every entity that a slot reads is marked in the examples, and every intent has several."""
    bot = load_bot(copy)
    for file in ("examples.jsonl", "examples.dev.jsonl"):
        examples = [json.loads(line) for line in (copy / file).read_text().splitlines()]
        marked = {slot["name"] for example in examples for slot in example["slots"]}
        read = {spec.entity for spec in bot.flow.slots.values() if not spec.variable}
        assert read - marked == {"dispute_reason"}  # a text: all the caller's words
        for example in examples:
            assert all(example["text"][s["start"] : s["end"]].strip() for s in example["slots"])


def test_no_dev_example_is_a_training_example() -> None:
    train, dev = (
        {json.loads(line)["text"].lower().strip(".!?") for line in (BUNDLED / name).read_text().splitlines()}
        for name in ("examples.jsonl", "examples.dev.jsonl")
    )
    assert train & dev == set()


def test_an_unknown_name_names_the_bundled_bots() -> None:
    with pytest.raises(BotError, match="bill-reminder, bill-reminder-zh, load"):
        load_bot("no-such-bot")


def test_faults_of_all_files_come_together(copy: Path) -> None:
    (copy / "bot.yaml").write_text((copy / "bot.yaml").read_text().replace("rate: 160", "rate: fast"))
    (copy / "flow.yaml").write_text((copy / "flow.yaml").read_text().replace("affirm: promised", "affirm: promise"))
    with (copy / "examples.jsonl").open("a") as examples:
        examples.write('{"text": "hi"}\n\nnot json\n{"text": "hi", "intent": "x", "slots": [')
        examples.write('{"name": "a", "start": 1, "end": 9}]}\n')
    with pytest.raises(BotError) as caught:
        load_bot(copy)
    lines = len((BUNDLED / "examples.jsonl").read_text().splitlines())
    found = [(Path(fault.file).name, fault.line) for fault in caught.value.faults]
    assert ("bot.yaml", 5) in found
    assert [line for name, line in found if name == "examples.jsonl"] == [lines + 1, lines + 3, lines + 4]
    assert any("no node 'promise'" in fault.what for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("name: bill-reminder\n", "", "has no 'name'"),
        ("language: en\n", "language: fr\n", "'fr' has no slot readers"),
        ("flow: flow.yaml", "flow: flo.yaml", "the flow is missing"),
        ("flow: flow.yaml\n", "", "has no 'flow'"),
        ("examples.dev.jsonl", "examples.test.jsonl", "cannot be read"),
        ("nlu: nlu", "model: nlu", "unknown key 'model'"),
        ("nlu: nlu", "second_opinion: {nlu: large}", "a second opinion without a first"),
        ("nlu: nlu", "nlu: nlu\nsecond_opinion: {below: 0.5}", "has no 'nlu'"),
        ("nlu: nlu", "nlu: nlu\nsecond_opinion: {nlu: x, below: 2}", "below"),
    ],
)
def test_a_fault_of_the_bot_file(copy: Path, old: str, new: str, what: str) -> None:
    (copy / "bot.yaml").write_text((copy / "bot.yaml").read_text().replace(old, new))
    with pytest.raises(BotError, match=what):
        load_bot(copy)
