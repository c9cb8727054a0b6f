"""`voicegate models`: exchange the bots' models of a running gateway, over its control port."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gateway.cli.control_port import URL, AdminToken, AsJson, ControlUrl, NoAnswerError, ask
from gateway.cli.ending import exit_with

__all__ = ["register"]

models_app = typer.Typer(help="Exchange the models of a running gateway, while calls go on.", no_args_is_help=True)

_Bot = Annotated[str, typer.Argument(metavar="BOT", help="The bot's name.")]
_Folder = Annotated[
    str, typer.Argument(metavar="DIR", help="The artefact's folder, on the gateway's machine: `voicegate nlu train`'s.")
]
_Version = Annotated[str, typer.Option("--version", help="What must be found there, such as `voicegate nlu` printed.")]


def register(app: typer.Typer) -> None:
    """Add `voicegate models`."""
    app.add_typer(models_app, name="models")


@models_app.callback()
def models() -> None:
    """Exchange the models of a running gateway, while calls go on.

    \b
    voicegate models canary my-bot ./model-2 --share 0.1     # a tenth of the calls
    voicegate models list                                    # how it does
    voicegate models promote my-bot                          # or: voicegate models rollback my-bot
    """


@models_app.command("list")
def list_models(
    bot: Annotated[str, typer.Argument(metavar="[BOT]", help="Of this bot alone.")] = "",
    url: ControlUrl = URL,
    token: AdminToken = "",
    as_json: AsJson = False,
) -> None:
    """Every version in memory: who answers what share of the calls, and how.

    Example: voicegate models list my-bot
    """
    query = f"?{urlencode({'bot': bot})}" if bot else ""
    _show(_ask(url, token, "GET", f"/v1/models{query}"), as_json)


@models_app.command()
def load(
    bot: _Bot,
    folder: _Folder,
    version: _Version = "",
    url: ControlUrl = URL,
    token: AdminToken = "",
    as_json: AsJson = False,
) -> None:
    """Load a version, warm it up, and let it answer all calls. The one before is unloaded once it is idle.

    Example: voicegate models load my-bot my-bot/model-2
    """
    body = {"bot": bot, "path": _absolute(folder), "version": version}
    _show(_ask(url, token, "POST", "/v1/models/load", body), as_json)


@models_app.command()
def canary(
    bot: _Bot,
    folder: _Folder,
    share: Annotated[float, typer.Option(help="Of the calls, 0 to 1. A call stays with its version.", min=0, max=1)],
    version: _Version = "",
    url: ControlUrl = URL,
    token: AdminToken = "",
    as_json: AsJson = False,
) -> None:
    """Load a version, warm it up, and let it answer a share of the calls. Give it again to change the share.

    Example: voicegate models canary my-bot my-bot/model-2 --share 0.1
    """
    body = {"bot": bot, "path": _absolute(folder), "version": version, "share": share}
    _show(_ask(url, token, "POST", "/v1/models/canary", body), as_json)


@models_app.command()
def promote(bot: _Bot, url: ControlUrl = URL, token: AdminToken = "", as_json: AsJson = False) -> None:
    """Let the version on trial answer all calls.

    Example: voicegate models promote my-bot
    """
    _show(_ask(url, token, "POST", "/v1/models/promote", {"bot": bot}), as_json)


@models_app.command()
def rollback(bot: _Bot, url: ControlUrl = URL, token: AdminToken = "", as_json: AsJson = False) -> None:
    """End the trial; without one, bring back the version that was live before.

    Example: voicegate models rollback my-bot
    """
    _show(_ask(url, token, "POST", "/v1/models/rollback", {"bot": bot}), as_json)


def _absolute(folder: str) -> str:
    """The gateway's working directory is another one; a folder that is not here is the gateway's to find."""
    return str(Path(folder).resolve()) if Path(folder).exists() else folder


def _ask(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    try:
        loaded: list[dict[str, Any]] = ask(url, token, method, path, body)["models"]
    except NoAnswerError as error:
        exit_with(str(error))
    except KeyError:
        exit_with(f"{url} answers, but not as a gateway's control port does; that is --url")
    return loaded


def _show(loaded: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"models": loaded}))
        return
    for one in loaded:
        figures = [f"{100 * one['share']:g} % of the calls", f"{one['requests']} requests", f"{one['errors']} errors"]
        if one["mean_ms"] is not None:
            figures += [
                f"{one['mean_ms']:.1f} ms",
                f"score {one['mean_score']:.3f}",
                f"{100 * one['oos_share']:.1f} % out of scope",
            ]
        loaded_at = one["loaded_at"].replace("T", " ").replace("Z", " UTC")
        typer.echo(f"{one['bot']} {one['version']} {one['state']}: {', '.join(figures)}")
        typer.echo(f"    loaded {loaded_at} from {one['path']}")
