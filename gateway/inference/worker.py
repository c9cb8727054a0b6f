"""The process that holds the models: one per GPU, or one on the CPU. Answers gateway workers over a Unix socket, or
those of any host over Redis streams.

It answers when everything is loaded and warm, so a worker that is connected gets answers at full speed.
"""

from __future__ import annotations

import asyncio
import logging
import math
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
from gateway.inference.batching import BatcherSettings
from gateway.inference.choice import answer_asks
from gateway.inference.faq_indexing import faq_indexes
from gateway.inference.local import LocalInference
from gateway.inference.model_loading import BotModels, ChoiceRecord
from gateway.inference.second_opinion import Doubt, SecondOpinion
from gateway.metrics import InferenceMetrics
from gateway.processes.child import begin
from gateway.processes.facts import EXIT_CONFIG
from gateway.processes.lifeline import Lifeline
from gateway.settings import AsrSettings, NluSettings, Settings
from nlu.engine import pick_device
from nlu.meaning import NluError

__all__ = ["asr_batches", "load_asr", "main", "nlu_batches"]

log = logging.getLogger(__name__)

_WINDOW_FRAMES = 3000
"""What every utterance costs a Whisper that hears 30 s whatever was said: all stock weights."""
_BATCH_FRAMES = 16 * _WINDOW_FRAMES
"""What a batch may cost at least, so that a small one may hold an utterance of several windows beside others."""
_MAX_PADDING = 0.1
_BATCH_TOKENS = 28
"""What a batch costs besides its tokens: 4.3 ms where a token is 0.15 ms (a 6-layer encoder on one core). With these
two, simulated queues of 4 to 64 texts of mixed lengths cost least, or within 6 % of it; unbounded padding cost up to
2.4 times as much."""
_BATCH_TOKENS_CUDA = 2048
"""Not measured: a launch-bound pass there costs about as much whatever is in it."""


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


def asr_batches(settings: AsrSettings, *, device: str) -> BatcherSettings:
    """Batches of utterances: on a GPU several, on a CPU one; as many as are set also where each is a window of 30 s."""
    max_batch = settings.max_batch or (16 if device == "cuda" else 1)
    return BatcherSettings(
        max_batch=max_batch,
        max_cost=max(_BATCH_FRAMES, _WINDOW_FRAMES * max_batch),
        max_wait_ms=settings.max_wait_ms,
        max_padding=0.0,
    )


def nlu_batches(settings: NluSettings, *, cuda: bool) -> BatcherSettings:
    """Batches of texts: on a GPU large ones that wait a little, on a CPU what is there and at most 0.1 s of work."""
    return BatcherSettings(
        max_batch=settings.max_batch,
        max_cost=settings.max_padded_tokens or (16_384 if cuda else 512),
        max_wait_ms=settings.max_wait_ms if settings.max_wait_ms is not None else (2.0 if cuda else 0.0),
        max_padding=_MAX_PADDING,
        batch_cost=_BATCH_TOKENS_CUDA if cuda else _BATCH_TOKENS,
        max_ride_cost=math.inf if cuda else _BATCH_TOKENS,
        engines=settings.engines,
    )


async def _serve(settings: Settings, path: Path, lifeline: int) -> None:
    asr = load_asr(settings.asr)
    bots = [load_bot(name) for name in settings.all_bots]
    source = BotModels(bots, settings.nlu)
    own = source.first()
    nlu_settings = nlu_batches(settings.nlu, cuda=pick_device(settings.nlu.device).type == "cuda")
    metrics = InferenceMetrics()
    seconds = {
        bot: SecondOpinion(
            bot, model, Doubt(below=when.below, within_s=when.within_s), settings=nlu_settings, metrics=metrics
        )
        for bot, (model, when) in source.larger().items()
    }
    record = ChoiceRecord(path.with_name("models.json"), own)
    asr_settings = asr_batches(settings.asr, device=asr.device)
    faqs = faq_indexes(bots, device=settings.nlu.device)
    # Not before: loading keeps the loop for seconds, and a signal meanwhile shall end it then and there.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalInference(
        asr,
        own,
        asr_settings=asr_settings,
        nlu_settings=nlu_settings,
        seconds=seconds,
        metrics=metrics,
        faqs=faqs,
        load=source.load,
        retire_after_s=settings.nlu.retire_after_s,
        changed=record.write,
    ) as inference:
        served = ", ".join(own) or "no bot"
        del own  # or the first models would never leave memory
        await record.restore(inference)
        batches = {"asr_batch": asr_settings.max_batch, "nlu_batch": nlu_settings.max_batch * nlu_settings.engines}
        server = await answer_asks(settings, path, inference, **batches)
        log.info("models ready: %s; understanding for %s", asr.name, served)
        async with Lifeline(lifeline) as line:
            line.serving(alive=lambda: inference.asr.running_s < settings.supervision.engine_hang_s)
            await line.drain_or(stop)
        await server.stop()


def main() -> None:
    """Entry point of the process: `python -m gateway.inference.worker`."""
    args, settings = begin("inference", socket=Path)
    torch.set_num_threads(settings.asr.threads)
    try:
        uvloop.run(_serve(settings, args.socket, args.lifeline))
    except (AudioError, NluError, DialogueError) as exc:
        log.error("cannot start: %s", exc)
        sys.exit(EXIT_CONFIG)


if __name__ == "__main__":
    main()
