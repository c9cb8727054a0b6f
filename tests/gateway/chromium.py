"""A real browser for tests, where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["WAIT_MS", "browser"]

WAIT_MS = 20_000
"""For everything that a page is waited for: the machine may be busy."""


@asynccontextmanager
async def browser(*options: str, microphone: Path | None = None) -> AsyncIterator[Browser]:
    """Headless Chromium; the test is skipped where it or Playwright is missing. Arguments: `bench.chromium`."""
    pytest.importorskip("playwright.async_api", reason="no Playwright here; `make e2e` installs it")
    path = chromium.binary()
    if path is None:
        pytest.skip("no Chromium here; `make e2e` installs it, as root")
    async with chromium.chromium(path, *options, microphone=microphone) as running:
        yield running
