"""`voicegate bot`: what a bot author needs before a call. Each larger command has a module of its own."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dialogue.bots import Bot, BotError, bundled_bots, load_bot
from gateway.cli import bot_chat, bot_graph, bot_new, bot_schema, bot_scripts
from gateway.cli.bot_model import BotArgument, training_command

__all__ = ["register"]

bot_app = typer.Typer(help="Write, check and try bots.", no_args_is_help=True)
bot_app.command()(bot_scripts.test)
bot_app.command()(bot_chat.chat)
bot_app.command()(bot_new.new)
bot_app.command()(bot_graph.graph)
bot_app.command()(bot_schema.schema)


def register(app: typer.Typer) -> None:
    """Add `voicegate bot`."""
    app.add_typer(bot_app, name="bot")


@bot_app.callback()
def bot() -> None:
    """Write, check and try bots."""


@bot_app.command()
def check(
    name_or_dir: BotArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Validate a bot and name every fault with file and line.

    A bot is a folder with bot.yaml (name, language, voice, which files), a flow in YAML, examples in JSON
    Lines and, once trained, its NLU artefact. All faults are reported at once, each with its mend; the exit
    code is 1 where there are any. The bundled bots are the examples to copy.

    \b
    voicegate bot check bill-reminder
    voicegate bot check ./my-bot --json
    """
    try:
        found = load_bot(name_or_dir)
    except BotError as error:
        faults = [{"file": f.file, "line": f.line, "message": f.what, "mend": f.mend} for f in error.faults]
        if as_json:
            typer.echo(json.dumps({"bot": name_or_dir, "ok": False, "faults": faults}))
        else:
            for fault in error.faults:
                typer.echo(str(fault))
            typer.echo(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}; the bot cannot be used.")
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps({"bot": found.name, "ok": True, "faults": [], **_summary(found)}))
    else:
        facts = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in _summary(found).items())
        typer.echo(f"{found.name} {found.version}: no faults ({facts})")
        if found.nlu_path is not None and not found.nlu_path.is_dir():
            typer.echo(f"Not trained yet: {training_command(found)}")
        elif name_or_dir not in bundled_bots():
            typer.echo(f"Try it: voicegate serve --bot {name_or_dir}")


def _summary(bot: Bot) -> dict[str, int]:
    flow = bot.flow
    return {"nodes": len(flow.nodes), "slots": len(flow.slots), "fixed_prompts": len(bot.fixed_prompts())}
