"""What a server tells of itself, the same for every peer: when frames reached its endpointer, its CPU and memory.

Standard library alone: it runs in the peers' own environments. A server answers on stdout, one JSON document a line:
first `{"port": PORT}`, then, for each line on stdin, what it measured since the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

__all__ = ["EVERY", "FRAME_BYTES", "GREETING_S", "RATE_HZ", "CallProbe", "Probe", "tone"]

RATE_HZ = 8000
FRAME_BYTES = 320
"""20 ms of PCM16."""
EVERY = 5
"""One frame in so many is looked at: often enough for a p99, too seldom to cost anything."""
GREETING_S = 0.5
"""What a bot says that does not talk all the time: its greeting, and its answer to each utterance."""


class CallProbe:
    """One call's frames, counted where the endpointer has dealt with them."""

    __slots__ = ("_call", "_frames", "_heard")

    def __init__(self, call: int, heard: list[tuple[int, int, float]]) -> None:
        self._call = call
        self._frames = 0
        self._heard = heard

    def frame_heard(self) -> None:
        """The next frame has been dealt with."""
        if self._frames % EVERY == self._call % EVERY:
            self._heard.append((self._call, self._frames, time.monotonic()))
        self._frames += 1


class Probe:
    """One server's. Calls are numbered in the order in which they came."""

    def __init__(self) -> None:
        self._heard: list[tuple[int, int, float]] = []
        self._calls: list[CallProbe] = []

    def call(self) -> CallProbe:
        """The probe of a call that has just come."""
        self._calls.append(CallProbe(len(self._calls), self._heard))
        return self._calls[-1]

    def serve(self, port: int) -> None:
        """Say that the server is ready, and answer each line on stdin from now on; its end is the server's end."""
        self._tell({"port": port})
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._answer)

    def _answer(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            os._exit(0)  # nothing here is worth a polite goodbye to hundreds of sockets
        used = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        self._tell(
            {
                "cpu_s": used.ru_utime + used.ru_stime,
                "rss_bytes": pages * resource.getpagesize(),
                "frames": sum(call._frames for call in self._calls),
                "heard": self._heard,
            }
        )
        self._heard.clear()

    @staticmethod
    def _tell(document: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


def tone(seconds: float) -> bytes:
    """What every bot says: a square wave of 200 Hz, PCM16 at `RATE_HZ`."""
    half = RATE_HZ // 400
    wave = ((4000).to_bytes(2, "little") * half) + ((-4000).to_bytes(2, "little", signed=True) * half)
    return (wave * (int(seconds * 200) + 1))[: int(seconds * RATE_HZ) * 2]
