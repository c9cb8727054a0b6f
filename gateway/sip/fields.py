"""The structured header fields of SIP: Via, addresses with their tags, CSeq, URIs.

Each is read once, where it is needed, and what of it must be given back unchanged is kept as text.

Source: RFC 3261 sections 19.1, 20.8, 20.16, 20.42; RFC 3581 for `rport`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway.sip.message import Request, SipParseError

__all__ = [
    "MAGIC_COOKIE",
    "Address",
    "CSeq",
    "NameAddr",
    "Via",
    "bracketed",
    "missing_header",
    "parse_address",
    "parse_cseq",
    "parse_via",
    "user_of",
]

MAGIC_COOKIE: Final = "z9hG4bK"
"""What every branch of an RFC 3261 peer begins with; without it a branch is not unique."""

_HOST: Final = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)"
_VIA: Final = re.compile(rf"SIP\s*/\s*2\.0\s*/\s*(\w+)\s+({_HOST})(?:\s*:\s*(\d{{1,5}}))?\s*(;.*)?", re.IGNORECASE)
_CSEQ: Final = re.compile(r"(\d{1,10})\s+([A-Za-z0-9.!%*_+`'~-]+)")
# The blanks before the bracket belong to one alternative each: shared, a long run of them would take quadratic time.
_BRACKETED: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"\s*|[^<"]*)<([^>]*)>\s*(;.*)?', re.DOTALL)
_USER: Final = re.compile(r"(?:sips?|tel):([^@;?]+)(?:@.*)?", re.IGNORECASE)
_NEEDED: Final = ("via", "from", "to", "call-id", "cseq")
_MAX_CSEQ: Final = 2**31


class Address(NamedTuple):
    """Where a datagram comes from or goes to."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Via:
    """The top Via: through which address a request came."""

    host: str
    port: int | None
    branch: str
    wants_rport: bool
    """Answers go to the port that the request came from (RFC 3581)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameAddr:
    """From, To or Contact: the URI and the tag behind it."""

    uri: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class CSeq:
    """A request's number within its dialog, and its method once more."""

    number: int
    method: str


def missing_header(request: Request) -> str | None:
    """What a request cannot be served without and does not hold, or holds in a form that cannot be read."""
    headers = request.headers
    for name in _NEEDED:
        if not headers.get(name):
            return name
        if name != "via" and sum(key == name for key, _ in headers.pairs) > 1:
            return f"only one {name}"
    try:
        parse_via(headers.all("via")[0])
        for name in ("from", "to"):
            parse_address(headers.get(name) or "")
        number = parse_cseq(headers.get("cseq") or "")
    except (SipParseError, IndexError):
        return "a header that can be read"
    return None if number.method == request.method else "a CSeq of the same method"


def parse_via(text: str) -> Via:
    """Read one Via element.

    Raises:
        SipParseError: it is none.
    """
    found = _VIA.fullmatch(text.strip())
    if found is None:
        raise SipParseError("a Via that cannot be read")
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port < 65536:
        raise SipParseError("a Via of an impossible port")
    parameters = _parameters(found[4] or "")
    return Via(
        host=found[2].strip("[]"),
        port=port,
        branch=parameters.get("branch", ""),
        wants_rport="rport" in parameters,
    )


def parse_address(text: str) -> NameAddr:
    """Read From, To or Contact, with angle brackets or without.

    Raises:
        SipParseError: it holds no URI.
    """
    text = text.strip()
    if found := _BRACKETED.fullmatch(text):
        uri, parameters = found[1].strip(), _parameters(found[2] or "")
    else:  # then what stands behind a semicolon belongs to the field and not to the URI (section 20.10)
        uri, _, rest = text.partition(";")
        uri, parameters = uri.strip(), _parameters(f";{rest}")
    if ":" not in uri or any(char.isspace() for char in uri):
        raise SipParseError("an address without a URI")
    return NameAddr(uri=uri, tag=parameters.get("tag") or None)


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq.

    Raises:
        SipParseError: it is none.
    """
    found = _CSEQ.fullmatch(text.strip())
    if found is None or int(found[1]) >= _MAX_CSEQ:
        raise SipParseError("a CSeq that cannot be read")
    return CSeq(int(found[1]), found[2].upper())


def user_of(uri: str) -> str:
    """The user part of a URI, for people and dialplans: printable, 128 characters at most; empty if there is none."""
    found = _USER.match(uri)
    user = unquote(found[1].partition(":")[0], errors="replace") if found and ("@" in uri or "tel:" in uri) else ""
    user = user.encode("utf-8", "replace").decode()
    return "".join(char for char in user if char.isprintable())[:128]


def bracketed(host: str) -> str:
    """A host as URIs and Vias write it: IPv6 in brackets."""
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


def _parameters(text: str) -> dict[str, str]:
    """`;name=value;name` by lower-case name; quotes are rare here and their inside is not needed."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name := name.strip().lower():
            found.setdefault(name, value.strip())
    return found
