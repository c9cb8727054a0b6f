"""The events' JSON Schema (2020-12), made from their types."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from gateway.monitoring.events import EVENT_TYPES, SCHEMA_VERSION

__all__ = ["event_schema"]

_COMMON: Final[dict[str, Any]] = {
    "v": {"const": SCHEMA_VERSION, "description": "Version of this schema."},
    "call_id": {"type": "string"},
    "seq": {"type": "integer", "description": "Counts the call's events; a gap is an event that was dropped."},
    "at_ms": {"type": "integer", "description": "Position in the caller's audio."},
    "time": {"type": "number", "description": "Wall clock, seconds since 1970."},
    "epoch": {"type": "integer", "description": "Grows when a call is resumed; `seq` then counts anew."},
}


def event_schema() -> dict[str, Any]:
    """One schema for a line of the stream; each type is one of its alternatives."""
    shared: dict[str, Any] = {}
    kinds = []
    for name, kind in EVENT_TYPES.items():
        made = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
        shared |= made.pop("$defs", {})
        properties = {**_COMMON, "type": {"const": name}, **made.get("properties", {})}
        description = (kind.__doc__ or "").strip()
        kinds.append(
            {"title": name, "description": description, "type": "object", "properties": properties}
            | {"required": sorted(properties)}
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "voicegate event",
        "oneOf": kinds,
        "$defs": shared,
    }
