"""The seam to speech synthesis: text in, telephone audio out.

Engines live in modules of their own (`tts_stub.espeak`, `tts_stub.http_engine`); callers hold prompts
in a `tts_stub.prompts.PromptCache`, which runs an engine in an executor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from audio.formats import Pcm16

__all__ = [
    "EngineUnavailableError",
    "PromptTimeoutError",
    "RecordingError",
    "SynthesisError",
    "Synthesizer",
    "UnknownVoiceError",
    "Voice",
]


class SynthesisError(Exception):
    """Root of this folder's exceptions: a prompt that cannot be made. Messages never hold the prompt's text,
    which may be personal.

    SynthesisError
    ├── UnknownVoiceError        the engine has no such voice
    ├── EngineUnavailableError   the engine cannot be loaded or reached, or answered nonsense
    ├── RecordingError           a recorded prompt that cannot be read (tts_stub.prompts)
    └── PromptTimeoutError       not ready in time, or too many prompts are waiting (tts_stub.prompts)
    """


class UnknownVoiceError(SynthesisError):
    """A voice that the engine does not have, named in the message."""


class EngineUnavailableError(SynthesisError):
    """The engine is missing, cannot be reached, or answered with something that is not audio."""


class RecordingError(SynthesisError):
    """A recorded prompt file that is missing, broken or silent."""


class PromptTimeoutError(SynthesisError):
    """The prompt was not ready in time, or was refused because too many are waiting."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How to speak. `name` is the engine's own word for a voice ("en-us", "cmn", "en-us+f3" for espeak-ng).

    `rate_wpm` is words per minute, 80-450; `pitch` is 0-99 with 50 the voice's own; an engine without
    such a control ignores it.
    """

    name: str = "en-us"
    rate_wpm: int = 165
    pitch: int = 50

    def __post_init__(self) -> None:
        if not self.name:
            raise SynthesisError("a voice needs a name, such as en-us")
        if not 80 <= self.rate_wpm <= 450:
            raise SynthesisError(
                f"voice {self.name}: rate_wpm {self.rate_wpm} is out of range; use 80 to 450, 165 is usual"
            )
        if not 0 <= self.pitch <= 99:
            raise SynthesisError(f"voice {self.name}: pitch {self.pitch} is out of range; use 0 to 99")


class Synthesizer(Protocol):
    """A speech engine. Safe to call from several threads; blocks, so never call it on an event loop."""

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        """Speak `text`.

        Returns:
            int16 mono at `sample_rate_hz` (8000 or 16000), as the engine made it: level and silence at
            the ends are the engine's (`tts_stub.shaping` evens them out).

        Raises:
            SynthesisError: no such voice, no engine, or no sound in the text.
        """
        ...
