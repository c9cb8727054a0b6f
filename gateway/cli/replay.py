"""`voicegate replay`: the audio replay bench."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from gateway.replay.load import Load, Progress
    from gateway.replay.record import Measured

__all__ = ["register", "replay"]

_SPARE_DESCRIPTORS = 200
_OWN_LEAD_S = 3600.0
_LEAD_S = 5.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    paths: Annotated[
        list[Path],
        typer.Argument(help="A folder is one caller, its recordings in order; files together are one caller."),
    ],
    calls: Annotated[int, typer.Option("--calls", "-n", min=1, help="Calls at once.")] = 10,
    ramp: Annotated[float, typer.Option(min=0, help="Seconds over which they begin.")] = 5.0,
    duration: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds of load; calls that end are followed by new ones. Default: one call each."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0.1, max=20, help="Of the callers' audio, times real time; above 1 limits.flood_s bounds it."),
    ] = 1.0,
    dialect: Annotated[
        str, typer.Option(help="native, asterisk, asterisk-json, twilio, freeswitch, jambonz or vosk.")
    ] = "native",
    processes: Annotated[int, typer.Option(min=0, help="Of the client; 0: as many as the calls need.")] = 0,
    url: Annotated[
        str | None, typer.Option(help="Media address of the gateway; without it, one is started for the run.")
    ] = None,
    control_url: Annotated[
        str | None, typer.Option(help="Its control plane (http://HOST:8080): frames lost and delay come from there.")
    ] = None,
    bot: Annotated[str | None, typer.Option(help="Bot to talk to: load, or with --against the tape's.")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Replay one tape there and compare: ws:// address, bot's name or folder, settings file."),
    ] = None,
    solo: Annotated[
        bool, typer.Option("--solo/--no-solo", help="First let each caller call alone, to compare transcripts with.")
    ] = True,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page with the plots.")] = None,
    gate: Annotated[
        bool, typer.Option(help="Exit 1 where a budget is missed or a call failed; with --against, where one differs.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(envvar="VOICEGATE_TOKEN", help="Bearer token, where the gateway wants one.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Recorded callers talk to the bot in real time, many at once: do the budgets hold?

    Reports every budget with p50, p90, p99 and maximum, calls that failed and why, frames lost, transcripts that
    differ from what the same caller gets alone, and whether the client itself kept up. The gateway must allow so many
    calls (VOICEGATE_LIMITS_CALLS_PER_WORKER), and on one machine both share its cores. Ctrl-C ends it and reports.

    Example, nothing running: voicegate replay recordings/anna recordings/bert --calls 20 --duration 60 --html load.html

    Example, in CI against a gateway: voicegate replay recordings/anna --calls 50 --url ws://127.0.0.1:8765/v1/call
    --control-url http://127.0.0.1:8080 --json --gate > load.json

    Example, one call taped by `voicegate call --record`, with a bot's next version: voicegate replay anna.tape
    --against bots/next
    """
    import uvloop

    from audio.files import AudioFileError
    from gateway.machine import describe_machine
    from gateway.processes.embedded_redis import EmbeddedRedisError
    from gateway.processes.facts import PortTakenError
    from gateway.processes.supervisor import ChildFailedError
    from gateway.replay.client_processes import ClientDiedError
    from gateway.replay.load import Load, processes_for, read_callers
    from gateway.replay.report import Verdict, report
    from gateway.replay.tape import SUFFIX
    from gateway.settings import SettingsError

    if url is not None:
        _check_address(url, dialect)
    if html is not None and not html.resolve().parent.is_dir():
        _refuse(f"{html}: its folder does not exist; make it first")
    if against is not None:
        if html is not None:
            _refuse("--html draws a load; --against prints a table, or with --json a document")
        from gateway.cli.replay_against import compare_versions

        compare_versions(paths, against, url=url, bot=bot, speed=speed, token=token, gate=gate, as_json=as_json)
    _check_dialect(dialect)
    if tapes := [path for path in paths if path.suffix == SUFFIX]:
        _refuse(f"{tapes[0]}: a tape is for --against VERSION; for a load give the recordings")
    machine = describe_machine()
    try:
        load = Load(
            url=url or "",
            callers=read_callers(paths),
            calls=calls,
            ramp_s=ramp,
            duration_s=duration,
            bot=bot or "load",
            token=token,
            dialect=dialect,
            speed=speed,
            processes=processes or processes_for(calls),
            solo=solo,
        )
    except AudioFileError as exc:
        _refuse(str(exc))
    if url is not None and speed > 1:
        typer.echo(_about_speed(speed), err=True)
    _allow_descriptors(calls)
    try:
        from gateway.cli.replay_view import live_line, print_report

        with live_line(load) as told:
            measured = uvloop.run(_run(load, control_url, told))
    except (ChildFailedError, PortTakenError, EmbeddedRedisError, SettingsError, TimeoutError) as exc:
        typer.echo(f"The bench's gateway did not start: {exc or 'not ready in time'}; try `voicegate doctor`", err=True)
        raise typer.Exit(1) from None
    except ClientDiedError as exc:
        typer.echo(f"The bench itself failed: {exc}; fewer --processes may help", err=True)
        raise typer.Exit(1) from None
    result = report(measured, machine=machine, date=datetime.now().astimezone().isoformat(timespec="seconds"))
    if html is not None:
        from gateway.replay.page import page

        html.write_text(page(result), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result.document(), ensure_ascii=False))
    else:
        print_report(result, html)
    raise typer.Exit(1 if gate and result.verdict is Verdict.MISSED else 0)


