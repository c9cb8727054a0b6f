"""A certificate of one's own: what it is for, who trusts it, and the command that makes it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import stat
from pathlib import Path

import pytest
import typer
from cryptography import x509
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner, Result

from gateway.access.own_certificate import AUTHORITY, CERTIFICATE, KEY, MAX_DAYS, HostNameError, host_name, issue
from gateway.access.tls import ServerCertificate
from gateway.cli import certificate as command

pytestmark = pytest.mark.unit

NOW = datetime.datetime.now(datetime.UTC)


def run(*args: str) -> Result:
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, args)


async def verified_name(folder: Path, server_name: str) -> str:
    """Common name of what a server with this folder shows a client that trusts its authority, and asks for a name."""
    served = ServerCertificate(folder / CERTIFICATE, folder / KEY)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=served.context)
    async with server:
        trusting = ssl.create_default_context(cafile=folder / AUTHORITY)
        trusting.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 and browsers have it
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=server_name)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await reader.read()
        writer.close()
        await writer.wait_closed()
    subject = x509.load_der_x509_certificate(shown).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_whoever_trusts_the_authority_trusts_every_name_of_the_server(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "tls"), "--host", "Gateway.LAN", "--host", "192.168.1.5")
    assert done.exit_code == 0, done.output
    for name in ("gateway.lan", "192.168.1.5", "localhost", "127.0.0.1", "::1"):
        assert await verified_name(tmp_path / "tls", name) == "gateway.lan"
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        await verified_name(tmp_path / "tls", "other.lan")


def test_the_key_is_for_the_owner_alone_and_the_authoritys_is_kept_nowhere(tmp_path: Path) -> None:
    assert run("--out", str(tmp_path), "--host", "gateway.lan").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([AUTHORITY, CERTIFICATE, KEY])
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    whole = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert whole.count(b"PRIVATE KEY-----") == 2, "one key: its begin and its end"


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path), "--host", "gateway.lan")
    assert f"voicegate serve --tls {tmp_path}" in done.output
    assert "https://gateway.lan:8080/softphone" in done.output


def test_files_that_are_there_are_replaced_only_with_force(tmp_path: Path) -> None:
    args = ("--out", str(tmp_path), "--host", "gateway.lan")
    assert run(*args).exit_code == 0
    before = (tmp_path / CERTIFICATE).read_bytes()
    refused = run(*args)
    assert refused.exit_code == 1 and "--force" in refused.output
    assert (tmp_path / CERTIFICATE).read_bytes() == before
    assert run(*args, "--force").exit_code == 0
    assert (tmp_path / CERTIFICATE).read_bytes() != before
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "http://gateway.lan", "gateway.lan:8080", "a..b", "-a", "a" * 64, "ü.lan", "a b"])
def test_what_no_browser_asks_for_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(HostNameError, match="neither a host name nor an IP address"):
        host_name(text)
    done = run("--out", str(tmp_path), "--host", text)
    assert done.exit_code == 1 and "without scheme and port" in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gateway.lan.", x509.DNSName("gateway.lan")),
        ("*.example.com", x509.DNSName("*.example.com")),
        ("pbx_1", x509.DNSName("pbx_1")),
        ("[::1]", x509.IPAddress(ipaddress.ip_address("::1"))),
    ],
)
def test_names_are_taken_as_browsers_write_them(text: str, expected: x509.GeneralName) -> None:
    assert host_name(text) == expected


def test_the_server_cannot_sign_for_others_and_both_end_together() -> None:
    made = issue([host_name("gateway.lan")], days=MAX_DAYS, now=NOW)
    server, authority = x509.load_pem_x509_certificates(made.certificate)
    assert authority == x509.load_pem_x509_certificate(made.authority)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert server.not_valid_after_utc == authority.not_valid_after_utc
    assert (server.not_valid_after_utc - NOW).days in (MAX_DAYS - 1, MAX_DAYS)
    assert server.not_valid_before_utc < NOW
