"""A dialog: what two ends of a call remember of each other, and the messages that are made from it.

Ours is always the end that was called. Requests of ours (a BYE, nothing else) go to where the caller's last request in
the dialog came from, and not to what its Contact resolves to: a phone behind a router names an address in its Contact
that nobody can reach, and a proxy stays in the path by itself.

Source: RFC 3261 sections 8.2.6, 12.1.1 and 12.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.sip.fields import MAGIC_COOKIE, Address, bracketed, parse_address, parse_cseq, parse_via
from gateway.sip.message import Headers, Request, Response, SipParseError

__all__ = ["ALLOWED", "Dialog", "reply_address", "respond", "stamped"]

ALLOWED: Final = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO")
_PRODUCT: Final = "voicegate"
_REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


def stamped(request: Request, source: Address) -> Request:
    """The request with where it came from in its top Via, which every answer carries back (RFC 3581)."""
    top = request.headers.all("via")[0]
    via = parse_via(top)
    parts = [part for part in top.split(";") if part.partition("=")[0].strip().lower() not in ("received", "rport")]
    if via.host != source.host or via.wants_rport:
        parts.append(f"received={source.host}")
    if via.wants_rport:
        parts.append(f"rport={source.port}")
    return request.with_headers(request.headers.with_first("via", ";".join(parts)))


def reply_address(request: Request, source: Address) -> Address:
    """Where answers to a request go: back to its host, to the port of its Via or, if asked so, its own (18.2.2)."""
    via = parse_via(request.headers.all("via")[0])
    return source if via.wants_rport else Address(source.host, via.port or 5060)


def respond(
    request: Request,
    status: int,
    *,
    tag: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """An answer with the fields that it must carry back; `tag` is ours, put where the request has none."""
    kept: list[tuple[str, str]] = []
    for name, value in request.headers.pairs:
        if name == "to" and tag is not None and parse_address(value).tag is None:
            value = f"{value};tag={tag}"
        if name in ("via", "from", "to", "call-id", "cseq") or (name == "record-route" and status < 300):
            kept.append((name, value))
    typed = (("content-type", "application/sdp"),) if body else ()
    return Response(
        status=status,
        reason=_REASONS.get(status, "Refused"),
        headers=Headers((*kept, ("server", _PRODUCT), *headers, *typed)),
        body=body,
    )


@dataclass(slots=True, kw_only=True)
class Dialog:
    """One dialog, of which the caller's INVITE is the first request."""

    call_id: str
    local_tag: str
    remote_tag: str
    local_field: str
    """To of the INVITE: From of ours, with our tag."""
    remote_field: str
    remote_target: str
    """Contact of the caller: the URI of our requests."""
    routes: tuple[str, ...]
    remote_sequence: int
    local_sequence: int = 0

    @classmethod
    def of(cls, invite: Request, local_tag: str) -> Dialog:
        """The dialog that a 2xx to this INVITE makes.

        Raises:
            SipParseError: the INVITE has no Contact, or one without a URI.
        """
        headers = invite.headers
        contacts = headers.all("contact")
        if not contacts:
            raise SipParseError("an INVITE without Contact")
        remote_field = headers.get("from") or ""
        return cls(
            call_id=headers.get("call-id") or "",
            local_tag=local_tag,
            remote_tag=parse_address(remote_field).tag or "",
            local_field=f"{headers.get('to')};tag={local_tag}",
            remote_field=remote_field,
            remote_target=parse_address(contacts[0]).uri,
            routes=tuple(headers.all("record-route")),
            remote_sequence=parse_cseq(headers.get("cseq") or "").number,
        )

    def follows(self, request: Request) -> bool:
        """Whether a request is newer than the last one; it is the last one then."""
        number = parse_cseq(request.headers.get("cseq") or "").number
        if number <= self.remote_sequence:
            return False
        self.remote_sequence = number
        return True

    def retargeted(self, request: Request) -> None:
        """A re-INVITE may move the caller's Contact (a target refresh, section 12.2.2)."""
        if contacts := request.headers.all("contact"):
            self.remote_target = parse_address(contacts[0]).uri

    def request(self, method: str, *, local: Address, branch: str) -> Request:
        """A request of ours within the dialog."""
        self.local_sequence += 1
        routes = tuple(("route", route) for route in self.routes)
        return Request(
            method=method,
            uri=self.remote_target,
            headers=Headers(
                (
                    ("via", f"SIP/2.0/UDP {bracketed(local.host)}:{local.port};branch={MAGIC_COOKIE}{branch};rport"),
                    ("max-forwards", "70"),
                    *routes,
                    ("from", self.local_field),
                    ("to", self.remote_field),
                    ("call-id", self.call_id),
                    ("cseq", f"{self.local_sequence} {method}"),
                    ("user-agent", _PRODUCT),
                )
            ),
        )
