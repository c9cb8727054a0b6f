"""`voicegate bot check` as its author uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dialogue.bots import load_bot
from gateway.cli import bot

pytestmark = pytest.mark.unit

runner = CliRunner()
app = typer.Typer()
bot.register(app)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A bot whose flow has two mistakes."""
    source = load_bot("load").directory
    shutil.copytree(source, tmp_path / "bot")
    flow = tmp_path / "bot" / "flow.yaml"
    flow.write_text(flow.read_text().replace("start: listening", "start: listen").replace("say: Hello", "sya: Hello"))
    return tmp_path / "bot"


@pytest.mark.parametrize("name", ["load", "bill-reminder"])
def test_a_sound_bot(name: str) -> None:
    done = runner.invoke(app, ["bot", "check", name])
    assert done.exit_code == 0 and f"{name} 1: no faults" in done.stdout


def test_a_sound_bot_as_json() -> None:
    done = runner.invoke(app, ["bot", "check", "load", "--json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["ok"], answer["faults"], answer["nodes"]) == (0, True, [], 1)


def test_faults_are_lines_to_jump_to(broken: Path) -> None:
    done = runner.invoke(app, ["bot", "check", str(broken)])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{broken / 'flow.yaml'}:1: there is no node 'listen' (did you mean 'listening'?)")
    assert any(line.startswith(f"{broken / 'flow.yaml'}:4: ") and "'sya'" in line for line in lines)
    assert lines[-1].endswith("faults; the bot cannot be used.")


def test_faults_as_json(broken: Path) -> None:
    done = runner.invoke(app, ["bot", "check", str(broken), "--json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 1 and not answer["ok"]
    assert {"file", "line", "message", "mend"} == set(answer["faults"][0])


def test_a_folder_that_is_no_bot(tmp_path: Path) -> None:
    done = runner.invoke(app, ["bot", "check", str(tmp_path)])
    assert done.exit_code == 1 and "bundled bot: bill-reminder, load" in done.stdout


def test_help_teaches() -> None:
    done = runner.invoke(app, ["bot", "check", "--help"])
    assert done.exit_code == 0 and "voicegate bot check bill-reminder" in done.stdout
