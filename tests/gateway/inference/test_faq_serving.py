"""FAQs in the inference process: looked up for what was not understood, and never in the way of understanding."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.inference.batching import BatcherSettings
from gateway.inference.faq_serving import FaqServing, looked_up
from gateway.inference.local import LocalInference
from gateway.inference.model_commands import ModelAction, ModelCommand
from gateway.inference.seam import Understood
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.metrics import InferenceMetrics
from nlu.faq import ALWAYS, FaqIndex
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning
from nlu.sentences import Vectors
from tests.fakes import KeywordNlu, ScriptedAsr

pytestmark = pytest.mark.unit

QUESTIONS = [("hours", "when are you open"), ("pay", "can i pay by card")]


class LetterSpace:
    """Vectors that count letters; those of texts asked for are kept in `embedded`."""

    threshold = 0.9

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.broken = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        if self.broken:
            raise RuntimeError("no vectors today")
        self.embedded += texts
        counts = [[text.count(chr(97 + letter)) for letter in range(26)] for text in texts]
        rows: Vectors = np.array(counts, np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        return rows


@pytest.fixture
def space() -> LetterSpace:
    return LetterSpace()


def inference(space: LetterSpace, registry: CollectorRegistry | None = None, **options: Any) -> LocalInference:
    """A bot that knows one word, with an FAQ, and another without."""
    index = FaqIndex(space, QUESTIONS, unsure_below=0.5)
    space.embedded.clear()
    return LocalInference(
        ScriptedAsr(),
        {"asked": KeywordNlu({"pay": "promise"}), "plain": KeywordNlu({"pay": "promise"})},
        faqs={"asked": index},
        metrics=InferenceMetrics(registry or CollectorRegistry()),
        **options,
    )


async def test_what_was_not_understood_is_looked_up(space: LetterSpace) -> None:
    registry = CollectorRegistry()
    async with inference(space, registry) as local:
        near = await local.understand("asked", "when are you opening")
        far = await local.understand("asked", "zzz")
        known = await local.understand("asked", "i pay")
    assert near.meaning.faq is not None and near.meaning.faq.entry == "hours" and 0.9 <= near.meaning.faq.score <= 1
    assert (near.meaning.intent, near.version) == (OUT_OF_SCOPE, "keywords")
    assert far.meaning.faq is None
    assert (known.meaning.intent, known.meaning.faq) == ("promise", None)
    assert space.embedded == ["when are you opening", "zzz"]
    for outcome, count in (("near", 1), ("none", 1), ("verbatim", 0), ("failed", 0)):
        assert (registry.get_sample_value("voicegate_faq_total", {"bot": "asked", "outcome": outcome}) or 0) == count


async def test_the_very_words_cost_nothing_and_need_no_misunderstanding(space: LetterSpace) -> None:
    async with inference(space) as local:
        found = await local.understand("asked", "Can I pay by card?")
    assert (found.meaning.intent, found.meaning.faq) == ("promise", FaqMatch("pay", 1.0, verbatim=True))
    assert space.embedded == []


async def test_a_bot_without_an_faq_is_understood_as_before(space: LetterSpace) -> None:
    async with inference(space) as local:
        found = await local.understand("plain", "when are you open")
    assert (found.meaning.intent, found.meaning.faq) == (OUT_OF_SCOPE, None)


async def test_a_failure_costs_an_answer_and_nothing_else(space: LetterSpace, caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    async with inference(space, registry) as local:
        space.broken = True
        found = await local.understand("asked", "when are you opening")
    assert (found.meaning.intent, found.meaning.faq) == (OUT_OF_SCOPE, None)
    assert registry.get_sample_value("voicegate_faq_total", {"bot": "asked", "outcome": "failed"}) == 1
    assert "opening" not in caplog.text


async def test_an_exchange_of_models_leaves_the_faq_as_it_is(space: LetterSpace) -> None:
    new = KeywordNlu({"pay": "promise"}, version="newer")
    async with inference(space, load=lambda bot, path, present: new) as local:
        before = await local.understand("asked", "when are you opening")
        await local.administer(ModelCommand(action=ModelAction.LOAD, bot="asked", path="newer"))
        after = await local.understand("asked", "when are you opening")
    assert (before.version, after.version) == ("keywords", "newer")
    assert before.meaning.faq == after.meaning.faq and after.meaning.faq is not None
    assert space.embedded == ["when are you opening"] * 2


async def test_a_full_queue_costs_an_answer_too(space: LetterSpace) -> None:
    registry = CollectorRegistry()
    indexes = {"asked": FaqIndex(space, QUESTIONS)}
    understood = Understood(Meaning(OUT_OF_SCOPE, 0.1), 1.0, 2.0, "keywords")
    serving = FaqServing(indexes, settings=BatcherSettings(max_queue=0), metrics=InferenceMetrics(registry))
    async with serving:
        found = await serving.complete("asked", "when are you opening", understood, timeout_s=20, errand=None)
    assert found == understood
    assert registry.get_sample_value("voicegate_faq_total", {"bot": "asked", "outcome": "failed"}) == 1


async def test_what_was_found_crosses_the_socket(space: LetterSpace) -> None:
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        path = Path(folder) / "inference.sock"
        async with inference(space) as local:
            server = InferenceServer(local)
            await server.start(path)
            try:
                async with SocketInference(path) as client:
                    near = await client.understand("asked", "when are you opening", timeout_s=20)
                    far = await client.understand("asked", "zzz", timeout_s=20)
                    words = await client.understand("asked", "can i pay by card", timeout_s=20)
            finally:
                await server.stop()
    assert near.meaning.faq is not None and near.meaning.faq.entry == "hours"
    assert far.meaning.faq is None
    assert words.meaning.faq == FaqMatch("pay", 1.0, verbatim=True)


@pytest.mark.parametrize(
    ("text", "meaning", "entry"),
    [
        ("when are you opening", Meaning(OUT_OF_SCOPE, 0.1), "hours"),
        ("when are you opening", Meaning("affirm", 1.0), None),
        ("when are you open", Meaning("affirm", 1.0), "hours"),
        ("zzz", Meaning(OUT_OF_SCOPE, 0.1), None),
    ],
)
def test_a_program_with_one_caller_finds_the_same(
    space: LetterSpace, text: str, meaning: Meaning, entry: str | None
) -> None:
    found = looked_up(FaqIndex(space, QUESTIONS, unsure_below=0.5), text, meaning)
    assert (found.faq and found.faq.entry, found.intent) == (entry, meaning.intent)


def test_a_bot_that_wants_it_first_has_everything_looked_up(space: LetterSpace) -> None:
    found = looked_up(FaqIndex(space, QUESTIONS, unsure_below=ALWAYS), "when are you opening", Meaning("affirm", 1.0))
    assert found.faq is not None
