"""Addresses that a bot's files name: of webhooks, and of an assistant's model."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["is_web_address"]


def is_web_address(url: str) -> bool:
    """Whether a request can be sent there: its head is ASCII without blanks, and a port is one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    sendable = url.isascii() and url.isprintable() and " " not in url
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and sendable
