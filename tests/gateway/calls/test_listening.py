"""From utterance to meaning, ahead of time or not: the words are the same, only their time differs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from audio.asr import AsrJob, Expectation, Transcript
from audio.endpointing import EndReason
from audio.inbound import Pause, UtteranceEnded
from gateway.calls.listening import CallerTurn, Listener
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, InferenceError, TurnId, Understood
from gateway.metrics import Metrics
from nlu.meaning import OUT_OF_SCOPE, Meaning
from tts_stub.synthesis import SynthesisError

pytestmark = pytest.mark.unit


@dataclass
class Models:
    """An `Inference` that hears one sample value as one word, when its gate is open."""

    words: dict[int, str]
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: int = 0
    """So many transcriptions fail first."""
    jobs: list[AsrJob] = field(default_factory=list)
    cancelled: int = 0
    turns: list[TurnId | None] = field(default_factory=list)

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        self.jobs.append(job)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            self.fails -= 1
            raise InferenceError("overloaded")
        return Heard(Transcript(text=f" {self.words[int(job.pcm[0])]} "), 1.0, 2.0)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        self.turns.append(turn)
        return Understood(Meaning(f"{model}:{text}", 0.5), 3.0, 4.0)


@dataclass
class Rig:
    listener: Listener
    models: Models
    registry: CollectorRegistry
    prepared: list[CallerTurn]
    prepare_gate: asyncio.Event
    """Cleared: a reply's preparation takes until it is set."""

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("voicegate_speculation_total", {"outcome": outcome}) or 0

    async def settled(self) -> None:
        """Until the speculation is done."""
        speculation = self.listener._speculation
        assert speculation is not None
        await asyncio.wait([speculation.turn], timeout=5)

    async def understand(self, utterance: UtteranceEnded) -> CallerTurn:
        """The turn of an utterance that ends now and need not wait."""
        self.listener.ended()
        return await self.listener.understand(utterance)


@asynccontextmanager
async def listening(
    *, nlu_model: str | None = "bot", prepare_fails: Exception | None = None, open_gate: bool = True
) -> AsyncIterator[Rig]:
    models = Models({1: "yes", 2: "no", 3: ""})
    if open_gate:
        models.gate.set()
    registry = CollectorRegistry()
    prepared: list[CallerTurn] = []
    prepare_gate = asyncio.Event()
    prepare_gate.set()

    async def prepare(turn: CallerTurn) -> None:
        prepared.append(turn)
        if prepare_fails is not None:
            raise prepare_fails
        await prepare_gate.wait()

    async with asyncio.TaskGroup() as tasks:
        listener = Listener(
            models,
            Metrics(registry),
            tasks,
            nlu_model=nlu_model,
            language="en",
            sample_rate_hz=8000,
            timeout_s=5,
            prepare=prepare,
            turn=lambda: TurnId("call", 7),
        )
        yield Rig(listener, models, registry, prepared, prepare_gate)
        listener.stop()


def pause(value: int, end: int = 800, *, start: int = 0) -> Pause:
    return Pause(start=start, end=end, pcm=np.full(end - start, value, np.int16))


def utterance(value: int, end: int = 800, *, start: int = 0) -> UtteranceEnded:
    pcm = np.full(end - start, value, np.int16)
    return UtteranceEnded(start=start, end=end, decided_at=end + 4800, reason=EndReason.TAIL, pcm=pcm)


async def test_without_speculation_the_work_is_done_at_the_end() -> None:
    async with listening() as rig:
        turn = await rig.understand(utterance(1))
        assert (turn.text, turn.meaning) == ("yes", Meaning("bot:yes", 0.5))
        assert {"asr_ms", "asr_queue_ms", "nlu_ms", "nlu_queue_ms"} == set(turn.timing)
        assert rig.models.turns == [TurnId("call", 7)]
        assert (rig.models.jobs[0].language, rig.models.jobs[0].sample_rate_hz) == ("en", 8000)
        assert rig.prepared == [] and rig.count("started") == 0


