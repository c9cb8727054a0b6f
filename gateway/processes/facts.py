"""Small facts about being one of several processes: dying with the parent, exit codes, one owner per port."""

from __future__ import annotations

import ctypes
import os
import signal
import socket

__all__ = ["EXIT_CONFIG", "PortTakenError", "claim_port", "die_with_parent", "free_listener", "shared_socket"]

EXIT_CONFIG = 78
"""sysexits.h EX_CONFIG: starting again would fail the same way, so the supervisor does not."""

_PR_SET_PDEATHSIG = 1


class PortTakenError(Exception):
    """A port that someone else has; the message names it and the mend."""


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the parent dies, however it dies (Linux).

    Call first thing in a child, from its main thread: an orphaned worker would go on answering calls whose models
    and store are gone. `parent_pid` closes the race with a parent that died before the call.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def claim_port(port: int) -> socket.socket:
    """Keep other gateways of this machine off a media port; held until the returned socket is closed.

    SO_REUSEPORT lets any process of this user share a port, and the kernel would hand it a part of our calls. The
    lock is a name in the abstract socket namespace: it cannot outlive us and leaves no file.

    Raises:
        PortTakenError: another `voicegate serve` has it.
    """
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0voicegate-media-{port}")
    except OSError:
        lock.close()
        raise PortTakenError(
            f"another voicegate serves port {port} already; stop it, or use another with --port"
        ) from None
    return lock


def shared_socket(host: str, port: int) -> socket.socket:
    """A socket on the port that this gateway's workers share, not listening yet; the kernel spreads connections over
    those that do.

    Raises:
        PortTakenError: somebody else has the port.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise PortTakenError(
            f"{host}:{port} cannot be shared with this gateway's other workers: {exc.strerror}"
        ) from exc
    return sock


def free_listener(host: str, port: int, *, option: str) -> socket.socket:
    """A listening socket on a port that nobody else has; port 0 takes any.

    Raises:
        PortTakenError: naming the command line option that chooses another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        raise PortTakenError(
            f"{host}:{port} cannot be used: {exc.strerror}; another program may have it. Choose with {option}"
        ) from None
    return listener
