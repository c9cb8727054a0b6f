"""The `voicegate` program: one typer app, a file per command group."""

from __future__ import annotations

import importlib

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    name="voicegate",
    help="A real-time voice bot gateway: phone calls over WebSocket in, speech understood, dialogue, speech out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the console script."""
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
    app()
