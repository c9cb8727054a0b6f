"""The outgoing half of a call: prompts found in the cache, encoded, paced, marked, held, dropped.

Playout itself is the pure `gateway.playout.Playout`; this shell gives it the loop's time, writes what is due and
knows when the caller has heard it all: the peer says so by its mark, or its time has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from audio.formats import AudioFormat
from audio.framing import encode
from dialogue.bots import Bot
from dialogue.turns import Say
from gateway.playout import AudioDue, Playout, PlayoutItem
from gateway.protocols.seam import ClearPlayout, Command, PromptStarted, SendMark, WireProtocol
from gateway.services import Services
from gateway.websocket import Connection
from tts_stub.synthesis import Voice

__all__ = ["ReplyClock", "Speaker", "voice_of"]

_HEARD_GRACE_S = 0.25  # a peer's own buffer: it plays a little later than it receives


@dataclass(frozen=True, slots=True)
class ReplyClock:
    """A budget that a prompt's first sound completes: its name in `timing`, and when it began (monotonic seconds)."""

    name: str
    since: float


@dataclass(slots=True)
class _Report:
    """What is told of a prompt, once, when its first sound has been written."""

    say: Say
    round_id: int
    clock: ReplyClock | None
    timing: dict[str, float]
    told: bool = False


def voice_of(bot: Bot) -> Voice:
    """A bot's voice in the synthesiser's words."""
    return Voice(bot.voice.name, bot.voice.rate)


class Speaker:
    """One call's voice. Implements `gateway.playout_clock.Player`."""

    def __init__(
        self,
        services: Services,
        protocol: WireProtocol,
        connection: Connection,
        *,
        bot: Bot,
        fmt: AudioFormat,
        tell: Callable[[Command], None],
        on_heard: Callable[[], None],
    ) -> None:
        """`tell` sends a command to the peer; `on_heard` is called when the caller has heard everything queued."""
        self.heard = asyncio.Event()
        """Set while the caller has nothing left to hear."""
        self.heard.set()
        self._services = services
        self._protocol = protocol
        self._connection = connection
        self._bot = bot
        self._voice = voice_of(bot)
        self._format = AudioFormat(encoding=fmt.encoding, sample_rate_hz=fmt.sample_rate_hz)  # we send mono
        self._tell = tell
        self._on_heard = on_heard
        self._loop = asyncio.get_running_loop()
        self._playout = Playout(
            bytes_per_ms=self._format.bytes_per_ms,
            ptime_ms=protocol.ptime_ms or services.settings.playout.ptime_ms,
            lead_ms=services.settings.playout.lead_ms,
        )
        self._reports: dict[str, _Report] = {}
        self._count = 0
        self._last_mark = ""
        self._heard_timer: asyncio.TimerHandle | None = None
        self._held_timer: asyncio.TimerHandle | None = None

    async def prepare(self, say: Say) -> tuple[memoryview, int]:
        """The prompt in the call's encoding, and the byte at which it becomes audible.

        Raises:
            SynthesisError: it cannot be made.
        """
        rate = self._format.sample_rate_hz
        recording = self._bot.directory / say.recording if say.recording else None
        cache = self._services.prompts
        prompt = cache.ready(say.text, self._voice, rate, recording)
        if prompt is None:
            prompt = await cache.get(say.text, self._voice, rate, recording)
        return memoryview(encode(self._format, prompt.pcm)), prompt.first_sound * self._format.bytes_per_sample

    async def say(
        self,
        say: Say,
        round_id: int,
        *,
        clock: ReplyClock | None = None,
        timing: dict[str, float] | None = None,
        interruptible: bool = True,
    ) -> None:
        """Queue a prompt; its first frames leave at once if nothing plays."""
        begun = time.monotonic()
        audio, first_sound = await self.prepare(say)
        now = time.monotonic()
        self._count += 1
        mark = f"p{self._count}"
        self._reports[mark] = _Report(say, round_id, clock, {**(timing or {}), "tts_ms": (now - begun) * 1000})
        self._last_mark = mark
        self.heard.clear()
        self._cancel_heard_timer()
        item = PlayoutItem(
            audio=audio,
            mark=mark,
            first_sound_byte=first_sound,
            interruptible=say.interruptible and interruptible,
        )
        self._playout.enqueue(item, now)
        self._play(now)

    def hold(self, now: float) -> bool:
        """The caller speaks over a prompt: stop until the words are known, or for `limits.held_prompt_s` at most.

        False: nothing to hold.
        """
        item = self._playout.current(now)
        if item is None or not item.interruptible or self._playout.held:
            return False
        self._playout.hold(now)
        self._cancel_heard_timer()
        self._cancel_held_timer()
        self._held_timer = self._loop.call_later(self._services.settings.limits.held_prompt_s, self.resume)
        self._tell(ClearPlayout())
        return True

    def resume(self) -> None:
        """It was no interruption: go on where the caller stopped hearing."""
        self._cancel_held_timer()
        if self._playout.held:
            now = time.monotonic()
            self._playout.resume(now)
            self._play(now)

    def stop(self) -> None:
        """The caller has the turn: what is left of the prompts is not wanted.

        A prompt that may not be interrupted is heard out all the same, with what waits behind it.
        """
        now = time.monotonic()
        item = self._playout.current(now)
        if item is not None and not item.interruptible:
            return
        if item is not None:
            if not self._playout.held:
                self._tell(ClearPlayout())
            self._playout.drop()
        self._cancel_held_timer()
        self._all_heard()

    def mark_reached(self, name: str) -> None:
        """The peer has played as far as this mark."""
        if name == self._last_mark and not self._playout.playing:
            self._all_heard()

    def close(self) -> None:
        """The call is over."""
        self._cancel_heard_timer()
        self._cancel_held_timer()
        self._services.clock.remove(self)

    def playout_tick(self, now: float) -> bool:
        """The worker's playout clock."""
        for step in self._playout.poll(now):
            if isinstance(step, AudioDue):
                for message in self._protocol.send_audio(step.audio):
                    if isinstance(message, str):
                        self._connection.send_text(message)
                    else:
                        self._connection.send_binary(message)
                if step.first_sound:
                    self._tell_prompt(step.item.mark)
            else:
                self._tell(SendMark(step.item.mark))
                if step.item.mark == self._last_mark:
                    delay_s = max(0.0, step.heard_at - now) + _HEARD_GRACE_S
                    self._cancel_heard_timer()
                    self._heard_timer = self._loop.call_later(delay_s, self._all_heard)
        return self._playout.get_timer() is not None

    def _play(self, now: float) -> None:
        if self.playout_tick(now):
            self._services.clock.add(self)

    def _tell_prompt(self, mark: str) -> None:
        report = self._reports.get(mark)
        if report is None or report.told:
            return
        report.told = True
        timing = {name: round(ms, 2) for name, ms in report.timing.items()}
        if (clock := report.clock) is not None:
            elapsed_s = time.monotonic() - clock.since
            timing[clock.name] = round(elapsed_s * 1000, 2)
            metrics = self._services.metrics
            first = clock.name == "first_utterance_ms"
            (metrics.first_utterance if first else metrics.endpoint_to_reply).observe(elapsed_s)
        say = report.say
        self._tell(PromptStarted(round_id=report.round_id, text=say.text, node=say.node, timing=timing))

    def _all_heard(self) -> None:
        self._cancel_heard_timer()
        self._reports.clear()
        self.heard.set()
        self._on_heard()

    def _cancel_held_timer(self) -> None:
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None

    def _cancel_heard_timer(self) -> None:
        if self._heard_timer is not None:
            self._heard_timer.cancel()
            self._heard_timer = None
