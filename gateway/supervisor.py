"""One gateway: its processes started, watched, replaced when they die, and stopped in order.

    serve ── embedded Valkey (unless a Redis is given)
         ├── inference worker      models
         ├── gateway worker 0..N   calls
         └── control plane         health, metrics

Each child asks the kernel to die with us, so even SIGKILL leaves no orphan. A child that dies is started again with
backoff; one that says its configuration is at fault (exit 78) ends the gateway, because it would say so again.
SIGTERM drains: workers first, while models and store still answer; then the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway import background
from gateway.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from gateway.processes import EXIT_CONFIG, claim_port, free_listener
from gateway.settings import Settings

__all__ = ["ChildFailedError", "Gateway"]

log = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_HEALTHY_AFTER_S = 30.0
_STOP_S = 5.0
_READY_POLL_S = 0.05
_REDIS_WATCH_S = 0.25
# The listening socket is ours and on this machine: whatever name its certificate is for, nobody else answers there.
_OURS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_OURS.check_hostname, _OURS.verify_mode = False, ssl.CERT_NONE


class ChildFailedError(Exception):
    """A process that cannot be kept up; its own log line says why."""


@dataclass(slots=True)
class _Child:
    name: str
    command: list[str]
    stop_s: float
    pass_fds: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    environment: dict[str, str] = field(default_factory=dict)


class Gateway:
    """A running gateway. Use as an async context on the main thread: parent-death signals follow the thread."""

    def __init__(self, settings: Settings) -> None:
        """Raises nothing; everything happens on entering.

        `settings.port` and `settings.control_port` may be 0: see `port` and `control_port` once entered.
        """
        self._settings = settings
        self._stack = AsyncExitStack()
        self._children: list[_Child] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._redis: EmbeddedRedis | None = None
        self._failed: asyncio.Future[None] | None = None
        self._stopping = False
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
        # The port: nobody listens there, no other gateway claims it, and it stays ours while workers restart.
        probe = free_listener(settings.host, settings.port, option="--port")
        self.port = probe.getsockname()[1]
        probe.close()
        stack.callback(claim_port(self.port).close)
        placeholder = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        stack.callback(placeholder.close)
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        placeholder.bind((settings.host, self.port))
        control = free_listener(settings.host, settings.control_port, option="--control-port")
        stack.callback(control.close)
        self.control_port = control.getsockname()[1]
        redis_url = settings.redis.url
        if redis_url is None:
            self._redis = EmbeddedRedis(settings.redis.state_dir, runtime)
            stack.callback(lambda: self._redis.stop() if self._redis else None)
            redis_url = self._redis.url
            keeper = asyncio.create_task(self._keep_redis(runtime), name="keep redis")
            stack.callback(keeper.cancel)
        metrics_dir = runtime / "metrics"
        metrics_dir.mkdir()
        settings_file = runtime / "settings.json"
        settings_file.touch(mode=0o600)  # it holds the secrets, the Redis address with its password among them
        known = {
            "port": self.port,
            "control_port": self.control_port,
            "redis": settings.redis.model_copy(update={"url": redis_url}),
        }
        settings_file.write_text(settings.model_copy(update=known).dump_json())
        common = ["--settings", str(settings_file), "--parent", str(os.getpid())]
        inference = str(runtime / "inference.sock")
        serving = ["--inference", inference]
        stack.push_async_callback(self._stop_children)
        python = [sys.executable, "-m"]
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(metrics_dir)}
        self._spawn(
            "inference",
            [*python, "gateway.inference_worker", *common, "--socket", inference],
            _STOP_S,
            environment=environment,
        )
        self._spawn(
            "control",
            [*python, "gateway.control", *common, *serving, "--fd", str(control.fileno())],
            _STOP_S,
            pass_fds=(control.fileno(),),
            environment=environment,
        )
        for index in range(settings.workers):
            self._spawn(
                f"worker {index}",
                [*python, "gateway.worker", *common, *serving, "--index", str(index)],
                settings.limits.drain_s + _STOP_S,
                environment=environment,
            )

    def _spawn(
        self,
        name: str,
        command: list[str],
        stop_s: float,
        *,
        pass_fds: tuple[int, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        child = _Child(name, command, stop_s, pass_fds, environment=environment or {})
        self._children.append(child)
        self._keepers.append(asyncio.create_task(self._keep(child), name=f"keep {name}"))

    async def _keep(self, child: _Child) -> None:
        """Run a child again and again until the gateway stops."""
        assert self._failed is not None
        attempt = 0
        while not self._stopping:
            begun = time.monotonic()
            child.process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=child.pass_fds,
                env={**os.environ, **child.environment},
                start_new_session=True,  # a Ctrl-C in the terminal is ours to turn into an orderly stop
            )
            code = await child.process.wait()
            if self._is_stopping():
                return
            if code == EXIT_CONFIG:
                if not self._failed.done():
                    self._failed.set_exception(ChildFailedError(f"{child.name} cannot start; see its message above"))
                return
            attempt = 0 if time.monotonic() - begun > _HEALTHY_AFTER_S else attempt + 1
            pause_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S)) - 1] if attempt else 0.0
            log.error("%s died (%s); starting it again in %g s", child.name, _how(code), pause_s)
            await asyncio.sleep(pause_s)

    def _is_stopping(self) -> bool:
        return self._stopping  # a method, because it changes while a child is waited for

    async def _keep_redis(self, runtime: Path) -> None:
        """Replace the embedded server when it dies; with a state directory nothing older than a second is lost."""
        while True:
            await asyncio.sleep(_REDIS_WATCH_S)
            if self._redis is None or self._redis.is_running():
                continue
            log.error("the embedded Redis died; starting it again")
            self._redis.stop()  # lets go of its directory
            try:
                # On this thread: the server dies with the thread that started it.
                self._redis = EmbeddedRedis(self._settings.redis.state_dir, runtime)
            except EmbeddedRedisError as exc:
                log.error("the embedded Redis does not start: %s", exc)

    async def _stop_children(self) -> None:
        """Workers drain while the models still answer; then everything else goes."""
        self._stopping = True
        order = ("worker", "control", "inference")
        for kind in order:
            await asyncio.gather(*(self._stop(child) for child in self._children if child.name.startswith(kind)))
        await background.stop(self._keepers)

    async def _stop(self, child: _Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(child.stop_s):
                await process.wait()
        except TimeoutError:
            log.error("%s did not stop within %g s; killing it", child.name, child.stop_s)
            process.kill()
            await process.wait()

    def _ask_readiness(self) -> dict[str, object]:
        try:
            with urllib.request.urlopen(f"{self.control_url}/readyz", timeout=3, context=_OURS) as answer:
                body: dict[str, object] = json.load(answer)
        except urllib.error.HTTPError as exc:
            body = json.load(exc)
        except OSError:
            return {"redis": "starting"}
        return body


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
