"""`voicegate bot schema`: editor help for flow files."""

from __future__ import annotations

import json

import typer

from dialogue.flow_schema import flow_schema

__all__ = ["schema", "schema_text"]


def schema() -> None:
    """Print the JSON Schema of flow.yaml.

    An editor with a YAML language server completes and checks keys by it, where the flow's first line is
    "# yaml-language-server: $schema=flow.schema.json". `bot new` writes both.

    \b
    voicegate bot schema > my-bot/flow.schema.json
    """
    typer.echo(schema_text(), nl=False)


def schema_text() -> str:
    """The schema as it stands in a file."""
    return json.dumps(flow_schema(), indent=1) + "\n"
