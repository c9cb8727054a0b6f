"""How commands end that cannot do what they were asked."""

from __future__ import annotations

from typing import NoReturn

import typer

__all__ = ["exit_with"]


def exit_with(message: str) -> NoReturn:
    """Say why on stderr and end with code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)
