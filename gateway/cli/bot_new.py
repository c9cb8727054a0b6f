"""`voicegate bot new`: a working bot to edit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from dialogue.bots import bundled_bots, load_bot
from gateway.cli.bot_schema import SCHEMAS, schema_text
from gateway.cli.ending import exit_with

__all__ = ["new"]

_TEMPLATE_OF = "bill-reminder"
"""The bundled bot whose examples and model a new bot begins with."""

_PLACEHOLDER = "BOT_NAME"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bot's name: small letters, digits and hyphens.")],
    directory: Annotated[Path | None, typer.Option("--dir", help="The folder to make.", show_default="./NAME")] = None,
) -> None:
    """Make a working bot to edit: it books an appointment.

    The folder has a flow with comments, an FAQ, examples of what callers say, scripted conversations and a model, so
    that `bot check`, `bot test` and `bot chat` work at once. Examples and model are those of bill-reminder
    that the flow uses: add your own, then train.

    \b
    voicegate bot new my-bot
    voicegate bot chat my-bot
    """
    folder = directory or Path(name)
    if not _NAME.fullmatch(name):
        exit_with(f"{name!r} is no bot's name; use small letters, digits and hyphens: my-bot")
    if name in bundled_bots():
        exit_with(f"a bundled bot is named {name!r}; choose another name")
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        exit_with(f"{folder} exists and is not empty; name another folder with --dir")
    source = load_bot(_TEMPLATE_OF)
    template = source.directory.parent / "templates" / "new"
    shutil.copytree(template, folder, dirs_exist_ok=True)
    for file, schema in SCHEMAS.items():
        (folder / file).write_text(schema_text(schema()), encoding="utf-8")
    described = folder / "bot.yaml"
    described.write_text(described.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")
    intents = _intents_of(folder / "flow.yaml")
    for file in ("examples.jsonl", "examples.dev.jsonl"):
        _copy_examples(source.directory / file, folder / file, intents)
    if source.nlu_path is not None and source.nlu_path.is_dir():
        shutil.copytree(source.nlu_path, folder / "nlu")
    typer.echo(f"{folder} is a bot that works. Next:")
    typer.echo(f"  voicegate bot chat {folder}      talk to it")
    typer.echo(f"  voicegate bot test {folder}      run its scripted conversations")
    typer.echo(f"  edit {folder / 'flow.yaml'}, then voicegate bot check {folder}")


def _intents_of(flow: Path) -> set[str]:
    """Words of the flow that may be intents; that some are none does no harm, no example has those."""
    return set(re.findall(r"\w+", flow.read_text(encoding="utf-8"))) | {"oos"}


def _copy_examples(source: Path, to: Path, intents: set[str]) -> None:
    """Only what the flow can answer: an intent that leads nowhere would only be mistaken for others."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    to.write_text("".join(line for line in lines if json.loads(line)["intent"] in intents), encoding="utf-8")
