"""A certificate for a gateway without one from an authority: a lab, a LAN, a softphone on another machine.

Browsers give the microphone only to localhost or TLS, and phones take a certificate of one's own only from an
authority that was installed on them. So two are made: an authority, and the server's certificate signed by it. The
authority's key signs once and is thrown away: whoever installs it trusts this one server and nothing that is made
later.

    KEY             key.pem            the server's key, without a password: for the gateway alone
    CERTIFICATE     certificate.pem    its certificate and the authority's: what the gateway shows
    AUTHORITY       authority.pem      what devices install, or programs are told, to trust it
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["AUTHORITY", "CERTIFICATE", "KEY", "MAX_DAYS", "HostNameError", "OwnCertificate", "host_name", "issue"]

KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
AUTHORITY: Final = "authority.pem"

MAX_DAYS: Final = 825
"""Apple's devices refuse longer ones, of installed authorities too (support.apple.com/103769)."""

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_BACKDATED: Final = datetime.timedelta(hours=1)  # a phone's clock may be behind


class HostNameError(ValueError):
    """What is neither a host name nor an IP address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """PEM texts, by the files they are for."""

    key: bytes
    certificate: bytes
    authority: bytes


def host_name(text: str) -> x509.GeneralName:
    """A name or address that a browser will ask for.

    Raises:
        HostNameError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    name = text.strip().lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise HostNameError(
            f"{text!r:.80} is neither a host name nor an IP address; write it as browsers do, without scheme and port"
        )
    return x509.DNSName(name)


def issue(hosts: Sequence[x509.GeneralName], *, days: int, now: datetime.datetime) -> OwnCertificate:
    """Make the pair and its authority.

    Args:
        hosts: names and addresses that it is for, at least one.
        days: how long both are good, 1 to `MAX_DAYS`.
        now: when they begin to be.
    """
    assert hosts and 0 < days <= MAX_DAYS
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    shown = str(hosts[0].value)
    issuer = _name(f"voicegate of {shown}"[:64])
    begins, ends = now - _BACKDATED, now + datetime.timedelta(days=days)
    signer = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    def unsigned(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )

    authority = (
        unsigned(issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(signer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        unsigned(_name(shown[:64]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    authority_pem = authority.public_bytes(Encoding.PEM)
    return OwnCertificate(
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate=server.public_bytes(Encoding.PEM) + authority_pem,
        authority=authority_pem,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
