"""Real artefacts over the real socket: exchanged under requests; and those that never take a good one's place."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.bots import Bot, LargerModel, load_bot
from gateway.inference.batching import BatcherSettings
from gateway.inference.local import LocalInference
from gateway.inference.model_commands import ModelAction, ModelCommand, ModelError, ModelFault
from gateway.inference.model_loading import BotModels, ChoiceRecord, misfits
from gateway.inference.seam import TurnId
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.settings import NluSettings
from nlu.artefact import read_artefact, write_artefact
from nlu.engine import NluEngine
from nlu.meaning import Meaning, NluError
from nlu.pool import VersionState
from nlu.training import TrainConfig, train
from tests.fakes import ScriptedAsr
from tests.gateway.harness import write_bot
from tests.nlu.conftest import example, write_encoder, write_lines

pytestmark = pytest.mark.model

NAME = "tester"
LINES = [
    *(example(text, "affirm") for text in ("i will pay", "i will", "pay", "get it") for _ in range(4)),
    *(example(text, "more") for text in ("get me anna", "talk to bob", "is dan there", "let me") for _ in range(4)),
    *(example(f"you get it on {day}", "affirm", day=day) for day in ("monday", "friday") for _ in range(4)),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of artefacts: `v1`; `v2`, the same under another name; `fewer`, which lacks an intent and the slot."""
    folder = tmp_path_factory.mktemp("models")
    encoder = str(write_encoder(folder / "encoder"))
    for name, lines in (("v1", LINES), ("fewer", [line for line in LINES if line["intent"] == "more"])):
        data = write_lines(folder / f"{name}.jsonl", lines)
        train(TrainConfig(train=data, dev=data, out=folder / name, encoder=encoder, epochs=1))
    copy(folder / "v1", folder / "v2", name="v2")
    return folder


def copy(source: Path, target: Path, **changes: object) -> Path:
    """The same model with another description: another version."""
    manifest, state, _ = read_artefact(source)
    write_artefact(target, dataclasses.replace(manifest, **changes), state)  # type: ignore[arg-type]
    return target


@dataclasses.dataclass
class Rig:
    bot: Bot
    local: LocalInference
    client: SocketInference

    async def do(self, action: ModelAction, path: Path | str = "", **more: object) -> dict[str, VersionState]:
        command = ModelCommand(action=action, bot=NAME, path=str(path), **more)  # type: ignore[arg-type]
        return {Path(status.path).name: status.state for status in await self.client.administer(command)}

    async def ask(self, turn: TurnId | None = None) -> tuple[Meaning, str]:
        understood = await self.client.understand(NAME, "get me anna", timeout_s=5, turn=turn)
        return understood.meaning, understood.version

    async def refused(self, path: Path | str, action: ModelAction = ModelAction.LOAD) -> ModelError:
        """The refusal of a load; the live version goes on, and nothing else is loaded."""
        before = await self.ask()
        with pytest.raises(ModelError) as caught:
            await self.do(action, path, share=1.0)
        assert await self.ask(TurnId("c", 1)) == before
        assert await self.do(ModelAction.LIST) == {"nlu": VersionState.LIVE}
        return caught.value


@asynccontextmanager
async def serving(folder: Path, trained: Path, *, retire_after_s: float = 30.0, **more: object) -> AsyncIterator[Rig]:
    """Bot `tester` with artefact `v1` as its own, in `nlu`, and a client at the other end of a socket."""
    directory = write_bot(folder / NAME)
    if not (directory / "nlu").is_dir():
        shutil.copytree(trained / "v1", directory / "nlu")
    bot = load_bot(directory)
    source = BotModels([bot], NluSettings.model_validate(more))
    own = source.first()
    with tempfile.TemporaryDirectory(prefix="vg-") as work:
        path = Path(work) / "inference.sock"
        record = ChoiceRecord(folder / "models.json", own)
        async with LocalInference(
            ScriptedAsr(),
            own,
            nlu_settings=BatcherSettings(),
            load=source.load,
            retire_after_s=retire_after_s,
            changed=record.write,
        ) as local:
            own.clear()
            await record.restore(local)
            server = InferenceServer(local, local)
            await server.start(path)
            async with SocketInference(path) as client:
                async with asyncio.timeout(20):
                    await client.wait_connected()
                yield Rig(bot, local, client)
            await server.stop()


