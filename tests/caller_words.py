"""What callers say in the tests and the demo, in one place: none of it may stand in a log (`tests.overheard`).

Single common words are not here ("yes", "more"): logs may hold them for reasons of their own.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CALLER_TEXTS", "find_caller_words"]

CALLER_TEXTS: Final = (
    # The demo's two calls: gateway/demo/README.md.
    "yes speaking",
    "four four one seven",
    "when is it due",
    "i can pay on friday",
    "yes that is correct",
    "no that is all",
    "yes this is me",
    "i already paid",
    "five two eight nine six",
    "yes that is right",
    "no thank you",
    # Callers of the bundled bot's spoken script that the tests call with, and of scripted recognisers.
    "stop calling me",
    "you have the wrong number",
    "i lost my job",
    "i was charged twice",
    "tell me more",
    "is it far",
    "yes number 42",
    "my card is 4111 1111 1111 1111",
    "call five five five one two three four",
    "my-number-is-90210",
    # In pieces, and as they are written down: numbers, and a word that nobody else says.
    "4111 1111",
    "4111111111111111",
    "five five five one",
    "555 123 4567",
    "5551234567",
    "aardvark",
)

_FOUND: Final = re.compile("|".join(map(re.escape, sorted(CALLER_TEXTS, key=len, reverse=True))), re.IGNORECASE)


def find_caller_words(text: str) -> str | None:
    """The first of a caller's texts that stands in this one, however its words are spaced."""
    found = _FOUND.search(" ".join(text.split()))
    return found[0] if found is not None else None
