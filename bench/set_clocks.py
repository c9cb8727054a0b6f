"""Wall clocks that may be set, for processes of one's own: libfaketime (Debian's package faketime) between them and the
C library. The monotonic clock is left alone, as it is when a clock is set."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["HOUR_S", "NoFaketimeError", "SetClock", "faketime"]

HOUR_S: Final = 3600


class NoFaketimeError(Exception):
    """Clocks cannot be set here; the message says what to install."""


def faketime() -> Path:
    """The library. Raises NoFaketimeError."""
    for found in sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")):
        return found
    raise NoFaketimeError("libfaketime is not here; install Debian's package faketime (`make e2e` does)")


class SetClock:
    """The wall clock of whatever is started with its environment."""

    def __init__(self, file: Path) -> None:
        """Right at first. Raises NoFaketimeError."""
        self._library = faketime()
        self._file = file
        self.set(0)

    @property
    def environ(self) -> dict[str, str]:
        """For a process, and for its children."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # the file is looked at once a second
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # a clock that is set changes no file's time
        }

    def set(self, ahead_s: int) -> None:
        """From now on, within a second."""
        fresh = self._file.with_suffix(".new")  # never half a number
        fresh.write_text(f"{ahead_s:+d}")
        fresh.replace(self._file)