async def test_a_load_over_the_socket_swaps_and_the_old_weights_leave_memory(tmp_path: Path, trained: Path) -> None:
    async with serving(tmp_path, trained, retire_after_s=0.05) as rig:
        shutil.copytree(trained / "v2", rig.bot.directory / "v2")
        (status,) = await rig.client.administer(ModelCommand(action=ModelAction.LIST))
        _, first = await rig.ask(TurnId("c", 1))
        assert (first, status.state, status.loaded_s >= 0) == (status.version, VersionState.LIVE, True)
        live: Any = rig.local._models._pools[NAME].live.engine.model
        weights = weakref.ref(live._model)
        del live
        assert "v2" in await rig.do(ModelAction.LOAD, "v2")
        async with asyncio.timeout(20):
            while weights() is not None:
                await asyncio.sleep(0.01)
        assert await rig.do(ModelAction.LIST) == {"v2": VersionState.LIVE}
        _, second = await rig.ask(TurnId("c", 1))
        assert second != first


async def test_under_requests_real_models_are_swapped_without_a_failure_or_a_mixed_turn(
    tmp_path: Path, trained: Path
) -> None:
    async with serving(tmp_path, trained, retire_after_s=0.1) as rig:
        shutil.copytree(trained / "v2", rig.bot.directory / "v2")
        stop = asyncio.Event()
        answers: dict[TurnId, set[str]] = {}

        async def call(name: str) -> None:
            for round_id in itertools.count(1):
                if stop.is_set():
                    return
                for _ in range(2):
                    _, version = await rig.ask(turn := TurnId(name, round_id))
                    answers.setdefault(turn, set()).add(version)
                    await asyncio.sleep(0.01)

        calls = [asyncio.create_task(call(f"c{number}")) for number in range(8)]
        await asyncio.sleep(0.1)
        await rig.do(ModelAction.LOAD, "v2")
        await asyncio.sleep(0.1)
        await rig.do(ModelAction.ROLLBACK)
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*calls)
        assert {len(versions) for versions in answers.values()} == {1}
        assert len(set.union(*answers.values())) == 2


async def test_folders_that_the_operator_does_not_allow_are_not_read(tmp_path: Path, trained: Path) -> None:
    async with serving(tmp_path, trained) as rig:
        (rig.bot.directory / "way-out").symlink_to(trained / "v2")
        for path in (trained / "v2", "../v2", "/etc", rig.bot.directory / "way-out", "nlu/../../.."):
            refusal = await rig.refused(path)
            assert refusal.fault is ModelFault.FORBIDDEN_PATH
            assert "nlu.model_dirs" in str(refusal)
    async with serving(tmp_path / "allowed", trained, model_dirs=(trained,)) as rig:
        assert "v2" in await rig.do(ModelAction.LOAD, trained / "v2")


def test_a_bots_own_model_may_be_anywhere_and_be_rolled_back_to(tmp_path: Path, trained: Path) -> None:
    borrowed = copy(trained / "v1", tmp_path / "borrowed", name="borrowed")
    directory = write_bot(tmp_path / NAME)
    bot = dataclasses.replace(load_bot(directory), nlu_path=borrowed)
    source = BotModels([bot], NluSettings.model_validate({}))
    present = source.first()[NAME]
    assert source.load(NAME, present.path, present).version == present.version
    with pytest.raises(ModelError, match="below the bots' own folders"):
        source.load(NAME, str(tmp_path), present)


@pytest.mark.parametrize("action", [ModelAction.LOAD, ModelAction.CANARY])
async def test_what_is_broken_or_altered_never_replaces_a_good_one(
    tmp_path: Path, trained: Path, action: ModelAction
) -> None:
    async with serving(tmp_path, trained) as rig:
        bad = rig.bot.directory / "bad"

        def again() -> Path:
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(trained / "v2", bad)
            return bad

        faults = {}
        faults["missing"] = await rig.refused("nothing", action)
        weights = again() / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
        faults["altered"] = await rig.refused("bad", action)
        config = again() / "config.json"
        config.write_text(config.read_text().replace('"max_tokens": ', '"max_tokens": 1'))
        faults["described otherwise"] = await rig.refused("bad", action)
        (again() / "model.safetensors").unlink()
        faults["half"] = await rig.refused("bad", action)
        shutil.rmtree(bad)
        copy(trained / "v1", bad, encoder_sha256="0" * 64)
        faults["other encoder"] = await rig.refused("bad", action)
        manifest, state, _ = read_artefact(trained / "v1")
        write_artefact(bad, manifest, {name: tensor * float("nan") for name, tensor in state.items()})
        faults["no numbers"] = await rig.refused("bad", action)
        assert {fault.fault for fault in faults.values()} == {ModelFault.UNUSABLE}
        for name, words in (("missing", "no model here"), ("altered", "altered"), ("other encoder", "trained on enc")):
            assert words in str(faults[name])


