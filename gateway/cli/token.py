"""`voicegate token`: mint a token for a peer, a supervisor or an operator."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway import settings
from gateway.access.auth import Scope, WeakSecretError, mint
from gateway.cli.ending import exit_with

__all__ = ["parse_lifetime", "register"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIFETIME: Final = re.compile(r"(\d+)\s*([smhd]?)")

NO_SECRET: Final = """\
No signing secret: the gateway and this command need the same one. Make it once and keep it:

    export VOICEGATE_AUTH_SECRET=$(openssl rand -hex 32)

or write it to a file that only you can read and pass --secret-file FILE."""


def parse_lifetime(text: str) -> int:
    """Seconds of "90s", "30m", "1h", "7d" or a bare number of seconds.

    Raises:
        ValueError: not of that form, or zero.
    """
    match = _LIFETIME.fullmatch(text.strip())
    if not match or not int(match[1]):
        raise ValueError(f"{text!r:.40} is no lifetime; use a number with s, m, h or d, such as 30m, 1h, 7d")
    return int(match[1]) * _UNITS_S[match[2] or "s"]


def token(
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows; repeat for more. Default: call.")] = None,
    lifetime: Annotated[str, typer.Option(help="How long it is good for: 90s, 30m, 1h, 7d.")] = "1h",
    subject: Annotated[str, typer.Option(help="Whom it is for; the gateway's log shows it.")] = "caller",
    secret_file: Annotated[
        Path | None, typer.Option(help="File holding the signing secret, instead of VOICEGATE_AUTH_SECRET.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The gateway's TOML file, where the secret may stand too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Mint a token that opens the gateway.

    It is signed with the gateway's own secret, from VOICEGATE_AUTH_SECRET, --secret-file or --config. Peers
    send it as `Authorization: Bearer`, as the password of Basic, or as `?token=`. On stdout it stands alone,
    so that it can be captured.

    \b
    voicegate token --subject pbx-1 --lifetime 7d
    voicegate call a.wav --url "ws://host:8765/v1/call?token=$(voicegate token)"
    voicegate token --scope chat --subject crm --lifetime 1d
    voicegate token --scope monitor --json
    """
    scopes = scope or [Scope.CALL]
    try:
        lifetime_s = parse_lifetime(lifetime)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--lifetime") from None
    if not subject.strip():
        raise typer.BadParameter("is empty; say whom the token is for", param_hint="--subject")
    now = int(datetime.now(UTC).timestamp())
    try:
        minted = mint(_secret(secret_file, config), subject, scopes, lifetime_s, now=now)
    except WeakSecretError as error:
        exit_with(str(error))
    if as_json:
        document = {
            "token": minted,
            "subject": subject,
            "scopes": sorted(set(scopes)),
            "expires_at": datetime.fromtimestamp(now + lifetime_s, UTC).isoformat(),
        }
        typer.echo(json.dumps(document))
        return
    typer.echo(minted)
    if sys.stderr.isatty():
        typer.echo(f"for {subject}: {' '.join(sorted(set(scopes)))}, good for {lifetime}", err=True)


def _secret(secret_file: Path | None, config: Path | None) -> str:
    """The signing secret, from the file or from the gateway's own settings."""
    if secret_file is not None:
        try:
            text = secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            exit_with(f"--secret-file {secret_file}: {error}")
        return text or exit_with(
            f"--secret-file {secret_file}: is empty; fill it: openssl rand -hex 32 > {secret_file}"
        )
    try:
        secret = settings.load(config=config).auth.secret
    except settings.SettingsError as error:
        exit_with(str(error))
    return secret.get_secret_value() if secret else exit_with(NO_SECRET)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(token)
