"""What a log is told of a server that is away: once that it went, with the mend, and once that it is back."""

from __future__ import annotations

import logging

from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

__all__ = ["OutageLog"]


class OutageLog:
    """One thing that is tried again and again at Redis, which may be away for many tries in a row."""

    __slots__ = ("_lasts", "_log", "_what")

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` does not work while the outage lasts: "presence", "watching"."""
        self._log = log
        self._what = what
        self._lasts = False

    def failed(self, error: Exception) -> None:
        """A try failed."""
        if not self._lasts:
            self._log.warning("%s: %s; is Redis running and reachable? Trying again", self._what, _cause(error))
        self._lasts = True

    def over(self) -> None:
        """A try went well."""
        if self._lasts:
            self._log.info("%s: goes on", self._what)
        self._lasts = False


def _cause(error: Exception) -> str:
    """The error, with its text where that names no more than a server and what the network says of it: what Redis says
    of a command may quote the command."""
    names_a_server = isinstance(error, ConnectionLostError | NoAnswerError | OSError)
    text = str(error) if names_a_server else ""
    return f"{type(error).__name__} ({text[:200]})" if text else type(error).__name__
