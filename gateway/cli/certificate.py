"""`voicegate certificate`: TLS for a lab or a LAN, without an authority."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.own_certificate import AUTHORITY, CERTIFICATE, KEY, MAX_DAYS, HostNameError, host_name, issue
from gateway.cli.ending import exit_with

__all__ = ["register"]


def certificate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made if absent.")],
    host: Annotated[
        list[str], typer.Option(metavar="NAME", help="Name or address of this machine as browsers write it; repeat.")
    ],
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="How long it is good.")] = 397,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that are there.")] = False,
) -> None:
    """Make a certificate of your own, so that browsers on other machines may use their microphone.

    localhost, 127.0.0.1 and ::1 are always in it. A running gateway takes a new one up by itself within ten
    seconds. For the Internet get one from an authority instead, and set tls.certificate and tls.key.

    \b
    voicegate certificate --out tls --host gateway.lan --host 192.168.1.5
    voicegate serve --host 0.0.0.0 --tls tls
    """
    try:
        hosts = list(dict.fromkeys(host_name(text) for text in (*host, "localhost", "127.0.0.1", "::1")))
    except HostNameError as exc:
        exit_with(f"--host: {exc}")
    there = [name for name in (KEY, CERTIFICATE, AUTHORITY) if (out / name).exists()]
    if there and not force:
        exit_with(f"{out} has {', '.join(there)} already; choose another --out, or replace them with --force")
    made = issue(hosts, days=days, now=datetime.now(UTC))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_secret(out / KEY, made.key)
        (out / CERTIFICATE).write_bytes(made.certificate)
        (out / AUTHORITY).write_bytes(made.authority)
    except OSError as exc:
        exit_with(f"{out}: cannot be written: {exc.strerror}")
    folder = shlex.quote(str(out))
    typer.echo(
        f"{out / CERTIFICATE} is good for {days} days, for {', '.join(str(name.value) for name in hosts)}. Next:"
    )
    typer.echo(f"  voicegate serve --tls {folder}      both ports speak TLS")
    typer.echo(f"  open https://{host[0]}:8080/softphone and accept the warning, or install {out / AUTHORITY} first")
    typer.echo(f"  SSL_CERT_FILE={folder}/{AUTHORITY} voicegate call hello.wav --url wss://{host[0]}:8765/v1/call")


def _write_secret(path: Path, data: bytes) -> None:
    """For the owner alone from its first byte, and in one step: a gateway may be reading the old one."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    fresh.replace(path)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(certificate)
