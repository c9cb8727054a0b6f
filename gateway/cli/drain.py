"""`voicegate processes`, `drain` and `reload`: a gateway's processes, seen and exchanged over its control port."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from gateway.cli.control_port import URL, AdminToken, AsJson, ControlUrl, NoAnswerError, ask
from gateway.cli.ending import exit_with

__all__ = ["register"]

_LOOK_S: Final = 0.5
_AWAY_S: Final = 20.0  # the control plane is exchanged too

_NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for it to be done.")]


def processes(url: ControlUrl = URL, token: AdminToken = "", as_json: AsJson = False) -> None:
    """The gateway's processes: what each does, for how long, with how many calls, and what died of what.

    Example: voicegate processes --url http://127.0.0.1:8080
    """
    told = _ask(url, token, "GET", "/v1/processes")
    if as_json:
        typer.echo(json.dumps(told))
        return
    for one in told["processes"]:
        typer.echo(_line(one))
    typer.echo(f"last reload: {_reload_line(told['reload'])}")


def drain(
    worker: Annotated[
        int, typer.Argument(help="The worker's number, from 0; `voicegate processes` lists them.", min=0)
    ],
    deadline: Annotated[
        float | None, typer.Option(help="Seconds; calls that still go on then are closed with 1001. Default: they end.")
    ] = None,
    keep_down: Annotated[
        bool, typer.Option("--keep-down", help="Start no other in its place: the rest of the workers get its calls.")
    ] = False,
    up: Annotated[bool, typer.Option("--up", help="Start a worker again that was kept down.")] = False,
    no_wait: _NoWait = False,
    url: ControlUrl = URL,
    token: AdminToken = "",
    as_json: AsJson = False,
) -> None:
    """Have one worker take no new calls and end with its last; a fresh one takes its place first.

    No call notices, and no connection is refused. Ctrl-C ends the waiting, not the draining.

    \b
    voicegate drain 0                    # a fresh process for worker 0
    voicegate drain 0 --deadline 300     # calls get five minutes
    voicegate drain 0 --keep-down        # and later: voicegate drain 0 --up
    """
    name = f"worker {worker}"
    before = _of(name, _ask(url, token, "GET", "/v1/processes"))
    leaving = {one["pid"] for one in before if one["pid"]}
    if up:
        told = _ask(url, token, "POST", f"/v1/workers/{worker}/up")
    else:
        body = {"deadline_s": deadline, "keep_down": keep_down}
        told = _ask(url, token, "POST", f"/v1/workers/{worker}/drain", body)
    mine, shown = _of(name, told), ""
    for look in _looks(url, token) if not no_wait else ():
        mine = _of(name, look)
        if not as_json and (stage := _stage(mine)) != shown:
            shown = stage
            typer.echo("; ".join(map(_line, mine)), err=True)
        stays = [one for one in mine if one["pid"] not in leaving]
        if len(stays) == len(mine) and any(one["state"] == ("down" if keep_down else "serving") for one in stays):
            break
        if not stays and _deaths(mine) > _deaths(before) and all(one["state"] == "serving" for one in mine):
            exit_with(f"{name} is not drained: its successor {mine[0]['died_of']}; the gateway's log says why")
    if as_json:
        typer.echo(json.dumps({"processes": mine}))


def reload(
    everything: Annotated[
        bool, typer.Option("--everything", help="Exchange every process, whatever has changed: another program, too.")
    ] = False,
    no_wait: _NoWait = False,
    url: ControlUrl = URL,
    token: AdminToken = "",
    as_json: AsJson = False,
) -> None:
    """Have a gateway read its settings, bots and models again, without dropping a call.

    Calls in progress end with what they began with; new ones have what is new. What cannot be used changes nothing.

    Example: voicegate reload
    """
    status = _ask(url, token, "POST", "/v1/reload", {"everything": everything})["reload"]
    shown = ""
    for told in _looks(url, token) if not no_wait else ():
        status = told["reload"]
        if not as_json and status["step"] and status["step"] != shown and status["state"] == "running":
            shown = status["step"]
            typer.echo(f"{shown} ...", err=True)
        if status["state"] != "running":
            break
    if as_json:
        typer.echo(json.dumps(status))
    else:
        typer.echo(_reload_line(status))
        for kept in status["kept"]:
            typer.echo(f"  {kept}")
    if status["state"] == "failed":
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(processes)
    app.command()(drain)
    app.command()(reload)


def _ask(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        return ask(url, token, method, path, body)
    except NoAnswerError as error:
        exit_with(str(error))


def _looks(url: str, token: str) -> Iterator[dict[str, Any]]:
    """The list, again and again; a control plane that is away for a moment is waited for."""
    answered = time.monotonic()
    while True:
        try:
            yield ask(url, token, "GET", "/v1/processes")
            answered = time.monotonic()
        except NoAnswerError as error:
            if time.monotonic() - answered > _AWAY_S:
                exit_with(str(error))
        time.sleep(_LOOK_S)


def _of(name: str, told: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in told["processes"] if one["name"] == name]


def _deaths(mine: list[dict[str, Any]]) -> int:
    return max((one["deaths"] for one in mine), default=0)


def _stage(mine: list[dict[str, Any]]) -> str:
    """What is worth a new line: states and calls, not seconds."""
    return " ".join(f"{one['pid']} {one['state']} {one['calls']}" for one in mine)


def _line(one: dict[str, Any]) -> str:
    parts = [one["state"]]
    if one["pid"]:
        parts[0] += f", pid {one['pid']}"
        parts.append(f"up {one['up_s']:.0f} s")
    if one["name"].startswith("worker") and one["pid"]:
        parts.append(f"{one['calls']} calls")
    if one["generation"] > 1:
        parts.append(f"reload {one['generation'] - 1}")
    if one["again_in_s"]:
        parts.append(f"again in {one['again_in_s']:g} s")
    if one["deaths"]:
        parts.append(f"{one['deaths']} deaths, the last {one['died_of']}")
    return f"{one['name']}: {', '.join(parts)}"


def _reload_line(status: dict[str, Any]) -> str:
    changed = ", ".join(status["changed"]) or "nothing has changed"
    return {
        "none": "none",
        "running": f"under way: {status['step'] or changed}",
        "done": f"done: {changed}",
        "failed": f"failed: {status['step']}",
    }[str(status["state"])]
