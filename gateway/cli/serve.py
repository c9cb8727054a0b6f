"""`voicegate serve`: the gateway, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.processes.supervisor import Gateway
    from gateway.settings import Settings

__all__ = ["register", "start"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. A public one needs authentication.")] = None,
    port: Annotated[int | None, typer.Option(help="Media port: calls come to ws://HOST:PORT/v1/call.")] = None,
    control_port: Annotated[
        int | None, typer.Option(help="Softphone, monitor, health, metrics and API over HTTP.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway worker processes; one a core is usual.")] = None,
    bot: Annotated[str | None, typer.Option(help="Bot of calls that name none: a bundled one or a directory.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis or Valkey of yours instead of the embedded one (REDIS_URL).")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Keep the embedded Redis's data here over restarts.")] = None,
    tls: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of `voicegate certificate`: TLS on both ports.")
    ] = None,
) -> None:
    """Serve calls: gateway workers, inference, control plane, and an embedded Redis unless one is given.

    Every setting can also come from the environment (VOICEGATE_PORT, VOICEGATE_LIMITS_CALLS_PER_WORKER, ...) or from
    --config; flags win. SIGTERM or Ctrl-C drains: calls in progress may end (limits.drain_s); a second one ends at
    once. SIGHUP reads settings and bots again, as `voicegate reload` does.

    Example: voicegate serve --bot ./my-bot --workers 2
    """
    flags = {
        "host": host,
        "port": port,
        "control_port": control_port,
        "workers": workers,
        "bot": bot,
        "redis.url": redis_url,
        "redis.state_dir": state_dir,
        **_tls_flags(tls),
    }
    start(config, flags)


def start(config: Path | None, flags: Mapping[str, Any]) -> NoReturn:
    """Run a gateway of these settings until it is told to stop, and end with its exit code."""
    from gateway.processes.preflight import unusable_files
    from gateway.settings import SettingsError, load

    def read() -> Settings:
        found = load(config=config, flags=flags)
        if faults := unusable_files(found):
            raise SettingsError("\n".join(faults))
        return found

    try:
        settings = read()
    except SettingsError as exc:
        typer.echo(f"Settings that cannot be used:\n{_indent(str(exc))}", err=True)
        raise typer.Exit(2) from None
    from dialogue.bots import BotError, load_bot

    for name in settings.all_bots:
        try:
            load_bot(name)
        except BotError as exc:
            typer.echo(f"The bot {name!r} cannot be used:\n{_indent(str(exc))}", err=True)
            raise typer.Exit(2) from None
    from gateway import logs

    logs.configure(settings.log_level, settings.log_format, process="serve")
    sys.exit(asyncio.run(_serve(settings, read)))


async def _serve(settings: Settings, read: Callable[[], Settings]) -> int:
    from gateway.processes.embedded_redis import EmbeddedRedisError
    from gateway.processes.facts import PortTakenError
    from gateway.processes.service_manager import ServiceManager
    from gateway.processes.supervisor import ChildFailedError, Gateway

    stop = asyncio.Event()
    gateway = Gateway(settings, reread=read)
    _heed_signals(gateway, stop)
    try:
        async with gateway, ServiceManager() as manager:
            ready = asyncio.create_task(
                gateway.ready(told=lambda part: typer.echo(f"waiting for {part} ...", err=True))
            )
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if ready.done():
                ready.result()
                typer.echo(_addresses(settings, gateway.port, gateway.control_url), err=True)
                manager.tell("READY=1")
                await gateway.run_until(stop)
            else:
                ready.cancel()
            manager.tell("STOPPING=1")
            typer.echo("stopping: calls in progress may end; once more ends them now ...", err=True)
    except (PortTakenError, EmbeddedRedisError, ChildFailedError) as exc:
        typer.echo(f"Cannot serve: {exc}", err=True)
        return 1
    except TimeoutError:
        typer.echo("Cannot serve: not ready within two minutes; the log above says what is missing", err=True)
        return 1
    return 0


def _heed_signals(gateway: Gateway, stop: asyncio.Event) -> None:
    """SIGTERM and Ctrl-C drain, and the second ends at once; SIGHUP reads settings and bots again."""
    from gateway.processes.lifeline import SupervisionError

    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def end() -> None:
        if stop.is_set():
            gateway.kill()
        stop.set()

    async def reload() -> None:
        with contextlib.suppress(SupervisionError):  # told in the log
            await gateway.reload()

    def hang_up() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, hang_up)


def _tls_flags(folder: Path | None) -> dict[str, Path]:
    """Both ports' certificate, in a folder as `voicegate certificate` makes it."""
    if folder is None:
        return {}
    from gateway.access.own_certificate import CERTIFICATE, KEY

    certificates = dict.fromkeys(("tls.certificate", "control.tls_certificate"), folder / CERTIFICATE)
    return certificates | dict.fromkeys(("tls.key", "control.tls_key"), folder / KEY)


def _addresses(settings: Settings, port: int, control_url: str) -> str:
    """What a person needs to know where."""
    watched = f"  health     {control_url}/readyz\n  metrics    {control_url}/metrics"
    if settings.workers == 0 and settings.inference.workers:
        return f"ready\n  inference  {settings.inference.workers} in pool {settings.inference.pool}\n{watched}"
    if settings.workers == 0:
        return (
            f"ready\n  softphone  {control_url}/softphone\n  monitor    {control_url}/monitor\n"
            f"  control    {control_url}\n{watched}\n  API        {control_url}/docs"
        )
    from gateway.calls.dialects import DIALECTS, NATIVE

    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    media = f"{'wss' if settings.tls.certificate is not None else 'ws'}://{shown}:{port}"
    others = " ".join(dialect.path for dialect in DIALECTS if dialect is not NATIVE)
    return (
        "ready\n"
        f"  softphone  {control_url}/softphone\n"
        f"  monitor    {control_url}/monitor\n"
        f"  calls      {media}/v1/call\n"
        f"  PBXs       {media} and one of {others}\n"
        f"  control    {control_url}\n"
        f"{watched}\n"
        f"  API        {control_url}/docs\n"
        f"  try it     voicegate call hello.wav --url {media}/v1/call"
    )


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
