"""`voicegate replay TAPE --against VERSION`: one taped call, and what another version makes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.replay.diff import Comparison
    from gateway.replay.outcome import Outcome, TurnOutcome
    from gateway.replay.tape import Tape

__all__ = ["compare_versions"]


def compare_versions(
    paths: Sequence[Path],
    against: str,
    *,
    url: str | None,
    bot: str | None,
    speed: float,
    token: str | None,
    gate: bool,
    as_json: bool,
) -> NoReturn:
    """Replay the tape, print what differs, and end: with 1 where `gate` and something does.

    Args:
        paths: one tape or WAV.
        against: the other version: a gateway's address, a bot's name or folder, or a settings file.
        url, bot: the version it is compared with; with neither, what the tape itself keeps, where it keeps that.
    """
    import asyncio

    from audio.files import AudioFileError
    from gateway.processes.embedded_redis import EmbeddedRedisError
    from gateway.processes.facts import PortTakenError
    from gateway.processes.supervisor import ChildFailedError
    from gateway.replay.client import CallError
    from gateway.replay.tape import TapeError, read_tape
    from gateway.settings import SettingsError

    try:
        if len(paths) != 1:
            raise TapeError(f"--against compares one call; give one tape or WAV, not {len(paths)} paths")
        tape = read_tape(paths[0])
    except (AudioFileError, TapeError) as exc:
        typer.echo(f"Cannot replay: {exc}", err=True)
        raise typer.Exit(2) from None
    before = None if url is None and bot is None and tape.heard is not None else url or bot or tape.bot or "load"
    try:
        found = asyncio.run(_compare(tape, before, against, bot or tape.bot, speed, token))
    except (CallError, SettingsError, ChildFailedError, PortTakenError, EmbeddedRedisError, TimeoutError) as exc:
        typer.echo(f"Cannot compare: {exc or 'the gateway was not ready in time; try `voicegate doctor`'}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(found.document(), ensure_ascii=False))
    else:
        _print(found)
    raise typer.Exit(1 if gate and not found.same else 0)


async def _compare(
    tape: Tape, before: str | None, after: str, bot: str | None, speed: float, token: str | None
) -> Comparison:
    from gateway.replay.diff import Side, compare

    if before is None and tape.heard is not None:
        old = Side(name="the tape", outcome=tape.heard)
    else:
        old = Side(name=str(before), outcome=await _outcome(tape, str(before), bot, speed, token))
    return compare(tape.name, old, Side(name=after, outcome=await _outcome(tape, after, bot, speed, token)))


async def _outcome(tape: Tape, version: str, bot: str | None, speed: float, token: str | None) -> Outcome:
    """What a version makes of the tape: a gateway that runs, or one started for it alone.

    Raises:
        CallError, SettingsError and what else keeps a gateway from starting.
    """
    from gateway import logs, settings
    from gateway.processes.supervisor import Gateway
    from gateway.replay.client import CallClient
    from gateway.replay.outcome import outcome_of

    async def call(url: str, name: str | None, shown: str | None) -> Outcome:
        client = CallClient(url, fmt=tape.format, bot=name, token=shown, keep_audio=False)
        typer.echo(f"{tape.name} at {version}: {tape.seconds / speed:.0f} s ...", err=True)
        return outcome_of(await client.run_tape(tape, speed=speed))

    if version.startswith(("ws://", "wss://")):
        return await call(version, bot, token)
    from_file = version.endswith(".toml")
    flags: dict[str, Any] = {"port": 0, "control_port": 0, "log_level": "warning"}
    if not from_file:
        flags |= {"bot": version, "bots": ()}
    if speed > 1:
        flags["limits.flood_s"] = 3600.0
    own = settings.load(config=Path(version) if from_file else None, environ={}, flags=flags)
    logs.configure(own.log_level, own.log_format, process="replay")
    async with Gateway(own) as gateway:
        typer.echo(f"starting a gateway with {version} ...", err=True)
        await gateway.ready()
        # A bot's folder may be named otherwise than the bot: the gateway's first one is it.
        return await call(f"ws://127.0.0.1:{gateway.port}", bot if from_file else None, None)


def _print(found: Comparison) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gateway.cli.replay_view import ms_text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    sides = (found.before, found.after)
    table = Table(title=f"{found.tape}, turn by turn", title_justify="left", header_style="bold")
    for head in ("said", "", *(side.name for side in sides)):
        table.add_column(escape(head))
    for pair in found.turns:
        shown = ["transcript", *(name for name in pair.differs if name != "transcript")]
        for row, name in enumerate(shown):
            style = "yellow" if name in pair.differs else "dim"
            cells = [f"[{style}]{escape(_shown(turn, name))}[/]" for turn in (pair.before, pair.after)]
            table.add_row(escape(pair.spoken) if row == 0 else "", name, *cells, end_section=row == len(shown) - 1)
    console.print(table)
    for name in ("greeting", "ended_by", "disposition", "errors"):
        old, new = (escape(_text(getattr(side.outcome, name))) for side in sides)
        if name in found.differs:
            console.print(f"[yellow]{name}: {old or '-'}  ->  {new or '-'}[/]")
        elif old:
            console.print(f"[dim]{name}: {old}[/]")
    latencies = Table(header_style="bold")
    for head in ("latency, ms", *(f"{escape(side.name)} {figure}" for side in sides for figure in ("p50", "max"))):
        latencies.add_column(head, justify="right" if latencies.columns else "left")
    for name, per_side in found.latencies.items():
        figures = [per_side[at].get(figure) for at in ("before", "after") for figure in ("p50", "max")]
        latencies.add_row(name, *(ms_text(value) for value in figures))
    console.print(latencies)
    turns = sum(bool(pair.differs) for pair in found.turns)
    differing = [f"{turns} of {len(found.turns)} turns"] if turns else []
    console.print("the same" if found.same else f"[yellow]differ: {', '.join([*differing, *found.differs])}[/]")


def _shown(turn: TurnOutcome | None, name: str) -> str:
    return "(no such turn)" if turn is None else _text(getattr(turn, name))


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join("=".join(part) if isinstance(part, tuple) else str(part) for part in value)
    return str(value)
