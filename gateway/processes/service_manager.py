"""Telling systemd how `serve` does: ready, stopping, alive (sd_notify(3)). Nothing is told where nobody asked."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from gateway import background

__all__ = ["ServiceManager"]

_MICRO: Final = 1e-6


class ServiceManager:
    """Use as an async context: meanwhile the watchdog, where the unit has one, is told that our loop turns."""

    def __init__(self) -> None:
        # Not settings: systemd's own words to the process that it started, and to no other.
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) * _MICRO
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> ServiceManager:
        if self._address and self._watchdog_s:
            self._tasks.append(asyncio.create_task(self._stay_alive(), name="watchdog"))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)

    def tell(self, state: str) -> None:
        """Send one assignment, such as `READY=1`."""
        if not self._address:
            return
        # A name that begins with @ is in the abstract namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(state.encode(), address)
            except OSError:
                return  # a manager that went away needs no telling

    async def _stay_alive(self) -> None:
        while True:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 3)
