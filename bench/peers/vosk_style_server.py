"""A recognition server as Vosk's is built, for `bench.peers`: a coroutine a call, a thread pool for the recogniser.

    python -m bench.peers.vosk_style_server [--talks S]

The shape of vosk-server's `websocket/asr_server.py` (Apache-2.0; nothing of it is here), which its users run as it is:
`websockets`' coroutine API on asyncio's own loop, a thread of the pool for each core. A message is received, judged in
a thread, and answered with a line of JSON, before the next one is looked at. In the place of the recogniser stands what
ours does with a frame: WebRTC's detector and our endpointer. Such a server has no bot: what it says here is sent by a
task a call, 40 ms a message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from audio.endpointing import EndpointSettings
from audio.formats import AudioFormat
from audio.inbound import InboundChain, UtteranceEnded
from bench.peers.probe import FRAME_BYTES, GREETING_S, CallProbe, Probe, tone

__all__ = ["Recogniser", "Server"]

_PIECE_S: Final = 0.04


class Recogniser:
    """One call's, with nothing to recognise: it hears where utterances end."""

    def __init__(self, probe: CallProbe) -> None:
        self._chain = InboundChain(AudioFormat(), EndpointSettings())
        self._probe = probe

    def accept(self, message: bytes) -> bool:
        """Whether an utterance ended with this audio. In a thread of the pool."""
        ended = any(type(event) is UtteranceEnded for event in self._chain.push(message))
        self._probe.frame_heard()
        return ended


class Server:
    """All calls. `talks_s`: how long the bot speaks at a time."""

    def __init__(self, probe: Probe, *, talks_s: float) -> None:
        self._probe = probe
        self._talks_s = talks_s
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._piece = tone(_PIECE_S)

    async def recognise(self, line: ServerConnection) -> None:
        """One call, from its 101 to its end."""
        loop, recogniser = asyncio.get_running_loop(), Recogniser(self._probe.call())
        speaking = asyncio.create_task(self._speak(line))
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await line.recv()
                if isinstance(message, str):
                    continue
                ended = await loop.run_in_executor(self._pool, recogniser.accept, message)
                await line.send(json.dumps({"text": ""} if ended else {"partial": ""}))
                if ended and speaking.done():
                    speaking = asyncio.create_task(self._speak(line))
        speaking.cancel()

    async def _speak(self, line: ServerConnection) -> None:
        begun = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            for number in range(round(self._talks_s / _PIECE_S)):
                await asyncio.sleep(begun + number * _PIECE_S - time.monotonic())
                await line.send(self._piece)


async def run(*, talks_s: float) -> None:
    """Until stdin ends."""
    probe = Probe()
    server = Server(probe, talks_s=talks_s)
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    async with serve(server.recognise, sock=sock, ping_interval=None, max_size=FRAME_BYTES * 64):
        probe.serve(sock.getsockname()[1])
        await asyncio.Event().wait()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=float, default=GREETING_S, help="seconds that the bot speaks at a time")
    args = parser.parse_args()
    asyncio.run(run(talks_s=args.talks))


if __name__ == "__main__":
    main()
