from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli.nlu import register
from nlu import training
from nlu.checkpoint import Checkpoint, CheckpointFile
from nlu.training import TrainConfig, TrainingSummary
from tests.nlu.conftest import example, write_lines

pytestmark = pytest.mark.unit

APP = typer.Typer()
register(APP)


@APP.callback()
def _program() -> None:
    """A second command level, as the real program has."""


def voicegate(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(APP, ["nlu", *map(str, arguments)], input=stdin)


def test_train_makes_the_folder_and_prints_one_document(encoder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    result = voicegate(
        "train", "--train", data, "--dev", data, "--out", out, "--encoder", encoder, "--epochs", 1, "--json"
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["out"], summary["examples"], summary["epochs"]) == (str(out), 64, 1)
    assert {"intent_accuracy", "slot_f1", "sentence_accuracy", "n"} <= summary["dev"].keys()
    assert (out / "config.json").is_file()


def test_train_takes_an_empty_folder_and_tells_people(encoder: Path, tmp_path: Path) -> None:
    lines = [example("bye", "goodbye"), example("bye bye", "goodbye"), example("hm [x]", "rare")]
    path = write_lines(tmp_path / "train.jsonl", lines)
    (tmp_path / "m").mkdir()
    result = voicegate("train", "--train", path, "--out", tmp_path / "m", "--encoder", encoder, "--epochs", 1)
    assert result.exit_code == 0, result.stderr
    assert "2 intents, 0 slots from 3 examples" in result.stdout
    assert f"{path}:3: intent 'rare' has this one example only" in result.stderr


def test_a_log_has_a_line_for_each_epoch(encoder: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("--train", data, "--dev", data, "--out", tmp_path / "m", "--encoder", encoder, "--epochs", 3)
    result = voicegate("train", *arguments)
    told = [line.partition(",")[0] for line in result.stderr.splitlines() if line.startswith("epoch")]
    assert told == ["epoch 1/3 is over", "epoch 2/3 is over"]  # the last one's figures are the model's


@pytest.mark.parametrize(("epochs", "told"), [(1, "with --resume goes on"), (0, "nothing is kept")])
def test_an_interrupted_training_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, told: str
) -> None:
    def interrupted(config: TrainConfig, *_args: object) -> None:
        if epochs:
            CheckpointFile(config.out).write(Checkpoint(epoch=epochs, fingerprint="f", state={}))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    result = voicegate("train", "--train", data, "--out", tmp_path / "model")
    assert (result.exit_code, result.stdout) == (130, "") and told in result.stderr


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_train_refuses_a_folder_of_other_things(
    encoder: Path, data: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "precious").write_text("")
    result = voicegate("train", "--train", data, "--out", tmp_path, "--encoder", encoder, *flags)
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert (tmp_path / "precious").exists()


def test_a_malformed_line_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("not json\n")
    result = voicegate("train", "--train", path, "--out", tmp_path / "m")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: {path}:1: not JSON" in result.stderr
    assert not (tmp_path / "m").exists()


def test_eval_prints_the_promised_keys(trained: TrainingSummary, data: Path, tmp_path: Path) -> None:
    result = voicegate("eval", "--model", trained.out, "--data", data, "--json")
    figures = json.loads(result.stdout)
    assert list(figures) == [
        "n",
        "intent_accuracy",
        "slot_f1",
        "sentence_accuracy",
        "oos_recall",
        "oos_precision",
    ]
    assert (figures["n"], figures["intent_accuracy"] > 0.9) == (64, True)
    in_scope = write_lines(tmp_path / "in.jsonl", [example("bye", "goodbye"), example("bye anna", "goodbye")])
    result = voicegate("eval", "--model", trained.out, "--data", in_scope, "--json")
    assert list(json.loads(result.stdout)) == ["n", "intent_accuracy", "slot_f1", "sentence_accuracy"]


def test_eval_names_labels_that_the_model_does_not_know(trained: TrainingSummary, tmp_path: Path) -> None:
    lines = [example("bye", "goodbye"), example("bye bye", "goodbye"), *[example("pay bob", "gift", whom="bob")] * 2]
    path = write_lines(tmp_path / "test.jsonl", [*lines, *[example("tell a joke", "oos")] * 2])
    result = voicegate("eval", "--model", trained.out, "--data", path)
    told = [line.removeprefix("warning: ") for line in result.stderr.splitlines() if "warning" in line]
    assert told == [
        f"{path}:3: {label} is not among those that the model knows: its lines cannot be predicted right"
        for label in ("intent 'gift'", "slot 'whom'")
    ]


def test_reports_are_written_where_asked(trained: TrainingSummary, encoder: Path, data: Path, tmp_path: Path) -> None:
    result = voicegate("eval", "--model", trained.out, "--data", data, "--report", tmp_path / "new" / "r", "--json")
    document = json.loads((tmp_path / "new" / "r" / "report.json").read_text())
    assert document["evaluation"] == json.loads(result.stdout)
    assert {figures["name"] for figures in document["slots"]} == {"date", "person"}
    assert "<svg" in (tmp_path / "new" / "r" / "report.html").read_text()
    arguments = ("--train", data, "--out", tmp_path / "m", "--encoder", encoder, "--epochs", 1)
    assert voicegate("train", *arguments, "--report", tmp_path / "t", "--json").exit_code == 0
    assert (tmp_path / "t" / "report.html").is_file()
    (tmp_path / "file").write_text("")
    result = voicegate("eval", "--model", trained.out, "--data", data, "--report", tmp_path / "file")
    assert result.exit_code == 1
    assert "name another folder" in result.stderr


def test_an_interrupted_training_is_gone_on_with_only_if_asked(encoder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    arguments = ("--train", data, "--dev", data, "--out", out, "--encoder", encoder, "--epochs", 2)
    assert "no interrupted training" in voicegate("train", *arguments, "--resume").stderr
    out.mkdir()
    (out / "training.pt").write_bytes(b"broken")
    result = voicegate("train", *arguments)
    assert (result.exit_code, "--resume" in result.stderr, "--overwrite" in result.stderr) == (1, True, True)
    assert "broken; delete it" in voicegate("train", *arguments, "--resume").stderr
    assert voicegate("train", *arguments, "--overwrite", "--head", "lstm", "--decoder", "constrained").exit_code == 0
    assert not (out / "training.pt").exists()


def test_eval_of_a_missing_model_names_the_mend(data: Path, tmp_path: Path) -> None:
    result = voicegate("eval", "--model", tmp_path / "gone", "--data", data)
    assert result.exit_code == 1
    assert "`voicegate nlu train` makes one" in result.stderr


def test_predict_takes_arguments_or_stdin(trained: TrainingSummary) -> None:
    by_argument = voicegate("predict", "--model", trained.out, "--json", "I will pay on [Friday]", "bye")
    by_stdin = voicegate("predict", "--model", trained.out, "--json", stdin="I will pay on [Friday]\nbye\n")
    document = json.loads(by_argument.stdout)
    assert json.loads(by_stdin.stdout) == document
    assert voicegate("predict", "--model", trained.out, "--json", stdin="").exit_code == 0
    assert document["version"] == trained.version
    first = document["results"][0]
    assert first["slots"] == [{"name": "date", "text": "Friday", "start": 15, "end": 21}]


def test_predict_prints_a_line_a_text(trained: TrainingSummary) -> None:
    result = voicegate("predict", "--model", trained.out, "get me Bob", "[b]")
    first, second = result.stdout.splitlines()
    assert first.startswith("transfer ")
    assert first.endswith("person='Bob'  <- get me Bob")
    assert second.endswith("<- [b]")


def test_predict_reads_bytes_that_are_no_text(trained: TrainingSummary) -> None:
    result = CliRunner().invoke(APP, ["nlu", "predict", "--model", str(trained.out)], input=b"bye \xff\n")
    assert result.exit_code == 0
    assert "<- bye" in result.stdout


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_help_teaches_with_an_example(command: str) -> None:
    result = voicegate(command, "--help")
    assert result.exit_code == 0
    assert f"voicegate nlu {command} --" in result.stdout
