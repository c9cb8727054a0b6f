"""Places kept filled, with real processes that speak the line's language and do nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import background
from gateway.processes.child_process import ChildProcess, ChildSpec, ProcessState
from gateway.processes.facts import EXIT_CONFIG
from gateway.processes.keeper import Keeper
from gateway.processes.lifeline import DrainOrder, Handover, SupervisionError

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's"),
]

# What a child does, as its first argument; the last is the line's descriptor. No import of ours: it starts fast.
CHILD = """
import json, os, select, socket, sys, time
line = socket.socket(fileno=int(sys.argv[-1]))
does = sys.argv[1]
if does.startswith("exit"):
    sys.exit(int(does[4:]))
while does == "never up":
    time.sleep(1)
calls = 2
while True:
    line.sendall(json.dumps({"calls": calls}).encode() + b"\\n")
    if select.select([line], [], [], 0.05)[0]:
        if not (said := line.recv(4096)):
            sys.exit(0)
        if b"drain" in said:
            order = json.loads(said)
            calls = 1
            while does == "talkative" and not os.path.exists(sys.argv[2]):
                line.sendall(json.dumps({"calls": calls}).encode() + b"\\n")
                time.sleep(0.05)
            sys.exit(0)
"""
ORDER = DrainOrder(Handover.HAND_OVER, 60.0)


def child(
    does: str, *, hang_s: float = 20.0, start_s: float = 20.0, gate: Path | None = None
) -> Callable[[], ChildSpec]:
    return lambda: ChildSpec(
        command=(sys.executable, "-S", "-c", CHILD, does, str(gate)), start_s=start_s, hang_s=hang_s, stop_s=20.0
    )


@asynccontextmanager
async def kept(make: Callable[[], ChildSpec], *, on_fault: Callable[[str], None] = print) -> AsyncIterator[Keeper]:
    """A keeper at work; nothing of it is left afterwards."""
    keeper = Keeper("worker 0", make, longest_pause_s=0.4, on_fault=on_fault)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.kill()
        await keeper.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def serving(keeper: Keeper, *, but: int = 0) -> int:
    """The pid of the present process, once it serves and is another than `but`."""
    await until(lambda: keeper.serves and keeper.processes[0].pid != but)
    return keeper.processes[0].pid


async def test_who_is_killed_is_replaced_and_the_log_says_of_what(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(child("serve")) as keeper:
        first = await serving(keeper)
        assert keeper.statuses()[0].calls == 2
        os.kill(first, signal.SIGKILL)
        await serving(keeper, but=first)
        (status,) = keeper.statuses()
        assert (status.deaths, status.died_of) == (1, "died (signal SIGKILL)")
    assert "worker 0 died (signal SIGKILL) after" in caplog.text and "starting it again in 0.1 s" in caplog.text


async def test_who_dies_at_once_waits_longer_each_time_and_can_be_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(child("exit3")) as keeper:
        await until(lambda: caplog.text.count("starting it again") >= 4)
        await until(lambda: keeper.statuses()[0].state is ProcessState.WAITING)
        (status,) = keeper.statuses()
        assert status.pid == 0 and status.deaths >= 4 and status.died_of == "died (exit 3)" and status.again_in_s > 0
    pauses = [record.args[-1] for record in caplog.records if "starting it again" in record.msg and record.args]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.4]


async def test_who_hangs_without_dying_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(child("serve", hang_s=2.0)) as keeper:
        first = await serving(keeper)
        os.kill(first, signal.SIGSTOP)
        await serving(keeper, but=first)
    assert "it hung: no sign of life for 2 s" in caplog.text


async def test_who_never_comes_up_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(child("never up", start_s=0.3)) as keeper:
        await until(lambda: keeper.statuses()[0].deaths > 0)
    assert "it did not come up within 0.3 s" in caplog.text


async def test_a_faulty_configuration_is_told_once_and_at_the_start_only() -> None:
    faults: list[str] = []
    async with kept(child(f"exit{EXIT_CONFIG}"), on_fault=faults.append) as keeper:
        await until(lambda: bool(faults))
        assert keeper.statuses()[0].deaths == 1
    assert faults == ["worker 0 cannot start; see its message above"]


async def test_a_successor_serves_before_the_present_one_drains(tmp_path: Path) -> None:
    gate = tmp_path / "calls are over"
    async with kept(child("talkative", gate=gate)) as keeper:
        first = await serving(keeper)
        await keeper.exchange(child("serve"), ORDER)
        second = await serving(keeper)
        assert second != first
        await until(lambda: [status.calls for status in keeper.statuses() if status.pid == first] == [1])
        states = {status.pid: status.state for status in keeper.statuses()}
        assert states == {second: ProcessState.SERVING, first: ProcessState.DRAINING}
        gate.touch()
        await until(lambda: [status.pid for status in keeper.statuses()] == [second])
        assert keeper.statuses()[0].deaths == 0, "an end that was ordered is no death"


async def test_a_successor_that_does_not_come_up_changes_nothing() -> None:
    async with kept(child("serve")) as keeper:
        first = await serving(keeper)
        with pytest.raises(SupervisionError, match=r"worker 0: a new process died \(exit 3\)"):
            await keeper.exchange(child("exit3"), ORDER)
        assert await serving(keeper) == first
        os.kill(first, signal.SIGKILL)  # and whoever comes after it is as it was
        await serving(keeper, but=first)


async def test_a_place_that_is_kept_down_stays_empty_until_it_is_filled_again() -> None:
    async with kept(child("serve")) as keeper:
        first = await serving(keeper)
        keeper.put_down(ORDER)
        await until(lambda: keeper.statuses()[0].state is ProcessState.DOWN)
        assert keeper.kept_down
        keeper.start()
        await serving(keeper, but=first)


async def test_draining_is_no_time_without_a_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that hangs while it drains is killed too, and nobody comes after it."""
    caplog.set_level(logging.INFO)
    async with kept(child("talkative", hang_s=2.0, gate=tmp_path / "never")) as keeper:
        first = await serving(keeper)
        keeper.put_down(ORDER)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: keeper.statuses()[0].state is ProcessState.DOWN)
    assert "has drained and ended: it hung" in caplog.text


async def test_who_gives_up_a_process_leaves_none_behind() -> None:
    process = ChildProcess(child("never up")())
    life = asyncio.create_task(process.run())
    await until(lambda: process.pid > 0)
    await background.stop([life])
    with pytest.raises(ProcessLookupError):  # dead, and no zombie either
        os.kill(process.pid, 0)
    assert process.ended.is_set()
