"""A pytest plugin: how `make test` may share the tests between processes (pytest-xdist).

Most tests wait in real time for a socket or a process, so two processes a core are none too many. A file's tests stay
together, for the sake of its fixtures. Files come in three parts:

    alone       whole gateways, and what is judged by the clock or loads the machine by itself: no two of these tests
                run at once, and they begin first
    waits       with `async def` tests: in real time, with little work
    computes    the rest. It comes last and gives way, so that who counts on real time has a machine with time to spare

Not by `--dist loadgroup`: pytest-xdist 3.8 loses its groups with pytest 9.2, without a word.
"""

from __future__ import annotations

import inspect
import os
from enum import IntEnum
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

__all__ = ["ALONE", "ByFile"]

ALONE: Final = frozenset(
    f"tests/{name}.py"
    for name in (
        "bench/test_outages",
        "bench/test_overload",
        "e2e/test_clock_jumps",
        "e2e/test_hosts",
        "e2e/test_sip_calls",
        "gateway/inference/streams/test_hosts",
        "gateway/protocols/test_hostile",
        "gateway/protocols/test_pace",
        "gateway/replay/test_bench",
        "gateway/replay/test_client_processes",
        "gateway/replay/test_client_socket",
        "gateway/replay/test_diff",
        "gateway/replay/test_lines",
        "gateway/test_crashes",
        "gateway/test_drain",
        "gateway/test_end_to_end",
        "gateway/test_softphone_tls",
    )
)
"""Files of the first part: every one with an `e2e` test, and some more."""

_MOST: Final = 8
_MEMORY_BYTES: Final = 2 << 30  # of a process that has loaded models, with its share of the gateways
_GIVE_WAY: Final = 10  # nice


class Part(IntEnum):
    """When a file's turn comes."""

    ALONE = 0
    WAITS = 1
    COMPUTES = 2


_PARTS: Final = pytest.StashKey[dict[str, Part]]()


class ByFile(LoadScopeScheduling):
    """A unit of work is a file, but for those that are `ALONE`: they are one together."""

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return "alone" if file in ALONE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is here: two processes a core, as far as memory goes."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(2 * len(os.sched_getaffinity(0)), _MOST, memory_bytes // _MEMORY_BYTES))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    """Of `--dist loadfile`: units in the order of the tests, not the ones of most tests first."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort files by their parts. A single process keeps the order that it finds."""
    unlisted = {_file(item.nodeid) for item in items if item.get_closest_marker("e2e") is not None} - ALONE
    if unlisted:
        raise pytest.UsageError(f"{', '.join(sorted(unlisted))}: has e2e tests; add it to ALONE in {__file__}")
    if _is_one_of_several(config):
        parts: dict[str, Part] = {}
        for item in items:
            file = _file(item.nodeid)
            parts[file] = min(_part(item, file), parts.get(file, Part.COMPUTES))
        items.sort(key=lambda item: parts[_file(item.nodeid)])
        config.stash[_PARTS] = parts


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What computes gives way to what still waits; for good, as who has few rights cannot take it back."""
    if _is_one_of_several(item.config) and item.config.stash[_PARTS][_file(item.nodeid)] is Part.COMPUTES:
        os.setpriority(os.PRIO_PROCESS, 0, _GIVE_WAY)


def _part(item: pytest.Item, file: str) -> Part:
    if file in ALONE:
        return Part.ALONE
    return Part.WAITS if inspect.iscoroutinefunction(getattr(item, "obj", None)) else Part.COMPUTES


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
