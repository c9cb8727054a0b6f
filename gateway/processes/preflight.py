"""Files and folders that the settings name, tried before any process starts.

A child would find the same fault, but only seconds into a start of many processes, and some would find it again and
again. Not part of `gateway.settings.load`: other commands read a gateway's settings too, as users who may not read its
keys.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.access.tls import ServerCertificate, TlsError
from gateway.settings import Settings

__all__ = ["unusable_files"]


def unusable_files(settings: Settings) -> list[str]:
    """A line for each that cannot be used, with its mend. Only looks."""
    faults = []
    tls, control = settings.tls, settings.control
    for certificate, key, area in (
        (tls.certificate, tls.key, "tls."),
        (control.tls_certificate, control.tls_key, "control.tls_"),
    ):
        if certificate is not None and key is not None:
            try:
                ServerCertificate(certificate, key, area=area)
            except TlsError as exc:
                faults.append(str(exc))
    folder = settings.recording.directory
    if folder is not None and settings.recording.bots and (why := _not_writable(folder)):
        faults.append(f"recording.directory: {folder} {why}; name a folder that this user may write to")
    return faults


def _not_writable(folder: Path) -> str | None:
    """Why no files can be made there; a folder that is not there yet is made where the nearest one above allows it."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        return f"cannot be a folder, since {there} is none" if there != folder else "is no folder"
    if os.access(there, os.W_OK | os.X_OK):
        return None
    return f"cannot be written, for {there} is not this user's, or its disk is read-only"
