"""A pytest plugin: how `make test` shares the tests between processes (pytest-xdist).

Most tests wait in real time for a socket or a process, so two processes a core are none too many. A file's tests stay
together, for the sake of its fixtures. Files come in three parts:

    alone       whole gateways (`e2e`), and what is judged by the clock or loads the machine by itself
                (`xdist_group("alone")`): no two of these tests run at once
    waits       with `async def` tests: in real time, with little work
    computes    the rest. It comes last and gives way, so that who counts on real time has a machine with time to spare
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

__all__ = ["ByFile"]

_MOST: Final = 8  # each process imports torch: half a gigabyte
_ALONE: Final = "alone"
_COMPUTES: Final = 2
_GIVE_WAY: Final = 10  # nice
_PARTS: Final = pytest.StashKey[dict[Path, int]]()


class ByFile(LoadGroupScheduling):
    """A unit of work is a group (whose name then ends its tests' names: `@alone`), or what a file has without one."""

    def _split_scope(self, nodeid: str) -> str:
        return super()._split_scope(nodeid).partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is here."""
    return min(2 * len(os.sched_getaffinity(0)), _MOST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    """Of `--dist loadgroup`: units in the order of the tests, not the ones of most tests first."""
    if config.getoption("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort files by their parts. A single process keeps the order that it finds."""
    if not _is_one_of_several(config):
        return
    parts: dict[Path, int] = {}
    for item in items:
        if item.get_closest_marker("e2e") is not None:
            item.add_marker(pytest.mark.xdist_group(_ALONE))
        parts[item.path] = min(_part(item), parts.get(item.path, _COMPUTES))
    items.sort(key=lambda item: (not _is_alone(item), parts[item.path]))
    config.stash[_PARTS] = parts


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What computes gives way to what still waits; for good, as who has few rights cannot take it back."""
    if _is_one_of_several(item.config) and item.config.stash[_PARTS][item.path] == _COMPUTES:
        os.setpriority(os.PRIO_PROCESS, 0, _GIVE_WAY)


def _is_one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _is_alone(item: pytest.Item) -> bool:
    return any(_ALONE in mark.args for mark in item.iter_markers("xdist_group"))


def _part(item: pytest.Item) -> int:
    if _is_alone(item):
        return 0
    return 1 if inspect.iscoroutinefunction(getattr(item, "obj", None)) else _COMPUTES
