"""Our side of `bench.peers`: a gateway worker whose bot says a tone; recognition and understanding cost nothing.

    python -m bench.peers.gateway_server [--talks S] [--ptime-ms 20]

Started by `bench.peers`, which talks to it as `bench.peers.probe` says.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import socket
import time

import numpy as np
import uvloop

from audio.cascade import detector_maker
from audio.detection import DetectorSettings, VoiceDetector
from audio.formats import Pcm16
from bench.frame_path import Deaf
from bench.lone_worker import listen
from bench.peers.probe import GREETING_S, CallProbe, Probe, tone
from dialogue.bots import load_bot
from gateway.processes.full_collections import FullCollections
from tts_stub.synthesis import Voice


class ToneSynthesizer:
    """Says a tone of a given length, whatever the text."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        """See `tts_stub.synthesis.Synthesizer`; 8 kHz is what the calls here have."""
        return np.frombuffer(tone(self._seconds), "<i2")


@dataclasses.dataclass(slots=True)
class ProbedDetector:
    """A call's detector, and the count of what it has judged."""

    detector: VoiceDetector
    probe: CallProbe

    def is_speech(self, frame: bytes) -> bool:
        """See `audio.detection.VoiceDetector`."""
        verdict = self.detector.is_speech(frame)
        self.probe.frame_heard()
        return verdict


async def serve(*, talks_s: float, ptime_ms: int) -> None:
    """Until stdin ends."""
    probe = Probe()
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    make = detector_maker(DetectorSettings())
    worker = await listen(
        sock,
        load_bot("load"),
        Deaf(),
        synthesizer=ToneSynthesizer(talks_s),
        make_detector=lambda rate: ProbedDetector(make(rate), probe.call()),
        flags={"limits.calls_per_worker": 5000, "playout.ptime_ms": ptime_ms},
    )
    worker.collections = FullCollections(time.monotonic())  # as the product's workers have it
    probe.serve(sock.getsockname()[1])
    await asyncio.Event().wait()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=float, default=GREETING_S, help="seconds that the bot speaks at a time")
    parser.add_argument("--ptime-ms", type=int, default=20, help="audio in a message to the caller")
    args = parser.parse_args()
    uvloop.run(serve(talks_s=args.talks, ptime_ms=args.ptime_ms))


if __name__ == "__main__":
    main()
