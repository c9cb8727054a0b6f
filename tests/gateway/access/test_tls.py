"""TLS on both ports: calls over it, certificates that change, and files that cannot be served."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect

from gateway.access.tls import ServerCertificate, TlsError
from gateway.http.control import control_app
from gateway.inference.unix_socket import SocketInference
from gateway.settings import SettingsError, TlsSettings, load
from tests.gateway.harness import Peer, rig, write_bot

pytestmark = pytest.mark.unit


def write_pair(folder: Path, name: str, *, password: bytes | None = None) -> TlsSettings:
    """A self-signed certificate for localhost under this common name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return TlsSettings(certificate=folder / "cert.pem", key=folder / "key.pem")


def environ(pair: TlsSettings) -> dict[str, str]:
    return {"VOICEGATE_TLS_CERTIFICATE": str(pair.certificate), "VOICEGATE_TLS_KEY": str(pair.key)}


def served(pair: TlsSettings) -> ServerCertificate:
    assert pair.certificate is not None and pair.key is not None
    return ServerCertificate(pair.certificate, pair.key)


def trusting(pair: TlsSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.certificate))


async def name_served(port: int) -> str:
    """Common name of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.transport.abort()
    return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def test_a_call_over_tls_from_greeting_to_hang_up(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "one")
    async with rig(tmp_path, environ=environ(pair)) as running:
        url = f"wss://localhost:{running.port}/v1/call"
        peer = Peer(await connect(url, ssl=trusting(pair), compression=None, proxy=None, host="127.0.0.1"))
        await peer.say(type="start")
        await peer.event("mark")
        assert len(peer.audio) > 5000
        await peer.say(type="stop")
        assert await peer.closed() == 1000
        await running.no_calls()
        assert running.metric("voicegate_calls_ended_total", ended_by="caller") == 1


async def test_plain_connections_are_not_served_and_harm_nothing(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "one")
    async with rig(tmp_path, environ=environ(pair)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /v1/call HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            assert b"101" not in await reader.read()
        writer.close()
        assert running.worker.calls == 0
        assert await name_served(running.port) == "one"


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "one")
    async with rig(tmp_path, environ=environ(pair)) as running:
        url = f"wss://localhost:{running.port}/v1/call"
        peer = Peer(await connect(url, ssl=trusting(pair), compression=None, proxy=None, host="127.0.0.1"))
        await peer.event("ready")
        write_pair(tmp_path, "two")
        certificate = running.worker._certificate
        assert certificate is not None and await certificate.refresh()
        assert await name_served(running.port) == "two"
        before = len(peer.audio)
        await peer.event("mark")
        assert len(peer.audio) > before, "the call goes on"
        peer.abort()


async def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    certificate = served(write_pair(tmp_path, "one"))
    assert not await certificate.refresh()
    write_pair(tmp_path, "two")
    assert await certificate.refresh() and not await certificate.refresh()


async def test_a_renewal_that_is_half_done_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = write_pair(tmp_path, "one")
    certificate = served(pair)
    assert pair.key is not None
    old_key = pair.key.read_bytes()
    write_pair(tmp_path, "two")
    new_key = pair.key.read_bytes()
    pair.key.write_bytes(old_key)  # the new certificate stands beside the old key
    assert not await certificate.refresh()
    assert "no pair" in caplog.text and "the certificate read before is served" in caplog.text
    pair.key.unlink()
    assert not await certificate.refresh()
    pair.key.write_bytes(new_key)
    assert await certificate.refresh()


@pytest.mark.parametrize("spoil", ["missing", "garbage", "password", "other key"])
def test_files_that_cannot_be_served_are_named_at_the_start(tmp_path: Path, spoil: str) -> None:
    pair = write_pair(tmp_path, "one", password=b"secret" if spoil == "password" else None)
    assert pair.certificate is not None and pair.key is not None
    if spoil == "missing":
        pair.certificate.unlink()
    elif spoil == "garbage":
        pair.certificate.write_text("hello")
    elif spoil == "other key":
        certificate = pair.certificate.read_bytes()
        write_pair(tmp_path, "two")
        pair.certificate.write_bytes(certificate)
    with pytest.raises(TlsError, match=r"tls\.certificate .*cert\.pem and tls\.key .*key\.pem"):
        served(pair)


def test_one_file_without_the_other_is_a_fault_of_the_settings() -> None:
    with pytest.raises(SettingsError, match="one without the other"):
        load(environ={"VOICEGATE_TLS_KEY": "/tmp/key.pem"})


async def test_the_control_port_takes_a_renewed_certificate_up_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.tls._LOOK_EVERY_S", 0.01)
    certificate = served(write_pair(tmp_path, "one"))
    bot = str(write_bot(tmp_path / "tester"))
    seam = SocketInference(tmp_path / "none.sock")
    settings = load(environ={}, flags={"bot": bot, "bots": ()})
    app = control_app(settings, "unix:///nowhere/redis.sock", seam, certificate=certificate)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=certificate.context)
    async with server, app.router.lifespan_context(app), asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        assert await name_served(port) == "one"
        write_pair(tmp_path, "two")
        while await name_served(port) != "two":
            await asyncio.sleep(0.01)


async def test_a_worker_takes_a_renewed_certificate_up_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.tls._LOOK_EVERY_S", 0.01)
    pair = write_pair(tmp_path, "one")
    async with rig(tmp_path, environ=environ(pair)) as running, asyncio.timeout(10):
        write_pair(tmp_path, "two")
        while await name_served(running.port) != "two":
            await asyncio.sleep(0.01)
