"""What a flow knows before the call: its variables, from the call's metadata."""

from __future__ import annotations

from datetime import date

from dialogue.flow import Flow
from dialogue.slots import SlotValue, parse_given
from dialogue.turns import CallStarted, DialogueError

__all__ = ["MetadataError", "read_variables"]


class MetadataError(DialogueError):
    """A variable's value is missing from a call's metadata, or none it can take. Better no call than a wrong
    sum read out."""


def read_variables(flow: Flow, event: CallStarted) -> dict[str, SlotValue]:
    """Values of the flow's variables: from the call's metadata, else their defaults.

    Raises:
        MetadataError: a value that is missing, or that the variable refuses; the message names it.
    """
    given = dict(event.metadata)
    today = date.fromisoformat(event.today)
    values: dict[str, SlotValue] = {}
    for spec in flow.slots.values():
        if not spec.variable:
            continue
        text = given.get(spec.name, spec.default)
        if text is None:
            raise MetadataError(f"metadata {spec.name!r} is missing; give it, or give the bot a default for it")
        value = parse_given(spec, text, today=today, known=values)
        if not isinstance(value, SlotValue):
            why = f" ({value.reason})" if value else ""
            raise MetadataError(
                f"metadata {spec.name!r} is no {spec.type} that the bot can use{why}; "
                f"correct it, or leave it out to use the bot's default"
            )
        values[spec.name] = value
    return values
