"""The seam over real streams: the same answers as without them, no wait without an end, nothing done for nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
import pytest

from dialogue.connection import connect
from gateway.inference.batching import BatcherSettings
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.local import LocalInference
from gateway.inference.model_commands import ModelAction, ModelCommand, ModelError, ModelFault
from gateway.inference.seam import Heard, InferenceError, TurnId
from gateway.inference.streams.client import StreamInference
from gateway.inference.streams.recovery import ASKER, Recovery
from gateway.inference.streams.wire import FIELD, JobEntry, Kind, ShardKeys, WireJob, pack_jobs, pack_request
from gateway.settings import InferenceSettings
from nlu.pool import VersionState, VersionStatus
from tests.fakes import KeywordNlu, ScriptedAsr
from tests.gateway.inference.streams.pool import Models, asking, job, pool, serving, until
from tests.gateway.inference.test_unix_socket import Answers

pytestmark = pytest.mark.redis


async def queued(url: str, settings: InferenceSettings) -> int:
    """Entries in all streams of jobs."""
    client = connect(url, timeout_s=5.0)
    try:
        return sum([await client.xlen(stream) for stream in ShardKeys(settings.pool, 0).all_jobs])
    finally:
        await client.aclose()


async def test_questions_and_answers_cross_the_streams_unchanged(redis_url: str) -> None:
    answers, settings = Answers(), pool()
    async with serving(redis_url, settings, answers), asking(redis_url, settings) as client:
        sent = job(777, sample_rate_hz=16000, language="zh")
        heard = await client.transcribe(sent, timeout_s=30)
        assert heard.transcript == answers.heard.transcript and heard.compute_ms == answers.heard.compute_ms
        assert heard.queue_ms >= answers.heard.queue_ms  # and what it waited in the stream
        understood = await client.understand("m", "你好 ü", timeout_s=40, turn=TurnId("ü", 3))
        assert understood.meaning == answers.understood.meaning and understood.version == "4711"
        (pcm, rate, language, timeout_s), (model, text, nlu_timeout_s, turn) = answers.asked
        assert np.array_equal(pcm, sent.pcm) and pcm.dtype == np.int16
        assert (rate, language, model, text, turn) == (16000, "zh", "m", "你好 ü", TurnId("ü", 3))
        assert 0 < timeout_s <= 30 and 30 < nlu_timeout_s <= 40
        await client.ping()
        await until(lambda: not client._waiting)
    assert await queued(redis_url, settings) == 0


async def test_a_thousand_jobs_of_three_through_two_are_each_done_and_answered_once(redis_url: str) -> None:
    settings = pool(dead_after_s=5)
    async with serving(redis_url, settings) as first, serving(redis_url, settings) as second:
        async with (
            asking(redis_url, settings) as a,
            asking(redis_url, settings) as b,
            asking(redis_url, settings) as c,
        ):

            async def ask(client: StreamInference, number: int) -> None:
                if number % 3:
                    understood = await client.understand("m", f"t{number}", timeout_s=60)
                    assert understood.meaning.intent == f"t{number}"
                else:
                    heard = await client.transcribe(job(100 + number), timeout_s=60)
                    assert heard.transcript.text == str(100 + number)

            await asyncio.gather(*(ask((a, b, c)[number % 3], number // 3) for number in range(1000)))
            wanted = [f"t{n // 3}" if n // 3 % 3 else str(100 + n // 3) for n in range(1000)]
            assert sorted(first.asked + second.asked) == sorted(wanted)
            assert first.asked and second.asked
    assert await queued(redis_url, settings) == 0


async def test_jobs_that_came_before_any_worker_are_done(redis_url: str) -> None:
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client:
        waiting = asyncio.create_task(client.transcribe(job(300), timeout_s=60))
        async with asyncio.timeout(20):
            while not await queued(redis_url, settings):
                await asyncio.sleep(0.01)
        async with serving(redis_url, settings):
            assert (await waiting).transcript.text == "300"


async def test_a_caller_who_no_longer_waits_costs_nothing(redis_url: str) -> None:
    settings = pool()
    async with asking(redis_url, settings, wait=False) as client:
        gone = asyncio.create_task(client.transcribe(job(200), timeout_s=60))
        async with asyncio.timeout(20):
            while not await queued(redis_url, settings):
                await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await until(lambda: client._outbox.is_empty)
        async with serving(redis_url, settings) as models:
            assert (await client.transcribe(job(300), timeout_s=60)).transcript.text == "300"
            models.gate.clear()
            running = asyncio.create_task(client.transcribe(job(400), timeout_s=60))
            await until(lambda: "400" in models.asked)
            running.cancel()
            await until(lambda: models.cancelled == 1)
            assert "200" not in models.asked
    assert await queued(redis_url, settings) == 0


async def test_no_answer_in_time_is_an_error_and_the_next_is_answered(redis_url: str) -> None:
    settings = pool()
    async with serving(redis_url, settings) as models, asking(redis_url, settings) as client:
        models.gate.clear()
        with pytest.raises(InferenceError, match="asr within 0.05 s"):
            await client.transcribe(job(), timeout_s=0.05)
        models.gate.set()
        assert (await client.transcribe(job(500), timeout_s=60)).transcript.text == "500"


async def test_refusals_and_failures_come_as_inference_errors(redis_url: str) -> None:
    def hear(_: object) -> str:
        raise RuntimeError("out of memory")

    settings = pool()
    async with LocalInference(ScriptedAsr(hear), {"m": KeywordNlu({"pay": "promise"})}) as local:
        async with serving(redis_url, settings, local), asking(redis_url, settings) as client:
            with pytest.raises(InferenceError, match="RuntimeError"):
                await client.transcribe(job())
            with pytest.raises(InferenceError, match="no model named 'other'; loaded: m"):
                await client.understand("other", "text")
            assert (await client.understand("m", "i pay")).meaning.intent == "promise"


@pytest.mark.parametrize("text", ["\ud800", "x" * 9_000_000])
async def test_what_cannot_be_sent_harms_no_other_call(redis_url: str, text: str) -> None:
    settings = pool()
    async with serving(redis_url, settings), asking(redis_url, settings) as client:
        with pytest.raises(InferenceError, match="nlu: a request"):
            await client.understand("m", text)
        assert (await client.understand("m", "fine", timeout_s=60)).meaning.intent == "fine"


async def test_a_job_past_its_askers_patience_is_not_begun(redis_url: str) -> None:
    """By the server's clock; here nobody has withdrawn it."""
    settings = pool()
    keys = ShardKeys(settings.pool, 0)
    client = connect(redis_url, timeout_s=5.0, decode_responses=False)
    try:
        await client.hset(keys.beats, ASKER + "somebody", "1")
        request = pack_request({"op": "nlu", "model": "m", "text": "stale", "turn": None})
        fields: dict[Any, Any] = {FIELD: pack_jobs(JobEntry("somebody", (WireJob(1, 20, request),)))}
        await client.xadd(keys.jobs(Kind.NLU, Urgency.ENDPOINT), fields)
        await asyncio.sleep(0.05)
        async with serving(redis_url, settings) as models:
            async with asyncio.timeout(20):
                while await client.xlen(keys.jobs(Kind.NLU, Urgency.ENDPOINT)):
                    await asyncio.sleep(0.01)
            assert models.asked == []
    finally:
        await client.aclose()


