"""State and actions as JSON text, the form in which the store keeps them.

`version` is the form's own number: a reader refuses one it does not know rather than guess.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields as fields_of
from typing import Any

from dialogue.slots import SlotValue
from dialogue.state import DialogueState, Promise, Turn
from dialogue.turns import Action, CallWebhook, HangUp, Listen, Say, Transfer

__all__ = ["CodecError", "decode_actions", "decode_state", "encode_actions", "encode_state"]

VERSION = 1

_ACTIONS: dict[str, type[Action]] = {
    "say": Say,
    "listen": Listen,
    "call_webhook": CallWebhook,
    "transfer": Transfer,
    "hang_up": HangUp,
}
_NAMES = {kind: name for name, kind in _ACTIONS.items()}


_FIELDS: dict[type, tuple[str, ...]] = {}


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass as a mapping, its values as they are: `dataclasses.asdict` copies all below, at twice the cost of the
    rest of a turn."""
    kind = type(value)
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(field.name for field in fields_of(value))
    return {name: getattr(value, name) for name in _FIELDS[kind]}


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_fields)


class CodecError(ValueError):
    """Stored text that is not what this version writes."""


def encode_state(state: DialogueState) -> str:
    """State as one JSON object."""
    return _ENCODER.encode({"version": VERSION, **_fields(state)})


def decode_state(text: str) -> DialogueState:
    """The inverse of `encode_state`.

    Raises:
        CodecError: not JSON, another version, or fields of the wrong form.
    """
    fields = _object(text, "state")
    try:
        slots = {name: SlotValue(**slot) for name, slot in fields.pop("slots").items()}
        history = tuple(Turn(**turn) for turn in fields.pop("history"))
        promises = tuple(Promise(node=p["node"], slots=_pairs(p["slots"])) for p in fields.pop("promises", ()))
        return DialogueState(**fields, slots=slots, promises=promises, history=history)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(f"stored state has not the fields of version {VERSION}: {error}") from error


def encode_actions(actions: Sequence[Action]) -> str:
    """Actions as one JSON object, in order."""
    steps = [{"do": _NAMES[type(action)], **_fields(action)} for action in actions]
    return _ENCODER.encode({"version": VERSION, "actions": steps})


def decode_actions(text: str) -> tuple[Action, ...]:
    """The inverse of `encode_actions`.

    Raises:
        CodecError: not JSON, another version, or an unknown action.
    """
    try:
        return tuple(_action(fields) for fields in _object(text, "answer")["actions"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(f"stored answer has not the fields of version {VERSION}: {error}") from error


def _action(fields: dict[str, Any]) -> Action:
    kind = _ACTIONS[fields.pop("do")]
    for name in ("context", "send"):
        if name in fields:
            fields[name] = _pairs(fields[name])
    return kind(**fields)


def _pairs(listed: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """JSON has no tuples."""
    return tuple((name, value) for name, value in listed)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise CodecError(f"stored {what} is not JSON") from error
    if not isinstance(fields, dict) or fields.pop("version", None) != VERSION:
        raise CodecError(f"stored {what} is not of version {VERSION}, which this program writes")
    return fields
