"""The bots' models at work: each version behind a batcher of its own, exchanged while calls run.

    understand   pool.begin (which version) -> read -> Batcher.submit -> pool.answered | failed | gave_up
    administer   loader thread: load, check, 50 passes -> loop: one reference swapped -> 30 s idle -> unloaded

Who answers whom is decided by the pure `nlu.pool.ModelPool`. A version on trial that fails costs its caller nothing:
the live version is asked in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gateway import background, logs
from gateway.inference.batching import Batcher, BatcherSettings, DeadlinePassed, Overloaded
from gateway.inference.job_queue import Errand
from gateway.inference.model_commands import ModelAction, ModelCommand, ModelError, ModelFault
from gateway.inference.seam import InferenceError, Understood
from gateway.metrics import InferenceMetrics
from nlu.meaning import Meaning
from nlu.pool import LoadedVersion, ModelPool, PoolError, TurnId, VersionState, VersionStatus

__all__ = ["WARM_UP_PASSES", "ModelLoader", "ModelServing", "NluModel"]

log = logging.getLogger(__name__)

L = TypeVar("L")

_LOADER_NICE = 10

WARM_UP_PASSES = 50
"""Before a version answers a caller: memory is found and kernels are chosen by then."""


class NluModel(Protocol[L]):
    """The part of `nlu.engine.NluEngine` that serving needs. L is a text as the model reads it."""

    version: str
    path: str
    """Where it was loaded from."""

    def read(self, text: str) -> L:
        """What the model sees of a text; fast."""
        ...

    def padded_tokens(self, line: L) -> int:
        """Cost of a line in a batch."""
        ...

    def predict_lines(self, lines: list[L]) -> list[Meaning]:
        """Blocking; results in the order of the lines. May be called from several threads at once."""
        ...

    def warm_up(self, passes: int = ...) -> None:
        """Blocking. Raises an exception where the model answers nonsense."""
        ...


class ModelLoader(Protocol):
    """Where new versions come from."""

    def __call__(self, bot: str, path: str, present: NluModel[Any]) -> NluModel[Any]:
        """Load an artefact and check that it fits the bot; blocking, in a thread.

        Args:
            path: as the operator wrote it.
            present: the live version, whose place it is to take.

        Raises:
            ModelError: not allowed, or unusable.
        """
        ...


@dataclass(slots=True, eq=False)
class _Served:
    """A loaded model and the batcher before it; bots that share an artefact share both."""

    model: NluModel[Any]
    batcher: Batcher[Any, Meaning]
    users: int = 0
    """Loaded versions of all bots that are this one."""


class ModelServing:
    """All bots' models. Use as an async context."""

    def __init__(
        self,
        models: Mapping[str, NluModel[Any]],
        *,
        settings: BatcherSettings,
        metrics: InferenceMetrics,
        load: ModelLoader | None = None,
        retire_after_s: float = 30.0,
        changed: Callable[[list[VersionStatus]], None] = lambda statuses: None,
    ) -> None:
        """
        Args:
            models: the first version of each bot's model, by the bot's name, warm.
            load: None: versions cannot be exchanged.
            changed: told what is loaded after every command that changed it.
        """
        self._settings = settings
        self._metrics = metrics
        self._load = load
        self._changed = changed
        self._pools: dict[str, ModelPool[_Served]] = {}
        self._changing: set[str] = set()
        served: dict[int, _Served] = {}
        now = time.monotonic()
        for bot, model in models.items():
            if id(model) not in served:
                served[id(model)] = self._serve(bot, model)
            self._pools[bot] = ModelPool(bot, _version(served[id(model)], now), retire_after_s=retire_after_s)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model loader", initializer=_step_back)
        self._retirements = asyncio.Event()
        self._retirer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ModelServing:
        for served in self._all_served():
            await served.batcher.__aenter__()
        self._retirer = asyncio.create_task(self._unload_retired(), name="unload retired models")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._retirer is not None
        await background.stop([self._retirer])
        for served in self._all_served():
            await served.batcher.__aexit__()
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def understand(
        self, bot: str, text: str, *, timeout_s: float, errand: Errand | None, turn: TurnId | None
    ) -> Understood:
        """See `gateway.inference.seam.Inference.understand`."""
        pool = self._pools.get(bot)
        if pool is None:
            raise InferenceError(f"understanding: no model named {bot!r}; loaded: {', '.join(self._pools) or 'none'}")
        while True:
            began = time.monotonic()
            version = pool.begin(turn, began)
            served = version.engine
            try:
                done = await served.batcher.submit(served.model.read(text), timeout_s=timeout_s, errand=errand)
            except (asyncio.CancelledError, Overloaded, DeadlinePassed) as exc:
                pool.gave_up(version, time.monotonic())
                if isinstance(exc, asyncio.CancelledError):
                    raise
                raise InferenceError(f"understanding: {type(exc).__name__}: {exc}") from exc
            except Exception as exc:
                self._metrics.model_failed(bot, version.version)
                if pool.failed(version, turn, time.monotonic()):
                    log.warning("%s: version %s failed; asking the live one", bot, version.version)
                    continue
                # The engine's message may quote the text, so only its kind is passed on.
                raise InferenceError(f"understanding: {type(exc).__name__}") from exc
            now = time.monotonic()
            pool.answered(version, now, seconds=now - began, meaning=done.result)
            self._metrics.model_answered(bot, version.version, now - began, done.result)
            return Understood(done.result, done.queue_ms, done.compute_ms, version.version)

    # Administration.

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        """See `gateway.inference.model_commands.ModelAdministration.administer`."""
        if command.action is ModelAction.LIST and not command.bot:
            return self._statuses(*self._pools.values())
        pool = self._pools.get(command.bot)
        if pool is None:
            known = ", ".join(self._pools) or "none"
            raise ModelError(ModelFault.UNKNOWN_BOT, f"no bot {command.bot!r} with a model is served; these: {known}")
        if command.action is ModelAction.LIST:
            return self._statuses(pool)
        if command.bot in self._changing:
            raise ModelError(ModelFault.CONFLICT, f"{command.bot}: another change is under way; try again when it ends")
        self._changing.add(command.bot)
        try:
            async with asyncio.timeout(timeout_s):
                await self._change(pool, command)
        except PoolError as exc:
            raise ModelError(ModelFault.CONFLICT, str(exc)) from None
        except TimeoutError:
            raise InferenceError(f"{command.bot}: {command.action} did not end within {timeout_s:g} s") from None
        finally:
            self._changing.discard(command.bot)
            self._retirements.set()
        self._changed(self._statuses(*self._pools.values()))
        return self._statuses(pool)

    async def _change(self, pool: ModelPool[_Served], command: ModelCommand) -> None:
        match command.action:
            case ModelAction.LOAD:
                version = await self._shadow(pool, command.path, command.version)
                pool.make_live(version, time.monotonic())
            case ModelAction.CANARY:
                version = await self._shadow(pool, command.path, command.version)
                try:
                    pool.make_canary(version, command.share, time.monotonic())
                except PoolError:
                    if version.state is VersionState.SHADOW:
                        await self._discard(pool, version)
                    raise
            case ModelAction.PROMOTE:
                pool.promote(time.monotonic())
            case ModelAction.ROLLBACK:
                if (former := pool.rollback(time.monotonic())) is not None:
                    version = await self._shadow(pool, former.path, former.version)
                    pool.make_live(version, time.monotonic())
        log.info("%s: %s done; live is version %s", command.bot, command.action, pool.live.version)

    async def _shadow(self, pool: ModelPool[_Served], path: str, wanted: str) -> LoadedVersion[_Served]:
        """A version, loaded and warm, that nobody is answered by yet; or the same one, where it is in memory."""
        if self._load is None:
            raise ModelError(ModelFault.CONFLICT, f"{pool.bot}: models cannot be exchanged here")
        loop = asyncio.get_running_loop()
        present = pool.live.engine.model
        try:
            model = await loop.run_in_executor(self._loader, self._load, pool.bot, path, present)
        except ModelError:
            raise
        except Exception as exc:
            log.error("%s: loading %s failed: %s", pool.bot, path, logs.where(exc))
            raise ModelError(ModelFault.UNUSABLE, f"{path}: cannot be loaded ({type(exc).__name__})") from exc
        if wanted and model.version != wanted:
            raise ModelError(ModelFault.UNUSABLE, f"{path}: holds version {model.version} and not {wanted}")
        if (known := pool.find(model.version)) is not None:
            return known
        served = self._serve(pool.bot, model)
        await served.batcher.__aenter__()
        version = _version(served, time.monotonic())
        pool.add_shadow(version)
        try:
            await loop.run_in_executor(self._loader, model.warm_up, WARM_UP_PASSES)
        except BaseException as exc:
            await self._discard(pool, version)
            if isinstance(exc, Exception):
                raise ModelError(ModelFault.UNUSABLE, f"{path}: fails when it is asked ({type(exc).__name__})") from exc
            raise
        return version

    async def _discard(self, pool: ModelPool[_Served], version: LoadedVersion[_Served]) -> None:
        pool.discard(version)
        await self._release(version.engine)

    # Memory.

    async def _unload_retired(self) -> None:
        while True:
            due = min((timer for pool in self._pools.values() if (timer := pool.get_timer()) is not None), default=None)
            self._retirements.clear()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    await self._retirements.wait()
            except TimeoutError:
                pass
            # In a frame of its own, for one that sleeps here would keep the last version alive.
            if await self._unload_due():
                await asyncio.get_running_loop().run_in_executor(self._loader, _give_memory_back)

    async def _unload_due(self) -> bool:
        unloaded = False
        for pool in self._pools.values():
            for version in pool.handle_timer(time.monotonic()):
                log.info("%s: version %s unloaded", pool.bot, version.version)
                await self._release(version.engine)
                unloaded = True
        return unloaded

    async def _release(self, served: _Served) -> None:
        served.users -= 1
        if not served.users:
            await served.batcher.__aexit__()

    def _serve(self, bot: str, model: NluModel[Any]) -> _Served:
        batcher: Batcher[Any, Meaning] = Batcher(
            f"nlu {bot}",
            model.predict_lines,
            self._settings,
            cost=model.padded_tokens,
            observe=self._metrics.batch_ran,
            on_shed=self._metrics.job_shed,
        )
        return _Served(model, batcher)

    def _all_served(self) -> list[_Served]:
        return list({id(v.engine): v.engine for pool in self._pools.values() for v in pool.versions}.values())

    def _statuses(self, *pools: ModelPool[_Served]) -> list[VersionStatus]:
        now = time.monotonic()
        return [status for pool in pools for status in pool.statuses(now)]


def _step_back() -> None:
    """Let the calling thread have what the others leave: callers wait for them, and for a load nobody does."""
    with contextlib.suppress(OSError):  # where it is not to be had, a load costs callers more and fails nobody
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADER_NICE)  # of this thread alone, on Linux


def _give_memory_back() -> None:
    """Hand freed memory to the system. glibc keeps what a thread that loads models has freed: 100 to 200 MB."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _version(served: _Served, now: float) -> LoadedVersion[_Served]:
    served.users += 1
    return LoadedVersion(version=served.model.version, path=served.model.path, engine=served, since=now)
