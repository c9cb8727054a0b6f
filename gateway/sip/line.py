"""One call's connection to the gateway, as the product of its dialect would hold it; `gateway.sip.lines` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from audio.formats import AudioFormat

__all__ = [
    "BaseLine",
    "CallFacts",
    "DropPlayback",
    "Line",
    "LineOrder",
    "LineOver",
    "Messages",
    "PlayAudio",
    "PlayMark",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What a line may tell of its call."""

    call_id: str
    """Ours, never the caller's own: whoever names a running call's id takes it over."""
    caller: str
    dialled: str
    format: AudioFormat
    """The phone's G.711."""
    bot: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """The bot's audio, in the line's format."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PlayMark:
    """Tell the line (`played`) when everything before it was heard."""

    name: str


@dataclass(frozen=True, slots=True)
class DropPlayback:
    """Drop what was not heard; the line is told of the marks in it (`dropped`)."""


@dataclass(frozen=True, slots=True)
class LineOver:
    """The bot ends the call."""


LineOrder: TypeAlias = PlayAudio | PlayMark | DropPlayback | LineOver
Messages: TypeAlias = Sequence[str | bytes]


class Line(Protocol):
    """One call's connection to the gateway, as a product would hold it."""

    format: AudioFormat
    """Of the audio in both directions."""
    subprotocols: tuple[str, ...]

    def url(self, gateway: str) -> str:
        """Where to connect, from the gateway's address with or without a path."""
        ...

    def headers(self) -> dict[str, str]:
        """What the request shows to be let in."""
        ...

    def hello(self) -> Messages:
        """Said right after the 101."""
        ...

    def speak(self, audio: bytes) -> Messages:
        """The caller's audio, in the line's format, whole frames of 20 ms."""
        ...

    def press(self, digit: str) -> Messages:
        """The caller pressed a key."""
        ...

    def played(self, mark: str) -> Messages:
        """A mark was reached."""
        ...

    def dropped(self, marks: Sequence[str]) -> Messages:
        """Marks that will not be reached, after `DropPlayback`."""
        ...

    def queued(self, ms: int) -> Messages:
        """So much of the bot's audio waits; told once per 20 ms."""
        ...

    def hang_up(self) -> Messages:
        """The caller is gone; the connection is closed behind it."""
        ...

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        """Read one message of the gateway; one that means nothing is passed over."""
        ...


class BaseLine:
    """What most lines have in common: silence about everything."""

    path = ""
    subprotocols: tuple[str, ...] = ()

    def __init__(self, facts: CallFacts) -> None:
        self._facts = facts
        self.format = facts.format

    def url(self, gateway: str) -> str:
        parts = urlsplit(gateway)
        query = {**self.query(), **dict(parse_qsl(parts.query))}
        path = self.path if parts.path in ("", "/") else parts.path
        return urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), ""))

    def query(self) -> dict[str, str]:
        """What a dialplan would write into the address."""
        facts = self._facts
        known = {"call_id": facts.call_id, "caller": facts.caller, "bot": facts.bot or ""}
        return {key: value for key, value in known.items() if value}

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._facts.token}"} if self._facts.token else {}

    def hello(self) -> Messages:
        return ()

    def dropped(self, marks: Sequence[str]) -> Messages:
        return ()

    def queued(self, ms: int) -> Messages:
        return ()

    def hang_up(self) -> Messages:
        return ()
