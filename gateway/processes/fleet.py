"""The processes of a running gateway: which there are, how they are started, drained and exchanged.

    generation 1   settings ── inference ── worker 0 .. N-1, control
    generation 2   made by a reload: beside it, until the last call of generation 1 is over

A generation is one reading of the settings and bots. A worker and the models it asks are of one generation from its
start to its end, so a call never sees anything change under it. Processes are exchanged one after another, each only
once its successor serves; where one does not come up, those before it are exchanged back, and nothing has changed.

Workers share the media port, each with a socket of its own that is kept here: what waits in its queue for a worker that
is being exchanged, its successor answers. Only where a worker is gone for longer, or for good, does its socket go.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.multiprocess import mark_process_dead

from gateway import background
from gateway.processes.child_process import ChildProcess, ChildSpec
from gateway.processes.facts import shared_socket
from gateway.processes.gpus import seen_gpus, share_of
from gateway.processes.keeper import Keeper, ProcessStatus
from gateway.processes.lifeline import Asked, DrainOrder, Handover, SupervisionError
from gateway.processes.reloading import Kind, Plan
from gateway.settings import Settings

__all__ = ["Fleet"]

log = logging.getLogger(__name__)

_STOP_S: Final = 5.0
_QUEUED_S: Final = 1.0  # the longest that a connection may wait in the queue of a worker that died
_SOCKET: Final = "inference.sock"
_CHOICES: Final = "models.json"  # written by gateway.inference.model_loading.ChoiceRecord, beside the socket
_LEAVE_S: Final = 60.0  # what a call may take beyond `limits.call_s`


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    settings: Settings
    folder: Path
    models: int
    """The generation whose inference workers it asks: its own, or an earlier one."""

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.json"

    @property
    def shares_models(self) -> bool:
        """Whether inference workers meet their askers in the open, so that all generations ask the same."""
        return self.settings.inference.seam == "streams"

    def inference_folder(self, index: int) -> Path:
        """Of one of its own inference workers: its socket, and which models were loaded by command."""
        return self.folder / f"inference-{index}"


class Fleet:
    """All children of one `serve`. Use from its main thread: they die with it."""

    def __init__(
        self,
        settings: Settings,
        *,
        runtime: Path,
        control: socket.socket,
        known: Mapping[str, Any],
        asked: Asked,
        on_fault: Callable[[str], None],
    ) -> None:
        """
        Args:
            runtime: a folder of this gateway's own.
            control: the control plane's listening socket.
            known: settings that are only known once the gateway has begun: ports, the Redis. They stay.
            asked: answers what the control plane asks.
            on_fault: a process says that it can never start.
        """
        self._settings = settings
        self._runtime = runtime
        self._control_socket = control
        self._known = dict(known)
        self._asked = asked
        self._on_fault = on_fault
        self._metrics = runtime / "metrics"
        self._metrics.mkdir()
        self._listeners: dict[int, socket.socket] = {}
        self._workers: dict[int, Keeper] = {}
        self._removed: set[int] = set()  # those that end with their last call, since `workers` is smaller now
        self._inferences: dict[int, list[Keeper]] = {}  # by generation
        self._control: Keeper | None = None
        self._generations: dict[int, _Generation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._gpus = seen_gpus(os.environ)
        self._latest = self._read(settings, models=None)

    @property
    def settings(self) -> Settings:
        """As the present generation has them, but for what is known only here."""
        return self._settings

    @property
    def wanted(self) -> int:
        """Workers that should take calls: all but those that are kept down."""
        return sum(1 for keeper in self._workers.values() if not keeper.kept_down)

    def start(self) -> None:
        """Start every process."""
        generation = self._latest
        self._inferences[generation.number] = self._inference_keepers(generation)
        for keeper in self._inferences[generation.number]:
            keeper.start()
        self._control = self._keeper("control", self._controller(generation), asked=self._asked)
        self._control.start()
        for index in range(self._settings.workers):
            self._add_worker(index)

    def statuses(self) -> list[ProcessStatus]:
        """Every process."""
        return [status for keeper in self._keepers() for status in keeper.statuses()]

    def drain(self, index: int, *, deadline_s: float | None, keep_down: bool) -> None:
        """Have a worker take no new calls, and end when those in progress have.

        Args:
            deadline_s: calls that still go on then are closed with 1001. None: calls end by themselves.
            keep_down: start none in its place; the other workers get its share. Else one is started, now.

        Raises:
            SupervisionError: there is no such worker, or none would be left.
        """
        keeper = self._worker(index)
        limit_s = self._every_call_s if deadline_s is None else deadline_s
        if keeper.kept_down:
            raise SupervisionError("conflict", f"worker {index} is down already; `voicegate drain {index} --up`")
        if keeper.exchanging:
            raise SupervisionError("conflict", f"worker {index} is being exchanged already; wait until that is done")
        if not keep_down:
            self._beside(self._renew(keeper, index, limit_s))
            return
        if not any(other.serves for name, other in self._workers.items() if name != index):
            raise SupervisionError(
                "conflict",
                f"no other worker takes calls now, so worker {index} cannot be kept down; "
                "drain it without --keep-down, or stop the gateway",
            )
        self._close(index)
        keeper.put_down(DrainOrder(Handover.CLOSE, limit_s))

    def bring_up(self, index: int) -> None:
        """Start a worker that was kept down.

        Raises:
            SupervisionError: there is no such worker, or it is not down.
        """
        keeper = self._worker(index)
        if not keeper.kept_down:
            raise SupervisionError("conflict", f"worker {index} is not down")
        self._removed.discard(index)
        self._open(index)
        keeper.start()

    async def apply(self, plan: Plan, *, told: Callable[[str], None] = lambda step: None) -> None:
        """Make the gateway as a reload's plan has it.

        Args:
            told: called with each step.

        Raises:
            SupervisionError: a new process did not come up; nothing has changed.
        """
        if plan.exchanged:
            await self._exchange(plan, told)
        self._settings = plan.settings
        for index in range(plan.settings.workers):
            if index not in self._workers:
                told(f"starting worker {index}")
                self._add_worker(index)
            elif index in self._removed:  # and still has calls of before
                told(f"starting worker {index}")
                self.bring_up(index)
        surplus = [index for index in self._workers if index >= plan.settings.workers and index not in self._removed]
        for index in surplus:
            told(f"draining worker {index}")
            self._remove_worker(index)

    async def stop(self) -> None:
        """Workers drain while the models and the store still answer; then everything else goes.

        As long as one of them has a call, all of them answer newcomers 503.
        """
        self._stopping = True
        await background.stop(self._tasks)
        for index in list(self._listeners):
            self._close(index)  # each worker has its own end; here nobody would answer
        order = DrainOrder(Handover.REFUSE, self._settings.limits.drain_s)
        refusing = [process for keeper in self._workers.values() for process in keeper.refuse(order)]
        leaving = asyncio.gather(*(keeper.stop_leaving() for keeper in self._workers.values()))
        try:
            async with asyncio.timeout(order.deadline_s):
                await asyncio.shield(leaving)
                await asyncio.gather(*(process.idle() for process in refusing))
        except TimeoutError:
            log.info("calls are still in progress after %g s, and are closed", order.deadline_s)
        await asyncio.gather(leaving, *(keeper.stop() for keeper in self._workers.values()))
        if self._control is not None:
            await self._control.stop()
        await asyncio.gather(*(keeper.stop() for keepers in self._inferences.values() for keeper in keepers))

    def kill(self) -> None:
        """End every process at once."""
        for keeper in self._keepers():
            keeper.kill()

    # Workers.

    def _worker(self, index: int) -> Keeper:
        if index not in self._workers:
            known = ", ".join(map(str, sorted(self._workers))) or "none"
            raise SupervisionError("unknown_worker", f"there is no worker {index}; there are: {known}")
        return self._workers[index]

    def _add_worker(self, index: int) -> None:
        self._open(index)
        keeper = self._workers[index] = self._keeper(
            f"worker {index}",
            self._gateway_worker(index, self._latest),
            on_pause=lambda pause_s: self._worker_died(index, pause_s),
        )
        keeper.start()

    def _remove_worker(self, index: int) -> None:
        """For good: `workers` is smaller now."""
        keeper = self._workers[index]
        self._removed.add(index)
        self._close(index)
        if not keeper.kept_down:
            keeper.put_down(DrainOrder(Handover.CLOSE, self._every_call_s))

        async def forget() -> None:
            await asyncio.gather(*(process.ended.wait() for process in keeper.processes))
            if index in self._removed:  # not wanted again meanwhile
                self._removed.discard(index)
                del self._workers[index]

        self._beside(forget())

    async def _renew(self, keeper: Keeper, index: int, deadline_s: float) -> None:
        """A fresh process in a worker's place, with the settings that it had."""
        try:
            await keeper.exchange(self._gateway_worker(index, self._latest), DrainOrder(Handover.HAND_OVER, deadline_s))
        except SupervisionError as exc:
            log.error("worker %d is not drained: %s", index, exc)

    def _worker_died(self, index: int, pause_s: float) -> None:
        """Who would connect to it connects to the others, or is refused; or waits, where it is back in a moment."""
        if pause_s > _QUEUED_S or any(keeper.serves for keeper in self._workers.values()):
            self._close(index)
            self._open(index)

    def _open(self, index: int) -> None:
        if index not in self._listeners:
            self._listeners[index] = shared_socket(self._settings.host, self._known["port"])

    def _close(self, index: int) -> None:
        if (listener := self._listeners.pop(index, None)) is not None:
            listener.close()

    @property
    def _every_call_s(self) -> float:
        """Every call is over by itself then."""
        return self._settings.limits.call_s + _LEAVE_S

    # Generations.

    def _read(self, settings: Settings, models: int | None) -> _Generation:
        """A generation that begins with these settings; `models` None: with inference workers of its own."""
        number = len(self._generations) + 1
        folder = self._runtime / str(number)
        folder.mkdir()
        generation = _Generation(number, settings, folder, models or number)
        generation.settings_file.touch(mode=0o600)  # it holds the secrets, the Redis address with its password too
        known = {**self._known, "redis": settings.redis.model_copy(update={"url": self._known["redis_url"]})}
        del known["redis_url"]
        generation.settings_file.write_text(settings.model_copy(update=known).dump_json())
        self._generations[number] = generation
        return generation

    async def _exchange(self, plan: Plan, told: Callable[[str], None]) -> None:
        before = self._latest
        new_models = Kind.INFERENCE in plan.exchanged
        generation = self._read(plan.settings, models=None if new_models else before.models)
        order = DrainOrder(Handover.HAND_OVER, self._every_call_s)
        back: list[tuple[Keeper, Callable[[], ChildSpec]]] = []
        try:
            if new_models:
                told("loading the models")
                self._inferences[generation.number] = self._inference_keepers(generation)
                _keep_choices(self._generations[before.models], generation, plan)
                for index, keeper in enumerate(self._inferences[generation.number]):
                    await keeper.exchange(self._inference(generation, index), order)
            if Kind.WORKER in plan.exchanged:
                for index, keeper in sorted(self._workers.items()):
                    told(f"exchanging worker {index}")
                    await keeper.exchange(self._gateway_worker(index, generation), order)
                    back.append((keeper, self._gateway_worker(index, before)))
            if Kind.CONTROL in plan.exchanged and self._control is not None:
                told("exchanging the control plane")
                await self._control.exchange(self._controller(generation), order)
        except SupervisionError as exc:
            for keeper, make in reversed(back):
                try:
                    await keeper.exchange(make, order)
                except SupervisionError as failed:  # it goes on with the new settings: better than not at all
                    log.error("%s is not exchanged back: %s", keeper.name, failed)
            self._retire_models()
            raise SupervisionError(exc.code, f"{exc}. Nothing has changed") from None
        self._latest = generation
        self._retire_models()

    def _retire_models(self) -> None:
        """End inference workers that nobody asks any more. Over streams everybody asks all of them, so the old ones go
        as soon as there are new ones."""
        if self._stopping:
            return
        asking = [*self._workers.values(), *filter(None, [self._control])]
        generations = {self._generations[process.spec.generation] for keeper in asking for process in keeper.processes}
        used = {self._latest.models} | {each.models for each in generations if not each.shares_models}
        for number in [number for number in self._inferences if number not in used]:
            log.info("the models of earlier settings are not asked any more")
            for keeper in self._inferences.pop(number):
                self._beside(keeper.stop())

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # How each kind is started.

    def _keepers(self) -> list[Keeper]:
        models = [keeper for keepers in self._inferences.values() for keeper in keepers]
        return [*models, *filter(None, [self._control]), *self._workers.values()]

    def _inference_keepers(self, generation: _Generation) -> list[Keeper]:
        count = generation.settings.inference.workers
        for index in range(count):
            generation.inference_folder(index).mkdir()
        return [
            self._keeper("inference" if count == 1 else f"inference {index}", self._inference(generation, index))
            for index in range(count)
        ]

    def _keeper(
        self,
        name: str,
        make: Callable[[], ChildSpec],
        *,
        asked: Asked | None = None,
        on_pause: Callable[[float], None] = lambda pause_s: None,
    ) -> Keeper:
        return Keeper(
            name,
            make,
            longest_pause_s=self._settings.supervision.longest_pause_s,
            asked=asked,
            on_fault=self._on_fault,
            on_end=self._ended,
            on_pause=on_pause,
        )

    def _ended(self, process: ChildProcess) -> None:
        # Or its calls in progress would be counted for ever.
        mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        asyncio.get_running_loop().call_soon(self._retire_models)

    def _spec(
        self,
        generation: _Generation,
        module: str,
        *options: str,
        stop_s: float,
        hang_s: float,
        fd: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ChildSpec:
        common = ("--settings", str(generation.settings_file), "--parent", str(os.getpid()))
        inherited = () if fd is None else ("--fd", str(fd))
        return ChildSpec(
            command=(sys.executable, "-m", module, *common, *options, *inherited),
            environment={"PROMETHEUS_MULTIPROC_DIR": str(self._metrics), **(environment or {})},
            pass_fds=() if fd is None else (fd,),
            generation=generation.number,
            start_s=generation.settings.supervision.start_s,
            hang_s=hang_s,
            stop_s=stop_s,
        )

    def _inference(self, generation: _Generation, index: int) -> Callable[[], ChildSpec]:
        return lambda: self._spec(
            generation,
            "gateway.inference.worker",
            "--socket",
            str(generation.inference_folder(index) / _SOCKET),
            stop_s=_STOP_S,
            hang_s=generation.settings.supervision.inference_hang_s,
            environment=share_of(index, self._gpus),
        )

    def _controller(self, generation: _Generation) -> Callable[[], ChildSpec]:
        return lambda: self._spec(
            generation,
            "gateway.http.control",
            "--inference",
            str(self._generations[generation.models].inference_folder(0) / _SOCKET),
            stop_s=_STOP_S,
            hang_s=generation.settings.supervision.hang_s,
            fd=self._control_socket.fileno(),
        )

    def _gateway_worker(self, index: int, generation: _Generation) -> Callable[[], ChildSpec]:
        return lambda: self._spec(
            generation,
            "gateway.processes.worker",
            "--inference",
            str(self._generations[generation.models].inference_folder(0) / _SOCKET),
            "--index",
            str(index),
            stop_s=generation.settings.limits.drain_s + _STOP_S,
            hang_s=generation.settings.supervision.hang_s,
            fd=self._listeners[index].fileno(),
        )


def _keep_choices(before: _Generation, after: _Generation, plan: Plan) -> None:
    """Models that were loaded by command stay loaded, but of bots that were changed on disk: that is newer."""
    try:
        chosen = json.loads((before.inference_folder(0) / _CHOICES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    kept = json.dumps([one for one in chosen if f"bot {one['bot']}" not in plan.changed])
    for index in range(after.settings.inference.workers):
        (after.inference_folder(index) / _CHOICES).write_text(kept, encoding="utf-8")
