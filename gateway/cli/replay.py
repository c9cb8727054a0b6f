"""`voicegate replay`: the audio replay bench."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.replay import Load, Progress
    from gateway.replay_record import Measured
    from gateway.replay_report import BudgetLine, Report

__all__ = ["register", "replay"]

_SPARE_DESCRIPTORS = 200


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
    url: Annotated[
        str | None, typer.Option(help="Media address of the gateway; without it, one is started for the run.")
    ] = None,
    control_url: Annotated[
        str | None, typer.Option(help="Its control plane (http://HOST:8080): frames lost and delay come from there.")
    ] = None,
    bot: Annotated[str, typer.Option(help="Bot to talk to.")] = "load",
    solo: Annotated[
        bool, typer.Option("--solo/--no-solo", help="First let each caller call alone, to compare transcripts with.")
    ] = True,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page with the plots.")] = None,
    gate: Annotated[bool, typer.Option(help="Exit 1 where a budget is missed or a call failed.")] = False,
    token: Annotated[
        str | None, typer.Option(envvar="VOICEGATE_TOKEN", help="Bearer token, where the gateway wants one.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Recorded callers talk to the bot in real time, many at once: do the budgets hold?

    Reports every budget with p50, p90, p99 and maximum, calls that failed and why, frames lost, transcripts that
    differ from what the same caller gets alone, and what the client itself took. The gateway must allow so many calls
    (VOICEGATE_LIMITS_CALLS_PER_WORKER), and on one machine both share its cores.

    Example, nothing running: voicegate replay recordings/anna recordings/bert --calls 20 --duration 60 --html load.html

    Example, in CI against a gateway: voicegate replay recordings/anna --calls 50 --url ws://127.0.0.1:8765/v1/call
    --control-url http://127.0.0.1:8080 --json --gate > load.json
    """
    import uvloop

    from audio.files import AudioFileError
    from gateway.embedded_redis import EmbeddedRedisError
    from gateway.machine import describe_machine
    from gateway.processes import PortTakenError
    from gateway.replay import Load, read_callers
    from gateway.replay_report import Verdict, report
    from gateway.settings import SettingsError
    from gateway.supervisor import ChildFailedError

    machine = describe_machine()
    try:
        load = Load(
            url=url or "",
            callers=read_callers(paths),
            calls=calls,
            ramp_s=ramp,
            duration_s=duration,
            bot=bot,
            token=token,
            solo=solo,
        )
    except AudioFileError as exc:
        typer.echo(f"Cannot replay: {exc}", err=True)
        raise typer.Exit(2) from None
    if html is not None and not html.resolve().parent.is_dir():
        typer.echo(f"Cannot replay: {html}: its folder does not exist; make it first", err=True)
        raise typer.Exit(2)
    _allow_descriptors(calls)
    try:
        with _progress(load) as told:
            measured = uvloop.run(_run(load, control_url, told))
    except (ChildFailedError, PortTakenError, EmbeddedRedisError, SettingsError, TimeoutError) as exc:
        typer.echo(f"The bench's gateway did not start: {exc or 'not ready in time'}; try `voicegate doctor`", err=True)
        raise typer.Exit(1) from None
    result = report(measured, machine=machine, date=datetime.now().astimezone().isoformat(timespec="seconds"))
    if html is not None:
        from gateway.replay_page import page

        html.write_text(page(result), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result.document(), ensure_ascii=False))
    else:
        _print(result, html)
    raise typer.Exit(1 if gate and result.verdict is Verdict.MISSED else 0)


async def _run(load: Load, control_url: str | None, told: Callable[[Progress], None]) -> Measured:
    from dataclasses import replace
    from functools import partial

    from gateway import logs, settings
    from gateway.replay import replay as run
    from gateway.replay_counters import fetch_metrics
    from gateway.supervisor import Gateway

    if load.url:
        read = partial(fetch_metrics, control_url, load.token) if control_url else None
        return await run(replace(load, read_metrics=read), told)
    # A gateway of its own: free ports, embedded Redis, whatever the environment says.
    own = settings.load(
        environ={}, flags={"port": 0, "control_port": 0, "bot": load.bot, "bots": (), "log_level": "warning"}
    )
    logs.configure(own.log_level, own.log_format, process="replay")
    async with Gateway(own) as gateway:
        typer.echo("starting a gateway: Redis, models, prompts ...", err=True)
        await gateway.ready()
        return await run(
            replace(
                load,
                url=f"ws://127.0.0.1:{gateway.port}/v1/call",
                own_gateway=True,
                read_metrics=partial(fetch_metrics, gateway.control_url, None),
            ),
            told,
        )


