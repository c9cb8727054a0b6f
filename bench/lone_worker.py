"""A gateway worker in the bench's own process, with everything real but what is handed in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from audio.cascade import detector_maker
from audio.detection import DetectorSettings, VoiceDetector
from dialogue.bots import Bot
from dialogue.store import MemoryStore
from gateway.access.auth import Authenticator
from gateway.calls.playout_clock import PlayoutClock
from gateway.calls.services import Services
from gateway.inference.seam import Inference
from gateway.metrics import Metrics
from gateway.monitoring.bus import EventBus
from gateway.outside.webhooks import Webhooks
from gateway.processes.worker import GatewayWorker, prompt_specs
from gateway.settings import load
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.prompts import PromptCache
from tts_stub.synthesis import Synthesizer

__all__ = ["listen"]


async def listen(
    sock: socket.socket,
    bot: Bot,
    inference: Inference,
    *,
    detector: DetectorSettings | None = None,
    bus: EventBus | None = None,
    synthesizer: Synthesizer | None = None,
    make_detector: Callable[[int], VoiceDetector] | None = None,
    clock: PlayoutClock | None = None,
    flags: Mapping[str, object] | None = None,
) -> GatewayWorker:
    """Serve `bot` on `sock` with default settings, its prompts made beforehand, state in memory.

    Args:
        detector: other than the settings' own.
        bus: where the calls' events go, for who wants them.
        synthesizer: other than espeak-ng.
        make_detector: what makes a call's detector, in place of one by the settings.
        clock: other than the loop's.
        flags: settings other than the defaults, as the command line names them.
    """
    settings = load(environ={}, flags={"bot": bot.name, "bots": (), **(flags or {})})
    metrics = Metrics(CollectorRegistry())
    prompts = PromptCache(synthesizer or EspeakSynthesizer(), max_bytes=1 << 26, timeout_s=10)
    await prompts.render_all(prompt_specs({bot.name: bot}))
    services = Services(
        settings=settings,
        inference=inference,
        bots={bot.name: bot},
        store=MemoryStore(),
        prompts=prompts,
        metrics=metrics,
        clock=clock or PlayoutClock(asyncio.get_running_loop()),
        webhooks=Webhooks(settings.webhooks, metrics),
        bus=bus or EventBus(),
        make_detector=make_detector or detector_maker(detector or settings.detector),
    )
    worker = GatewayWorker(services, Authenticator(settings.auth))
    await worker.listen(sock)
    return worker
