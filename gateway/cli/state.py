"""`voicegate state`: what Redis holds about a call or a caller, for support and for requests of erasure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from gateway.cli.ending import exit_with

if TYPE_CHECKING:
    from gateway.records.call_archive import CallArchive, StoredCall
    from gateway.settings import Settings

__all__ = ["register"]

state_app = typer.Typer(help="What Redis holds about a call or a caller.", no_args_is_help=True)

_CallId = Annotated[str, typer.Argument(metavar="[CALL_ID]", help="The call; a chat is chat/BOT/UID.")]
_Caller = Annotated[str, typer.Option("--caller", help="All calls from this number or address instead.")]
_RedisUrl = Annotated[str, typer.Option("--redis-url", help="The gateway's Redis, where the settings do not say it.")]
_Config = Annotated[Path | None, typer.Option("--config", help="The gateway's TOML file.")]
_AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

_COMMAND_S = 10.0
_Answer = TypeVar("_Answer")


def register(app: typer.Typer) -> None:
    """Add `voicegate state`."""
    app.add_typer(state_app, name="state")


@state_app.callback()
def state() -> None:
    """What Redis holds about a call or a caller: show it, export it, forget it.

    Redis is where the gateway's settings say (--config, REDIS_URL, VOICEGATE_REDIS_URL); without any, the embedded
    server of the gateway that runs on this machine. Callers are found with the gateway's own `auth.secret`.

    \b
    voicegate state show call-7f3a                         # where it stands, what was said
    voicegate state export call-7f3a > call.json           # everything, as it is stored
    voicegate state forget --caller "+1 555 010 9988"      # a request of erasure
    """


@state_app.command()
def show(
    call_id: _CallId = "",
    caller: _Caller = "",
    redis_url: _RedisUrl = "",
    config: _Config = None,
    as_json: _AsJson = False,
) -> None:
    """Where calls stand: node, slots, the last turns, what came of them.

    Example: voicegate state show call-7f3a
    """
    found = _find(call_id, caller, redis_url, config)
    if as_json:
        typer.echo(json.dumps({"calls": [_summary(call) for call in found]}, ensure_ascii=False))
        return
    for call in found:
        _print(call)


@state_app.command()
def export(
    call_id: _CallId = "",
    caller: _Caller = "",
    redis_url: _RedisUrl = "",
    config: _Config = None,
    as_json: _AsJson = False,
) -> None:
    """Everything that is stored of calls, as one JSON document on stdout (--json changes nothing).

    Example: voicegate state export call-7f3a > call.json
    """
    found = _find(call_id, caller, redis_url, config)
    typer.echo(
        json.dumps({"calls": [asdict(call) for call in found]}, ensure_ascii=False, indent=None if as_json else 2)
    )


@state_app.command()
def forget(
    call_id: _CallId = "",
    caller: _Caller = "",
    redis_url: _RedisUrl = "",
    config: _Config = None,
    as_json: _AsJson = False,
) -> None:
    """Delete everything that is stored of calls; one in progress ends with its next step. There is no way back.

    Example: voicegate state forget --caller "+1 555 010 9988"
    """

    async def ask(archive: CallArchive, settings: Settings) -> dict[str, int]:
        call_ids, who = await _whose(archive, settings, call_id, caller)
        return asdict(await archive.forget(call_ids, who=who))

    done = _with_archive(redis_url, config, ask)
    if as_json:
        typer.echo(json.dumps(done))
    elif not (done["keys"] or done["records"] or done["events"]):
        _nothing(call_id, caller)
    else:
        typer.echo(
            f"forgotten: {done['calls']} calls, {done['keys']} keys, {done['records']} records, {done['events']} events"
        )


def _find(call_id: str, caller: str, redis_url: str, config: Path | None) -> list[StoredCall]:
    async def ask(archive: CallArchive, settings: Settings) -> list[StoredCall]:
        call_ids, _ = await _whose(archive, settings, call_id, caller)
        return [call for call in await archive.find(call_ids) if not call.empty]

    return _with_archive(redis_url, config, ask) or _nothing(call_id, caller)


async def _whose(archive: CallArchive, settings: Settings, call_id: str, caller: str) -> tuple[list[str], str | None]:
    """The calls that are meant, and whose they are where a caller was named."""
    from gateway.records.callers import identity

    if bool(call_id) == bool(caller):
        raise typer.BadParameter("name one call, or one caller with --caller")
    if call_id:
        return [call_id], None
    secret = settings.auth.secret
    who = identity(caller, secret.get_secret_value() if secret is not None else None)
    if who is None:
        exit_with(f"--caller {caller!r}: calls without a number are nobody's; name them by their CALL_ID")
    return await archive.calls_of(who), who


def _with_archive(
    redis_url: str, config: Path | None, ask: Callable[[CallArchive, Settings], Awaitable[_Answer]]
) -> _Answer:
    """Ask the gateway's Redis; what is wrong with it or the settings ends the command."""
    from redis.exceptions import RedisError

    from dialogue.connection import connect
    from dialogue.store import StoreError
    from gateway import settings as gateway_settings
    from gateway.records.call_archive import CallArchive

    try:
        settings = gateway_settings.load(config=config)
    except gateway_settings.SettingsError as error:
        exit_with(f"Settings that cannot be used:\n{error}")
    url = redis_url or settings.redis.url or _embedded()

    try:
        client = connect(url, timeout_s=_COMMAND_S)
    except ValueError as error:  # the address may hold a password
        exit_with(f"The address of Redis does not parse: {error}; use redis://[:password@]host:6379/0")

    async def run() -> _Answer:
        try:
            return await ask(
                CallArchive(client, records=settings.results.stream, events=settings.monitoring.stream), settings
            )
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except (RedisError, OSError, StoreError) as error:
        why = f"{type(error).__name__}: {error}"
        exit_with(f"Redis did not answer ({why}); is it the gateway's? Name it with --redis-url")


