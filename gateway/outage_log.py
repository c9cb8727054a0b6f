"""What a log is told of something that does not work for a while: once, with the mend, and once that it goes on."""

from __future__ import annotations

import logging

from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

__all__ = ["OutageLog"]


class OutageLog:
    """One thing that is tried again and again at Redis, or at a disk, and may fail many times in a row."""

    __slots__ = ("_lasts", "_log", "_mend", "_what")

    def __init__(self, log: logging.Logger, what: str, *, mend: str = "is Redis running and reachable?") -> None:
        """`what` does not work while the outage lasts: "presence", "watching"."""
        self._log = log
        self._what = what
        self._mend = mend
        self._lasts = False

    def failed(self, error: Exception) -> None:
        """A try failed."""
        if not self._lasts:
            self._log.warning("%s: %s; %s Trying again", self._what, _cause(error), self._mend)
        self._lasts = True

    def over(self) -> None:
        """A try went well."""
        if self._lasts:
            self._log.info("%s: goes on", self._what)
        self._lasts = False


def _cause(error: Exception) -> str:
    """The error, with its text where that names no more than a server or a file and what the system says of it: what
    Redis says of a command may quote the command."""
    names_a_place = isinstance(error, ConnectionLostError | NoAnswerError | OSError)
    text = str(error) if names_a_place else ""
    return f"{type(error).__name__} ({text[:200]})" if text else type(error).__name__