async def test_with_speculation_the_turn_is_the_same_and_the_work_done_once() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(1))
        await rig.settled()
        turn = await rig.understand(utterance(1))
        plain = await rig.understand(utterance(1))
        assert (turn.text, turn.meaning) == (plain.text, plain.meaning)
        assert turn.timing["speculated"] == 1.0 and "speculated" not in plain.timing
        assert [each.text for each in rig.prepared] == ["yes"]
        assert len(rig.models.jobs) == 2
        assert rig.models.turns == [TurnId("call", 7)] * 2, "one version of the model answers both"
        assert (rig.count("started"), rig.count("used"), rig.count("wasted")) == (1, 1, 0)


async def test_a_speculation_still_running_at_the_end_is_waited_for() -> None:
    async with listening(open_gate=False) as rig:
        rig.listener.speculate(pause(1))
        understanding = asyncio.create_task(rig.understand(utterance(1)))
        await asyncio.sleep(0)
        rig.models.gate.set()
        turn = await understanding
        assert (turn.text, turn.timing["speculated"]) == ("yes", 0.5)
        assert len(rig.models.jobs) == 1


async def test_a_caller_who_goes_on_wastes_it_and_is_heard_whole() -> None:
    async with listening(open_gate=False) as rig:
        rig.listener.speculate(pause(1))
        await asyncio.sleep(0)
        rig.listener.cancel()
        await asyncio.sleep(0)
        rig.models.gate.set()
        turn = await rig.understand(utterance(2, end=1600))
        assert turn.text == "no"
        assert rig.models.cancelled == 1
        assert (rig.count("used"), rig.count("wasted")) == (0, 1)


async def test_other_samples_than_speculated_on_are_heard_anew() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(1, end=800))
        await rig.settled()
        assert (await rig.understand(utterance(2, end=960))).text == "no"
        assert (rig.count("used"), rig.count("wasted")) == (0, 1)


async def test_a_second_pause_replaces_the_first() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(1, end=800))
        rig.listener.speculate(pause(2, end=1600))
        await rig.settled()
        assert (await rig.understand(utterance(2, end=1600))).text == "no"
        assert (rig.count("started"), rig.count("used"), rig.count("wasted")) == (2, 1, 1)


async def test_utterances_that_wait_for_a_slow_turn_keep_their_speculations() -> None:
    async with listening() as rig:
        for value in (1, 2):
            rig.listener.speculate(pause(value, value * 1600, start=value * 1600 - 800))
            await rig.settled()
            rig.listener.ended()
        rig.listener.speculate(pause(3, 4800, start=4000))  # in progress, while the turns are taken
        turns = [
            await rig.listener.understand(utterance(value, value * 1600, start=value * 1600 - 800)) for value in (1, 2)
        ]
        assert [(turn.text, turn.timing["speculated"]) for turn in turns] == [("yes", 1.0), ("no", 1.0)]
        await rig.settled()
        assert len(rig.models.jobs) == 3
        assert (rig.count("started"), rig.count("used"), rig.count("wasted")) == (3, 2, 0)
    assert rig.count("wasted") == 1


async def test_a_caller_who_goes_on_wastes_nothing_of_the_utterance_before() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(1))
        rig.listener.ended()
        rig.listener.cancel()
        rig.listener.speculate(pause(2, 2400, start=1600))
        rig.listener.cancel()
        assert (await rig.listener.understand(utterance(1))).timing["speculated"]
        assert (rig.count("used"), rig.count("wasted")) == (1, 1)


async def test_what_was_begun_on_utterances_that_were_no_turns_is_void() -> None:
    """The inbox was full, or a supervisor had the call."""
    async with listening() as rig:
        for value in range(1, 8):
            rig.models.words[value] = "yes"
            rig.listener.speculate(pause(value, value * 800, start=value * 800 - 800))
            rig.listener.ended()
        assert rig.count("wasted") == 3, "so many are kept and no more"
        await rig.listener.understand(utterance(7, 5600, start=4800))
        assert (rig.count("started"), rig.count("used"), rig.count("wasted")) == (7, 1, 6)


async def test_a_kept_speculation_is_void_where_the_turn_before_changed_what_is_waited_for() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(1))
        rig.listener.ended()
        turn = await rig.listener.understand(utterance(1), Expectation("digits"))
        assert "speculated" not in turn.timing
        assert (rig.count("used"), rig.count("wasted")) == (0, 1)


