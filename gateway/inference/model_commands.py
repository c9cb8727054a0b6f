"""What an operator may do to the bots' models while calls run: commands and refusals, as values.

    load      load into a shadow, warm up, go live; the version before stays until it was idle for a while
    canary    the same, but answer a share of the calls only; given again with another share, widen or narrow it
    promote   the canary goes live
    rollback  the canary goes; without one, the version before the live one comes back
    list      what is loaded

One change of a bot's model at a time; one that fails leaves everything as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.inference.seam import InferenceError
from nlu.pool import VersionStatus

__all__ = ["ModelAction", "ModelAdministration", "ModelCommand", "ModelError", "ModelFault"]


class ModelAction(StrEnum):
    """The commands."""

    LIST = "list"
    LOAD = "load"
    CANARY = "canary"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class ModelFault(StrEnum):
    """Why a command was refused."""

    UNKNOWN_BOT = "unknown_bot"
    FORBIDDEN_PATH = "forbidden_path"
    UNUSABLE = "unusable"
    """The artefact is broken, altered, or does not fit the bot."""
    CONFLICT = "conflict"
    """What is loaded does not allow it, or another change is under way."""


class ModelError(InferenceError):
    """A refused command; the message says what is wrong, where, and the mend."""

    def __init__(self, fault: ModelFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCommand:
    """One command. `bot` is empty for a list of all."""

    action: ModelAction
    bot: str = ""
    path: str = ""
    """Of load and canary: the artefact's folder; a relative one is the bot's own."""
    share: float = 0.0
    """Of canary: 0..1 of the calls."""
    version: str = ""
    """Of load and canary: what must be found there; empty: whatever is."""


class ModelAdministration(Protocol):
    """Who carries commands out."""

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        """Carry one out, and tell what is loaded then.

        Raises:
            ModelError: refused; nothing has changed.
            InferenceError: no answer; a list tells what has become of it.
        """
        ...
