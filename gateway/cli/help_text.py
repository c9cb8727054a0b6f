"""Help that fits the terminal: docstrings are wrapped for the reader of the code, at another width.

typer's rich help joins the lines of a docstring's first paragraph alone and shows all others as they stand in the
source, so that in 80 columns every second line breaks in its middle.
"""

from __future__ import annotations

import inspect

import typer

__all__ = ["let_flow"]


def let_flow(app: typer.Typer) -> None:
    """Have the help of all commands wrap where the terminal ends. Call once all are registered."""
    for command in app.registered_commands:
        written = command.help or (command.callback.__doc__ if command.callback is not None else None)
        command.help = _flowing(inspect.cleandoc(written or ""))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            let_flow(group.typer_instance)


def _flowing(text: str) -> str:
    """Paragraphs as one line each; those that begin with a backspace alone on its line, or with blanks, as they are."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(each if each.startswith(("\b", " ")) else each.replace("\n", " ") for each in paragraphs)
