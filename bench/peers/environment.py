"""A peer's own virtual environment, in the cache folder of whoever runs the bench; made once, from pinned versions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["EnvironmentMissingError", "python_of"]

_READY = "complete"
_INSTALL_S = 1800


class EnvironmentMissingError(Exception):
    """A peer cannot be installed here; the message holds the command and what it said."""


def python_of(peer: str, requirements: Path) -> Path:
    """The interpreter of `peer`'s environment, which is made if it is not there yet.

    `requirements` pins everything that is installed, what it depends on included, so nothing else can come in.

    Raises:
        EnvironmentMissingError: pip did not succeed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / "voicegate-peers" / f"{peer}-{digest}"
    python = folder / "bin" / "python"
    if (folder / _READY).exists():
        return python
    print(f"installing {peer} into {folder} (once, some minutes)", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode:
        raise EnvironmentMissingError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    (folder / _READY).touch()
    return python
