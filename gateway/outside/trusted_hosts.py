"""Which systems the operator lets the gateway ask, by the host of their address: webhooks, assistants."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult

__all__ = ["is_trusted"]


def is_trusted(parts: SplitResult, hosts: Collection[str]) -> bool:
    """Whether an address's host, or its host and port, is named; a user and password in it do not count."""
    return (parts.hostname or "") in hosts or parts.netloc.rpartition("@")[2] in hosts