async def test_what_does_not_fit_the_bot_never_replaces_what_does(tmp_path: Path, trained: Path) -> None:
    async with serving(tmp_path, trained, model_dirs=(trained, tmp_path)) as rig:
        assert "it does not know the intents affirm" in str(await rig.refused(trained / "fewer"))
        other = copy(trained / "v1", tmp_path / "other", language="de")
        assert "trained on language 'de', the bot speaks 'en'" in str(await rig.refused(other))
        assert (await rig.refused(trained / "fewer")).fault is ModelFault.UNUSABLE


def test_a_model_must_mark_the_slots_that_the_flow_reads_and_the_present_one_marks(
    tmp_path: Path, trained: Path
) -> None:
    flow = "slots: {when: {type: date, entity: day}, why: {type: text}}\n"
    write_bot(tmp_path / NAME)
    flow_file = tmp_path / NAME / "flow.yaml"
    flow_file.write_text(flow + flow_file.read_text().replace("say: I see, stay: listen", "to: ask") + ASK)
    bot = load_bot(tmp_path / NAME)
    present, fewer = NluEngine.load(trained / "v1", "cpu"), NluEngine.load(trained / "fewer", "cpu")
    assert misfits(bot, present, None) == misfits(bot, present, present) == []
    assert any("slots day, which the flow reads" in misfit for misfit in misfits(bot, fewer, present))
    assert not any("slots" in misfit for misfit in misfits(bot, fewer, None))


ASK = """
  ask:
    ask: When
    collect: when
    optional: [why]
    then: bye
"""


async def test_what_was_chosen_outlives_the_worker(tmp_path: Path, trained: Path) -> None:
    settings: dict[str, Any] = {"model_dirs": (trained, tmp_path)}
    copy(trained / "v1", tmp_path / "v3", name="v3")
    async with serving(tmp_path, trained, **settings) as rig:
        assert json.loads(json.dumps(await rig.do(ModelAction.LOAD, trained / "v2")))["v2"] == "live"
        await rig.do(ModelAction.CANARY, tmp_path / "v3", share=0.25)
        _, live = await rig.ask()
    async with serving(tmp_path, trained, **settings) as rig:
        found = {
            status.version: status for status in await rig.client.administer(ModelCommand(action=ModelAction.LIST))
        }
        assert (await rig.ask())[1] == live and found[live].share == 0.75
        assert {status.share for status in found.values() if status.state is VersionState.CANARY} == {0.25}
        await rig.do(ModelAction.ROLLBACK)
    async with serving(tmp_path, trained, **settings) as rig:
        assert set(await rig.do(ModelAction.LIST)) == {"nlu", "v2"}
        assert (await rig.ask())[1] == live


async def test_a_choice_that_is_no_longer_there_leaves_the_bots_own_model(
    tmp_path: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = copy(trained / "v1", tmp_path / "choice", name="choice")
    async with serving(tmp_path, trained, model_dirs=(tmp_path,)) as rig:
        await rig.do(ModelAction.LOAD, choice)
    copy(trained / "v1", choice, name="something else")
    with caplog.at_level(logging.ERROR):
        async with serving(tmp_path, trained, model_dirs=(tmp_path,)) as rig:
            assert await rig.do(ModelAction.LIST) == {"nlu": VersionState.LIVE}
    assert "is not loaded again" in caplog.text and "and not" in caplog.text


def test_bots_that_name_one_artefact_share_it(tmp_path: Path, trained: Path) -> None:
    bots = [load_bot(write_bot(tmp_path / "one")), load_bot(write_bot(tmp_path / "two"))]
    shared = [dataclasses.replace(bot, name=f"bot{n}", nlu_path=trained / "v1") for n, bot in enumerate(bots)]
    untrained = dataclasses.replace(bots[0], name="none", nlu_path=None)
    models = BotModels([*shared, untrained], NluSettings.model_validate({})).first()
    assert models["bot0"] is models["bot1"] and set(models) == {"bot0", "bot1"}


def test_a_larger_model_is_loaded_beside_the_bots_own_and_must_fit(tmp_path: Path, trained: Path) -> None:
    larger = LargerModel(nlu_path=trained / "v2", below=0.9, within_s=0.2)
    bot = dataclasses.replace(load_bot(write_bot(tmp_path / NAME)), nlu_path=trained / "v1", second_opinion=larger)
    source = BotModels([bot], NluSettings.model_validate({}))
    engine, when = source.larger()[NAME]
    assert (Path(engine.path), when) == (trained / "v2", larger) and engine.version != source.first()[NAME].version
    without = dataclasses.replace(bot, second_opinion=None)
    assert BotModels([without], NluSettings.model_validate({})).larger() == {}
    unfit = dataclasses.replace(bot, second_opinion=dataclasses.replace(larger, nlu_path=trained / "fewer"))
    with pytest.raises(NluError, match="no second opinion for bot tester: it does not know the intents affirm"):
        BotModels([unfit], NluSettings.model_validate({})).larger()
