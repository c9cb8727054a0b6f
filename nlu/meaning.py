"""What the caller meant: the result every NLU model gives. Imports no model code, so a gateway worker can."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OUT_OF_SCOPE", "FaqMatch", "Meaning", "NluError", "Slot"]

OUT_OF_SCOPE = "oos"
"""The intent of text that belongs to none of the bot's intents."""


class NluError(Exception):
    """Root of this folder's exceptions; itself where a device is not to be had.

    NluError
    ├── DataError        a malformed line of a data file: file, line and mend in the message (nlu.data)
    ├── ArtefactError    a model folder that is broken, altered or does not fit its encoder (nlu.artefact)
    ├── EncoderError     an encoder that cannot be found or loaded (nlu.encoders)
    └── PoolError        a change that the versions loaded do not allow (nlu.pool)
    """


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a text: `text` is the raw text between the character offsets `start` and `end` (exclusive)."""

    name: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FaqMatch:
    """The entry of a bot's FAQ whose question a text is near to, by cosine; `verbatim`: it is that question."""

    entry: str
    score: float
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Meaning:
    """Intent, its calibrated probability (0..1) and the slots in text order, not overlapping.

    `faq` is the bot's question that the text asks, where it was looked for and one is near enough (`nlu.faq`).
    """

    intent: str
    score: float
    slots: tuple[Slot, ...] = ()
    faq: FaqMatch | None = None
