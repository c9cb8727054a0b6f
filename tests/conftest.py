"""Fixtures that several folders share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.embedded_redis import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Valkey on a socket of its own, for this test run; keys are the tests' to keep apart."""
    # Not under pytest's own tmp_path: its names grow past what a Unix socket path may have.
    with (
        tempfile.TemporaryDirectory(prefix="vg-") as directory,
        EmbeddedRedis(None, Path(directory)) as server,
    ):
        yield server.url
