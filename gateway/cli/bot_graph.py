"""`voicegate bot graph`: a flow as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dialogue.flow_graph import flow_svg
from gateway.cli.bot_model import BotArgument, bot_or_exit
from gateway.cli.ending import exit_with

__all__ = ["graph"]


def graph(
    name_or_dir: BotArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.", show_default="NAME.svg")] = None,
) -> None:
    """Draw a bot's flow as SVG: its nodes, what they say, and what leads from one to the next.

    Open the file in a browser; pointing at a box or a line shows all its words.

    \b
    voicegate bot graph bill-reminder --out bill-reminder.svg
    """
    bot = bot_or_exit(name_or_dir)
    path = out or Path(f"{bot.name}.svg")
    try:
        path.write_text(flow_svg(bot.flow, f"{bot.name} {bot.version}"), encoding="utf-8")
    except OSError as error:
        exit_with(f"{path} cannot be written: {error.strerror}; name another file with --out")
    typer.echo(f"{path}: {len(bot.flow.nodes)} nodes")