async def test_a_worker_that_says_late_too_soon_is_asked_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was not there to see the server's clock set ahead finds every job of before stale."""
    settings, ages = pool(), [3_600_000.0]

    async def age_ms(*_: object) -> float:
        return ages.pop() if ages else 0.0

    monkeypatch.setattr(Recovery, "age_ms", age_ms)
    async with serving(redis_url, settings) as models, asking(redis_url, settings) as client:
        assert (await client.transcribe(job(300), timeout_s=60)).transcript.text == "300"
        assert models.asked == ["300"] and not ages
        ages += [3_600_000.0, 3_600_000.0]
        with pytest.raises(InferenceError, match="past its deadline"):
            await client.transcribe(job(400), timeout_s=60)


async def test_what_is_not_urgent_is_shed_while_jobs_wait_and_new_calls_can_see_it(redis_url: str) -> None:
    settings, shed = pool(), list[tuple[str, Urgency]]()
    async with (
        serving(redis_url, settings, batch=1) as models,
        asking(redis_url, settings, on_shed=lambda *job: shed.append(job)) as client,
    ):
        models.gate.clear()
        busy = [asyncio.create_task(client.transcribe(job(), timeout_s=60)) for _ in range(24)]
        await until(lambda: client.expected_wait_s(Urgency.ENDPOINT) > 0.4)
        for urgency in (Urgency.SPECULATIVE, Urgency.PARTIAL):
            with pytest.raises(InferenceError, match="too busy"):
                await client.transcribe(job(), errand=Errand(urgency))
        assert shed == [("asr", Urgency.SPECULATIVE), ("asr", Urgency.PARTIAL)]
        text = asyncio.create_task(client.understand("m", "t", errand=Errand(Urgency.SPECULATIVE), timeout_s=60))
        await until(lambda: "t" in models.asked)  # texts have a queue of their own
        models.gate.set()
        assert {heard.transcript.text for heard in await asyncio.gather(*busy)} == {"800"}
        await text
        await until(lambda: client.expected_wait_s(Urgency.ENDPOINT) == 0)
        await client.transcribe(job(), errand=Errand(Urgency.SPECULATIVE), timeout_s=60)


