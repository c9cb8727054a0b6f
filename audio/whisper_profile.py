"""`voicegate.json`: what a Whisper model folder says of itself, beyond what its format can say.

    {
      "name": "en-small", "version": "1", "languages": ["en"],
      "short_windows": true,      trained without padding to 30 s
      "narrowband": true,         trained on telephone audio brought to 16 kHz
      "telephone_band": true,     and of that on 300-3400 Hz only
      "max_window_s": 3.0,        longest audio it hears well
      "expectation_margin": 2.5,  may be held to the words that a dialogue waits for
      "takes_hints": false,       never saw a text before its prompt in training
      "gates": {"min_avg_logprob": -0.8}
    }

Every key is optional; stock Whisper folders have no such file and get the defaults. Unknown keys are
ignored, so that an older gateway reads a newer model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from audio.formats import AudioError
from audio.gates import GateSettings

__all__ = ["PROFILE_FILE", "TELEPHONE_FILTERS", "AsrModelError", "WhisperProfile", "read_profile"]

PROFILE_FILE = "voicegate.json"
TELEPHONE_FILTERS = 2
"""Of the telephone's band, before a model that hears through it: both ends of a connection, whatever the audio came
through. With one, recordings that had seen no line kept enough below 300 Hz to cost a third more errors in digits."""


class AsrModelError(AudioError):
    """A recogniser that cannot be found, read or run; the message names it, the reason and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperProfile:
    """How to use one model; the defaults are right for stock Whisper weights."""

    name: str = ""
    version: str = ""
    languages: tuple[str, ...] = ()
    """Languages it knows, most likely first; empty: all that its tokens name."""
    short_windows: bool = False
    """Takes audio padded to the next half second. Stock weights were trained on 30 s and lose quality."""
    narrowband: bool = False
    """Hears everything through 8 kHz, as a telephone gives it, whatever rate the audio has."""
    telephone_band: bool = False
    """With `narrowband`: hears of that what a telephone connection lets through (`audio.telephone_band`), so that a
    headset and a line sound alike to it."""
    max_window_s: Annotated[float, Field(ge=2, le=30)] = 30.0
    """Longer audio is cut into windows of at most this, at quiet places."""
    expectation_margin: Annotated[float, Field(gt=0)] | None = None
    """Natural log: expected words stand where none is less likely by more than this than what was heard freely (see
    `audio.expectation.is_plausible`). None: the model is not held to words."""
    beams: Annotated[int, Field(ge=1, le=16)] = 1
    """Beginnings of a text that are followed side by side; the whole text that is likeliest wins, whatever its length.
    1: word piece by word piece the likeliest, as stock weights are used on telephone utterances."""
    takes_hints: bool = True
    """Goes on from a text before its prompt, as stock weights learned; where not held, it is hinted at the words."""
    gates: GateSettings = field(default_factory=GateSettings)

    def __post_init__(self) -> None:
        if self.telephone_band and not self.narrowband:
            raise ValueError('"telephone_band" is a filter at 8 kHz; set "narrowband" too')


def read_profile(folder: Path, name: str) -> WhisperProfile:
    """Read a model folder's profile.

    Args:
        folder: the model's folder.
        name: what to call the model where its folder does not say.

    Raises:
        AsrModelError: the file is there but wrong, with the key that is.
    """
    path = folder / PROFILE_FILE
    if not path.is_file():
        return WhisperProfile(name=name)
    try:
        profile = TypeAdapter(WhisperProfile).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        faults = "; ".join(
            ".".join(str(part) for part in fault["loc"]) + f" {fault['msg']}" for fault in error.errors()
        )
        raise AsrModelError(
            f"{path}: {faults.strip()}; mend it, or remove the file to use the model as stock Whisper"
        ) from error
    return profile if profile.name else replace(profile, name=name)
