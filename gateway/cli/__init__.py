"""The `voicegate` program: one typer app, a file per command group."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from gateway.cli.help_text import let_flow

__all__ = ["app", "main"]

_INTERRUPTED = 130
"""What shells make of a program that SIGINT ended."""

app = typer.Typer(
    name="voicegate",
    help="A real-time voice bot gateway: phone calls over WebSocket in, speech understood, dialogue, speech out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"voicegate {version('voicegate')}")
        raise typer.Exit


@app.callback()
def voicegate(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A real-time voice bot gateway: phone calls over WebSocket in, speech understood, dialogue, speech out."""


def main() -> None:
    """Entry point of the console script."""
    try:
        for name in (
            "serve",
            "call",
            "nlu",
            "asr",
            "bot",
            "inference",
            "models",
            "state",
            "token",
            "certificate",
            "doctor",
            "replay",
            "sip",
            "watch",
            "drain",
        ):
            importlib.import_module(f"gateway.cli.{name}").register(app)
        let_flow(app)
        app()
    except KeyboardInterrupt:  # while modules load: a command's own Ctrl-C is the command's
        sys.exit(_INTERRUPTED)
