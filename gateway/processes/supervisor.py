"""One gateway: what `serve` is. It claims the ports, finds the Redis, starts the processes, and does what it is asked.

    serve ── embedded Valkey (unless a Redis is given)
         ├── inference worker      models
         ├── gateway worker 0..N   calls
         └── control plane         health, metrics, HTTP API

Each child asks the kernel to die with us, so even SIGKILL leaves no orphan. Which processes there are, and how one
takes another's place, is `gateway.processes.fleet`'s; how each is kept up, `gateway.processes.keeper`'s. One that says
at its start that its configuration is at fault (exit 78) ends the gateway, because it would say so again. SIGTERM
drains: workers first, while models and store still answer; then the rest. SIGHUP reads settings and bots again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dialogue.bots import BotError
from gateway import background
from gateway.processes.facts import claim_port, free_listener, shared_socket
from gateway.processes.fleet import Fleet
from gateway.processes.lifeline import SupervisionError
from gateway.processes.redis_keeper import RedisKeeper
from gateway.processes.reloading import BotPrint, Plan, fingerprints, plan_reload
from gateway.settings import Settings, SettingsError

__all__ = ["ChildFailedError", "Gateway", "ReloadStatus"]

log = logging.getLogger(__name__)

_READY_POLL_S = 0.05
# The listening socket is ours and on this machine: whatever name its certificate is for, nobody else answers there.
_OURS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_OURS.check_hostname, _OURS.verify_mode = False, ssl.CERT_NONE


class ChildFailedError(Exception):
    """A process that cannot be kept up; its own log line says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStatus:
    """What came of the last reload."""

    state: Literal["none", "running", "done", "failed"] = "none"
    step: str = ""
    """What is being done; of a failed one, why it failed."""
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Gateway:
    """A running gateway. Use as an async context on the main thread: parent-death signals follow the thread."""

    def __init__(self, settings: Settings, *, reread: Callable[[], Settings] | None = None) -> None:
        """Raises nothing; everything happens on entering.

        Args:
            settings: `port` and `control_port` may be 0: see `port` and `control_port` once entered.
            reread: the settings from their sources again, for a reload. None: they stay.
        """
        self._settings = settings
        self._reread = reread or (lambda: settings)
        self._stack = AsyncExitStack()
        self._fleet: Fleet | None = None
        self._bots: dict[str, BotPrint] = {}
        self._reload = ReloadStatus()
        self._reloading: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] | None = None
        self.port = settings.port
        self.control_port = settings.control_port

    async def __aenter__(self) -> Gateway:
        """Start all processes; `ready` waits until they serve.

        Raises:
            PortTakenError: another program, or another gateway, has a port.
            EmbeddedRedisError: no embedded server could be started.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @property
    def control_url(self) -> str:
        """Base address of the control plane, for this machine."""
        host = self._settings.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        scheme = "http" if self._settings.control.tls_certificate is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.control_port}"

    async def ready(self, *, timeout_s: float = 120.0, told: Callable[[str], None] = lambda part: None) -> None:
        """Wait until calls can be served.

        Args:
            told: called with what is being waited for, when that changes.

        Raises:
            ChildFailedError: a process cannot be kept up.
            TimeoutError: not ready in time.
        """
        waiting_for = ""
        async with asyncio.timeout(timeout_s):
            while True:
                readiness = await asyncio.to_thread(self._ask_readiness)
                if readiness.get("ready"):
                    return
                parts = [name for name in ("redis", "inference", "workers") if readiness.get(name, "") != "ok"]
                if parts and parts[0] != waiting_for:
                    waiting_for = parts[0]
                    told(waiting_for)
                await self._raise_failure(_READY_POLL_S)

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            ChildFailedError: a process cannot be kept up.
        """
        while not stop.is_set():
            waiter = asyncio.create_task(stop.wait())
            try:
                assert self._failed is not None
                futures: list[asyncio.Future[Any]] = [waiter, self._failed]
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()
            await self._raise_failure(0)

    async def _raise_failure(self, within_s: float) -> None:
        assert self._failed is not None
        done, _ = await asyncio.wait([self._failed], timeout=within_s)
        if done:
            self._failed.result()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        self._failed = asyncio.get_running_loop().create_future()
        stack.callback(self._failed.cancel)
        runtime = Path(tempfile.mkdtemp(prefix="voicegate-"))
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        if settings.workers:  # else another's to have: a gateway may run beside its models and control plane
            self._take_port(settings, stack)
        control = free_listener(settings.host, settings.control_port, option="--control-port")
        stack.callback(control.close)
        self.control_port = control.getsockname()[1]
        redis_url = settings.redis.url
        if redis_url is None:
            redis = RedisKeeper(settings.redis.state_dir, runtime, hang_s=settings.supervision.hang_s)
            stack.callback(redis.stop)
            redis_url = redis.url
            keeper = asyncio.create_task(redis.keep(), name="keep redis")
            stack.push_async_callback(background.stop, [keeper])
        known = {"port": self.port, "control_port": self.control_port, "redis_url": redis_url}
        self._fleet = Fleet(
            settings, runtime=runtime, control=control, known=known, asked=self._asked, on_fault=self._fault
        )
        stack.push_async_callback(self._stop)
        self._fleet.start()
        try:
            self._bots = await asyncio.to_thread(fingerprints, settings.all_bots)
        except BotError as exc:
            raise ChildFailedError(str(exc)) from None

    def _take_port(self, settings: Settings, stack: AsyncExitStack) -> None:
        """The media port: nobody listens there, no other gateway claims it, and it stays ours while workers restart."""
        probe = free_listener(settings.host, settings.port, option="--port")
        self.port = probe.getsockname()[1]
        probe.close()
        stack.callback(claim_port(self.port).close)
        placeholder = shared_socket(settings.host, self.port)
        stack.callback(placeholder.close)

    def _fault(self, message: str) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(ChildFailedError(message))

    async def _stop(self) -> None:
        if self._reloading is not None:
            await background.stop([self._reloading])
        await self._running.stop()

    @property
    def _running(self) -> Fleet:
        assert self._fleet is not None
        return self._fleet

    def kill(self) -> None:
        """End every process at once: whoever waits for an orderly end need wait no longer."""
        if self._fleet is not None:
            self._fleet.kill()

    async def reload(self, *, everything: bool = False) -> Plan:
        """Read settings and bots again, and exchange what they change, without dropping a call.

        Args:
            everything: exchange all processes, whatever has changed.

        Returns:
            What will be done; it goes on by itself. `ReloadStatus` tells how far it is.

        Raises:
            SupervisionError: what was read cannot be used, or a reload is under way; nothing has changed.
        """
        if self._reloading is not None and not self._reloading.done():
            raise SupervisionError("conflict", "a reload is under way; try again when it is done")
        try:
            new = await asyncio.to_thread(self._reread)
            bots = await asyncio.to_thread(fingerprints, new.all_bots)
        except (SettingsError, BotError) as exc:
            log.error("not reloaded, nothing has changed: %s", exc)
            raise SupervisionError("unusable", f"{exc}\nNothing has changed") from None
        if self._reloading is not None and not self._reloading.done():
            raise SupervisionError("conflict", "a reload is under way; try again when it is done")
        plan = plan_reload(self._running.settings, new, self._bots, bots, everything=everything)
        for kept in plan.kept:
            log.warning("%s", kept)
        log.info("reload: %s", ", ".join(plan.changed) or "nothing has changed")
        self._reload = ReloadStatus(state="running", changed=plan.changed, kept=plan.kept)
        self._reloading = asyncio.create_task(self._apply(plan, bots), name="reload")
        return plan

    async def _apply(self, plan: Plan, bots: dict[str, BotPrint]) -> None:
        def told(step: str) -> None:
            log.info("reload: %s", step)
            self._reload = replace(self._reload, step=step)

        try:
            await self._running.apply(plan, told=told)
        except SupervisionError as exc:
            log.error("not reloaded: %s", exc)
            self._reload = replace(self._reload, state="failed", step=str(exc))
            return
        self._bots = bots
        self._reload = replace(self._reload, state="done", step="")
        log.info("reloaded")

    async def _asked(self, what: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the control plane asks for."""
        if what == "wanted":
            return {"workers": self._running.wanted}
        if what in ("drain", "up") and self._reload.state == "running":
            raise SupervisionError("conflict", "a reload is under way; try again when it is done")
        if what == "drain":
            self._running.drain(
                int(fields["worker"]), deadline_s=fields["deadline_s"], keep_down=bool(fields["keep_down"])
            )
        elif what == "up":
            self._running.bring_up(int(fields["worker"]))
        elif what == "reload":
            await self.reload(everything=bool(fields["everything"]))
        elif what != "processes":
            raise SupervisionError("unknown", f"{what}: `serve` does no such thing")
        return {
            "processes": [asdict(status) for status in self._running.statuses()],
            "reload": asdict(self._reload),
        }

    def _ask_readiness(self) -> dict[str, object]:
        try:
            with urllib.request.urlopen(f"{self.control_url}/readyz", timeout=3, context=_OURS) as answer:
                body: dict[str, object] = json.load(answer)
        except urllib.error.HTTPError as exc:
            body = json.load(exc)
        except OSError:
            return {"redis": "starting"}
        return body
