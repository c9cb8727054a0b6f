"""Keeps one place of a gateway filled: "worker 0", "inference", "control".

    present   the process that does the work; one that dies is started again, later with every death in a row
    next      started beside it, to take its place once it serves: nobody is without service meanwhile
    leaving   processes that drain: each ends with its last call, and the present one never waits for them

What one place goes through is nothing to the others: each keeper has tasks of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway import background
from gateway.processes.backoff import Backoff
from gateway.processes.child_process import ChildProcess, ChildSpec, Death, ProcessState
from gateway.processes.facts import EXIT_CONFIG
from gateway.processes.lifeline import Asked, DrainOrder, SupervisionError

__all__ = ["Keeper", "ProcessStatus"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process, for those who ask."""

    name: str
    state: ProcessState
    pid: int
    """0 where none runs."""
    calls: int
    up_s: float
    generation: int
    """Which reading of the settings it has: 1 is that of the start, each reload makes another."""
    deaths: int
    """In this place, since `serve` began."""
    died_of: str
    """The last of them."""
    again_in_s: float
    """Until it is started again, where it waits for that."""


class Keeper:
    """One place. Everything happens between `start` and `stop`."""

    def __init__(
        self,
        name: str,
        make: Callable[[], ChildSpec],
        *,
        longest_pause_s: float,
        asked: Asked | None = None,
        on_fault: Callable[[str], None] = lambda message: None,
        on_end: Callable[[ChildProcess], None] = lambda process: None,
        on_pause: Callable[[float], None] = lambda pause_s: None,
    ) -> None:
        """
        Args:
            make: how a process of this place is started now.
            asked: answers what the process asks `serve`.
            on_fault: the first process said at its start that its configuration is at fault, and would again.
            on_end: a process of this place has ended, whichever and why ever.
            on_pause: the present one died, and will be started again after so many seconds.
        """
        self.name = name
        self._make = make
        self._asked = asked
        self._on_fault = on_fault
        self._on_end = on_end
        self._on_pause = on_pause
        self._backoff = Backoff(longest_pause_s)
        self._present: ChildProcess | None = None
        self._next: ChildProcess | None = None
        self._leaving: list[ChildProcess] = []
        self._lives: set[asyncio.Task[None]] = set()
        self._closed = False
        self._down = False
        self._was_up = False
        self._deaths = 0
        self._died_of = ""
        self._again_at: float | None = None

    @property
    def processes(self) -> list[ChildProcess]:
        """All that run, the present one first."""
        return [*filter(None, (self._present, self._next)), *self._leaving]

    @property
    def serves(self) -> bool:
        """Whether the present process does its work."""
        return self._present is not None and self._present.state is ProcessState.SERVING

    @property
    def exchanging(self) -> bool:
        """Whether a successor is on its way."""
        return self._next is not None

    @property
    def kept_down(self) -> bool:
        """Whether nobody is to be here."""
        return self._down

    def start(self) -> None:
        """Fill the place, now and from now on."""
        self._down = False
        if self._present is None and self._again_at is None:
            self._present = self._begin()

    async def exchange(self, make: Callable[[], ChildSpec], order: DrainOrder) -> None:
        """Put a process made otherwise in the place of the present one, which drains once the other serves.

        Raises:
            SupervisionError: the new one did not come up; the present one goes on as if nothing had been.
        """
        if self._next is not None:
            raise SupervisionError("conflict", f"{self.name} is being exchanged already; try again when that is done")
        self._make, before = make, self._make
        if self._down:
            return  # whoever is started here next is made so
        successor = self._next = self._begin()
        try:
            came_up = await successor.came_up()
        finally:
            self._next = None
        if not came_up:
            self._make = before
            raise SupervisionError("unusable", f"{self.name}: a new process {self._died_of}; its own log line says why")
        present, self._present = self._present, successor
        self._again_at = None
        if present is not None:
            self._leave(present, order)

    def put_down(self, order: DrainOrder) -> None:
        """Drain the present process, and start none after it."""
        self._down, self._again_at = True, None
        present, self._present = self._present, None
        if present is not None:
            self._leave(present, order)

    def refuse(self, order: DrainOrder) -> list[ChildProcess]:
        """Have this place take nothing new, and no process be started here any more: `stop` follows.

        Returns:
            Those that work on what there is, or wait for that: `stop` ends them.
        """
        self._closed = True
        staying = [process for process in self.processes if process not in self._leaving]
        for process in staying:
            process.drain(order)
        return staying

    async def stop_leaving(self) -> None:
        """SIGTERM to the processes that drain, and wait until they are gone."""
        await asyncio.gather(*(process.stop() for process in self._leaving))

    async def stop(self) -> None:
        """SIGTERM to all processes of this place, and wait until they are gone."""
        self._closed = True
        stopped = await asyncio.gather(*(process.stop() for process in self.processes))
        if not all(stopped):
            log.error("%s did not stop in time and was killed", self.name)
        await background.stop(self._lives)

    def kill(self) -> None:
        """End all processes of this place at once."""
        self._closed = True
        for process in self.processes:
            process.kill()

    def statuses(self) -> list[ProcessStatus]:
        """Of every process of this place; of the place itself where there is none."""
        if not (processes := self.processes):
            return [self._status(None)]
        return [self._status(process) for process in processes]

    def _status(self, process: ChildProcess | None) -> ProcessStatus:
        empty = ProcessState.DOWN if self._down else ProcessState.WAITING
        again_in_s = 0.0 if self._again_at is None else max(0.0, self._again_at - time.monotonic())
        return ProcessStatus(
            name=self.name,
            state=empty if process is None else process.state,
            pid=0 if process is None else process.pid,
            calls=0 if process is None else process.calls,
            up_s=0.0 if process is None else round(process.ran_s, 1),
            generation=0 if process is None else process.spec.generation,
            deaths=self._deaths,
            died_of=self._died_of,
            again_in_s=round(again_in_s, 1),
        )

    def _begin(self) -> ChildProcess:
        process = ChildProcess(self._make(), asked=self._asked)
        task = asyncio.create_task(self._live(process), name=f"keep {self.name}")
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)
        return process

    def _leave(self, process: ChildProcess, order: DrainOrder) -> None:
        self._leaving.append(process)
        process.drain(order)
        log.info("%s (pid %d) drains: %d calls in progress", self.name, process.pid, process.calls)

    async def _live(self, process: ChildProcess) -> None:
        """One process's life, and what comes after it."""
        death = await process.run()
        self._was_up = self._was_up or process.up
        self._on_end(process)
        if self._closed:
            return
        if process in self._leaving:
            self._leaving.remove(process)
            log.info("%s (pid %d) has drained and ended: %s", self.name, process.pid, death.of)
            return
        self._deaths += 1
        self._died_of = f"died ({death.of})" if death.code or not process.pid else f"ended ({death.of})"
        if process is not self._present:
            return  # a successor that did not come up: `exchange` tells
        self._present = None
        if death.code == EXIT_CONFIG and not self._was_up:
            self._on_fault(f"{self.name} cannot start; see its message above")
            return
        await self._again(death)

    async def _again(self, death: Death) -> None:
        pause_s = self._backoff.died(death.ran_s)
        log.error("%s %s after %.1f s; starting it again in %g s", self.name, self._died_of, death.ran_s, pause_s)
        self._on_pause(pause_s)
        mine = self._again_at = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)
        if self._again_at == mine and not self._closed:  # nobody else has taken the place meanwhile
            self._again_at = None
            self._present = self._begin()
