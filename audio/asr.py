"""The seam between calls and speech recognisers: jobs in, transcripts out, many calls in one batch.

Imports no model code, so a gateway worker can name these types; engines live in their own modules
(`audio.whisper_engine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from audio.formats import Pcm16

__all__ = [
    "AUTO_LANGUAGE",
    "NEAREST_LANGUAGE",
    "AsrEngine",
    "AsrJob",
    "Expectation",
    "Transcript",
    "join_words",
    "language_code",
]

AUTO_LANGUAGE = "auto"
"""In the place of a language's code: whatever is spoken, and a multilingual model finds out what that is."""


class Expectation(StrEnum):
    """What a caller was asked for. It leans the recogniser that way; other words still come through."""

    DIGITS = "digits"
    NUMBER = "number"
    YES_NO = "yes_no"
    AMOUNT = "amount"
    DATE = "date"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsrJob:
    """One utterance to transcribe.

    `pcm` is int16 mono at `sample_rate_hz` (8000 or 16000). `language` is a code such as "en", or None (or "auto") to
    let a multilingual model decide. `expect` is None where anything may be said.
    """

    pcm: Pcm16
    sample_rate_hz: int = 8000
    language: str | None = None
    expect: Expectation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was heard.

    `text` is empty where there were no words; `gated_by` then names the gate that decided ("energy",
    "duration", "logprob", "no_speech", "compression") or is None if the model itself was silent.
    `avg_logprob` is natural log per token, `no_speech_prob` 0..1.
    """

    text: str
    language: str | None = None
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    gated_by: str | None = None


NEAREST_LANGUAGE: Final = {"cmn": "zh", "yue": "zh", "wuu": "zh", "nan": "zh", "hak": "zh"}
"""Spoken Chinese by the code of what it is written in, for whatever does not have its own."""


def language_code(tag: str) -> str:
    """A language without its region, lower case: "en-GB", "en_us" -> "en"."""
    return tag.lower().replace("_", "-").split("-")[0]


def join_words(*parts: str) -> str:
    """Pieces of one text as one: with a space between them, but for scripts that have none."""
    joined = ""
    for part in filter(None, parts):
        # Between two characters of a script without spaces (CJK and its neighbours begin there) there is none.
        close = joined and joined[-1] > "\u2e80" and part[0] > "\u2e80"
        joined += part if close or not joined else f" {part}"
    return joined


class AsrEngine(Protocol):
    """A loaded recogniser: immutable, shared by all calls, called from one executor thread."""

    @property
    def name(self) -> str:
        """Model name and version, for reports."""
        ...

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        """Transcribe a batch; results in the order of the jobs. Blocks; never call on an event loop."""
        ...

    def padded_frames(self, job: AsrJob) -> int:
        """Mel frames (10 ms) this job occupies after padding: the batcher's unit of cost and its bucket."""
        ...
