"""Which web pages may drive a gateway that lets their visitor in without a token.

A browser opens a WebSocket to any host that a page names, from inside the visitor's network and machine, and says in
the header `Origin` which page it was. Where a place in the network is all that a peer must show (no authentication
set, or `auth.trusted_networks`), any web site could so place calls through its visitors. A token is no such place: a
page that has one was given it.

    no Origin, or no User-Agent      no browser: PBXs, programs; FreeSWITCH's modules send an Origin that means nothing
    Origin of the host asked for     our own pages
    `auth.origins`                   pages that the operator knows
    anything else                    needs a token

Of a host asked for by name over plain ws:// the name proves nothing: a site may have its own name lead to our address
(DNS rebinding). Then only addresses and localhost count. Over TLS the certificate has settled the name.

No page can keep its browser from sending a User-Agent: a WebSocket opened by a script has no headers of the script's.

Source: RFC 6455 section 10.2; RFC 6454 section 6.2 for what an origin looks like.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

__all__ = ["OriginPolicy", "host_of", "is_origin"]

_SCHEMES = ("http", "https")


class OriginPolicy:
    """Decides by a request's headers. Pure."""

    def __init__(self, allowed: Iterable[str], *, secure: bool) -> None:
        """
        Args:
            allowed: origins that may come (https://desk.example.com).
            secure: the port speaks TLS.
        """
        self._allowed = frozenset(map(str.lower, allowed))
        self._secure = secure

    def admits(self, origins: Sequence[str], hosts: Sequence[str]) -> bool:
        """Whether the page that a request comes from, if it comes from one, needs no token.

        Args:
            origins: values of the request's Origin headers.
            hosts: values of its Host headers.
        """
        if not origins:
            return True
        if len(origins) > 1 or len(hosts) != 1:
            return False
        if origins[0].lower() in self._allowed:
            return True
        page, asked = host_of(origins[0]), host_of(f"//{hosts[0]}")
        return page is not None and page == asked and (self._secure or _needs_no_dns(page))

    def knows_host(self, hosts: Sequence[str]) -> bool:
        """Whether a request asks for us by a name that no stranger can have lead here; a page of theirs that does
        sends no Origin with what it reads.

        Args:
            hosts: values of the request's Host headers.
        """
        if len(hosts) != 1:
            return False
        asked = host_of(f"//{hosts[0]}")
        return asked is not None and (self._secure or _needs_no_dns(asked))


def host_of(url: str) -> str | None:
    """Host of an address in small letters, without its port; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # brackets that do not match
        return None


def is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers write it: scheme, host and perhaps a port."""
    scheme, separator, rest = text.partition("://")
    try:
        port_is_good = urlsplit(text).port != 0
    except ValueError:
        return False
    return (
        scheme.lower() in _SCHEMES
        and bool(separator and host_of(text))
        and not set(rest) & set("/?#@ ")
        and port_is_good
    )


def _needs_no_dns(host: str) -> bool:
    """Addresses, and the names that browsers resolve themselves (RFC 6761 section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
