"""Log set-up: one line a record on stderr, `call_id` on every record of a call, never a caller's words.

`call_id` travels in a context variable, so a log line written anywhere below a call's task carries it. At "debug" only
our own loggers say more: libraries quote what goes over their wires, which is what callers say.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

__all__ = ["CallLog", "call_id_var", "configure", "where"]

_OURS: Final = ("__main__", "audio", "bench", "dialogue", "gateway", "nlu", "tts_stub")

call_id_var: ContextVar[str] = ContextVar("call_id", default="-")


class CallLog(logging.LoggerAdapter[logging.Logger]):
    """A logger for code that runs in a connection's callbacks, outside the call's own context."""

    def __init__(self, logger: logging.Logger, call_id: Callable[[], str]) -> None:
        super().__init__(logger)
        self._call_id = call_id

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Put the call's id on the record."""
        kwargs["extra"] = {"call_id": self._call_id() or "-"}
        return msg, kwargs


def where(exc: BaseException) -> str:
    """An exception's type and frames without its message, which may quote what a caller said."""
    if isinstance(exc, BaseExceptionGroup):
        return "\n".join(map(where, exc.exceptions))
    return f"{type(exc).__name__}\n{''.join(traceback.format_tb(exc.__traceback__))}"


class _WithCall(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "call_id"):
            record.call_id = call_id_var.get()
        return True


class _NoLateLookup(logging.Filter):
    """Drops what uvloop says of the lookup of a name that fails after whoever wanted to connect has given up, and has
    said so: it forgets that lookup instead of ending it (MagicStack/uvloop issue 437, in 0.23 still)."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not (isinstance(error, socket.gaierror) and record.getMessage().startswith("Future exception was never"))


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "call_id": getattr(record, "call_id", "-"),
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, ensure_ascii=False)


_NO_LATE_LOOKUP: Final = _NoLateLookup()


def configure(level: str, style: str, *, process: str) -> None:
    """Send this process's log to stderr.

    Args:
        level: "debug" .. "error".
        style: "text" for people, "json" for machines.
        process: this process's name, such as "worker 0".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithCall())
    if style == "json":
        handler.setFormatter(_Json(process))
    else:
        handler.setFormatter(
            logging.Formatter(
                f"%(asctime)s %(levelname)-7s {process} [%(call_id)s] %(name)s: %(message)s",
                datefmt="%H:%M:%S",
            )
        )
    logging.getLogger("asyncio").addFilter(_NO_LATE_LOOKUP)
    own = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(own, logging.INFO), handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(own)
