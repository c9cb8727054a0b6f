"""TLS on a listening port: a certificate from files, read again when they change.

A certificate is renewed every few weeks and calls last for minutes, so a restart for it would cost calls. New
connections get the new one; those that are open keep what they have.

Files are looked at and read in a thread: on a network share either may take seconds. A renewed pair gets a context of
its own, made there and put in place by one assignment, so no handshake ever sees a new certificate with an old key.

    TlsError    files that are no certificate and key; at the start it ends the gateway, later the old pair stays
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

__all__ = ["ServerCertificate", "TlsError"]

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0

_Stamps = tuple[tuple[int, int, int] | None, ...]


class TlsError(Exception):
    """A certificate that cannot be used; the message names the files and the mend."""


class ServerCertificate:
    """One certificate with its key, and the context that serves it.

    Raises:
        TlsError: at construction.
    """

    def __init__(self, certificate: Path, key: Path, *, area: str = "tls.") -> None:
        """
        Args:
            certificate: PEM file with the whole chain.
            key: PEM file of its key, without a password.
            area: what the names of the two settings begin with, for messages.
        """
        self._certificate, self._key, self._area = certificate, key, area
        self._read = self._stamps()
        self._current = self.context = self._load()
        # OpenSSL calls this with every ClientHello, also with one that names no host.
        self.context.sni_callback = self._choose

    async def refresh(self) -> bool:
        """Read the files again if they changed; whether a new pair is served now."""
        found = await asyncio.to_thread(self._look)
        if isinstance(found, TlsError):
            log.warning("%s; the certificate read before is served", found)
        elif found is not None:
            self._current = found
            log.info("a new certificate is served")
            return True
        return False

    async def watch(self) -> None:
        """Refresh every few seconds, until cancelled: the task of whoever listens."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.refresh()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _look(self) -> ssl.SSLContext | TlsError | None:
        """In a thread. Files that cannot be served are told once, and looked at again when they change."""
        stamps = self._stamps()
        if stamps == self._read:
            return None
        self._read = stamps
        try:
            return self._load()
        except TlsError as exc:
            return exc

    def _stamps(self) -> _Stamps:
        """What changes with a file: its time, size and inode (a renewal often replaces the file, or a link to it)."""
        return tuple(_stamp(path) for path in (self._certificate, self._key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # Asterisk's and FreeSWITCH's older builds have no 1.3
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            why = exc.strerror if isinstance(exc, FileNotFoundError | PermissionError) else type(exc).__name__
            raise TlsError(
                f"{self._area}certificate {self._certificate} and {self._area}key {self._key} are no pair that can be "
                f"served ({why}); give a PEM file with the whole chain, and its key without a password, or have "
                "`voicegate certificate` make a pair"
            ) from None
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
