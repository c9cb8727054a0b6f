"""Reading what products write in their texts: JSON in any state, numbers as strings, fields of any type.

For the dialects of others, where a field that makes no sense is passed over and never a fault: a PBX cannot mend its
messages. Ours (`native`) says what is wrong instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from gateway.protocols.seam import DigitReceived, JsonObject, MessageIgnored

__all__ = [
    "CALL_ID",
    "DIGIT",
    "MAX_METADATA",
    "MAX_VALUE_CHARS",
    "call_id_of",
    "digit_of",
    "dump",
    "metadata_of",
    "number_of",
    "object_of",
    "objects_of",
    "parse_object",
    "text_of",
    "word_of",
]

DIGIT = re.compile(r"[0-9*#A-Da-d]")
CALL_ID = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
MAX_METADATA = 32
MAX_VALUE_CHARS = 512
_MAX_OBJECTS = 16
_DECODER = json.JSONDecoder()


def parse_object(text: str) -> JsonObject | None:
    """The JSON object that `text` is; None: it is none, or nested deeper than any message of ours."""
    found, rest = objects_of(text)
    return found[0] if len(found) == 1 and not rest else None


def objects_of(text: str) -> tuple[list[JsonObject], str]:
    """The JSON objects that stand one behind the other in `text`, 16 at most, and what is left unread.

    mod_audio_fork writes texts that wait for the socket into one message, and cuts long ones (PROTOCOLS.md 3.4).
    """
    found: list[JsonObject] = []
    at = _skip_blanks(text, 0)
    while at < len(text) and text[at] == "{" and len(found) < _MAX_OBJECTS:
        try:
            parsed, at = _DECODER.raw_decode(text, at)
            # JSON can name half a character (a lone surrogate), which nothing beyond here could write again.
            json.dumps(parsed, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            break
        found.append(parsed)
        at = _skip_blanks(text, at)
    return found, text[at:]


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\0":  # C programs may send their string's end along
        at += 1
    return at


def dump(body: JsonObject) -> str:
    """One JSON text without blanks: some peers take 128 bytes at most."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def object_of(value: object) -> JsonObject:
    """A field that is to be an object; an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str | None:
    """A field's text, a number's included, cut at 512 characters; None where it is missing, empty or no plain value."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return str(value)[:MAX_VALUE_CHARS].strip() or None
    except ValueError:  # a whole number of more digits than Python writes
        return None


def word_of(value: object) -> str:
    """A field's text in lower case; empty where there is none."""
    return (text_of(value) or "").lower()


def number_of(value: object, default: int) -> int:
    """A field's whole number, from a string too; `default` where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return default
    try:
        return int(value)
    except ValueError:
        return default


def call_id_of(value: object) -> str | None:
    """A field that may serve as the call's id; None where it has other characters, or too many."""
    text = text_of(value)
    return text if text is not None and CALL_ID.fullmatch(text) else None


def digit_of(*values: object) -> DigitReceived | MessageIgnored:
    """A DTMF key, in the first of the fields that has a text."""
    digit = next((text for value in values if (text := text_of(value))), "")
    return DigitReceived(digit.upper()) if DIGIT.fullmatch(digit) else MessageIgnored("bad_dtmf")


def metadata_of(*sources: Mapping[str, object]) -> dict[str, str]:
    """Plain values of the sources by name, a later source's before an earlier one's; 32 at most."""
    found: dict[str, str] = {}
    for source in sources:
        for key, value in source.items():
            text = text_of(value)
            name = key[:MAX_VALUE_CHARS]
            if text is not None and (name in found or len(found) < MAX_METADATA):
                found[name] = text
    return found
