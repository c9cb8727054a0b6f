"""The program as a whole: its help, its version, and a Ctrl-C before a command has begun."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

import gateway.cli
from gateway.cli.help_text import let_flow

pytestmark = pytest.mark.unit

runner = CliRunner()


def commands(app: typer.Typer, group: str = "") -> Iterator[tuple[str, str]]:
    """Every command as it is typed, with its help."""
    for command in app.registered_commands:
        assert command.callback is not None
        written = command.help or inspect.getdoc(command.callback) or ""
        yield f"{group} {command.name or command.callback.__name__}".strip(), written
    for inner in app.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, inner.name or "")


def test_the_help_of_every_command_has_an_example() -> None:
    app = typer.Typer()
    for module in pkgutil.iter_modules(gateway.cli.__path__, "gateway.cli."):
        getattr(importlib.import_module(module.name), "register", lambda _app: None)(app)
    helps = dict(commands(app))
    assert len(helps) > 30
    assert [name for name, written in helps.items() if f"voicegate {name}" not in written] == []


def test_the_version_is_told() -> None:
    assert runner.invoke(gateway.cli.app, ["--version"]).stdout == f"voicegate {version('voicegate')}\n"


def test_help_flows_and_examples_stand_as_written() -> None:
    app, group = typer.Typer(), typer.Typer()

    @group.command()
    def one() -> None:
        """What it does.

        A sentence that goes on
        in the next line.

            {"indented": 1}

        \b
        voicegate one
        voicegate one --two
        """

    @group.command()
    def two() -> None: ...

    app.add_typer(group, name="group")
    let_flow(app)
    shown = [line.strip() for line in runner.invoke(app, ["group", "one", "--help"]).stdout.splitlines()]
    assert "A sentence that goes on in the next line." in shown
    assert '{"indented": 1}' in shown
    assert shown.index("voicegate one --two") == shown.index("voicegate one") + 1


def test_ctrl_c_while_modules_load_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(SystemExit) as ended:
        gateway.cli.main()
    assert ended.value.code == 130
