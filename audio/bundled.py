"""The recognisers that ship with the package."""

from __future__ import annotations

from pathlib import Path

from audio.asr import AUTO_LANGUAGE, language_code
from audio.whisper_profile import AsrModelError

__all__ = ["BUNDLED_MODELS", "bundled_model_path"]

BUNDLED_MODELS = {"en": "en-small"}
"""Language to folder under `audio/models`; each folder has its MODEL_CARD.md."""


def bundled_model_path(language: str = "en") -> Path:
    """Folder of the bundled recogniser of a language, of the first there is where the language is "auto".

    Raises:
        AsrModelError: there is none; name a model of your own instead.
    """
    code = language_code(language)
    folder = BUNDLED_MODELS.get(next(iter(BUNDLED_MODELS)) if code == AUTO_LANGUAGE else code)
    if folder is None:
        known = ", ".join(sorted(BUNDLED_MODELS))
        raise AsrModelError(
            f"no bundled recogniser for {language!r:.20}, only {known}; name a Whisper model of your own"
        )
    return Path(__file__).parent / "models" / folder