def _allow_descriptors(calls: int) -> None:
    """A socket a call: the usual soft limit of 1024 is for programs with fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = calls + _SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


@contextmanager
def _progress(load: Load) -> Iterator[Callable[[Progress], None]]:
    """One live line on stderr; a piped stderr gets the last of it only."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    from gateway.replay_report import percentile

    expected = {"alone": float(len(load.callers)), "load": load.duration_s or float(load.calls)}
    bar = Bar(
        TextColumn("{task.description}", table_column=Column(min_width=6, no_wrap=True)),
        BarColumn(20),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True, highlight=False),
        refresh_per_second=2,
    )
    tasks = {}

    def told(now: Progress) -> None:
        if now.phase not in tasks:
            tasks[now.phase] = bar.add_task(now.phase, total=expected[now.phase], figures="")
        replies = sorted(now.replies_ms)
        figures = f"{now.live} live, {now.done} done, [{'red' if now.failed else 'dim'}]{now.failed} failed[/]"
        if replies:
            figures += f", reply p50 {percentile(replies, 0.5):.0f} p99 {percentile(replies, 0.99):.0f} ms"
        if now.phase == "load":
            figures += f", client {now.cpu_share:.0%} of a core, {now.late_ms:.0f} ms late"
        timed = now.phase == "load" and load.duration_s is not None
        bar.update(tasks[now.phase], completed=now.at_s if timed else now.done, figures=figures)

    with bar:
        yield told


_STYLE = {"met": "green", "missed": "bold red", "not measured": "dim"}


def _print(result: Report, html: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{result.bot} at {result.url}", title_justify="left", header_style="bold")
    table.add_column("budget")
    for name in ("n", "p50", "p90", "p99", "max", "budget"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in result.budgets:
        style = _STYLE[line.verdict]
        name = line.name if line.under == "load" else f"{line.name} ({line.under})"
        table.add_row(name, str(line.n or "-"), *_figures(line), _limits(line), f"[{style}]{line.verdict}[/]")
    console.print(table)
    for name, note in {line.name: line.note for line in result.budgets}.items():
        console.print(f"[dim]{name}: {escape(note)}[/]", soft_wrap=True)
    console.print(
        f"\ncalls: {result.placed} placed, {result.ok} ok ({result.cut} of them cut when the time was over), "
        f"{'[red]' if result.failed else ''}{result.failed} failed{'[/]' if result.failed else ''}"
    )
    for reason, count in result.failures.items():
        console.print(f"  [red]{count}[/] x {escape(reason)}")
    if result.turns_compared:
        console.print(f"transcripts: {result.turns_differing} of {result.turns_compared} differ from the caller alone")
        for one in result.differences[:5]:
            console.print(f"  {one.recording}: alone {one.alone!r}, under load {one.heard!r}", markup=False)
    client = result.client
    console.print(
        f"this client: {client.cpu_share:.0%} of a core; sent late by p50 {client.late_p50_ms:.1f}, "
        f"p99 {client.late_p99_ms:.1f}, at most {client.late_max_ms:.0f} ms"
    )
    for warning in result.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")
    if html is not None:
        console.print(f"page: {escape(str(html))}")


def _figures(line: BudgetLine) -> list[str]:
    if "lost" in line.figures:
        return ["-", "-", "-", f"{line.figures['lost']:.0f} lost"]
    return [_ms(line.figures.get(name)) for name in ("p50", "p90", "p99", "max")]


def _limits(line: BudgetLine) -> str:
    return ", ".join(f"{name} ≤ {limit:g}" for name, limit in line.limits.items())


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
