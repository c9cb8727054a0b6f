"""`voicegate replay` at the command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.replay import register
from tests.gateway.harness import DEMO

pytestmark = pytest.mark.unit

NOBODY = "ws://127.0.0.1:1/v1/call"


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout, done.stderr


def test_failed_calls_are_a_document_and_with_gate_an_exit_code(tmp_path: Path) -> None:
    html = tmp_path / "load.html"
    options = ["--url", NOBODY, "--calls", "2", "--ramp", "0", "--no-solo", "--json"]
    code, out, _ = run(str(DEMO), *options, "--gate", "--html", str(html))
    assert code == 1 and out.count("\n") == 1
    document = json.loads(out)
    assert (document["placed"], document["failed"], document["verdict"]) == (2, 2, "missed")
    assert document["machine"]["python"] and document["machine"]["websockets"]
    assert "nothing listens" in html.read_text()
    assert run(str(DEMO), *options)[0] == 0  # without --gate, a report is a success


def test_a_person_reads_a_table_with_reasons() -> None:
    code, out, _ = run(str(DEMO), "--url", NOBODY, "--calls", "1", "--no-solo")
    assert code == 0
    assert "endpoint_to_reply_ms" in out and "not measured" in out
    assert "1 placed, 0 ok" in out and "nothing listens" in out
    assert "--control-url" in out  # the mend for what was not measured


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["gone.wav"], "gone.wav: no such file"),
        ([str(DEMO), "--html", "gone/load.html"], "its folder does not exist"),
    ],
)
def test_what_cannot_be_replayed_is_named(words: list[str], named: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and f"Cannot replay: {words[-1]}" in err and named in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([str(DEMO), "--dialect", "sip"], "--dialect sip: there are native, asterisk, asterisk-json, twilio"),
        ([str(DEMO), "--url", "127.0.0.1:8765"], "must begin with ws:// or wss://"),
        ([str(DEMO), "--url", "ws://[broken"], "write it like ws://"),
        ([str(DEMO), "--url", NOBODY, "--dialect", "twilio"], "/v1/call is for native; leave the path out"),
        (["one.tape"], "a tape is for --against"),
        (["gone.tape", "--against", "load"], "gone.tape: no such file; make a tape with `voicegate call"),
        (["one.tape", "two.tape", "--against", "load"], "one tape or WAV, not 2 paths"),
        (["one.tape", "--against", "load", "--html", "x.html"], "--against prints a table"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_mend(words: list[str], named: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and named in " ".join(err.split())


def test_versions_are_compared_from_what_the_tape_keeps(tmp_path: Path) -> None:
    head = {"tape": 1, "encoding": "pcm_s16le", "sample_rate": 8000, "channels": 1}
    tape = tmp_path / "one.tape"
    tape.write_text(json.dumps(head) + "\n" + json.dumps({"at_ms": 0, "key": "1"}) + "\n")
    code, out, err = run(str(tape), "--against", NOBODY)
    assert (code, out) == (1, "") and f"Cannot compare: nothing listens at {NOBODY}" in err
    code, out, err = run(str(tape), "--against", str(tmp_path / "gone.toml"), "--url", NOBODY)
    assert code == 1 and f"nothing listens at {NOBODY}" in err, "the old version is asked first"


def test_help_teaches_with_an_example() -> None:
    code, out, _ = run("--help")
    assert code == 0 and "Example" in out and "--gate" in out
