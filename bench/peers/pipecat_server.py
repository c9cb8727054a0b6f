"""pipecat's side of `bench.peers`: one pipeline a call, of a FastAPI WebSocket, a voice detector, and a bot.

    PYTHON -m bench.peers.pipecat_server [--talks S] [--light]

PYTHON is that of pipecat's own environment; nothing of ours but `bench.peers.probe` is imported. As its users run it:
`SileroVADAnalyzer` in its thread, observers and turn tracking as they are by default, uvicorn on uvloop. `--light` is
the least that pipecat can do with its own parts: a detector that compares energies and runs in the loop, no volume
measured, no observers.

Licence of pipecat-ai: BSD-2-Clause; it is fetched from the package index, nothing of it is here.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from bench.peers.probe import GREETING_S, RATE_HZ, CallProbe, Probe, tone

# The gateway's own endpointing: 100 ms of speech begin an utterance, 800 ms of silence end it.
ENDPOINTING = VADParams(start_secs=0.1, stop_secs=0.8)
PIECE_S = 0.5
"""Audio in one frame of the bot's, as a streaming speech engine would give it."""


class PcmSerializer(FrameSerializer):
    """Binary messages are PCM16 both ways: the least a serializer can do."""

    async def serialize(self, frame: Frame) -> str | bytes | None:
        return frame.audio if isinstance(frame, OutputAudioRawFrame) else None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        if isinstance(data, str):
            return None
        return InputAudioRawFrame(audio=data, sample_rate=RATE_HZ, num_channels=1)


class SileroAnalyzer(SileroVADAnalyzer):
    """pipecat's own, probed."""

    def __init__(self, probe: CallProbe) -> None:
        super().__init__(sample_rate=RATE_HZ, params=ENDPOINTING)
        self._probe = probe

    async def analyze_audio(self, buffer: bytes) -> VADState:
        state = await super().analyze_audio(buffer)
        self._probe.frame_heard()
        return state


class EnergyAnalyzer(VADAnalyzer):
    """Loud is speech: what a detector costs at the very least."""

    def __init__(self, probe: CallProbe) -> None:
        super().__init__(sample_rate=RATE_HZ, params=ENDPOINTING)
        self._probe = probe

    def num_frames_required(self) -> int:
        return RATE_HZ // 50

    def voice_confidence(self, buffer: bytes) -> float:
        samples = np.frombuffer(buffer, np.int16).astype(np.float32)
        return 1.0 if float(samples.dot(samples)) > len(samples) * 300.0**2 else 0.0

    def _get_smoothed_volume(self, audio: bytes) -> float:
        return 1.0

    async def analyze_audio(self, buffer: bytes) -> VADState:
        state = self._run_analyzer(buffer)
        self._probe.frame_heard()
        return state


class ToneBot(FrameProcessor):
    """Greets, and answers every utterance, with a tone."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._pieces = [tone(min(PIECE_S, seconds))] * max(1, round(seconds / PIECE_S))

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame | VADUserStoppedSpeakingFrame):
            for piece in self._pieces:
                await self.push_frame(TTSAudioRawFrame(audio=piece, sample_rate=RATE_HZ, num_channels=1))


async def serve(*, talks_s: float, light: bool) -> None:
    """Until stdin ends."""
    probe = Probe()
    app = FastAPI()

    @app.websocket("/call")
    async def call(websocket: WebSocket) -> None:
        analyzer = EnergyAnalyzer(probe.call()) if light else SileroAnalyzer(probe.call())
        await websocket.accept()
        transport = FastAPIWebsocketTransport(
            websocket=websocket,
            params=FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=PcmSerializer()),
        )
        pipeline = Pipeline(
            [transport.input(), VADProcessor(vad_analyzer=analyzer), ToneBot(talks_s), transport.output()]
        )
        params = PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ)
        least: dict[str, Any] = {"enable_rtvi": False, "enable_turn_tracking": False} if light else {}
        worker = PipelineWorker(pipeline, params=params, idle_timeout_secs=None, **least)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()

    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws_per_message_deflate=False, ws_ping_interval=None))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.05)
    gc.collect()
    gc.freeze()
    probe.serve(sock.getsockname()[1])
    await serving


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=float, default=GREETING_S, help="seconds that the bot speaks at a time")
    parser.add_argument("--light", action="store_true")
    args = parser.parse_args()
    logger.remove()
    import uvloop

    uvloop.run(serve(talks_s=args.talks, light=args.light))


if __name__ == "__main__":
    main()
