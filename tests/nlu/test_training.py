from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from nlu.artefact import read_artefact
from nlu.averaging import WeightMean
from nlu.checkpoint import CheckpointError
from nlu.data import DataError
from nlu.engine import NluEngine
from nlu.meaning import OUT_OF_SCOPE, Slot
from nlu.model import Recurrence, SlotDecoding
from nlu.training import Progress, TrainConfig, TrainingSummary, train
from tests.nlu.conftest import example, examples, write_lines

pytestmark = pytest.mark.unit


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()


def test_a_trained_model_understands(trained: TrainingSummary) -> None:
    engine = NluEngine.load(trained.out, "cpu")
    text = "Okay, I will pay on MAY fifth!"
    promise, transfer, goodbye = engine.predict([text, "is Carla there?", "Bye, bye!"], reject=False)
    assert (promise.intent, promise.slots) == ("promise", (Slot("date", "MAY fifth", 20, 29),))
    assert (transfer.intent, transfer.slots) == ("transfer", (Slot("person", "Carla", 3, 8),))
    assert (goodbye.intent, goodbye.slots) == ("goodbye", ())


def test_the_summary_has_the_figures_of_the_artefact(trained: TrainingSummary) -> None:
    assert (trained.examples, trained.intents, trained.slots) == (64, 3, 2)
    (warning,) = trained.warnings  # it is judged by what it learnt from
    assert "these are the lines learnt from: what is out of scope is a guess" in str(warning)
    assert trained.dev.intent_accuracy is not None
    assert trained.dev.intent_accuracy > 0.9
    assert trained.dev.slot_f1 is not None
    assert trained.dev.slot_f1 > 0.9
    assert trained.dev.oos_recall is not None
    assert trained.dev.oos_recall > 0.7
    assert 1 <= trained.best_epoch <= trained.epochs
    assert trained.size_bytes == sum(file.stat().st_size for file in trained.out.iterdir())


def test_out_of_scope_is_learnt_but_is_no_class(trained: TrainingSummary) -> None:
    engine = NluEngine.load(trained.out, "cpu")
    assert engine.intents == ("goodbye", "promise", "transfer")
    (meaning,) = engine.predict(["tell a joke"])
    assert meaning.intent == OUT_OF_SCOPE


def test_the_same_seed_gives_the_same_bytes(encoder: Path, data: Path, tmp_path: Path) -> None:
    config = TrainConfig(train=data, out=tmp_path / "a" / "m", encoder=str(encoder), head_size=8, epochs=2)
    train(config)
    train(dataclasses.replace(config, out=tmp_path / "b" / "m"))
    train(dataclasses.replace(config, out=tmp_path / "c" / "m", seed=2))
    first, again, other = (digest(tmp_path / folder / "m") for folder in "abc")
    assert first == again
    assert first != other