def _embedded() -> str:
    """The embedded server of the one gateway that runs here."""
    from gateway.processes.embedded_redis import running_servers

    servers = running_servers()
    if not servers:
        exit_with(
            "No Redis is named, and no gateway with an embedded one runs here; name yours with --redis-url or --config"
        )
    if len(servers) > 1:
        exit_with(f"Several gateways run here; name one's Redis with --redis-url: {', '.join(servers)}")
    return servers[0]


def _summary(call: StoredCall) -> dict[str, object]:
    """What people ask first."""
    state = call.state or {}
    return {
        "call_id": call.call_id,
        "node": state.get("node"),
        "turns": state.get("turns"),
        "slots": {name: slot["value"] for name, slot in state.get("slots", {}).items()},
        "disposition": state.get("disposition") or state.get("outcome"),
        "ended_by": state.get("ended_by"),
        "continues": state.get("continues"),
        "expires_in_s": call.expires_in_s,
        "history": state.get("history", []),
        "answers": len(call.answers),
        "http_answers": sorted(call.http_answers),
        "records": call.records,
        "events": len(call.events),
    }


def _print(call: StoredCall) -> None:
    state = call.state
    if state is None:
        typer.echo(f"{call.call_id}: no state any more")
    else:
        end = f"ended by {state['ended_by']}" if state["ended_by"] else "not ended"
        outcome = state["disposition"] or state["outcome"]
        reached = f", {outcome}" if outcome else ""
        minutes = (call.expires_in_s or 0) // 60
        typer.echo(
            f"{call.call_id}: at {state['node'] or 'its beginning'}, {state['turns']} turns, {end}{reached}; "
            f"expires in {minutes} min"
        )
        if slots := ", ".join(f"{name} {slot['value']}" for name, slot in state["slots"].items()):
            typer.echo(f"    slots     {slots}")
        for turn in state["history"]:
            typer.echo(f"    turn {turn['round_id']:<4} {turn['node']}: {turn['said']!r} -> {turn['reply']!r}")
    for record in call.records:
        ended = datetime.fromtimestamp(record["ended_at"], UTC)
        reached = record["disposition"] or "nothing reached"
        typer.echo(f"    record    ended by {record['ended_by']}, {reached}, {ended:%Y-%m-%d %H:%M} UTC")
    more = {"answers over HTTP": len(call.http_answers), "events": len(call.events)}
    if others := ", ".join(f"{count} {what}" for what, count in more.items() if count):
        typer.echo(f"    also      {others}: voicegate state export")


def _nothing(call_id: str, caller: str) -> NoReturn:
    exit_with(
        f"Redis holds nothing about {call_id or caller}: it never did, it has expired (redis.call_ttl_s after the last "
        "step), or it was forgotten"
    )
