"""How long do callers' frames wait in a worker? The budget `frame_delay_ms`, measured all the time.

From when a frame can be read to when it is: when that was, the kernel tells nobody (what it says of a TCP stream is of
the newest bytes, in ticks of 4 ms, for 1.5 µs of every frame). So a call is put among the calls that nobody makes: a
timer of the kernel's becomes readable at moments known beforehand, waits in the loop's queue as sockets do, and its
delay is what a frame's would have been. A stall is seen by every moment that falls into it, as it is by every call's
frames. It costs a frame nothing, a worker that is busy 0.03 % of a core, and an idle one, which wakes for it, 0.3 %.

`EVERY_S` has no divisor in common with the 20 ms of frames and of playout, so no phase of theirs stays unseen.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable

__all__ = ["EVERY_S", "FrameDelayProbe"]

EVERY_S = 0.037
_MOST_AT_ONCE = 1000
"""Moments told of after a stall, 37 s; a machine that slept for an hour has nothing to say about frames."""

# timerfd_create(2). Python has it from 3.13 on.
_CLOCK_MONOTONIC = 1
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_ABSOLUTE = 1
_libc = ctypes.CDLL(None, use_errno=True)


class FrameDelayProbe:
    """Tells `observe` each delay, in seconds, from now until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, observe: Callable[[float], None]) -> None:
        """
        Raises:
            OSError: the kernel gives no timer.
        """
        self._loop = loop
        self._observe = observe
        self._due = time.monotonic() + EVERY_S
        self._fd = _timer(self._due, EVERY_S)
        loop.add_reader(self._fd, self._rang)

    def close(self) -> None:
        """Measure no more; a second time does nothing."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _rang(self) -> None:
        now = time.monotonic()
        try:
            rings = int.from_bytes(os.read(self._fd, 8), sys.byteorder)  # since the last time
        except BlockingIOError:
            return
        for ring in range(min(rings, _MOST_AT_ONCE)):
            self._observe(max(0.0, now - (self._due + ring * EVERY_S)))
        self._due += rings * EVERY_S


def _timer(first: float, every_s: float) -> int:
    """A descriptor that becomes readable at `first` (monotonic seconds) and every so long after it."""
    fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
    times = struct.pack("@qqqq", *_seconds_and_ns(every_s), *_seconds_and_ns(first))
    if fd < 0 or _libc.timerfd_settime(fd, _ABSOLUTE, times, None):
        raise OSError(ctypes.get_errno(), f"no kernel timer: {os.strerror(ctypes.get_errno())}")
    return fd


def _seconds_and_ns(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole, int((seconds - whole) * 1e9)
