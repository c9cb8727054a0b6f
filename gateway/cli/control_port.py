"""Asking a running gateway over its control port: what commands for operators have in common."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Annotated, Any, Final

import typer

from gateway.cli.ending import exit_with

__all__ = ["URL", "AdminToken", "AsJson", "ControlUrl", "NoAnswerError", "ask"]

URL: Final = "http://127.0.0.1:8080"
_TIMEOUT_S: Final = 150.0  # a change of models may take 120

ControlUrl = Annotated[str, typer.Option("--url", help="The gateway's control port.")]
AdminToken = Annotated[str, typer.Option("--token", envvar="VOICEGATE_TOKEN", help="A token with the scope admin.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class NoAnswerError(Exception):
    """No gateway answers there now."""


def ask(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request; a refusal is told to the person, and ends the command.

    Raises:
        NoAnswerError: nobody answered, or what did is no gateway.
    """
    if not url.startswith(("http://", "https://")):
        exit_with(f"--url is no address; it looks like {URL}")
    request = urllib.request.Request(f"{url.rstrip('/')}{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        try:
            exit_with(str(json.load(error)["message"]))
        except (ValueError, KeyError, TypeError):
            exit_with(f"{url} answered {error.code}; is that a gateway's control port?")
    except (OSError, ValueError) as error:
        raise NoAnswerError(
            f"no gateway answers at {url} ({error}); is `voicegate serve` running? Its control port is --url"
        ) from None
