"""A larger model where the first is in doubt: who is asked, whose answer counts, and that nobody waits for long."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from gateway.inference.batching import BatcherSettings
from gateway.inference.local import LocalInference
from gateway.inference.seam import Understood
from gateway.inference.second_opinion import Doubt, SecondOpinion, is_doubtful
from gateway.metrics import InferenceMetrics
from nlu.meaning import OUT_OF_SCOPE, Meaning
from tests.fakes import KeywordNlu, ScriptedAsr

pytestmark = pytest.mark.unit


class Scored(KeywordNlu):
    """Answers "bill" with a score of its own; waits for its gate where it is shut."""

    def __init__(self, intent: str, score: float, *, fails: bool = False) -> None:
        super().__init__({}, version=f"v-{intent}")
        self._answer = Meaning(intent, score)
        self._fails = fails
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def predict_lines(self, lines: list[str]) -> list[Meaning]:
        self.gate.wait(20)
        if self._fails:
            raise ValueError(f"cannot read {lines[0]}")
        self.asked += lines
        return [self._answer] * len(lines)


@dataclass
class Desk:
    """A bot's own model and its larger one."""

    light: Scored
    heavy: Scored
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    within_s: float = 20.0
    max_queue: int = 8
    inference: LocalInference | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Desk]:
        metrics = InferenceMetrics(self.registry)
        doubt = Doubt(below=0.7, within_s=self.within_s)
        settings = BatcherSettings(max_queue=self.max_queue)
        second = SecondOpinion("m", self.heavy, doubt, settings=settings, metrics=metrics)
        async with LocalInference(
            ScriptedAsr(), {"m": self.light}, seconds={"m": second}, metrics=metrics
        ) as inference:
            self.inference = inference
            yield self

    async def ask(self) -> Understood:
        assert self.inference is not None
        return await self.inference.understand("m", "what do I owe")

    def count(self, outcome: str) -> float:
        labels = {"bot": "m", "outcome": outcome}
        return self.registry.get_sample_value("voicegate_second_opinions_total", labels) or 0.0


@pytest.mark.parametrize(
    ("intent", "score", "doubtful"),
    [("bill", 0.7, False), ("bill", 0.69, True), (OUT_OF_SCOPE, 0.99, True), (OUT_OF_SCOPE, 0.0, True)],
)
def test_doubt(intent: str, score: float, doubtful: bool) -> None:
    assert is_doubtful(Meaning(intent, score), 0.7) is doubtful


async def test_a_sure_answer_is_given_at_once() -> None:
    async with Desk(Scored("bill", 0.9), Scored("pay", 0.9)).open() as desk:
        answer = await desk.ask()
        assert (answer.meaning.intent, answer.version) == ("bill", "v-bill")
        assert desk.heavy.asked == []


@pytest.mark.parametrize("first", [("bill", 0.4), (OUT_OF_SCOPE, 0.99)])
async def test_in_doubt_the_larger_model_answers_and_both_are_named(first: tuple[str, float]) -> None:
    async with Desk(Scored(*first), Scored("pay", 0.8)).open() as desk:
        answer = await desk.ask()
        assert (answer.meaning, answer.version) == (Meaning("pay", 0.8), f"v-{first[0]}+v-pay")
        assert desk.heavy.asked == ["what do I owe"]
        assert (desk.count("changed"), desk.count("agreed")) == (1, 0)


async def test_times_of_both_are_told_and_agreement_is_counted() -> None:
    async with Desk(Scored("bill", 0.4), Scored("bill", 0.9)).open() as desk:
        answer = await desk.ask()
        assert answer.meaning.score == 0.9 and answer.compute_ms > 0
        assert (desk.count("changed"), desk.count("agreed")) == (0, 1)


async def test_a_late_opinion_is_not_waited_for() -> None:
    async with Desk(Scored("bill", 0.4), Scored("pay", 0.9), within_s=0.05).open() as desk:
        desk.heavy.gate.clear()
        try:
            answer = await desk.ask()
        finally:
            desk.heavy.gate.set()
        assert (answer.meaning.intent, answer.version) == ("bill", "v-bill")
        assert desk.count("late") == 1


async def test_a_failing_or_busy_one_costs_nobody_the_first_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with Desk(Scored("bill", 0.4), Scored("pay", 0.9, fails=True)).open() as desk:
        assert (await desk.ask()).meaning.intent == "bill"
        assert desk.count("failed") == 1
    assert "owe" not in caplog.text, "a caller's words are in the log"
    async with Desk(Scored("bill", 0.4), Scored("pay", 0.9), max_queue=0).open() as desk:
        assert (await desk.ask()).meaning.intent == "bill"
        assert desk.count("refused") == 1
