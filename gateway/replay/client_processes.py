"""A replay's lines spread over client processes, run as one: begun together, told once a second, added up.

    parent --Load--> child --ready--> parent --"go"--> child --a Tick a second ...--> parent <--RunResult-- child
                                      parent --"stop"--> child: hangs up, then its RunResult

One process is no child but this one. A child that dies ends the run: what it measured is gone.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Final, TypeVar

import uvloop

from gateway import background
from gateway.processes.facts import die_with_parent
from gateway.replay.load import Load, Tick
from gateway.replay.run import LinesRun, RunResult

__all__ = ["ClientDiedError", "run_lines"]

_READY_S: Final = 60.0
_READY, _GO, _STOP = "ready", "go", "stop"
_T = TypeVar("_T")


class ClientDiedError(Exception):
    """A client process that ended before its calls did."""


async def run_lines(
    load: Load,
    told: Callable[[int, Tick], None],
    stop: asyncio.Event,
    begun: Callable[[], None] = lambda: None,
) -> list[RunResult]:
    """Run a load's lines, in `load.processes` processes.

    Args:
        told: a process's number, and what it did in the last second.
        stop: set to hang up before the time is over.
        begun: called when all processes are there and the first call is placed.

    Raises:
        ClientDiedError: a process that is no more; the message says which.
        TimeoutError: the processes did not begin.
    """
    if load.processes == 1:
        run = LinesRun(load, lambda tick: told(0, tick))
        begun()
        return [await _until_stopped(run.run(), stop, run.hang_up_all)]
    context = multiprocessing.get_context("spawn")
    plain = replace(load, read_metrics=None)  # a function of this process
    children = [_Child(context, plain, number, told) for number in range(load.processes)]
    try:
        async with asyncio.timeout(_READY_S):
            await asyncio.gather(*(child.ready for child in children))
        for child in children:
            child.say(_GO)
        begun()

        def stop_all() -> None:
            for child in children:
                child.say(_STOP)

        return await _until_stopped(asyncio.gather(*(child.result for child in children)), stop, stop_all)
    finally:
        for child in children:
            child.end()


async def _until_stopped(run: Awaitable[_T], stop: asyncio.Event, act: Callable[[], None]) -> _T:
    """What `run` returns; `act` once, if `stop` is set before."""
    running = asyncio.ensure_future(run)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            act()
        return await running
    finally:
        await background.stop([stopped])
        running.cancel()


class _Child:
    """A process, seen from the one that reports."""

    def __init__(self, context: SpawnContext, load: Load, number: int, told: Callable[[int, Tick], None]) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._number = number
        self._told = told
        self.ready: asyncio.Future[None] = loop.create_future()
        self.result: asyncio.Future[RunResult] = loop.create_future()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_be_child, args=(theirs, os.getpid(), load, number), daemon=True)
        self._process.start()
        theirs.close()
        _watch(loop, self._pipe, self._read)

    def say(self, word: str) -> None:
        """Tell it; one that is gone already has said what it had to."""
        try:
            self._pipe.send(word)
        except OSError:
            pass

    def end(self) -> None:
        """Nothing more is wanted of it."""
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self.ready.cancel()
        self.result.cancel()

    def _read(self) -> None:
        try:
            while self._pipe.poll():
                self._take(self._pipe.recv())
        except (EOFError, OSError):
            self._loop.remove_reader(self._pipe.fileno())
            for future in (self.ready, self.result):
                if not future.done():
                    future.set_exception(ClientDiedError(f"client process {self._number} died; see its message above"))

    def _take(self, message: object) -> None:
        match message:
            case Tick():
                self._told(self._number, message)
            case RunResult():
                self.result.set_result(message)
            case _:
                self.ready.set_result(None)


def _be_child(pipe: Connection, parent: int, load: Load, number: int) -> None:
    """Main of a client process."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent, who says stop
    uvloop.run(_run_child(pipe, load, number))


async def _run_child(pipe: Connection, load: Load, number: int) -> None:
    loop = asyncio.get_running_loop()
    pipe.send(_READY)
    await loop.run_in_executor(None, pipe.recv)  # go
    run = LinesRun(load, pipe.send, first=number, step=load.processes)
    _watch(loop, pipe, run.hang_up_all)
    pipe.send(await run.run())


def _watch(loop: asyncio.AbstractEventLoop, pipe: Connection, act: Callable[[], None]) -> None:
    """Call `act` when there is something to read. The result of hundreds of calls does not fit into a pipe at once: who
    sends it must wait for who reads it, but uvloop makes what it watches non-blocking."""
    loop.add_reader(pipe.fileno(), act)
    os.set_blocking(pipe.fileno(), True)