async def test_a_full_stream_refuses_and_loses_nothing(redis_url: str) -> None:
    settings = pool(queue_entries=16)
    async with asking(redis_url, settings, wait=False) as client:
        asked = [asyncio.create_task(client.transcribe(job(100 + n), timeout_s=60)) for n in range(200)]
        await until(lambda: client._waiting and client._outbox.is_empty)
        async with serving(redis_url, settings):
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, InferenceError)]
    assert len(refused) >= 200 - 16 * 8 and all("16 entries are waiting" in str(each) for each in refused)
    answered = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, Heard)}
    assert len(answered) == 200 - len(refused) >= 16
    assert all(heard.transcript.text == str(100 + n) for n, heard in answered.items())


async def test_a_promoted_speculation_overtakes_in_the_stream_and_in_the_worker(redis_url: str) -> None:
    settings = pool()
    async with serving(redis_url, settings, batch=1) as models, asking(redis_url, settings) as client:
        models.gate.clear()
        held = [Errand(Urgency.SPECULATIVE)]
        tasks = [asyncio.create_task(client.transcribe(job(100), errand=held[0], timeout_s=60))]
        await until(lambda: models.asked == ["100"])
        held[0].promote(Urgency.ENDPOINT)
        await until(lambda: models.errands[0].urgency is Urgency.ENDPOINT)
        waits, promoted = Errand(Urgency.SPECULATIVE), Errand(Urgency.SPECULATIVE)
        for number, errand in ((200, waits), (201, promoted)):  # the reader may take one of them, and no more
            tasks.append(asyncio.create_task(client.transcribe(job(number), errand=errand, timeout_s=60)))
            await until(lambda: client._outbox.is_empty)
        promoted.promote(Urgency.ENDPOINT)
        await until(lambda: "201" in models.asked)
        assert models.errands[models.asked.index("201")].urgency is Urgency.ENDPOINT
        models.gate.set()
        assert [heard.transcript.text for heard in await asyncio.gather(*tasks)] == ["100", "200", "201"]


async def test_less_urgent_jobs_that_were_taken_keep_no_endpoint_in_the_stream(redis_url: str) -> None:
    settings = pool()
    async with serving(redis_url, settings, batch=1) as models, asking(redis_url, settings) as client:
        models.gate.clear()
        kinds = [*[Urgency.SPECULATIVE] * 8, Urgency.PARTIAL]
        tasks = [
            asyncio.create_task(client.transcribe(job(100 + number), errand=Errand(urgency), timeout_s=60))
            for number, urgency in enumerate(kinds)
        ]
        await until(lambda: len(models.asked) == len(kinds))  # the speculations in one entry: they came at once
        for endpoints in (1, 2):
            tasks.append(asyncio.create_task(client.transcribe(job(300), timeout_s=60)))
            await until(partial(lambda count: models.asked.count("300") == count, endpoints))
        models.gate.set()
        await asyncio.gather(*tasks)


