"""Session descriptions: what a phone offers, what we answer, and what both have then agreed on.

Spoken here: one stream of audio, PCMU or PCMA, and telephone-event for keys. Of an offer with more streams the first
such one is taken and the others are refused with port 0, each in its place.

    offer in INVITE --answer in 200-->   agreed
    no offer        --offer in 200, answer in ACK--> agreed

Odd cases: a stream at 0.0.0.0 is on hold, as old phones say it; a codec of a static number needs no `rtpmap`; an
address that is a name is not looked up, the caller then is where its signalling comes from; `ptime` is the caller's
wish, and any size is read, but 20 ms are sent.

Source: RFC 8866 (SDP), RFC 3264 (offer and answer), RFC 3551 (payload types), RFC 4733 (telephone-event).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from audio.formats import AudioFormat, Encoding
from gateway.sip.fields import Address
from gateway.sip.message import SipError

__all__ = [
    "Agreed",
    "Codec",
    "Direction",
    "NoCommonCodecError",
    "Offer",
    "SdpError",
    "agree",
    "answer",
    "offer",
    "parse_offer",
]

PTIME_MS: Final = 20
_EVENT_PAYLOAD: Final = 101
_PAYLOAD: Final = re.compile(r"\d{1,3}")
_PORT: Final = re.compile(r"\d{1,5}")
_PROFILES: Final = frozenset({"RTP/AVP", "RTP/AVPF"})
_MAX_LINES: Final = 500


class SdpError(SipError):
    """A session description that cannot be read or used; the message says why."""


class NoCommonCodecError(SdpError):
    """Nothing in the offer is spoken here."""


class Codec(StrEnum):
    """Codecs by their names in `rtpmap`."""

    PCMU = "PCMU"
    PCMA = "PCMA"

    @property
    def payload_type(self) -> int:
        """The static number (RFC 3551 table 4)."""
        return 0 if self is Codec.PCMU else 8

    @property
    def audio_format(self) -> AudioFormat:
        """The same as the rest of the code names it."""
        return AudioFormat(encoding=Encoding.MULAW if self is Codec.PCMU else Encoding.ALAW)


class Direction(StrEnum):
    """Who sends, as the one who says it sees it."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def mirrored(self) -> Direction:
        """The same as the other end sees it."""
        return {Direction.SENDONLY: Direction.RECVONLY, Direction.RECVONLY: Direction.SENDONLY}.get(self, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A description as far as it matters here."""

    streams: tuple[str, ...]
    """Every `m=` line's value, in order."""
    used: int
    """Which of them is ours."""
    profile: str
    remote: Address
    codecs: tuple[tuple[int, Codec], ...]
    """Payload types that are spoken here, in the offerer's order."""
    event_payload: int | None
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """One stream as both ends know it."""

    codec: Codec
    payload_type: int
    event_payload: int | None
    """Payload type of telephone-event; None: keys come some other way."""
    remote: Address
    direction: Direction
    """The caller's: whether it sends and wants to hear."""

    @property
    def caller_sends(self) -> bool:
        """Whether the caller's audio is meant for us; music on hold is not."""
        return self.direction is Direction.SENDRECV

    @property
    def caller_hears(self) -> bool:
        """Whether the caller wants audio."""
        return self.direction in (Direction.SENDRECV, Direction.RECVONLY)


def parse_offer(body: bytes) -> Offer:
    """Read an offer, or an answer to ours: both have the same form.

    Raises:
        NoCommonCodecError: no stream that is spoken here.
        SdpError: no session description.
    """
    lines = _lines(body)
    session, sections = _sections(lines)
    if not sections:
        raise SdpError("the session description has no stream (no line m=)")
    for index, section in enumerate(sections):
        media, port, profile, payloads = _stream(section[0][1])
        number = port.partition("/")[0]
        if media != "audio" or profile not in _PROFILES or not _PORT.fullmatch(number) or not 0 < int(number) < 65536:
            continue
        codecs, event_payload = _codecs(payloads, section)
        if not codecs:
            continue
        host = _host(section) or _host(session)
        if host is None:
            raise SdpError("the session description names no address (no line c=)")
        direction = _direction(section) or _direction(session) or Direction.SENDRECV
        if host in ("0.0.0.0", "::"):
            direction = Direction.INACTIVE
        return Offer(
            streams=tuple(one[0][1] for one in sections),
            used=index,
            profile=profile,
            remote=Address(host, int(number)),
            codecs=codecs,
            event_payload=event_payload,
            direction=direction,
        )
    raise NoCommonCodecError("no audio stream over RTP/AVP with PCMU or PCMA is offered")


def agree(offered: Offer, *, keep: Codec | None = None) -> Agreed:
    """What is agreed once `offered` is answered: the offerer's first codec that is spoken here.

    Args:
        offered: the offer.
        keep: the codec of a call that goes on, which stays.

    Raises:
        NoCommonCodecError: that codec is not offered any more.
    """
    usable = [(number, codec) for number, codec in offered.codecs if keep in (None, codec)]
    if not usable:
        raise NoCommonCodecError(f"{keep} is not offered any more, and a call keeps its codec")
    payload_type, codec = usable[0]
    return Agreed(
        codec=codec,
        payload_type=payload_type,
        event_payload=offered.event_payload,
        remote=offered.remote,
        direction=offered.direction,
    )


def answer(offered: Offer, agreed: Agreed, *, host: str, port: int, session_id: int, version: int) -> bytes:
    """The answer to an offer: our address, the one codec, the other streams refused."""
    lines = _session_lines(host, session_id, version)
    for index, stream in enumerate(offered.streams):
        if index == offered.used:
            lines += _stream_lines(
                port,
                offered.profile,
                ((agreed.payload_type, agreed.codec),),
                agreed.event_payload,
                agreed.direction.mirrored,
            )
        else:
            media, _, profile, payloads = _stream(stream)
            lines.append(f"m={media or 'audio'} 0 {profile or 'RTP/AVP'} {' '.join(payloads) or '0'}")
    return _text(lines)


def offer(codecs: Sequence[Codec], *, host: str, port: int, session_id: int, version: int) -> bytes:
    """Our own offer, to a caller who made none."""
    numbered = tuple((codec.payload_type, codec) for codec in codecs)
    lines = _session_lines(host, session_id, version)
    return _text([*lines, *_stream_lines(port, "RTP/AVP", numbered, _EVENT_PAYLOAD, Direction.SENDRECV)])


def _lines(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if len(lines) > _MAX_LINES:
        raise SdpError(f"the session description has {len(lines)} lines, more than {_MAX_LINES}")
    if not lines or not lines[0].startswith("v="):
        raise SdpError("the body is no session description (no line v=)")
    return [(line[0], line[2:].strip()) for line in lines if line[1:2] == "="]


def _sections(lines: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """The session's own lines, and those of each stream from its `m=` on."""
    session: list[tuple[str, str]] = []
    streams: list[list[tuple[str, str]]] = []
    for kind, value in lines:
        if kind == "m":
            streams.append([(kind, value)])
        else:
            (streams[-1] if streams else session).append((kind, value))
    return session, streams


def _stream(line: str) -> tuple[str, str, str, list[str]]:
    """Media, port, profile and payload types of an `m=` line; empty where it is too short."""
    media, port, profile, *payloads = [*line.split(), *([""] * 3)]
    return media, port, profile, [payload for payload in payloads if payload]


def _codecs(payloads: list[str], section: list[tuple[str, str]]) -> tuple[tuple[tuple[int, Codec], ...], int | None]:
    """Payload types of ours in the offerer's order, and that of telephone-event."""
    named = {str(codec.payload_type): f"{codec}/8000" for codec in Codec}
    for kind, value in section:
        if kind == "a" and value.lower().startswith("rtpmap:"):
            number, _, name = value[7:].strip().partition(" ")
            named[number] = name.strip().removesuffix("/1")
    codecs: list[tuple[int, Codec]] = []
    event_payload: int | None = None
    for number in payloads:
        if not _PAYLOAD.fullmatch(number) or int(number) > 127:
            continue
        name = named.get(number, "").upper()
        if name == "TELEPHONE-EVENT/8000":
            event_payload = int(number) if event_payload is None else event_payload
        codecs += [(int(number), codec) for codec in Codec if name == f"{codec}/8000"]
    return tuple(codecs), event_payload


def _host(lines: list[tuple[str, str]]) -> str | None:
    for kind, value in lines:
        words = value.split()
        if kind == "c" and len(words) == 3 and words[0] == "IN":
            return words[2].partition("/")[0]
    return None


def _direction(lines: list[tuple[str, str]]) -> Direction | None:
    return next((Direction(value) for kind, value in lines if kind == "a" and value in set(Direction)), None)


def _session_lines(host: str, session_id: int, version: int) -> list[str]:
    family = f"IP{ip_address(host).version}"
    return [
        "v=0",
        f"o=- {session_id} {version} IN {family} {host}",
        "s=voicegate",
        f"c=IN {family} {host}",
        "t=0 0",
    ]


def _stream_lines(
    port: int,
    profile: str,
    codecs: tuple[tuple[int, Codec], ...],
    event_payload: int | None,
    direction: Direction,
) -> list[str]:
    numbers = [number for number, _ in codecs] + ([event_payload] if event_payload is not None else [])
    lines = [f"m=audio {port} {profile} {' '.join(map(str, numbers))}"]
    lines += [f"a=rtpmap:{number} {codec}/8000" for number, codec in codecs]
    if event_payload is not None:
        lines += [f"a=rtpmap:{event_payload} telephone-event/8000", f"a=fmtp:{event_payload} 0-16"]
    return [*lines, f"a=ptime:{PTIME_MS}", f"a={direction}"]


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")
