"""TLS on the media port: a certificate from files, read again when they change.

A certificate is renewed every few weeks and calls last for minutes, so a restart for it would cost calls. New
connections get the new one; those that are open keep what they have.

    TlsError    files that are no certificate and key; at the start it ends the gateway, later the old pair stays
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from gateway.settings import TlsSettings

__all__ = ["ServerCertificate", "TlsError"]

log = logging.getLogger(__name__)


class TlsError(Exception):
    """A certificate that cannot be used; the message names the files and the mend."""


class ServerCertificate:
    """One certificate with its key, and the context that serves it.

    Raises:
        TlsError: at construction.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """`settings` must have a certificate and a key."""
        assert settings.certificate is not None and settings.key is not None
        self._certificate, self._key = settings.certificate, settings.key
        self._read = self._stamps()
        self._load(_context())  # a pair that does not match must not touch the one in use
        self.context = _context()
        self._load(self.context)

    def refresh(self) -> bool:
        """Read the files again if they changed; whether a new pair is served now. Costs two stats if not."""
        stamps = self._stamps()
        if stamps == self._read:
            return False
        self._read = stamps
        try:
            self._load(_context())
            self._load(self.context)
        except TlsError as exc:
            log.warning("%s; the certificate read before is served", exc)
            return False
        log.info("a new certificate is served")
        return True

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes with a file: its time, size and inode (a renewal often replaces the file, or a link to it)."""
        return tuple(_stamp(path) for path in (self._certificate, self._key))

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            why = exc.strerror if isinstance(exc, FileNotFoundError | PermissionError) else type(exc).__name__
            raise TlsError(
                f"tls.certificate {self._certificate} and tls.key {self._key} are no pair that can be served ({why}); "
                "give a PEM file with the whole chain, and its key without a password"
            ) from None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # Asterisk's and FreeSWITCH's older builds have no 1.3
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal otherwise, and a service has none."""
    raise ValueError("the key has a password")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