async def test_without_a_worker_the_answer_is_no_when_the_time_is_up(redis_url: str) -> None:
    async with asking(redis_url, pool(), wait=False) as client:
        assert not client.connected
        with pytest.raises(InferenceError, match=r"within 0.05 s: no inference worker is alive"):
            await client.ping(timeout_s=0.05)
        with pytest.raises(InferenceError, match="no inference worker is connected"):
            await client.understand("m", "text", timeout_s=0.05)
        with pytest.raises(InferenceError, match="for a speculative job"):
            await client.understand("m", "text", timeout_s=60, errand=Errand(Urgency.SPECULATIVE))


async def test_an_asker_that_leaves_leaves_no_key_and_no_task(redis_url: str) -> None:
    settings, before = pool(), asyncio.all_tasks()
    async with serving(redis_url, settings):
        async with asking(redis_url, settings) as client:
            await client.transcribe(job(), timeout_s=60)
    left = connect(redis_url, timeout_s=5.0)
    keys = ShardKeys(settings.pool, 0)
    assert sorted(await left.keys(f"*{settings.pool}*")) == sorted(keys.all_jobs)
    await left.aclose()
    await until(lambda: asyncio.all_tasks() == before)


class Administration:
    """A worker's `ModelAdministration` that says what it is told."""

    def __init__(self, version: str, *, requests: int = 0, refuses: bool = False) -> None:
        self.commands: list[ModelCommand] = []
        self._refuses = refuses
        self._status = VersionStatus(
            bot="b",
            version=version,
            path="/m",
            state=VersionState.LIVE,
            share=1.0,
            requests=requests,
            errors=0,
            mean_ms=None,
            mean_score=None,
            oos_share=None,
            loaded_s=1.0,
        )

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        self.commands.append(command)
        if self._refuses:
            raise ModelError(ModelFault.UNUSABLE, "altered")
        return [self._status]


async def test_a_command_about_models_is_carried_out_by_every_worker(redis_url: str) -> None:
    settings, command = pool(), ModelCommand(action=ModelAction.LOAD, bot="b", path="/m")
    both = Administration("1", requests=2), Administration("1", requests=3)
    async with (
        serving(redis_url, settings, administration=both[0]),
        serving(redis_url, settings, administration=both[1]),
        asking(redis_url, settings) as client,
    ):
        await until(lambda: len(client._workers) == 2)
        (status,) = await client.administer(command, timeout_s=60)
        assert (status.version, status.requests) == ("1", 5)
        assert both[0].commands == both[1].commands == [command]
        async with serving(redis_url, settings, administration=(late := Administration("1", refuses=True))):
            await until(lambda: len(client._workers) == 3)
            assert late.commands == []  # what was said before it came is not for it
            with pytest.raises(ModelError, match=r"inference worker .*: altered"):
                await client.administer(command, timeout_s=60)


async def test_the_engines_own_refusal_passes_through(redis_url: str) -> None:
    asr, settings = ScriptedAsr(), pool()
    limits = BatcherSettings(max_queue=1, max_batch=1)
    async with LocalInference(asr, {}, asr_settings=limits) as local:
        async with serving(redis_url, settings, local), asking(redis_url, settings) as client:
            asr.gate.clear()
            waiting = [asyncio.create_task(client.transcribe(job(), timeout_s=60)) for _ in range(8)]
            await until(lambda: local.asr.stats.refused > 0)
            asr.gate.set()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            refused = [outcome for outcome in outcomes if isinstance(outcome, InferenceError)]
            assert refused and all("waiting already" in str(each) for each in refused)
            assert len(refused) < 8


async def test_what_no_worker_of_ours_would_send_harms_nobody(redis_url: str) -> None:
    settings = pool()
    keys = ShardKeys(settings.pool, 0)
    client = connect(redis_url, timeout_s=5.0, decode_responses=False)
    try:
        async with serving(redis_url, settings) as models, asking(redis_url, settings) as asker:
            for data in (b"", b"\xc1", pack_jobs(JobEntry("x", (WireJob(1, 1000, b"\x01"),)))):
                fields: dict[Any, Any] = {FIELD: data}
                await client.xadd(keys.jobs(Kind.NLU, Urgency.ENDPOINT), fields)
                await client.xadd(keys.words, fields)
                await client.xadd(keys.answers(asker.name), fields)
            assert (await asker.understand("m", "fine", timeout_s=60)).meaning.intent == "fine"
            assert models.asked == ["fine"]
    finally:
        await client.aclose()
    assert await queued(redis_url, settings) == 0
    assert isinstance(models, Models)
