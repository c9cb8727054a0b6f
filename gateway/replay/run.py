"""One client process of a replay: its lines, their calls, and what was measured of them.

One loop, one clock: N lines are opened over the ramp, and on each one call follows another until the time is over. The
client measures itself as well (its CPU, how late it sends), because a bench that is too slow makes its server look
slow.
"""

from __future__ import annotations

import asyncio
import math
import resource
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import InvalidHandshake, InvalidURI

from gateway import background
from gateway.protocols.seam import CloseCode
from gateway.replay.client import CONNECT_S, CallError, why_no_connection
from gateway.replay.client_socket import ReplaySocket, dial
from gateway.replay.clock import FrameClock
from gateway.replay.lines import REPLAYED
from gateway.replay.load import Caller, Lateness, Load, Tick
from gateway.replay.record import CallRecord, Point, Turn
from gateway.replay.recorded_caller import RecordedCaller, Said, as_said
from gateway.sip.line import CallFacts

__all__ = ["LinesRun", "ReplayCall", "RunResult", "cpu_s"]

_SAMPLE_S: Final = 1.0
_REDIAL_S: Final = 1.0
_CLOSE_S: Final = 3.0
_NORMAL: Final = CloseCode.NORMAL
_UNAUTHORIZED: Final = CloseCode.UNAUTHORIZED
_FLOODING: Final = CloseCode.FLOODING


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one process did."""

    records: list[CallRecord]
    lateness: Lateness
    cpu_s: float
    wall_s: float


def cpu_s() -> float:
    """Of this process, so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class ReplayCall:
    """One call, and what is kept of it; a `Talker` of the process's clock."""

    def __init__(self, load: Load, caller: Caller, said: list[Said], clock: FrameClock, began: float) -> None:
        """`began`: of the load, which points' times are counted from, in monotonic seconds."""
        self._load = load
        self._caller = caller
        self._said = said
        self._clock = clock
        self._began = began
        self._dialect = REPLAYED[load.dialect]
        facts = CallFacts(
            call_id=f"replay-{uuid.uuid4()}",
            caller="",  # one who is cut off and calls again is offered to go on: not what is measured
            dialled="replay",
            format=self._dialect.format,
            bot=load.bot,
            token=load.token,
        )
        self._line = self._dialect.line(facts)
        self._ear = self._dialect.ear(self._line, self._note)
        self._points: list[Point] = []
        self._socket: ReplaySocket | None = None
        self._microphone: RecordedCaller | None = None
        self._hanging_up = False
        self._spoken_out = asyncio.Event()

    async def place(self) -> CallRecord:
        """Call, speak, be answered; the record of it. A call that cannot be placed is a failed call."""
        result = self._ear.result
        dialled = time.monotonic()
        status = None
        try:
            await self._talk()
        except CallError as exc:
            result.ended_by, status = "error", exc.status
            result.errors.append(str(exc))
        except BaseException:
            if self._socket is not None:
                self._socket.abort()
            raise
        finally:
            self._hanging_up = True  # whatever comes: the clock lets go of it
        return CallRecord(
            caller=self._caller.name,
            ended_by=result.ended_by,
            disposition=result.disposition,
            faults=tuple(result.errors),
            refused=status,
            began_s=dialled - self._began,
            lasted_s=time.monotonic() - dialled,
            turns=tuple(Turn(turn.spoken, turn.transcript) for turn in result.turns),
            points=tuple(self._points),
            frames_sent=result.frames_sent,
            frames_at_end=result.frames_after_last_mark if result.ended_by in ("bot", "transfer") else 0,
        )

    def hang_up(self) -> None:
        """The caller has had enough: the call ends at its next message."""
        self._hanging_up = True

    def talk(self, now: float) -> float | None:
        """Send what is due."""
        socket, microphone = self._socket, self._microphone
        if socket is None or microphone is None or socket.closed.is_set() or self._spoken_out.is_set():
            return None
        messages = None if self._hanging_up else microphone.tick(now)
        if messages is None:
            ended = "caller" if self._hanging_up else "out_of_audio"
            self._ear.result.ended_by = self._ear.result.ended_by or ended
            self._spoken_out.set()
            return None
        for message in messages:
            socket.send(message)
        return microphone.due

    async def _talk(self) -> None:
        """Raises CallError: no connection."""
        line, result = self._line, self._ear.result
        try:
            socket = self._socket = await dial(
                line.url(self._load.url), line.subprotocols, line.headers(), self._heard, timeout_s=CONNECT_S
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as exc:
            raise why_no_connection(self._load.url, exc) from exc
        now = time.monotonic()
        self._ear.open(now)
        for message in line.hello():
            socket.send(message)
        self._microphone = RecordedCaller(line, self._ear, self._said, now=now, speed=self._load.speed)
        self._clock.add(self, now)
        waiting = [asyncio.create_task(socket.closed.wait()), asyncio.create_task(self._spoken_out.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not socket.closed.is_set():
                goodbye = line.hang_up()
                for message in goodbye:
                    socket.send(message)
                if goodbye:  # some answer it with last words
                    await asyncio.wait(waiting[:1], timeout=_CLOSE_S)
                socket.close()
                await asyncio.wait(waiting[:1], timeout=_CLOSE_S)
        finally:
            await background.stop(waiting)
            socket.abort()
        if not result.ended_by and socket.close_code == _NORMAL and self._load.dialect not in ("native", "vosk"):
            result.ended_by = "bot"  # who says so in no other way
        if not result.ended_by:
            result.ended_by = "error"
            result.errors.append(self._why_closed(socket))

    def _why_closed(self, socket: ReplaySocket) -> str:
        told = f"connection closed: {socket.close_code} {socket.close_reason}".strip()
        if socket.close_code == _FLOODING and self._load.speed > 1:
            ahead = "audio may run limits.flood_s (5 s) ahead of the clock; raise it there, or replay slower"
            return f"{told}; at speed {self._load.speed:g} {ahead}"
        if socket.close_code == _UNAUTHORIZED:
            return f"{told}; the start brings the token: --token, or VOICEGATE_TOKEN; make one with `voicegate token`"
        return told

    def _heard(self, message: str | bytes) -> None:
        self._ear.receive(message, time.monotonic())

    def _note(self, name: str, ms: float, tail_ms: float | None) -> None:
        self._points.append(Point(name, time.monotonic() - self._began, ms, tail_ms))

    def take_replies(self, since: int) -> tuple[list[float], int]:
        """Replies from point `since` on, and how many points there are."""
        told = "endpoint_to_reply_ms" if self._load.dialect == "native" else "speech_end_to_reply_ms"
        return [point.ms for point in self._points[since:] if point.name == told], len(self._points)


class LinesRun:
    """The lines of one process, every so-manieth of the load's."""

    def __init__(
        self,
        load: Load,
        told: Callable[[Tick], None],
        *,
        first: int = 0,
        step: int = 1,
        on_record: Callable[[CallRecord], None] | None = None,
    ) -> None:
        """
        Args:
            told: once a second, what was done in it.
            first, step: which lines of the load these are.
            on_record: told of every call that is over, instead of keeping it: a soak has more than memory should hold.
        """
        self.records: list[CallRecord] = []
        self._keep = on_record or self.records.append
        self._load = load
        self._told = told
        self._indices = range(first, load.calls, step)
        self._live: dict[ReplayCall, int] = {}  # and how many of its points were told
        self._said: dict[str, list[Said]] = {}
        self._over = False
        self._done = self._failed = 0
        self._replies: list[float] = []
        self.lateness = Lateness()

    async def run(self) -> RunResult:
        """Open the lines, sample, hang up when the time is over."""
        load, cpu = self._load, cpu_s()
        began = time.monotonic()
        dialect = REPLAYED[load.dialect]
        fmt = dialect.line(CallFacts(call_id="", caller="", dialled="", format=dialect.format)).format
        self._said = {caller.name: as_said(caller.recordings, fmt) for caller in load.callers}
        clock = FrameClock(self.lateness.count)
        sampler = asyncio.create_task(self._sample())
        ender = None
        if load.duration_s is not None and math.isfinite(load.duration_s):
            ender = asyncio.get_running_loop().call_later(load.duration_s, self.hang_up_all)
        try:
            async with asyncio.TaskGroup() as lines:
                for index in self._indices:
                    lines.create_task(self._line(index, clock, began))
        finally:
            await background.stop([sampler])
            if ender is not None:
                ender.cancel()
        self._tell(0.0)  # nobody is left
        return RunResult(self.records, self.lateness, cpu_s() - cpu, time.monotonic() - began)

    def hang_up_all(self) -> None:
        """The time is over, or whoever watches has seen enough."""
        self._over = True
        for call in self._live:
            call.hang_up()

    async def _line(self, index: int, clock: FrameClock, began: float) -> None:
        """One line: its caller calls, then the next one, for as long as the load lasts."""
        load, callers = self._load, self._load.callers
        await asyncio.sleep(index * load.ramp_s / load.calls)
        while not self._over:
            caller = callers[index % len(callers)]
            call = ReplayCall(load, caller, self._said[caller.name], clock, began)
            self._live[call] = 0
            try:
                record = await call.place()
            finally:
                self._take_replies(call)
                del self._live[call]
            self._keep(record)
            self._done += 1
            self._failed += bool(record.faults)
            if load.duration_s is None:
                return
            index += 1
            if record.faults and not self._over:
                await asyncio.sleep(_REDIAL_S)  # a gateway that refuses is not to be hammered

    def _take_replies(self, call: ReplayCall) -> None:
        replies, self._live[call] = call.take_replies(self._live[call])
        self._replies += replies

    async def _sample(self) -> None:
        cpu, at = cpu_s(), time.monotonic()
        while True:
            await asyncio.sleep(_SAMPLE_S)
            cpu_now, now = cpu_s(), time.monotonic()
            self._tell((cpu_now - cpu) / (now - at))
            cpu, at = cpu_now, now

    def _tell(self, cpu_share: float) -> None:
        for call in self._live:
            self._take_replies(call)
        replies, self._replies = self._replies, []
        tick = Tick(
            live=len(self._live),
            done=self._done,
            failed=self._failed,
            replies_ms=replies,
            cpu_share=cpu_share,
            late_ms=self.lateness.take_worst_s() * 1000,
        )
        self._told(tick)
