"""`voicegate sip`: a desk softphone, or SIPp, calls the bot."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.sip.bridge import BridgeSettings
    from gateway.sip.fields import Address

__all__ = ["register"]

_MIN_PORT = 1024


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sip)


def sip(
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where phones reach it (UDP); on a LAN, this machine's address."),
    ] = "127.0.0.1:5060",
    gateway: Annotated[
        str, typer.Option(help="The gateway's media address; without a path, the dialect's own.")
    ] = "ws://127.0.0.1:8765",
    dialect: Annotated[
        str,
        typer.Option(help="What calls speak to the gateway: native, asterisk, asterisk-json, twilio, freeswitch."),
    ] = "native",
    bot: Annotated[str | None, typer.Option(help="Bot to talk to; the gateway's default unless given.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="VOICEGATE_TOKEN", help="Token, where the gateway wants one.")
    ] = None,
    max_calls: Annotated[int, typer.Option(min=1, max=200, help="Calls at once; one more is told busy.")] = 20,
    rtp_ports: Annotated[str, typer.Option(metavar="FIRST-LAST", help="UDP ports of audio, one in two is used.")] = (
        "40000-40199"
    ),
    rtp_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds without audio from a caller not on hold, after which it is gone.")
    ] = 30.0,
    public: Annotated[
        bool, typer.Option("--public", help="Listen on a public address too: anybody there may call the bot.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Answer SIP calls and connect each to the gateway: for a lab, a desk phone, a load test. Registers nothing.

    Every caller is let in, so it listens on this machine or a private network only, unless told `--public`.
    Ctrl-C or SIGTERM hangs up and ends.

    Example: voicegate sip --listen 192.168.1.20:5060 --bot bill-reminder
    """
    from gateway import logs
    from gateway.sip.bridge import BridgeSettings
    from gateway.sip.lines import DIALECTS

    if dialect not in DIALECTS:
        _refuse(f"--dialect {dialect}: there are {', '.join(DIALECTS)}")
    if not gateway.startswith(("ws://", "wss://")):
        _refuse(f"--gateway {gateway}: must begin with ws:// or wss://")
    if log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        _refuse(f"--log-level {log_level}: there are debug, info, warning, error")
    settings = BridgeSettings(
        listen=_address(listen, public=public),
        gateway=gateway,
        dialect=dialect,
        bot=bot,
        token=token,
        max_calls=max_calls,
        rtp_ports=_ports(rtp_ports),
        rtp_timeout_s=rtp_timeout,
    )
    logs.configure(log_level, "text", process="sip")
    sys.exit(asyncio.run(_serve(settings)))


async def _serve(settings: BridgeSettings) -> int:
    from gateway.sip.bridge import BridgeError, SipBridge

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = SipBridge(settings)
    try:
        await bridge.start()
    except BridgeError as error:
        typer.echo(f"Cannot answer calls: {error}", err=True)
        return 1
    typer.echo(_welcome(settings, bridge.address), err=True)
    if not await _reachable(settings.gateway):
        typer.echo(
            f"nothing listens at {settings.gateway} yet: start `voicegate serve`; until then calls are told 503",
            err=True,
        )
    await stop.wait()
    typer.echo("stopping: hanging up ...", err=True)
    await bridge.aclose()
    return 0


def _welcome(settings: BridgeSettings, address: Address) -> str:
    """What it does and what to type into a phone."""
    from gateway.sip.fields import bracketed

    everywhere = ipaddress.ip_address(address.host).is_unspecified
    host = bracketed(_own_address() if everywhere else address.host)
    port = "" if address.port == 5060 else f":{address.port}"
    ports = settings.rtp_ports
    return (
        "ready\n"
        f"  listening  {bracketed(address.host)}:{address.port}, UDP: PCMU, PCMA, keys by RFC 4733 or INFO\n"
        f"  dial       sip:bot@{host}{port}\n"
        "             from any softphone: no account, no registration, no STUN, no encryption, transport UDP\n"
        f"  calls go   {settings.gateway} ({settings.dialect}), {settings.max_calls} at once\n"
        f"  audio      UDP ports {ports.start} to {ports.stop - 1}"
    )


def _own_address() -> str:
    """This machine's address on its default route; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


async def _reachable(gateway: str) -> bool:
    from urllib.parse import urlsplit

    parts = urlsplit(gateway)
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80)
            )
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _address(text: str, *, public: bool) -> Address:
    """--listen, refused where strangers could call."""
    from gateway.sip.fields import Address

    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        _refuse(f"--listen {text}: is no HOST:PORT, such as 127.0.0.1:5060")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        _refuse(f"--listen {text}: {host!r} is not an IP address; use 127.0.0.1, or this machine's address on the LAN")
    if not public and (address.is_unspecified or not address.is_private):
        mend = "name a private address of this machine, or say --public if anybody who reaches it may call the bot"
        _refuse(f"--listen {text}: is open to others than this network, and callers are not asked who they are; {mend}")
    return Address(host, int(port))


def _ports(text: str) -> range:
    """--rtp-ports."""
    first, dash, last = text.partition("-")
    if not dash or not first.isdecimal() or not last.isdecimal():
        _refuse(f"--rtp-ports {text}: is no FIRST-LAST, such as 40000-40199")
    if not _MIN_PORT <= int(first) < int(last) <= 65535:
        _refuse(f"--rtp-ports {text}: must lie between {_MIN_PORT} and 65535, the first below the last")
    return range(int(first), int(last) + 1)


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
