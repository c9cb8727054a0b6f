from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlu.artefact import ArtefactError, Manifest, read_artefact, write_artefact
from nlu.engine import NluEngine
from nlu.training import TrainingSummary
from tests.nlu.conftest import full_disk, write_encoder

pytestmark = pytest.mark.unit

MANIFEST = Manifest(
    name="m",
    language="en",
    encoder="some-encoder",
    encoder_sha256="00",
    intents=("a", "b"),
    slots=("日期",),
    head_size=8,
    recurrence="gru",
    decoding="crf",
    max_tokens=64,
    temperature=1.25,
    oos_threshold=-0.1,
    created_by="test",
    training={"seed": 1},
)


NEWER = ("agreement.", "scope.", "head.crf.")  # what format 1 did not have


@pytest.fixture
def copy(trained: TrainingSummary, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.out, tmp_path / "copy"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    matrix = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)) * torch.arange(6)[:, None]
    state = {"bert.layers.0.up.weight": matrix, "bert.layers.0.up.bias": torch.ones(6), "head.w": matrix.T}
    version = write_artefact(tmp_path / "new" / "m", MANIFEST, state)
    manifest, read, read_version = read_artefact(tmp_path / "new" / "m")
    assert (manifest, read_version) == (MANIFEST, version)
    # int8 is off by half a step of its row at most, float16 by 2^-11 of the value.
    error = (read["bert.layers.0.up.weight"] - matrix).abs()
    assert bool((error <= matrix.abs().amax(dim=1, keepdim=True) / 254 + 1e-9).all())
    torch.testing.assert_close(read["head.w"], matrix.T, rtol=1e-3, atol=1e-6)
    assert {tensor.dtype for tensor in read.values()} == {torch.float32}


def test_a_full_disk_is_told_and_the_model_before_is_kept(tmp_path: Path) -> None:
    version = write_artefact(tmp_path, MANIFEST, {"head.w": torch.zeros(10)})
    with full_disk(), pytest.raises(ArtefactError, match="cannot be written .*; name a folder that can"):
        write_artefact(tmp_path, MANIFEST, {"head.w": torch.zeros(10_000)})
    assert read_artefact(tmp_path)[2] == version
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_encoder_layers_are_stored_as_int8_and_embeddings_not_at_all(trained: TrainingSummary) -> None:
    stored = load_file(trained.out / "model.safetensors")
    assert stored["bert.layers.0.qkv.weight"].dtype is torch.int8
    assert stored["head.words.weight_ih_l0"].dtype is torch.float16
    assert not [name for name in stored if "embeddings" in name]


def test_no_threshold_survives_json(tmp_path: Path) -> None:
    import dataclasses

    write_artefact(tmp_path, dataclasses.replace(MANIFEST, oos_threshold=-torch.inf), {"w": torch.ones(1)})
    assert read_artefact(tmp_path)[0].oos_threshold == -torch.inf


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return edit


def flip_a_byte(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(weights))


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (edit_config(intents=["x", "y", "z"]), "config.json: altered since training"),
        (edit_config(oos_threshold=None), "config.json: altered"),
        (edit_config(checksum=None), "config.json: altered"),
        (edit_config(format=99), "format 99, this program reads 1 to 3"),
        (flip_a_byte, "model.safetensors: altered since training"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a model's description"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a model's description"),
    ],
)
def test_a_damaged_model_is_refused(copy: Path, tamper: Callable[[Path], None], fault: str) -> None:
    tamper(copy)
    with pytest.raises(ArtefactError, match=fault):
        NluEngine.load(copy, "cpu")


def test_other_text_rules_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlu.artefact.NORMALIZER_VERSION", 2)
    with pytest.raises(ArtefactError, match="text rules version 1, this program has 2"):
        NluEngine.load(copy, "cpu")


