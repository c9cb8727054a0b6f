"""`voicegate asr train`: one short training through the command, and its plain-spoken errors."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tts_stub.training_voices
from audio.recipe import evaluation_sets
from audio.recipe.speech import VoiceSet
from gateway.cli.asr_train import register_train
from tests.audio.recipe.tone_speaker import ToneSpeaker, write_data

pytestmark = pytest.mark.model


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command alone, with a synthesiser that costs nothing."""
    voices = VoiceSet(live=ToneSpeaker, unheard=(("tones", ToneSpeaker()),))
    monkeypatch.setattr(tts_stub.training_voices, "available_voices", lambda: voices)
    few = functools.partial(evaluation_sets.build_tests, size=4)
    monkeypatch.setattr(evaluation_sets, "build_tests", few)
    app = typer.Typer()
    app.callback()(lambda: None)  # keeps "train" a command of its own
    register_train(app)
    return app


def test_a_training_ends_in_a_model_its_tests_and_its_card(app: typer.Typer, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    command = ["train", "--out", str(out), "--data", str(data), "--minutes", "0.01", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--version", "7", "--test-limit", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["model"] == str(out / "ct2")
    assert any("tones" in title for title in document["clean"])
    assert "progress.jsonl" in {path.name for path in out.iterdir()}
    assert "en-small 7" in (out / "ct2" / "MODEL_CARD.md").read_text()
    assert (out / "model" / "model.safetensors").exists()

    again = CliRunner().invoke(app, [*command, "--export-only", "--baseline", str(out / "ct2"), "--test-limit", "1"])
    assert again.exit_code == 0, again.output
    assert "out/ct2, clean" in (out / "ct2" / "MODEL_CARD.md").read_text()


def test_a_folder_without_recordings_is_refused_before_any_work(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "nothing")])
    assert done.exit_code == 1
    assert "Free Spoken Digit Dataset" in done.stderr and not (tmp_path / "out").exists()


def test_export_without_a_checkpoint_says_train_first(app: typer.Typer, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    done = CliRunner().invoke(
        app, ["train", "--out", str(tmp_path), "--data", str(data), "--export-only", "--device", "cpu"]
    )
    assert done.exit_code == 1 and "train first" in done.stderr


def test_an_unknown_device_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "--out", str(tmp_path), "--data", str(tmp_path), "--device", "tpu"])
    assert done.exit_code == 2 and "cpu, cuda or auto" in done.stderr


def test_help_says_where_data_comes_from(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["train", "--help"])
    assert done.exit_code == 0
    assert "CC BY-SA 4.0" in done.stdout and "MODEL_CARD.md" in done.stdout
