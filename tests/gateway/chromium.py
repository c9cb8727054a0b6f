"""A real browser whose microphone is a WAV file, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from audio.files import read_audio

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["WAIT_MS", "chromium", "spoken_after"]

WAIT_MS = 20_000
"""For everything that a page is waited for: the machine may be busy."""

_RATE_HZ = 48_000


def spoken_after(silence_s: float, recording: Path, to: Path) -> Path:
    """A WAV for a microphone: silence, the recording, silence."""
    speech = read_audio(recording, _RATE_HZ)
    quiet = np.zeros(round(silence_s * _RATE_HZ), np.int16)
    soundfile.write(to, np.concatenate([quiet, speech, np.zeros(_RATE_HZ, np.int16)]), _RATE_HZ, subtype="PCM_16")
    return to


@asynccontextmanager
async def chromium(microphone: Path | None = None, *options: str) -> AsyncIterator[Browser]:
    """Headless Chromium of this machine; the test is skipped where it or Playwright is missing.

    Args:
        microphone: WAV that pages hear once, from the moment they ask for a microphone; None: silence.
    """
    api = pytest.importorskip("playwright.async_api", reason="no playwright here; install the extra `dev`")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    heard = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone is not None else []
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", *heard]
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=[*fake, *options])
        try:
            yield browser
        finally:
            await browser.close()
