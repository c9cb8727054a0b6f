"""`voicegate watch`: the calls of a running gateway as they go, in the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import connect

from gateway.cli.ending import exit_with
from gateway.monitoring.board import CallBoard, CallRow, told

__all__ = ["register"]

_URL = "http://127.0.0.1:8080"
_OPEN_S = 10.0
_AGAIN_S = 1.0
_DRAWN_EVERY_S = 0.25
_EXPIRED = 4401
_REFUSED = {
    401: "show a good token with --token",
    403: "the token needs the scope monitor (and monitor:raw for --raw)",
    404: "is --url its control port? Calls come to another one",
}


def watch(
    call: Annotated[str, typer.Option("--call", metavar="ID", help="This call alone, event by event.")] = "",
    url: Annotated[str, typer.Option("--url", help="The gateway's control port.")] = _URL,
    token: Annotated[
        str, typer.Option("--token", envvar="VOICEGATE_TOKEN", help="A token with the scope monitor.")
    ] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Without redaction; needs monitor:raw, and is audited.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The events as they come, one JSON object a line.")] = False,
) -> None:
    """Watch the calls of a gateway, and of all that share its Redis.

    A table of the calls in progress; with --call one of them as a conversation; with --json every event for a program.
    Ctrl-C ends it. A gateway that goes away is waited for.

    \b
    voicegate watch
    voicegate watch --call a1b2
    voicegate watch --json | jq 'select(.type == "budget_missed")'
    """
    query = urlencode({"call": call, **({"raw": "1"} if raw else {})})
    address = f"{url.rstrip('/').replace('http', 'ws', 1)}/v1/monitor?{query}"
    try:
        if as_json:
            for line, _ in _lines(address, token, wait_s=None):
                if line:
                    typer.echo(line)
                    sys.stdout.flush()
        elif call or not sys.stdout.isatty():
            _tell_each(address, token, one_call=bool(call))
        else:
            _draw(address, token)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:  # `| head` has enough
        sys.stderr.close()
        raise typer.Exit(0) from None


def _lines(address: str, token: str, *, wait_s: float | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines of the stream with what they say; ("", {}) after `wait_s` without one. Connects again for ever."""
    first = True
    while True:
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with connect(address, additional_headers=headers, open_timeout=_OPEN_S, max_size=None, proxy=None) as ws:
                first = False
                while True:
                    try:
                        message = str(ws.recv(timeout=wait_s))
                    except TimeoutError:
                        yield "", {}
                        continue
                    for line in message.split("\n"):
                        yield line, json.loads(line)
        except InvalidStatus as error:
            status = error.response.status_code
            if status in _REFUSED:
                exit_with(f"the gateway refused ({status}): {_REFUSED[status]}")
            lost = f"the gateway answers {status}"
        except (ConnectionClosed, InvalidHandshake, TimeoutError, OSError) as error:
            if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == _EXPIRED:
                exit_with("the token has expired; get another and show it with --token")
            lost = f"no gateway answers ({type(error).__name__})"
            if first:
                exit_with(f"{lost}; is `voicegate serve` running? Its control port is --url")
        except InvalidURI:
            exit_with("--url is no address; it looks like http://127.0.0.1:8080")
        typer.echo(f"{lost}; trying again", err=True)
        time.sleep(_AGAIN_S)


def _tell_each(address: str, token: str, *, one_call: bool) -> None:
    for _, event in _lines(address, token, wait_s=None):
        if event["type"] == "watching":
            typer.echo(f"watching {event['calls']} calls of {event['workers']} workers", err=True)
        elif event["type"] == "dropped":
            typer.echo(f"({event['count']} events were lost)", err=True)
        elif (line := told(event)) is not None:
            who = "" if one_call else f"{event['call_id']}  "
            typer.echo(f"{event['at_ms'] / 1000:8.1f} s  {who}{line}")


def _draw(address: str, token: str) -> None:
    board, console = CallBoard(), Console()
    drawn = 0.0
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for _, event in _lines(address, token, wait_s=_DRAWN_EVERY_S):
            if event:
                board.apply(event, time.monotonic())
            if (now := time.monotonic()) - drawn >= _DRAWN_EVERY_S:
                drawn = now
                live.update(table_of(board, now, height=console.height), refresh=True)


def table_of(board: CallBoard, now: float, *, height: int) -> Table:
    """The board as a table that fits `height` lines; `now` by the clock that its events came by."""
    rows = board.rows(now)
    table = Table(title=_title(rows, board), expand=True, box=None, header_style="bold")
    for name, options in _COLUMNS.items():
        table.add_column(name, no_wrap=True, overflow="ellipsis", **options)
    room = max(1, height - 4)
    for row in rows[:room]:
        style = "dim" if row.ended_at else "bold red" if row.faults else ""
        table.add_row(*(escape(cell(row, now)) for cell in _CELLS), style=style)
    if len(rows) > room:
        table.add_row(f"... and {len(rows) - room} more")
    return table


_COLUMNS: dict[str, dict[str, Any]] = {
    "call": {"max_width": 20},
    "bot": {"max_width": 16},
    "node": {"max_width": 18},
    "time": {"justify": "right", "min_width": 6},
    "turns": {"justify": "right"},
    "last words": {"ratio": 1},
    "intent": {"max_width": 24},
    "alerts": {"max_width": 32},
}
_CELLS: tuple[Callable[[CallRow, float], str], ...] = (
    lambda row, now: row.call_id,
    lambda row, now: row.bot,
    lambda row, now: row.node,
    lambda row, now: _minutes((row.ended_at or now) - row.since),
    lambda row, now: str(row.turns),
    lambda row, now: f"{row.last_words}{' (speaking)' if row.speaking else ''}",
    lambda row, now: f"{row.intent} {row.score:.2f}" if row.intent else "",
    lambda row, now: ", ".join(row.alerts),
)


def _title(rows: list[CallRow], board: CallBoard) -> str:
    calls = sum(1 for row in rows if not row.ended_at)
    lost = f", {board.dropped} events lost" if board.dropped else ""
    return f"{calls} calls{lost}"


def _minutes(seconds: float) -> str:
    return f"{int(max(0.0, seconds)) // 60}:{int(max(0.0, seconds)) % 60:02d}"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(watch)
