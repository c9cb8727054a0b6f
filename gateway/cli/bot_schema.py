"""`voicegate bot schema`: editor help for a bot's files."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from dialogue.flow_schema import faq_schema, flow_schema

__all__ = ["SCHEMAS", "schema", "schema_text"]

SCHEMAS = {"flow.schema.json": flow_schema, "faq.schema.json": faq_schema}
"""What a bot's folder holds of them, by file name."""


def schema(
    faq: Annotated[bool, typer.Option("--faq", help="Of faq.yaml instead.")] = False,
) -> None:
    """Print the JSON Schema of flow.yaml, or of faq.yaml.

    An editor with a YAML language server completes and checks keys by it, where the flow's first line is
    "# yaml-language-server: $schema=flow.schema.json". `bot new` writes both.

    \b
    voicegate bot schema > my-bot/flow.schema.json
    voicegate bot schema --faq > my-bot/faq.schema.json
    """
    typer.echo(schema_text(faq_schema() if faq else flow_schema()), nl=False)


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it stands in a file."""
    return json.dumps(schema, indent=1) + "\n"
