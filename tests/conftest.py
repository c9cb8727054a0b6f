"""What several folders' tests share."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.embedded_redis import EmbeddedRedis


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on a loop of its own, in debug mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}), debug=True)
    return True


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Valkey on a socket of its own, for this test run; keys are the tests' to keep apart."""
    # Not under pytest's own tmp_path: its names grow past what a Unix socket path may have.
    with (
        tempfile.TemporaryDirectory(prefix="vg-") as directory,
        EmbeddedRedis(None, Path(directory)) as server,
    ):
        yield server.url
