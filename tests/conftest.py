"""What several folders' tests share."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import tempfile
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.processes.embedded_redis import EmbeddedRedis

pytest_plugins = ["tests.overheard", "tests.sharing"]

# The same examples on every machine, whatever its pace: a submission is judged by what it changes, not by its luck.
# New examples are looked for by `make fuzz`; what it finds becomes a test by values and a mend.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("search" if os.environ.get("SEARCH") else "steady")

_FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what runs in real time, against real sockets and processes, a second try; the summary names who took it.

    A test of values fails once and for all. `RERUNS=0` tries everything once: for who looks for races.
    """
    for item in items:
        waits = inspect.iscoroutinefunction(getattr(item, "obj", None))
        if waits or item.get_closest_marker("unit") is None:
            item.add_marker(pytest.mark.flaky(reruns=int(os.environ.get("RERUNS", "2")), reruns_delay=1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Know which tests had a try that failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Sweep away what a failed try left open: collected later, it would fail the test that happens to run then."""
    done = yield
    if item.stash.get(_FAILED, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return done


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
