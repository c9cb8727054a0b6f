"""The process that holds the models: one per GPU, or one on the CPU. Answers gateway workers over a Unix socket.

The socket appears when everything is loaded and warm, so a worker that is connected gets answers at full speed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import torch
import uvloop

from audio.bundled import bundled_model_path
from audio.engine_choice import load_engine
from audio.formats import AudioError
from audio.whisper import WhisperRecogniser
from dialogue.bots import load_bot
from dialogue.turns import DialogueError
from gateway.batching import BatcherSettings
from gateway.child import begin
from gateway.inference import LocalInference, NluModel
from gateway.inference_socket import InferenceServer
from gateway.metrics import InferenceMetrics
from gateway.processes import EXIT_CONFIG
from gateway.settings import AsrSettings, Settings
from nlu.engine import NluEngine
from nlu.meaning import NluError

__all__ = ["load_asr", "load_nlu", "main"]

log = logging.getLogger(__name__)


def load_asr(settings: AsrSettings) -> WhisperRecogniser:
    """The recogniser that the settings name, warm."""
    return load_engine(
        bundled_model_path() if settings.model == "bundled" else settings.model,
        engine=settings.engine,
        device=settings.device,
        compute_type=settings.compute_type,
        threads=settings.threads,
        max_batch=settings.max_batch,
    )


def load_nlu(settings: Settings) -> dict[str, NluModel]:
    """Each bot's model by the bot's name; bots that name the same artefact share one engine."""
    engines: dict[Path, NluEngine] = {}
    models: dict[str, NluModel] = {}
    for bot in map(load_bot, settings.all_bots):
        if bot.nlu_path is None:
            continue
        path = bot.nlu_path.resolve()
        if path not in engines:
            engines[path] = NluEngine.load(path)
            engines[path].warm_up()
        models[bot.name] = engines[path]
    return models


async def _serve(settings: Settings, path: Path) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    asr, nlu = load_asr(settings.asr), load_nlu(settings)
    asr_batches = BatcherSettings(
        max_batch=settings.asr.max_batch or (16 if asr.device == "cuda" else 1),
        max_wait_ms=settings.asr.max_wait_ms,
        max_stretch=1.0,
    )
    async with LocalInference(asr, nlu, asr_settings=asr_batches, metrics=InferenceMetrics()) as inference:
        server = InferenceServer(inference)
        await server.start(path)
        log.info("models ready: %s; understanding for %s", asr.name, ", ".join(nlu) or "no bot")
        await stop.wait()
        await server.stop()


def main() -> None:
    """Entry point of the process: `python -m gateway.inference_worker`."""
    args, settings = begin("inference", socket=Path)
    torch.set_num_threads(settings.asr.threads)
    try:
        uvloop.run(_serve(settings, args.socket))
    except (AudioError, NluError, DialogueError) as exc:
        log.error("cannot start: %s", exc)
        sys.exit(EXIT_CONFIG)


if __name__ == "__main__":
    main()
