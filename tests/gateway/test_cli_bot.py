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
    assert done.exit_code == 1 and "bundled bot: bill-reminder" in done.stdout


def test_help_teaches() -> None:
    done = runner.invoke(app, ["bot", "check", "--help"])
    assert done.exit_code == 0 and "voicegate bot check bill-reminder" in done.stdout


def test_scripts_of_a_bot_pass() -> None:
    done = runner.invoke(app, ["bot", "test", "bill-reminder", "--no-model"])
    assert done.exit_code == 0 and "FAIL" not in done.stdout
    assert "ok    promises in one sentence" in done.stdout


def test_a_script_that_fails_shows_the_conversation_and_the_difference(tmp_path: Path) -> None:
    script = tmp_path / "calls.yaml"
    script.write_text(
        "today: 2026-11-21\ncalls:\n  asks:\n    turns:\n      - {caller: 'yes', intent: affirm, node: tell_bill}\n"
    )
    done = runner.invoke(app, ["bot", "test", "bill-reminder", str(script), "--no-model"])
    assert done.exit_code == 1
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[0] == f"FAIL  asks  {script}:3"
    assert "  caller  yes  affirm 1.00" in lines
    assert lines[lines.index("    - node: tell_bill  line 5") + 1] == "    + check_account"
    assert lines[-1].startswith("0 of 1 calls")


def test_scripts_as_json() -> None:
    done = runner.invoke(app, ["bot", "test", "bill-reminder", "--no-model", "--json", "--only", "nobody"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["ok"], answer["calls"]) == (0, True, 1)
    (result,) = answer["results"]
    assert (result["disposition"], result["turns"][1]["caller"]) == ("no_answer", "(silence)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load", "--no-model"], "has no scripts"),
        (["no-such-bot"], "there is no such file"),
        (["bill-reminder", "--no-model", "--only", "xyzzy"], "no call's name holds 'xyzzy'"),
        (["bill-reminder", "missing.yaml"], "the script is missing"),
    ],
)
def test_scripts_that_cannot_be_run(arguments: list[str], message: str) -> None:
    done = runner.invoke(app, ["bot", "test", *arguments])
    assert done.exit_code == 1 and message in done.stderr


def test_a_chat_through_a_pipe() -> None:
    lines = "yes\n/keys 4417\n/silence\n/slots\n/what\n/reconnect\n/keys 0\n"
    done = runner.invoke(
        app,
        ["bot", "chat", "bill-reminder", "--no-model", "--meta", "amount=120", "--today", "2026-11-21"],
        input="/keys 0x\n" + lines,
    )
    assert done.exit_code == 0
    said = [line for line in done.stdout.splitlines() if line.startswith(("bot", "The call is"))]
    assert said[0].startswith("bot  Hello, this is River Energy") and said[0].endswith("greet")
    assert "Sorry, I did not get that." in said[1]  # without a model, words mean nothing
    assert said[-2].startswith("bot  I will connect you to a person.")
    assert said[-1] == "The call is over: transfer."
    assert "amount = 120.00" in done.stdout and "The caller is handed over to agent." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--today", "friday"], "write it as 2026-11-21"),
        (["--meta", "amount"], "write it as amount=120"),
        (["--meta", "amount=a lot"], "metadata 'amount'"),
    ],
)
def test_a_chat_that_cannot_begin(arguments: list[str], message: str) -> None:
    done = runner.invoke(app, ["bot", "chat", "bill-reminder", "--no-model", *arguments])
    assert done.exit_code == 1 and message in done.stderr


def test_a_chat_ends_with_its_input_and_at_quit() -> None:
    for given in ("", "/quit\n"):
        done = runner.invoke(app, ["bot", "chat", "bill-reminder", "--no-model"], input=given)
        assert done.exit_code == 0 and done.stdout.rstrip().endswith("The call is over: you hung up.")


def test_a_new_bot_works_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "my-bot"
    done = runner.invoke(app, ["bot", "new", "my-bot", "--dir", str(folder)])
    assert done.exit_code == 0, done.output
    assert load_bot(folder).name == "my-bot"
    for command in (["check"], ["test", "--no-model"]):
        done = runner.invoke(app, ["bot", command[0], str(folder), *command[1:]])
        assert done.exit_code == 0, done.output
    assert (folder / "nlu" / "config.json").is_file()
    assert "BOT_NAME" not in "".join(path.read_text() for path in folder.glob("*.yaml"))
    first = (folder / "flow.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=flow.schema.json"
    shown = runner.invoke(app, ["bot", "schema"]).stdout
    assert (folder / "flow.schema.json").read_text() == shown
    first = (folder / "faq.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=faq.schema.json"
    shown = runner.invoke(app, ["bot", "schema", "--faq"]).stdout
    assert (folder / "faq.schema.json").read_text() == shown and json.loads(shown)["title"] == "voicegate FAQ"


def test_a_bot_that_is_not_trained_shows_the_command_that_trains_it(tmp_path: Path) -> None:
    folder = tmp_path / "my-bot"
    shutil.copytree(load_bot("bill-reminder-zh").directory, folder)
    shutil.rmtree(folder / "nlu")
    command = (
        f"voicegate nlu train --train {folder / 'examples.jsonl'} --out {folder / 'nlu'} "
        f"--dev {folder / 'examples.dev.jsonl'} --language zh"
    )
    checked = runner.invoke(app, ["bot", "check", str(folder)])
    assert checked.exit_code == 0 and checked.stdout.splitlines()[1:] == [f"Not trained yet: {command}"]
    refused = runner.invoke(app, ["bot", "chat", str(folder)])
    assert refused.exit_code == 1 and command in refused.stderr and "--no-model" in refused.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [("My Bot", "no bot's name"), ("load", "a bundled bot is named"), ("taken", "is not empty")],
)
def test_a_new_bot_that_cannot_be_made(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "taken.txt").touch()
    done = runner.invoke(app, ["bot", "new", name, "--dir", str(tmp_path)])
    assert done.exit_code == 1 and message in done.stderr


def test_a_drawing(tmp_path: Path) -> None:
    path = tmp_path / "flow.svg"
    done = runner.invoke(app, ["bot", "graph", "bill-reminder", "--out", str(path)])
    assert done.exit_code == 0 and path.read_text(encoding="utf-8").startswith("<svg ")
    done = runner.invoke(app, ["bot", "graph", "bill-reminder", "--out", str(tmp_path / "no" / "flow.svg")])
    assert done.exit_code == 1 and "cannot be written" in done.stderr