def test_other_rules_for_chinese_matter_to_chinese_models_only(tmp_path: Path) -> None:
    import dataclasses

    older = dataclasses.replace(MANIFEST, chinese_rules=1)
    write_artefact(tmp_path / "en", older, {"w": torch.ones(1)})
    assert read_artefact(tmp_path / "en")[0] == older
    write_artefact(tmp_path / "zh", dataclasses.replace(older, language="zh-CN"), {"w": torch.ones(1)})
    with pytest.raises(ArtefactError, match="rules for Chinese version 1, this program has 2"):
        read_artefact(tmp_path / "zh")


def test_another_encoder_is_refused(copy: Path, tmp_path: Path) -> None:
    other = write_encoder(tmp_path / "other", seed=1)
    with pytest.raises(ArtefactError, match="trained on encoder .* but .*other here has"):
        NluEngine.load(copy, "cpu", encoder=str(other))


def test_weights_that_do_not_fit_are_refused(trained: TrainingSummary, tmp_path: Path) -> None:
    manifest, state, _ = read_artefact(trained.out)
    del state["head.intent.bias"]
    write_artefact(tmp_path / "m", manifest, state)
    with pytest.raises(ArtefactError, match=r"head\.intent\.bias"):
        NluEngine.load(tmp_path / "m", "cpu")


def test_a_model_is_replaced_whole(copy: Path) -> None:
    write_artefact(copy, MANIFEST, {"w": torch.ones(2)})
    assert sorted(file.name for file in copy.iterdir()) == ["config.json", "model.safetensors"]
    assert read_artefact(copy)[0] == MANIFEST


def test_weights_of_another_training_do_not_pass(copy: Path) -> None:
    """What an interrupted replacement would leave."""
    save_file({"w": torch.ones(2)}, copy / "model.safetensors")
    with pytest.raises(ArtefactError, match="altered"):
        read_artefact(copy)


def test_a_model_of_format_1_answers_as_it_did(trained: TrainingSummary, tmp_path: Path) -> None:
    """The same weights under both layouts, with what is new in the second one at zero."""
    manifest, state, _ = read_artefact(trained.out)
    hidden = state["head.words.weight_ih_l0"].shape[1] // 2
    wide = ("head.intent.weight", "head.words.weight_ih_l0", "head.words.weight_ih_l0_reverse")
    for name in wide:
        state[name][:, hidden:] = 0
    narrow = {
        name.replace("head.words.", "head.gru."): tensor[:, :hidden].contiguous() if name in wide else tensor
        for name, tensor in state.items()
        if not name.startswith(NEWER)
    }
    without = {name: tensor for name, tensor in state.items() if not name.startswith(NEWER)}
    now, former = tmp_path / "now", tmp_path / "former"
    write_artefact(now, dataclasses.replace(manifest, decoding="constrained"), without)
    write_artefact(former, manifest, narrow)
    config = json.loads((former / "config.json").read_text())
    config |= {"format": 1, "gru_size": config.pop("head_size")}
    del config["recurrence"], config["decoding"], config["checksum"]
    canonical = json.dumps(config, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    config["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    (former / "config.json").write_text(json.dumps(config))
    texts = ["i will pay on friday", "is carla there", "bye"]
    answers = [NluEngine.load(folder, "cpu").predict(texts) for folder in (now, former)]
    assert answers[0] == answers[1]


def test_a_model_of_format_2_answers_as_it_did(trained: TrainingSummary, tmp_path: Path) -> None:
    """It does not know which slots go with which intent; else nothing has changed."""
    manifest, state, _ = read_artefact(trained.out)
    del state["agreement.penalties"]
    write_artefact(tmp_path, dataclasses.replace(manifest, format=2), state)
    texts = ["i will pay on friday", "is carla there", "bye"]
    former, now = (NluEngine.load(folder, "cpu").predict(texts) for folder in (tmp_path, trained.out))
    assert [(m.intent, m.slots) for m in former] == [(m.intent, m.slots) for m in now]