async def _run(load: Load, control_url: str | None, told: Callable[[Progress], None]) -> Measured:
    import asyncio
    from dataclasses import replace
    from functools import partial

    from gateway import logs, settings
    from gateway.processes.supervisor import Gateway
    from gateway.replay.bench import replay as run
    from gateway.replay.counters import fetch_metrics

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def hang_up() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # a second one ends the command
        stop.set()

    loop.add_signal_handler(signal.SIGINT, hang_up)
    if load.url:
        read = partial(fetch_metrics, control_url, load.token) if control_url else None
        return await run(replace(load, read_metrics=read), told, stop=stop)
    # A gateway of its own: free ports, embedded Redis, whatever the environment says.
    limits = {
        "limits.calls_per_worker": max(1000, load.calls),
        "limits.flood_s": _OWN_LEAD_S if load.speed > 1 else None,
    }
    own = settings.load(
        environ={}, flags={"port": 0, "control_port": 0, "bot": load.bot, "bots": (), "log_level": "warning", **limits}
    )
    logs.configure(own.log_level, own.log_format, process="replay")
    async with Gateway(own) as gateway:
        typer.echo("starting a gateway: Redis, models, prompts ...", err=True)
        await gateway.ready()
        return await run(
            replace(
                load,
                url=f"ws://127.0.0.1:{gateway.port}",
                own_gateway=True,
                read_metrics=partial(fetch_metrics, gateway.control_url, None),
            ),
            told,
            stop=stop,
        )


def _refuse(why: str) -> NoReturn:
    typer.echo(f"Cannot replay: {why}", err=True)
    raise typer.Exit(2)


def _check_dialect(dialect: str) -> None:
    from gateway.replay.lines import REPLAYED

    if dialect not in REPLAYED:
        _refuse(f"--dialect {dialect}: there are {', '.join(REPLAYED)}")


def _check_address(url: str, dialect: str) -> None:
    """An address whose path is another dialect's would fail in every call, and say so in that dialect's words."""
    from gateway.calls.dialects import route

    try:
        parts = urlsplit(url)
    except ValueError as exc:
        _refuse(f"--url {url}: {exc}; write it like ws://127.0.0.1:8765")
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        _refuse(f"--url {url}: must begin with ws:// or wss:// and name a host, like ws://127.0.0.1:8765")
    spoken = dialect.removesuffix("-json")
    found = route(parts.path or "/")
    if found is not None and found.dialect is not None and found.dialect.name != spoken:
        _refuse(f"--url {url}: {parts.path} is for {found.dialect.name}; leave the path out for --dialect {dialect}")


def _about_speed(speed: float) -> str:
    """What a gateway makes of callers who are faster than time (gateway.calls.flood)."""
    return (
        f"at speed {speed:g} a call gets ahead of the clock by {speed - 1:g} s a second; a gateway ends it as flooding "
        f"once that is more than its limits.flood_s ({_LEAD_S:g} s unless set): raise it there for such a run"
    )


def _allow_descriptors(calls: int) -> None:
    """A socket a call: the usual soft limit of 1024 is for programs with fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = calls + _SPARE_DESCRIPTORS
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            _refuse(f"--calls {calls}: this machine allows {hard} open files; raise it with `ulimit -Hn {wanted}`")