def test_progress_is_told_step_by_step(encoder: Path, data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    config = TrainConfig(train=data, dev=data, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=2)
    train(config, seen.append)
    assert [(p.epoch, p.step) for p in seen] == [(epoch, step) for epoch in (1, 2) for step in range(1, 7)]
    assert {p.steps for p in seen} == {6}  # 64 lines and 26 noisy copies in batches of 16
    assert seen[0].dev is None
    assert seen[-1].dev is not None
    assert seen[-1].loss < seen[0].loss


def test_dirty_data_trains_with_warnings(encoder: Path, tmp_path: Path) -> None:
    lines = [*examples(), example("hm", "rare"), example("bye anna friday", "goodbye", person="anna friday")]
    lines[-1]["slots"] += [{"name": "date", "start": 9, "end": 15}]  # type: ignore[operator]
    path = write_lines(tmp_path / "train.jsonl", lines)
    dev = write_lines(tmp_path / "dev.jsonl", [example("bye", "unheard"), example("bye bob", "goodbye", who="bob")])
    summary = train(TrainConfig(train=path, dev=dev, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=1))
    assert [f"{Path(w.file).name}:{w.line}" for w in summary.warnings] == [
        "train.jsonl:66",
        "train.jsonl:65",
        "dev.jsonl:1",
        "dev.jsonl:2",
        "dev.jsonl:1",
        "dev.jsonl:2",
        "dev.jsonl:0",
    ]
    assert "nothing will be refused as out of scope" in str(summary.warnings[-1])
    assert summary.dev.sentence_accuracy == 0.0


@pytest.mark.parametrize("with_dev", [True, False])
def test_lines_that_are_read_in_part_are_warned_about(encoder: Path, tmp_path: Path, with_dev: bool) -> None:
    lines = [
        *examples(),
        example("bye " * 62, "goodbye"),
        example("bye " * 63, "goodbye"),
        example("!" * 99, "goodbye"),
    ]
    path = write_lines(tmp_path / "train.jsonl", lines)
    dev = write_lines(tmp_path / "dev.jsonl", [example("bye " * 99, "goodbye")] * 2) if with_dev else None
    summary = train(TrainConfig(train=path, dev=dev, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=1))
    assert sorted((Path(w.file).name, w.line, w.text) for w in summary.warnings if w.line) == [
        (file, line, "longer than 64 tokens: what is beyond is not read")
        for file, line in (("dev.jsonl", 1), ("dev.jsonl", 2))[: 2 * with_dev] + (("train.jsonl", 66),)
    ]
    (few,) = (w for w in summary.warnings if not w.line)
    assert f"{2 if with_dev else 4} lines to judge by: only what is far out of scope will be refused" in str(few)


@pytest.mark.parametrize(
    "lines",
    [
        [example("one line", "only")],
        [example("a", "x"), example("b", "x"), example("?!", "x"), example("...", "y")],
    ],
)
def test_hardly_any_data_trains(encoder: Path, tmp_path: Path, lines: list[dict[str, object]]) -> None:
    path = write_lines(tmp_path / "train.jsonl", lines)
    summary = train(TrainConfig(train=path, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=1))
    assert summary.slots == 0
    (meaning,) = NluEngine.load(summary.out, "cpu").predict(["never seen"])
    assert meaning.slots == () and meaning.intent in ("only", "x", "y"), "a bot of three lines refused all it heard"
    warning = str(summary.warnings[-1])
    assert warning.startswith(
        f"{path}: too few examples to keep some for judging by: nothing will be refused as out of scope; 200"
    )


def test_data_without_an_intent_is_refused(encoder: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", [example("tell a joke", "oos")] * 3)
    with pytest.raises(DataError, match="every line is out of scope"):
        train(TrainConfig(train=path, out=tmp_path / "m", encoder=str(encoder)))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("decoding", list(SlotDecoding))
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    encoder: Path, data: Path, tmp_path: Path, decoding: SlotDecoding
) -> None:
    config = TrainConfig(
        train=data, out=tmp_path / "a" / "m", encoder=str(encoder), head_size=8, epochs=3, decoding=decoding
    )
    train(config)

    def interrupt(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (3, 2):
            raise Interrupted

    resumed = dataclasses.replace(config, out=tmp_path / "b" / "m", resume=True)
    with pytest.raises(Interrupted):
        train(resumed, interrupt)
    assert not (resumed.out / "config.json").exists()
    epochs: list[int] = []
    train(resumed, lambda progress: epochs.append(progress.epoch))
    assert set(epochs) == {3}
    assert digest(config.out) == digest(resumed.out)


def in_cycles(encoder: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Of four epochs and two cycles, as if the 64 lines were many."""
    monkeypatch.setattr("nlu.schedule._FEW", 10)
    return TrainConfig(train=data, dev=data, out=out, encoder=str(encoder), head_size=8, epochs=4, threads=1)


def test_the_mean_of_the_cycles_is_kept(
    encoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[torch.Tensor] = []

    class Watched(WeightMean):
        def add(self, weights: Mapping[str, torch.Tensor]) -> None:
            models.append(weights["head.intent.weight"])
            super().add(weights)

    monkeypatch.setattr("nlu.trainer.WeightMean", Watched)
    seen: list[tuple[int, int]] = []
    config = in_cycles(encoder, data, tmp_path / "m", monkeypatch)
    summary = train(config, lambda progress: seen.append((progress.epoch, progress.epochs)))
    assert list(dict.fromkeys(seen)) == [(epoch, 6) for epoch in range(1, 7)]
    assert (summary.epochs, len(models)) == (6, 3)
    assert not torch.equal(models[1], models[2])
    assert summary.best_epoch == 6
    kept = torch.stack(models).mean(dim=0)
    _, state, _ = read_artefact(config.out)
    torch.testing.assert_close(state["head.intent.weight"], kept, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("epoch", [5, 6])
def test_a_run_interrupted_in_a_cycle_goes_on_to_the_same_bytes(
    encoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    config = in_cycles(encoder, data, tmp_path / "a" / "m", monkeypatch)
    train(config)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise Interrupted

    resumed = dataclasses.replace(config, out=tmp_path / "b" / "m", resume=True)
    with pytest.raises(Interrupted):
        train(resumed, interrupt)
    train(resumed)
    assert digest(config.out) == digest(resumed.out)


def test_only_the_same_run_is_resumed(encoder: Path, data: Path, tmp_path: Path) -> None:
    config = TrainConfig(train=data, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=2, resume=True)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config, interrupt)
    with pytest.raises(CheckpointError, match="other settings or other data"):
        train(dataclasses.replace(config, seed=7))
    summary = train(dataclasses.replace(config, seed=7, resume=False))
    assert summary.epochs == 2
    assert sorted(file.name for file in config.out.iterdir()) == ["config.json", "model.safetensors"]


def test_a_run_is_gone_on_with_on_as_many_threads_as_it_began(
    encoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many cores are idle changes from hour to hour."""
    config = TrainConfig(train=data, out=tmp_path / "m", encoder=str(encoder), head_size=8, epochs=2, resume=True)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    monkeypatch.setattr("nlu.training.threads_for", lambda examples: 1)
    with pytest.raises(Interrupted):
        train(config, interrupt)
    monkeypatch.setattr("nlu.training.threads_for", lambda examples: 2)
    assert train(config).threads == 1
    assert train(dataclasses.replace(config, epochs=1)).threads == 2


def test_the_head_is_selectable(encoder: Path, data: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        train=data,
        out=tmp_path / "m",
        encoder=str(encoder),
        head_size=8,
        epochs=1,
        recurrence=Recurrence.LSTM,
        decoding=SlotDecoding.CONSTRAINED,
    )
    train(config)
    manifest, state, _ = read_artefact(config.out)
    assert (manifest.recurrence, manifest.decoding) == ("lstm", "constrained")
    assert state["head.words.weight_hh_l0"].shape == (4 * 8, 8)
    assert "head.crf.learnt" not in state


def test_an_out_folder_that_cannot_be_made_is_named(encoder: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = TrainConfig(train=data, out=tmp_path / "file" / "m", encoder=str(encoder), head_size=8, epochs=1)
    with pytest.raises(CheckpointError, match="cannot be written"):
        train(config)
