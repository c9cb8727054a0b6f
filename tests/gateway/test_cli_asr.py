"""`voicegate asr` as a person or a script calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from audio.files import write_wav
from gateway.cli import asr

pytestmark = pytest.mark.model

DEMO = Path(__file__).parents[2] / "gateway" / "demo"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    asr.register(app)
    return app


def demo_recording(name: str) -> str:
    (path,) = DEMO.glob(f"*{name}.wav")
    return str(path)


def test_transcribe_prints_one_document(app: typer.Typer, tmp_path: Path) -> None:
    write_wav(tmp_path / "quiet.wav", np.zeros(8000, np.int16), 8000)
    done = CliRunner().invoke(
        app, ["asr", "transcribe", "--json", demo_recording("account-digits"), str(tmp_path / "quiet.wav")]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["model"] == "en-small-4"
    assert [result["text"] for result in document["results"]] == ["four four one seven", ""]
    assert document["results"][1]["gated_by"] == "energy"


def test_transcribe_for_people(app: typer.Typer) -> None:
    path = demo_recording("when-is-it-due")
    done = CliRunner().invoke(app, ["asr", "transcribe", path])
    assert (done.exit_code, done.stdout.strip()) == (0, f"{path}: when is it due")


def test_eval_prints_the_figures(app: typer.Typer, tmp_path: Path) -> None:
    lines = [
        {"audio": demo_recording("account-digits"), "text": "4417"},
        {"audio": demo_recording("when-is-it-due"), "text": "When is it new?"},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines))
    done = CliRunner().invoke(app, ["asr", "eval", "--manifest", str(manifest), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["n"] == 2
    assert document["wer"] == pytest.approx(1 / 8)
    assert 0 < document["cer"] < 0.1
    assert 0 < document["real_time_factor"] < 1
    table = CliRunner().invoke(app, ["asr", "eval", "--manifest", str(manifest)])
    assert "12.5%" in table.stdout


def test_eval_over_telephone_lines_says_what_was_heard(app: typer.Typer, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": demo_recording("account-digits"), "text": "4417"}))
    heard = tmp_path / "heard.jsonl"
    arguments = ["asr", "eval", "--manifest", str(manifest), "--lines", "--heard", str(heard)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert list(document["lines"]) == ["mulaw", "alaw", "noise_10db"]
    assert [one["n"] for one in document["lines"].values()] == [1, 1, 1]
    assert document["wer"] == 0
    rows = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [row["line"] for row in rows] == [None, "mulaw", "alaw", "noise_10db"]
    assert {(row["audio"], row["text"]) for row in rows} == {(demo_recording("account-digits"), "4417")}
    assert rows[0]["heard"] == "four four one seven"
    table = CliRunner().invoke(app, arguments)
    assert "as recorded" in table.stdout and "noise_10db" in table.stdout


def test_where_to_write_what_was_heard_is_tried_before_the_work(app: typer.Typer, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": demo_recording("account-digits"), "text": "4417"}))
    heard = tmp_path / "no" / "heard.jsonl"
    arguments = ["--manifest", str(manifest), "--heard", str(heard), "--model", "no-such-size"]
    done = CliRunner().invoke(app, ["asr", "eval", *arguments])
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{heard}: cannot be written (No such file or directory)" in done.stderr


def test_an_expectation_is_told_to_the_recogniser_and_lets_other_words_through(app: typer.Typer) -> None:
    paths = [demo_recording("account-digits"), demo_recording("when-is-it-due")]
    done = CliRunner().invoke(app, ["asr", "transcribe", "--expect", "digits", "--json", *paths])
    assert done.exit_code == 0, done.output
    texts = [result["text"] for result in json.loads(done.stdout)["results"]]
    assert texts == ["four four one seven", "when is it due"]
    refused = CliRunner().invoke(app, ["asr", "transcribe", "--expect", "colour", *paths])
    assert refused.exit_code == 2
    assert all(name in refused.stderr for name in ("digits", "yes_no", "amount", "date"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transcribe", "gone.wav"], "gone.wav: no such file"),
        (["transcribe", "--model", "no-such-size", "gone.wav"], "'no-such-size' cannot be loaded"),
        (["transcribe", "--language", "zh", "gone.wav"], "no bundled recogniser for 'zh'"),
        (["eval", "--manifest", "gone.jsonl"], "gone.jsonl: cannot be read"),
    ],
)
def test_a_fault_is_one_line_on_stderr_and_status_1(app: typer.Typer, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["asr", *arguments])
    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
