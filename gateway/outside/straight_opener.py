"""urllib without redirects: for requests whose address is as much a matter of trust as their answer."""

from __future__ import annotations

import urllib.request
from http.client import HTTPMessage
from typing import IO

__all__ = ["straight_opener"]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry our credentials somewhere else, or lead to plain http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def straight_opener() -> urllib.request.OpenerDirector:
    """An opener for which a 3xx is an `HTTPError`, like any answer that is not the one asked for."""
    return urllib.request.build_opener(_NoRedirects)