async def test_a_speculation_that_fails_costs_nothing_but_time() -> None:
    async with listening() as rig:
        rig.models.fails = 1
        rig.listener.speculate(pause(1))
        await rig.settled()
        turn = await rig.understand(utterance(1))
        assert turn.text == "yes" and "speculated" not in turn.timing
        assert (rig.count("used"), rig.count("wasted"), rig.count("failed")) == (0, 0, 1)


@pytest.mark.parametrize("failure", [SynthesisError("no voice"), RuntimeError("a fault of ours")])
async def test_a_reply_that_cannot_be_made_ready_does_not_end_the_call(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with listening(prepare_fails=failure) as rig:
        rig.listener.speculate(pause(1))
        await rig.settled()
        assert (await rig.understand(utterance(1))).text == "yes"
        assert rig.count("used") == 1
    assert type(failure).__name__ in caplog.text
    assert "yes" not in caplog.text


def preparing() -> int:
    return sum(task.get_name() == "preparation" for task in asyncio.all_tasks())


async def test_a_turn_does_not_wait_until_its_whole_reply_is_rendered() -> None:
    async with listening() as rig:
        rig.prepare_gate.clear()
        rig.listener.speculate(pause(1))
        await rig.settled()
        async with asyncio.timeout(5):
            assert (await rig.understand(utterance(1))).timing["speculated"] == 1.0
        await asyncio.sleep(0)
        assert preparing() == 1, "the later prompts are made ready while the first is said"
        await rig.understand(utterance(2, 2400, start=1600))
        await asyncio.sleep(0)
        assert preparing() == 0, "by then they have been asked for"


async def test_a_caller_who_goes_on_or_hangs_up_ends_what_is_made_ready() -> None:
    async with listening() as rig:
        rig.prepare_gate.clear()
        rig.listener.speculate(pause(1))
        await rig.settled()
        await asyncio.sleep(0)
        assert preparing() == 1
        rig.listener.cancel()
        await asyncio.sleep(0)
        assert preparing() == 0
        rig.listener.speculate(pause(2))
        await rig.settled()
        await rig.understand(utterance(2))
    assert preparing() == 0, "the call's end waits for no prompt"


async def test_words_known_when_their_utterance_is_over_make_nothing_ready() -> None:
    """Their turn does, as things are then; the caller may speak again already."""
    async with listening(open_gate=False) as rig:
        rig.listener.speculate(pause(1))
        rig.listener.ended()
        rig.models.gate.set()
        assert (await rig.listener.understand(utterance(1))).text == "yes"
        await asyncio.sleep(0)
        assert rig.prepared == []


async def test_a_failure_at_the_end_is_the_callers_to_handle() -> None:
    async with listening() as rig:
        rig.models.fails = 1
        with pytest.raises(InferenceError, match="overloaded"):
            await rig.understand(utterance(1))


async def test_no_words_have_no_meaning_and_no_reply() -> None:
    async with listening() as rig:
        rig.listener.speculate(pause(3))
        await rig.settled()
        turn = await rig.understand(utterance(3))
        assert (turn.text, turn.meaning) == ("", None)
        assert [each.meaning for each in rig.prepared] == [None], "told all the same: a held prompt may go on"


async def test_words_put_together_are_understood_without_being_heard() -> None:
    async with listening() as rig:
        turn = await rig.listener.read("yes 4 4")
        assert (turn.text, turn.meaning) == ("yes 4 4", Meaning("bot:yes 4 4", 0.5))
        assert rig.models.jobs == [] and set(turn.timing) == {"nlu_ms", "nlu_queue_ms"}


async def test_a_bot_that_understands_nothing_is_told_out_of_scope() -> None:
    async with listening(nlu_model=None) as rig:
        turn = await rig.understand(utterance(1))
        assert turn.meaning == Meaning(OUT_OF_SCOPE, 0.0)


async def test_a_call_that_ends_while_it_waits_takes_the_speculation_with_it() -> None:
    async with listening(open_gate=False) as rig:
        rig.listener.speculate(pause(1))
        understanding = asyncio.create_task(rig.understand(utterance(1)))
        await asyncio.sleep(0)
        understanding.cancel()
        await asyncio.gather(understanding, return_exceptions=True)
        assert rig.models.cancelled == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "speculation"]
