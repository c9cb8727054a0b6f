"""Which wire protocol a connection speaks: by its path, else by its subprotocol, else by its first message.

    /v1/call                 voicegate.v1
    /asterisk[/TOKEN]        Asterisk chan_websocket
    /freeswitch[/TOKEN]      FreeSWITCH mod_audio_stream
    /jambonz[/TOKEN]         jambonz listen, mod_audio_fork
    /twilio[/TOKEN]          Twilio Media Streams
    /vosk[/TOKEN]            clients of a Vosk server: recognition alone
    /  and  /auto[/TOKEN]    any of them, recognised

A new dialect is a file in gateway/protocols, a line in `DIALECTS`, and, where it is to be recognised, one in
`recognise`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway.protocols import asterisk, jambonz, native
from gateway.protocols.asterisk import AsteriskProtocol
from gateway.protocols.fields import object_of, objects_of
from gateway.protocols.freeswitch import FreeSwitchProtocol
from gateway.protocols.jambonz import JambonzProtocol
from gateway.protocols.native import NativeProtocol
from gateway.protocols.seam import WireMessage, WireProtocol
from gateway.protocols.twilio import TwilioProtocol

__all__ = ["DIALECTS", "PATHS", "Dialect", "Route", "by_request", "offered_subprotocols", "recognise", "route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One wire protocol as the port knows it."""

    name: str
    path: str
    make: Callable[[Mapping[str, str]], WireProtocol] | None
    """Its protocol object, from the query; None: no dialogue but recognition (gateway.calls.recognition)."""
    subprotocols: tuple[str, ...] = ()
    """Those it may be named in the 101, the best first."""
    token_in_start: bool = False
    """Whether its start may bring the token, since its request cannot."""


NATIVE: Final = Dialect(name="native", path="/v1/call", make=NativeProtocol, subprotocols=(native.SUBPROTOCOL,))
ASTERISK: Final = Dialect(
    name="asterisk", path="/asterisk", make=AsteriskProtocol, subprotocols=(asterisk.SUBPROTOCOL,)
)
FREESWITCH: Final = Dialect(name="freeswitch", path="/freeswitch", make=FreeSwitchProtocol)
JAMBONZ: Final = Dialect(name="jambonz", path="/jambonz", make=JambonzProtocol, subprotocols=jambonz.SUBPROTOCOLS)
TWILIO: Final = Dialect(name="twilio", path="/twilio", make=lambda query: TwilioProtocol(), token_in_start=True)
VOSK: Final = Dialect(name="vosk", path="/vosk", make=None)

DIALECTS: Final = (NATIVE, ASTERISK, FREESWITCH, JAMBONZ, TWILIO, VOSK)
PATHS: Final = ", ".join(dialect.path for dialect in DIALECTS)
_DETECT: Final = "/auto"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads. `dialect` None: to be recognised. `token` stood in the path."""

    dialect: Dialect | None
    token: str | None = None


def route(path: str) -> Route | None:
    """The route of a request's path, without its query; None: nobody answers there."""
    if path in ("/", NATIVE.path):
        return Route(NATIVE if path == NATIVE.path else None)
    for known, dialect in ((_DETECT, None), *((one.path, one) for one in DIALECTS if one is not NATIVE)):
        if path == known:
            return Route(dialect)
        if path.startswith(f"{known}/") and "/" not in (rest := path[len(known) + 1 :].removesuffix("/")):
            return Route(dialect, unquote(rest) or None)
    return None


def offered_subprotocols(headers: Iterable[str]) -> list[str]:
    """Subprotocols of a request, in its order, from all its Sec-WebSocket-Protocol headers."""
    return [name for header in headers for part in header.split(",") if (name := part.strip())]


def by_request(offered: Iterable[str], *, signed_by_twilio: bool) -> Dialect | None:
    """The dialect that a request gives away before anything is said."""
    if signed_by_twilio:
        return TWILIO
    names = set(offered)
    return next((dialect for dialect in DIALECTS if names.intersection(dialect.subprotocols)), None)


def recognise(message: WireMessage) -> Dialect | None:
    """The dialect of a first message; None: audio, which says nothing.

    A text that is none of the others' is taken for metadata of FreeSWITCH's modules, which may be anything.
    """
    if not isinstance(message, str):
        return None
    if message.lstrip().startswith("MEDIA_START"):
        return ASTERISK
    found, rest = objects_of(message)
    if not found:
        # Metadata cut off in the middle: jambonz's own begins with the rate.
        return JAMBONZ if '"sampleRate"' in rest and '"mixType"' in rest else FREESWITCH
    first = found[0]
    if first.get("event") == "MEDIA_START":
        return ASTERISK
    if first.get("event") in ("connected", "start", "media"):
        return TWILIO
    if isinstance(first.get("config"), dict) or "eof" in first:
        return VOSK
    if "sampleRate" in first and ("mixType" in first or "callSid" in first):
        return JAMBONZ
    if first.get("type") in ("start", "dtmf", "stop", "mark_reached") and not object_of(first.get("data")):
        return NATIVE
    return FREESWITCH
