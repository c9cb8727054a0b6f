"""What the calls of one worker share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from audio.detection import VoiceDetector, WebRtcDetector
from dialogue.bots import Bot
from dialogue.store import CallStore
from gateway.calls.playout_clock import PlayoutClock
from gateway.inference.seam import Inference
from gateway.metrics import Metrics
from gateway.monitoring.bus import EventBus
from gateway.monitoring.recording import Recorder
from gateway.outside.assistants import Assistants
from gateway.outside.webhooks import Webhooks
from gateway.records.callers import Callers
from gateway.records.results import CallRecords
from gateway.settings import Settings
from tts_stub.prompts import PromptCache

__all__ = ["Services"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Made once per worker, handed to every call."""

    settings: Settings
    inference: Inference
    bots: dict[str, Bot]
    store: CallStore
    prompts: PromptCache
    metrics: Metrics
    clock: PlayoutClock
    webhooks: Webhooks
    assistants: Assistants | None = None
    """None: no bot has a second track (tests, benches)."""
    callers: Callers | None = None
    """None: nobody is offered to go on with an earlier call (tests, benches)."""
    records: CallRecords | None = None
    """None: calls leave no record (tests, benches)."""
    bus: EventBus = field(default_factory=EventBus)
    """Where the calls' events go."""
    recorder: Recorder | None = None
    """None: no call is recorded (tests, benches)."""
    nlu_versions: Mapping[str, str] = field(default_factory=dict)
    """Version of each bot's model as its artefact said at the start: what a call has before its first turn."""
    make_detector: Callable[[int], VoiceDetector] = WebRtcDetector
    """From a call's sample rate in Hz; see `audio.cascade.detector_maker`."""
