"""Models exchanged under requests: nobody fails, no turn is answered by two, and what is done with is let go."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.inference.batching import BatcherSettings
from gateway.inference.job_queue import Errand
from gateway.inference.model_commands import ModelAction, ModelCommand, ModelError, ModelFault
from gateway.inference.model_serving import WARM_UP_PASSES, ModelServing, NluModel
from gateway.inference.seam import InferenceError, TurnId
from gateway.metrics import InferenceMetrics
from nlu.meaning import Meaning
from nlu.pool import VersionState, VersionStatus
from tests.fakes import KeywordNlu

pytestmark = pytest.mark.unit


class Version(KeywordNlu):
    """Answers with its own version as the intent."""

    def __init__(self, version: str, *, fails: bool = False) -> None:
        super().__init__({"": version}, version=version)
        self.fails = fails
        self.warmed = 0

    def predict_lines(self, lines: list[str]) -> list[Meaning]:
        if self.fails:
            raise ValueError(f"cannot read {lines[0]}")
        return super().predict_lines(lines)

    def warm_up(self, passes: int = 1) -> None:
        self.warmed = passes
        self.predict_lines(["warm"])


@dataclass
class Source:
    """A loader: versions by their path. Waits for its gate."""

    versions: dict[str, Callable[[], Version]] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def __call__(self, bot: str, path: str, present: NluModel[Any]) -> Version:
        self.asked.append(path)
        assert self.gate.wait(5)
        if path not in self.versions:
            raise ModelError(ModelFault.UNUSABLE, f"{path}: broken")
        return self.versions[path]()


@dataclass
class Rig:
    serving: ModelServing
    source: Source
    registry: CollectorRegistry
    told: list[list[VersionStatus]]

    async def do(self, action: ModelAction, path: str = "", **more: Any) -> dict[str, VersionState]:
        """Carry a command out for bot `b`; the versions loaded then, and their states."""
        statuses = await self.serving.administer(ModelCommand(action=action, bot="b", path=path, **more))
        return {status.version: status.state for status in statuses}

    async def ask(self, turn: TurnId | None = None, bot: str = "b") -> str:
        """The version that answers; it is the intent as well."""
        understood = await self.serving.understand(bot, "hello", timeout_s=5, errand=None, turn=turn)
        assert understood.meaning.intent == understood.version
        return understood.version

    def count(self, version: str, outcome: str) -> float:
        labels = {"bot": "b", "version": version, "outcome": outcome}
        return self.registry.get_sample_value("voicegate_model_requests_total", labels) or 0.0


@asynccontextmanager
async def serving(
    models: dict[str, Version] | None = None, *, retire_after_s: float = 30.0, **settings: Any
) -> AsyncIterator[Rig]:
    """Bot `b` with version `v1`, unless said; `/v2`, `/v3` can be loaded, `/failing` fails when asked."""
    source = Source({"/v2": lambda: Version("v2"), "/v3": lambda: Version("v3"), "/models/v1": lambda: Version("v1")})
    source.versions["/failing"] = lambda: Version("failing", fails=True)
    source.gate.set()
    registry = CollectorRegistry()
    told: list[list[VersionStatus]] = []
    models = models or {"b": Version("v1")}
    made = ModelServing(
        models,
        settings=BatcherSettings(**settings),
        metrics=InferenceMetrics(registry),
        load=source,
        retire_after_s=retire_after_s,
        changed=told.append,
    )
    models.clear()  # the serving alone holds them
    async with made:
        try:
            yield Rig(made, source, registry, told)
        finally:
            source.gate.set()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_load_warms_up_swaps_and_tells() -> None:
    async with serving() as rig:
        made = Version("v2")
        rig.source.versions["/v2"] = lambda: made
        assert await rig.do(ModelAction.LOAD, "/v2") == {"v1": VersionState.RETIRING, "v2": VersionState.LIVE}
        assert made.warmed == WARM_UP_PASSES == 50
        assert await rig.ask() == "v2"
        assert [status.version for status in rig.told[-1]] == ["v1", "v2"]


async def test_while_a_version_loads_the_present_one_answers() -> None:
    async with serving() as rig:
        rig.source.gate.clear()
        loading = asyncio.create_task(rig.do(ModelAction.LOAD, "/v2"))
        await until(lambda: rig.source.asked)
        assert await rig.ask() == "v1"
        with pytest.raises(ModelError, match="another change is under way") as caught:
            await rig.do(ModelAction.ROLLBACK)
        assert caught.value.fault is ModelFault.CONFLICT
        rig.source.gate.set()
        await loading
        assert await rig.ask() == "v2"


async def test_under_requests_a_swap_fails_nobody_and_mixes_no_turn() -> None:
    async with serving(max_wait_ms=1, retire_after_s=0.05) as rig:
        stop = asyncio.Event()
        answers: dict[TurnId, set[str]] = {}

        async def call(number: int) -> None:
            round_id = 0
            while not stop.is_set():
                turn = TurnId(f"c{number}", round_id := round_id + 1)
                for _ in range(3):  # a speculation, one more, the endpoint
                    answers.setdefault(turn, set()).add(await rig.ask(turn))
                    await asyncio.sleep(0.004)

        calls = [asyncio.create_task(call(number)) for number in range(20)]
        await rig.do(ModelAction.LOAD, "/v2")
        await asyncio.sleep(0.1)
        await rig.do(ModelAction.CANARY, "/v3", share=0.5)
        await asyncio.sleep(0.1)
        await rig.do(ModelAction.PROMOTE)
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*calls)
        assert {len(versions) for versions in answers.values()} == {1}
        assert set.union(*answers.values()) == {"v1", "v2", "v3"}
        await asyncio.sleep(0.1)
        assert await rig.do(ModelAction.LIST) == {"v3": VersionState.LIVE}


async def test_a_version_that_was_replaced_is_let_go_with_all_its_memory() -> None:
    old = Version("v1")
    gone = weakref.ref(old)
    async with serving({"b": old}, retire_after_s=0.05, engines=2) as rig:
        del old
        before = len(asyncio.all_tasks())
        assert await rig.ask(TurnId("c", 1)) == "v1"
        await rig.do(ModelAction.LOAD, "/v2")
        assert len(asyncio.all_tasks()) == before + 2
        await until(lambda: len(asyncio.all_tasks()) == before)
        await until(lambda: gone() is None)  # without the garbage collector's help
        assert await rig.ask(TurnId("c", 1)) == "v2"


@pytest.mark.parametrize(
    ("path", "message"), [("/nothing", "/nothing: broken"), ("/failing", "fails when it is asked")]
)
@pytest.mark.parametrize("action", [ModelAction.LOAD, ModelAction.CANARY])
async def test_what_cannot_be_used_changes_nothing(path: str, message: str, action: ModelAction) -> None:
    async with serving() as rig:
        tasks = len(asyncio.all_tasks())
        with pytest.raises(ModelError, match=message) as caught:
            await rig.do(action, path, share=1.0)
        assert caught.value.fault is ModelFault.UNUSABLE
        assert await rig.ask(TurnId("c", 1)) == "v1"
        assert await rig.do(ModelAction.LIST) == {"v1": VersionState.LIVE}
        assert len(asyncio.all_tasks()) == tasks and rig.told == []


async def test_a_loader_that_fails_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    words = "my pin is 4417"

    def fail() -> Version:
        raise OSError(words)

    async with serving() as rig:
        rig.source.versions["/v2"] = fail
        with pytest.raises(ModelError, match=r"/v2: cannot be loaded \(OSError\)"):
            await rig.do(ModelAction.LOAD, "/v2")
    assert "4417" not in caplog.text and "OSError" in caplog.text


async def test_another_version_than_was_asked_for_is_refused() -> None:
    async with serving() as rig:
        with pytest.raises(ModelError, match="holds version v2 and not v3"):
            await rig.do(ModelAction.LOAD, "/v2", version="v3")
        assert await rig.do(ModelAction.LOAD, "/v2", version="v2") == {
            "v1": VersionState.RETIRING,
            "v2": VersionState.LIVE,
        }


async def test_what_is_in_memory_is_not_loaded_twice() -> None:
    async with serving() as rig:
        await rig.do(ModelAction.LOAD, "/v2")
        assert await rig.do(ModelAction.LOAD, "/v2") == {"v1": VersionState.RETIRING, "v2": VersionState.LIVE}
        assert await rig.do(ModelAction.LOAD, "/models/v1") == {"v1": VersionState.LIVE, "v2": VersionState.RETIRING}


async def test_a_canary_gets_its_share_and_another_and_is_promoted_or_rolled_back() -> None:
    async with serving() as rig:
        turns = [TurnId(f"call-{number}", 1) for number in range(400)]

        async def tried(round_id: int) -> int:
            return [await rig.ask(TurnId(turn.call_id, round_id)) for turn in turns].count("v2")

        await rig.do(ModelAction.CANARY, "/v2", share=0.1)
        assert 15 < await tried(1) < 70
        await rig.do(ModelAction.CANARY, "/v2", share=0.6)
        assert 200 < await tried(2) < 280
        assert rig.count("v1", "intent") + rig.count("v2", "intent") == 800
        assert await rig.do(ModelAction.ROLLBACK) == {"v1": VersionState.LIVE, "v2": VersionState.RETIRING}
        assert await tried(3) == 0
        await rig.do(ModelAction.CANARY, "/v3", share=0.5)
        await rig.do(ModelAction.PROMOTE)
        assert {await rig.ask(TurnId(turn.call_id, 4)) for turn in turns} == {"v3"}


async def test_a_live_version_is_no_canary() -> None:
    async with serving() as rig:
        with pytest.raises(ModelError, match="live already") as caught:
            await rig.do(ModelAction.CANARY, "/models/v1", share=0.5)
        assert caught.value.fault is ModelFault.CONFLICT
        assert await rig.do(ModelAction.LIST) == {"v1": VersionState.LIVE}


async def test_where_a_canary_fails_the_live_version_answers() -> None:
    async with serving() as rig:
        on_trial = Version("v2")
        rig.source.versions["/v2"] = lambda: on_trial
        await rig.do(ModelAction.CANARY, "/v2", share=1.0)
        on_trial.fails = True
        assert await rig.ask(TurnId("c", 1)) == "v1"
        assert (rig.count("v2", "failed"), rig.count("v1", "intent")) == (1, 1)
        (live, canary) = await rig.serving.administer(ModelCommand(action=ModelAction.LIST, bot="b"))
        assert (live.errors, canary.errors, canary.requests) == (0, 1, 1)


async def test_where_the_live_version_fails_the_asker_is_told() -> None:
    async with serving({"b": Version("v1", fails=True)}) as rig:
        with pytest.raises(InferenceError, match="understanding: ValueError") as caught:
            await rig.ask()
        assert "hello" not in str(caught.value)
        assert rig.count("v1", "failed") == 1


async def test_a_rollback_loads_again_what_has_gone_from_memory() -> None:
    async with serving(retire_after_s=0.02) as rig:
        await rig.do(ModelAction.LOAD, "/v2")
        async with asyncio.timeout(20):
            while "v1" in await rig.do(ModelAction.LIST):
                await asyncio.sleep(0.005)
        assert (await rig.do(ModelAction.ROLLBACK))["v1"] is VersionState.LIVE
        assert rig.source.asked == ["/v2", "/models/v1"]


async def test_without_a_version_before_there_is_no_rollback_and_without_a_canary_no_promotion() -> None:
    async with serving() as rig:
        for action in (ModelAction.ROLLBACK, ModelAction.PROMOTE):
            with pytest.raises(ModelError, match="no version is on trial") as caught:
                await rig.do(action)
            assert caught.value.fault is ModelFault.CONFLICT


async def test_bots_that_share_an_artefact_share_it_until_one_has_another() -> None:
    shared = Version("v1")
    gone = weakref.ref(shared)
    async with serving({"b": shared, "other": shared}, retire_after_s=0.02) as rig:
        del shared
        await rig.do(ModelAction.LOAD, "/v2")
        async with asyncio.timeout(20):
            while "v1" in await rig.do(ModelAction.LIST):
                await asyncio.sleep(0.005)
        assert (await rig.ask(bot="other"), await rig.ask()) == ("v1", "v2")
        gc.collect()
        assert gone() is not None
        everything = await rig.serving.administer(ModelCommand(action=ModelAction.LIST))
        assert [(status.bot, status.version) for status in everything] == [("b", "v2"), ("other", "v1")]


async def test_a_change_that_takes_too_long_is_given_up() -> None:
    async with serving() as rig:
        rig.source.gate.clear()
        with pytest.raises(InferenceError, match=r"did not end within 0.05 s"):
            command = ModelCommand(action=ModelAction.LOAD, bot="b", path="/v2")
            await rig.serving.administer(command, timeout_s=0.05)
        rig.source.gate.set()
        assert await rig.ask() == "v1"
        assert (await rig.do(ModelAction.LOAD, "/v3"))["v3"] is VersionState.LIVE


async def test_a_bot_that_is_not_served_is_named() -> None:
    async with serving() as rig:
        with pytest.raises(ModelError, match="no bot 'x'.*these: b") as caught:
            await rig.serving.administer(ModelCommand(action=ModelAction.LIST, bot="x"))
        assert caught.value.fault is ModelFault.UNKNOWN_BOT
        with pytest.raises(InferenceError, match="no model named 'x'; loaded: b"):
            await rig.ask(bot="x")


async def test_refused_for_load_is_no_failure_of_the_model() -> None:
    async with serving(max_queue=1) as rig:
        asking = [asyncio.create_task(rig.ask()) for _ in range(10)]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, InferenceError)]
        assert refused and all("Overloaded" in str(outcome) for outcome in refused)
        (status,) = await rig.serving.administer(ModelCommand(action=ModelAction.LIST))
        assert (status.errors, status.requests) == (0, 10 - len(refused))


async def test_an_asker_who_goes_away_leaves_nothing_in_flight() -> None:
    async with serving(retire_after_s=0.02) as rig:
        asking = asyncio.create_task(
            rig.serving.understand("b", "hello", timeout_s=5, errand=Errand(), turn=TurnId("c", 1))
        )
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await rig.do(ModelAction.LOAD, "/v2")
        async with asyncio.timeout(20):
            while "v1" in await rig.do(ModelAction.LIST):
                await asyncio.sleep(0.005)
