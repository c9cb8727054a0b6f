"""Which workers there are as their number changes: processes are replaced by the smallest that hold the line."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.processes import fleet as fleet_module
from gateway.processes.child_process import ProcessState
from gateway.processes.fleet import Fleet
from gateway.processes.lifeline import SupervisionError
from gateway.processes.reloading import plan_reload
from gateway.settings import Settings, load
from tests.gateway.processes.test_facts import LINUX_ONLY
from tests.ports import free_port

pytestmark = [pytest.mark.unit, LINUX_ONLY]

# Stands in for every module that the fleet starts; drains for as long as the file beside its settings is there.
CHILD = """
import json, os, select, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
named = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--fd" in named:
    socket.socket(fileno=int(named["--fd"])).listen()
line = socket.socket(fileno=int(named["--lifeline"]))
draining = False
while not draining or os.path.exists(os.path.dirname(named["--settings"]) + "/../talking"):
    line.sendall(json.dumps({"calls": 0}).encode() + b"\\n")
    if select.select([line], [], [], 0.05)[0]:
        draining = b"drain" in line.recv(4096) or draining
"""


@asynccontextmanager
async def fleet(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, *, port: int | None = None
) -> AsyncIterator[Fleet]:
    """Processes of these settings, at work."""
    program = folder / "child.py"
    program.write_text(CHILD)
    interpreter = folder / "python"
    interpreter.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -S {program} "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(fleet_module.sys, "executable", str(interpreter))
    runtime = folder / "run"
    runtime.mkdir()

    async def asked(what: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    with socket.create_server(("127.0.0.1", 0)) as control:
        known = {"port": port or free_port(), "control_port": 1, "redis_url": "redis://nowhere"}
        made = Fleet(settings, runtime=runtime, control=control, known=known, asked=asked, on_fault=print)
        made.start()
        try:
            await all_serve(made)
            yield made
        finally:
            made.kill()
            await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def states(made: Fleet) -> dict[str, list[ProcessState]]:
    told: dict[str, list[ProcessState]] = {}
    for status in made.statuses():
        told.setdefault(status.name, []).append(status.state)
    return told


async def all_serve(made: Fleet) -> None:
    await until(lambda: {state for each in states(made).values() for state in each} == {ProcessState.SERVING})


def of(**flags: Any) -> Settings:
    return load(environ={}, flags={"bots": (), **flags})


async def resize(made: Fleet, workers: int) -> None:
    await made.apply(plan_reload(made.settings, of(workers=workers), {}, {}))


async def test_a_gateway_grows_and_shrinks_and_grows_again_while_calls_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, of(workers=1), monkeypatch) as made:
        await resize(made, 3)
        await all_serve(made)
        assert list(states(made)) == ["inference", "control", "worker 0", "worker 1", "worker 2"] and made.wanted == 3
        talking = tmp_path / "run" / "talking"
        talking.touch()
        await resize(made, 1)
        assert states(made)["worker 2"] == [ProcessState.DRAINING] and made.wanted == 1
        await resize(made, 2)  # worker 1 is wanted again while its predecessor still has calls
        await until(lambda: states(made)["worker 1"] == [ProcessState.SERVING, ProcessState.DRAINING])
        talking.unlink()
        await until(lambda: "worker 2" not in states(made))
        await all_serve(made)
        assert made.wanted == 2


async def test_the_last_worker_that_takes_calls_is_not_kept_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, of(workers=2), monkeypatch) as made:
        made.drain(0, deadline_s=None, keep_down=True)
        assert made.wanted == 1
        with pytest.raises(SupervisionError, match="no other worker takes calls"):
            made.drain(1, deadline_s=None, keep_down=True)
        with pytest.raises(SupervisionError, match="worker 0 is down already"):
            made.drain(0, deadline_s=None, keep_down=False)
        with pytest.raises(SupervisionError, match="there is no worker 7; there are: 0, 1"):
            made.drain(7, deadline_s=None, keep_down=False)
        made.bring_up(0)
        with pytest.raises(SupervisionError, match="worker 0 is not down"):
            made.bring_up(0)
        await all_serve(made)


def gpus_of(pid: int) -> str:
    """What a process was told when it began."""
    environ = dict(line.partition("=")[::2] for line in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return environ["CUDA_VISIBLE_DEVICES"]


async def test_each_inference_process_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    settings = of(workers=1, **{"inference.seam": "streams", "inference.workers": 2, "redis.url": "redis://nowhere"})
    async with fleet(tmp_path, settings, monkeypatch) as made:
        assert {status.name: gpus_of(status.pid) for status in made.statuses()} == {
            "inference 0": "3",
            "inference 1": "7",
            "control": "3,7",
            "worker 0": "3,7",
        }


async def test_models_of_before_stay_until_who_asks_them_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, of(workers=1), monkeypatch) as made:
        talking = tmp_path / "run" / "talking"
        talking.touch()
        await made.apply(plan_reload(made.settings, of(workers=1, **{"nlu.engines": 2}), {}, {}))
        assert len(states(made)["inference"]) == 2, "the old worker and control plane still ask the first"
        assert states(made)["worker 0"] == [ProcessState.SERVING, ProcessState.DRAINING]
        talking.unlink()
        await until(lambda: len(states(made)["inference"]) == 1)
        assert {status.generation for status in made.statuses()} == {2}


async def test_newcomers_wait_for_the_only_worker_that_is_back_in_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with fleet(tmp_path, of(workers=1), monkeypatch, port=port) as made:
        (victim,) = [status.pid for status in made.statuses() if status.name == "worker 0"]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: any(status.deaths for status in made.statuses()))
        socket.create_connection(("127.0.0.1", port), timeout=5).close()  # in the queue, and not refused
        await all_serve(made)
