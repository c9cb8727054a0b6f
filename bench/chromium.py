"""Headless Chromium whose microphone is a WAV file. Needs Playwright, and Chromium from the system's packages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from audio.files import read_audio

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["binary", "chromium", "spoken_after"]

_RATE_HZ = 48_000


def binary() -> str | None:
    """The browser of this machine; None where there is none."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def spoken_after(silence_s: float, recording: Path, to: Path) -> Path:
    """A WAV for a microphone: silence, the recording, silence."""
    speech = read_audio(recording, _RATE_HZ)
    quiet = np.zeros(round(silence_s * _RATE_HZ), np.int16)
    soundfile.write(to, np.concatenate([quiet, speech, np.zeros(_RATE_HZ, np.int16)]), _RATE_HZ, subtype="PCM_16")
    return to


@asynccontextmanager
async def chromium(path: str, *options: str, microphone: Path | None = None) -> AsyncIterator[Browser]:
    """The browser, until the context ends.

    Args:
        path: of its binary.
        options: more of its command line.
        microphone: WAV that a page hears once, from the moment it asks for a microphone; None: silence.
    """
    from playwright.async_api import async_playwright

    heard = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone is not None else []
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", *heard]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*fake, *options])
        try:
            yield browser
        finally:
            await browser.close()
