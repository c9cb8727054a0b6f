"""SIP messages: one datagram to a request or a response, and back.

Liberal in what it reads (compact names, folded lines, bare line feeds, names in any case), strict in what it refuses
(no start line, control characters, a body shorter than said), exact in what it writes. Header values are kept as they
came, since responses must give them back unchanged; `gateway.sip.fields` reads the structured ones.

Source: RFC 3261 sections 7, 18.3, 20 and 25; RFC 4475 for what a parser must survive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

__all__ = ["MAX_MESSAGE_BYTES", "Headers", "Request", "Response", "SipError", "SipParseError", "parse_message"]

MAX_MESSAGE_BYTES: Final = 65_535
_MAX_HEADERS: Final = 200
_COMPACT: Final = {
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "s": "subject",
    "t": "to",
    "v": "via",
}
_SPELLED: Final = {"call-id": "Call-ID", "cseq": "CSeq", "rseq": "RSeq", "www-authenticate": "WWW-Authenticate"}
_TOKEN: Final = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_REQUEST: Final = re.compile(rf"({_TOKEN.pattern}) (\S+) SIP/2\.0", re.IGNORECASE)
_STATUS: Final = re.compile(r"SIP/2\.0 ([1-6]\d\d)(?: (.*))?", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBER: Final = re.compile(r"\d{1,9}")


class SipError(Exception):
    """Root of this folder's exceptions.

    SipError
    ├── SipParseError   bytes that are no SIP message, or a field that is none
    ├── SdpError        a session description that cannot be read or used (gateway.sip.sdp)
    │   └── NoCommonCodecError   one that can be read and offers nothing that is spoken here
    └── BridgeError     the bridge cannot do what it was told to (gateway.sip.bridge)
    """


class SipParseError(SipError):
    """Not SIP; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Names in lower case with their values, in the order of the message."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The first value of a header, None where it is missing."""
        return next((value for key, value in self.pairs if key == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header that may hold several: repeated, or in one line between commas."""
        return [part for key, value in self.pairs if key == name for part in _split_list(value)]

    def with_first(self, name: str, value: str) -> Headers:
        """The same headers, the first element of `name` exchanged for `value`."""
        for at, (key, old) in enumerate(self.pairs):
            if key == name:
                rest = _split_list(old)[1:]
                changed = (key, ", ".join([value, *rest]))
                return Headers((*self.pairs[:at], changed, *self.pairs[at + 1 :]))
        return Headers(((name, value), *self.pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a peer asks. `method` in capitals."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""

    def encode(self) -> bytes:
        """The datagram."""
        return _encode(f"{self.method} {self.uri} SIP/2.0", self.headers, self.body)

    def with_headers(self, headers: Headers) -> Request:
        """The same request with other headers."""
        return replace(self, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer, provisional below 200."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""

    def encode(self) -> bytes:
        """The datagram."""
        return _encode(f"SIP/2.0 {self.status} {self.reason}", self.headers, self.body)


SipMessage: TypeAlias = Request | Response


def parse_message(data: bytes) -> SipMessage:
    """Read one datagram.

    Raises:
        SipParseError: it is no SIP message; the text quotes nothing of a caller.
    """
    data = data.lstrip(b"\r\n")
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        head, blank, body = data.partition(b"\n\n")
    if not blank:
        raise SipParseError("no empty line ends the headers")
    lines = list(_unfolded(head.decode("utf-8", "surrogateescape")))
    if len(lines) > _MAX_HEADERS:
        raise SipParseError(f"{len(lines)} header lines, more than {_MAX_HEADERS}")
    if any(_CONTROL.search(line) for line in lines):
        raise SipParseError("a control character in the headers")
    headers = Headers(tuple(_header(line) for line in lines[1:]))
    body = _body(headers, body)
    if request := _REQUEST.fullmatch(lines[0].strip()):
        return Request(method=request[1].upper(), uri=request[2], headers=headers, body=body)
    if status := _STATUS.fullmatch(lines[0].strip()):
        return Response(status=int(status[1]), reason=status[2] or "", headers=headers, body=body)
    raise SipParseError("the first line is neither a request nor a status of SIP/2.0")


def _unfolded(head: str) -> Iterator[str]:
    """Logical lines: one that begins with a blank continues the one before (section 7.3.1)."""
    line: str | None = None
    for raw in head.replace("\r\n", "\n").split("\n"):
        if raw[:1] in (" ", "\t") and line is not None:
            line = f"{line} {raw.strip()}"
            continue
        if line is not None:
            yield line
        line = raw
    if line is not None:
        yield line


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name = name.strip().lower()
    if not colon or not _TOKEN.fullmatch(name):
        raise SipParseError("a header line without a name")
    return _COMPACT.get(name, name), value.strip()


def _body(headers: Headers, rest: bytes) -> bytes:
    """The body that Content-Length announces: a datagram may be longer and not shorter (section 18.3)."""
    said = headers.get("content-length")
    if said is None:
        return rest
    if not _NUMBER.fullmatch(said) or int(said) > len(rest):
        raise SipParseError("the body is shorter than its Content-Length")
    return rest[: int(said)]


def _split_list(value: str) -> list[str]:
    """Elements between commas, those in quotes or angle brackets left whole."""
    parts, start, quoted, bracket, escaped = [], 0, False, False, False
    for at, char in enumerate(value):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "<>":
            bracket = char == "<"
        elif char == "," and not bracket:
            parts.append(value[start:at].strip())
            start = at + 1
    parts.append(value[start:].strip())
    return [part for part in parts if part]


def _encode(start: str, headers: Headers, body: bytes) -> bytes:
    lines: Iterable[str] = (
        f"{_SPELLED.get(name) or name.title()}: {value}"
        for name, value in headers.pairs
        if name != "content-length"  # ours, of the body that goes out
    )
    head = "\r\n".join([start, *lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("utf-8", "surrogateescape") + body
