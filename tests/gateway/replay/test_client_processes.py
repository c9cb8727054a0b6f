"""Lines spread over client processes: their calls added up, hung up early, and one that dies."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from pathlib import Path

import pytest
import uvloop

from gateway.replay import client_processes
from gateway.replay.bench import Caller, Load, Progress, replay
from gateway.replay.call_ear import Recording
from gateway.replay.client_processes import ClientDiedError, run_lines
from gateway.replay.load import processes_for
from tests.gateway.harness import rig, speech

CALLERS = (Caller("anna", (Recording("hm.wav", speech()),) * 50),)
"""Who has more to say than any test lasts."""


@pytest.mark.unit
def test_processes_are_as_many_as_the_calls_need_and_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert [processes_for(calls) for calls in (1, 300, 301, 5000)] == [1, 1, 2, 4]


@pytest.mark.e2e
async def test_two_processes_share_the_lines_and_hang_up_when_told(tmp_path: Path) -> None:
    stop = asyncio.Event()
    told: list[Progress] = []

    def note(progress: Progress) -> None:
        told.append(progress)
        if progress.live == 3:
            stop.set()

    async with rig(tmp_path, hear="hm") as running:
        load = Load(
            url=f"ws://127.0.0.1:{running.port}", callers=CALLERS, calls=3, bot="tester", solo=False, processes=2
        )
        measured = await replay(load, note, stop=stop)
        await running.no_calls()
    assert [record.ended_by for record in measured.records] == ["caller"] * 3
    client = measured.client
    assert client.processes == 2 and client.messages == sum(record.frames_sent for record in measured.records) > 100
    assert 0 < client.busiest_share <= client.cpu_share
    assert max(now.live for now in told) == 3 and measured.samples


@pytest.mark.unit
def test_a_result_larger_than_the_pipe_waits_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        def __init__(self, *args: object, **options: object) -> None:
            pass

        def hang_up_all(self) -> None:
            pass

        async def run(self) -> bytes:
            return bytes(4_000_000)

    monkeypatch.setattr(client_processes, "LinesRun", Run)
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        with theirs:
            uvloop.run(client_processes._run_child(theirs, Load(url="", callers=CALLERS, calls=1), 0))

    thread = threading.Thread(target=child)
    thread.start()
    ours.recv()  # ready
    ours.send("go")
    thread.join(0.3)  # longer than it takes to fill the pipe
    with ours:
        assert len(ours.recv()) == 4_000_000
    thread.join(10)


@pytest.mark.e2e
async def test_a_client_process_that_dies_is_told_of() -> None:
    load = Load(url="ws://127.0.0.1:1", callers=CALLERS, calls=2, dialect="none", processes=2)
    with pytest.raises(ClientDiedError, match=r"client process \d died"):
        await run_lines(load, lambda process, tick: None, asyncio.Event())
