"""Ports that stay free between the moment they are looked for and the moment a server opens them.

Not those that the kernel gives away: between the two, it may give one to any other socket of the machine.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

__all__ = ["free_port", "free_ports"]

_BUS: Final = 10_000
"""How far above a port of Valkey's in a cluster the one is that the cluster itself talks over."""
_LOWEST: Final = 10_000
_COUNT: Final = 12_000  # with the bus above them, all below the 32768 where the kernel's begin

# Processes that run tests at the same time begin in different places, and none looks at a place twice.
_candidates = itertools.cycle(_LOWEST + (os.getpid() * 61 + n) % _COUNT for n in range(_COUNT))


def free_ports(wanted: int) -> list[int]:
    """Ports on loopback, of TCP and of UDP, where nobody listens, nor on their bus."""
    found = (port for port in itertools.islice(_candidates, _COUNT) if _is_free(port) and _is_free(port + _BUS))
    return list(itertools.islice(found, wanted))


def free_port() -> int:
    """A single one."""
    (port,) = free_ports(1)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            for each in (probe, datagrams):
                each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
