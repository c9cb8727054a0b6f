"""One process of a gateway, from its start to its end, as `serve` sees it.

    starting --first beat--> serving --drain order--> draining --calls over--> ended
    starting --start_s without a beat--> killed      serving, draining --hang_s without a beat--> killed

A process that hangs without dying is killed like one that died: first SIGQUIT, on which it writes to the log where each
of its threads stands, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway import background
from gateway.processes.lifeline import Asked, ChildLine, DrainOrder

__all__ = ["ChildProcess", "ChildSpec", "Death", "ProcessState"]

_TICKS: Final = 5
_LAST_WORDS_S: Final = 0.5


class ProcessState(StrEnum):
    """Where a process stands."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    WAITING = "waiting"
    """It died, and is started again after a pause."""
    DOWN = "down"
    """It was drained and is kept down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How a process is started, and how long it may take for what."""

    command: tuple[str, ...]
    """`--lifeline FD` is added."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Besides our own."""
    pass_fds: tuple[int, ...] = ()
    generation: int = 1
    """Which reading of the settings it has."""
    start_s: float
    hang_s: float
    stop_s: float
    """On SIGTERM; then it is killed."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended."""

    code: int
    """As `subprocess` has it: negative for a signal. 0 where it was never started."""
    ran_s: float
    of: str
    """What it died of, for the log."""


class ChildProcess:
    """One process; `run` is its whole life."""

    def __init__(self, spec: ChildSpec, *, asked: Asked | None = None) -> None:
        """`asked`: see `gateway.processes.lifeline.ChildLine`."""
        self.spec = spec
        self.draining = False
        self.ended = asyncio.Event()
        self._line = ChildLine(asked)
        self._process: asyncio.subprocess.Process | None = None
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        """0 before it is started."""
        return self._process.pid if self._process is not None else 0

    @property
    def calls(self) -> int:
        """In progress, by its last beat."""
        return self._line.calls

    @property
    def up(self) -> bool:
        """Whether it serves, or has served."""
        return self._line.up.is_set()

    @property
    def ran_s(self) -> float:
        """Since its start."""
        return time.monotonic() - self._begun

    @property
    def state(self) -> ProcessState:
        """Of a process that runs."""
        if self.draining:
            return ProcessState.DRAINING
        return ProcessState.SERVING if self.up else ProcessState.STARTING

    async def run(self) -> Death:
        """Start it, watch it, and tell how it ended. Cancelled, it leaves no process behind."""
        ours, theirs = socket.socketpair()
        listening = asyncio.create_task(self._line.listen(ours), name="a child's line")
        watching: list[asyncio.Task[str]] = []
        try:
            with theirs:
                self._process = await self._start(theirs.fileno())
            exited = asyncio.create_task(self._process.wait())
            watching = [asyncio.create_task(self._watch(), name="watch a child")]
            await asyncio.wait([exited, *watching], return_when=asyncio.FIRST_COMPLETED)
            hung = "" if exited.done() else watching[0].result()
            if hung:
                await self._kill_with_last_words()
            code = await exited
            return Death(code, self.ran_s, hung or _how(code))
        except OSError as exc:  # no memory, too many processes: perhaps later
            return Death(0, self.ran_s, f"it cannot be started: {exc.strerror}")
        finally:
            self.kill()
            await background.stop([listening, *watching])
            try:
                if self._process is not None:
                    await self._process.wait()  # cancelled: nobody else sees it end
            finally:
                self.ended.set()

    async def came_up(self) -> bool:
        """Wait until it serves; False where it ended before."""
        await _either(self._line.up, self.ended)
        return self.up and not self.ended.is_set()

    async def idle(self) -> None:
        """Wait until it has no call, by its beats, or has ended."""
        while self.calls and not self.ended.is_set():
            self._line.heard.clear()
            await _either(self._line.heard, self.ended)

    def drain(self, order: DrainOrder) -> None:
        """Have it take no new calls, and end when those in progress have."""
        self.draining = True
        self._line.order(order)

    async def stop(self) -> bool:
        """SIGTERM, and SIGKILL where that takes too long. Returns False where it did."""
        if self._process is None or self._process.returncode is not None:
            return True
        self.draining = True
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.spec.stop_s):
                await self.ended.wait()
        except TimeoutError:
            self.kill()
            await self.ended.wait()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _start(self, line: int) -> asyncio.subprocess.Process:
        spec = self.spec
        return await asyncio.create_subprocess_exec(
            *spec.command,
            "--lifeline",
            str(line),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(*spec.pass_fds, line),
            env={**os.environ, **spec.environment},
            start_new_session=True,  # a Ctrl-C in the terminal is `serve`'s to turn into an orderly stop
        )

    async def _watch(self) -> str:
        """Until the process gives no sign of life any more: what is wrong with it.

        Time is counted in ticks of our own: where `serve` itself or the whole machine was stopped for a while, one
        tick has passed and not all of them, and nobody is killed for it.
        """
        line, seen, silent = self._line, 0, 0
        while True:
            limit_s = self.spec.hang_s if line.up.is_set() else self.spec.start_s
            await asyncio.sleep(limit_s / _TICKS if line.up.is_set() else min(1.0, limit_s))
            if line.beats != seen:
                seen, silent = line.beats, 0
            elif line.up.is_set():
                silent += 1
                if silent >= _TICKS:
                    return f"it hung: no sign of life for {limit_s:g} s"
            elif self.ran_s > limit_s:
                return f"it did not come up within {limit_s:g} s"

    async def _kill_with_last_words(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        await asyncio.sleep(_LAST_WORDS_S)
        self.kill()


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waiting = [asyncio.create_task(first.wait()), asyncio.create_task(second.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await background.stop(waiting)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
