"""The outgoing half of a call: prompts found in the cache, encoded, paced, marked, held, dropped.

Playout itself is the pure `gateway.calls.playout.Playout`; this shell gives it the loop's time, writes what is due and
knows when the caller has heard it all: the peer says so by its mark, or its time has passed. Marks that come late say
how far the peer's playing is behind, so that what was heard of an interrupted prompt is what was played, not what was
sent.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import decode, encode
from dialogue.bots import Bot
from dialogue.turns import Say
from gateway.calls.interruption import Overlap
from gateway.calls.playout import AudioDue, Playout, PlayoutItem
from gateway.calls.services import Services
from gateway.calls.websocket import Connection
from gateway.monitoring.call_watch import CallWatch
from gateway.protocols.seam import ClearPlayout, Command, PromptStarted, SendMark, WireProtocol
from tts_stub.prompts import Prompt
from tts_stub.synthesis import Voice

__all__ = ["ReplyClock", "Speaker", "voice_of"]

_HEARD_GRACE_S = 0.25  # a peer's own buffer: it plays a little later than it receives
_LAG_SLACK_S = 0.05
_MOST_LAG_S = 2.0  # a mark that comes later than this says more about the peer's program than about its buffer
_MOST_RELAYED_S = 1.0  # of a supervisor's voice that may wait: what is older than this confuses
_MOST_GATHERED_MS = 500  # of it in one message, however long the dialect would have them: half of what may wait


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
    heard_at: float | None = None
    """When its end is heard by our clock, once that has been sent."""


def part_heard(text: str, share: float) -> str:
    """The words of `text` that were spoken in the first `share` (0 to 1) of its audio: whole ones, by length."""
    length = int(len(text) * share)
    if length >= len(text):
        return text
    # A word that was cut was not heard; scripts without spaces are cut at the character.
    cut = text[:length] if not text[length - 1 : length + 1].isascii() else text[: text.rfind(" ", 0, length + 1) + 1]
    return cut.rstrip()


def voice_of(bot: Bot) -> Voice:
    """A bot's voice in the synthesiser's words."""
    return Voice(bot.voice.name, bot.voice.rate)


class Speaker:
    """One call's voice. Implements `gateway.calls.playout_clock.Player`."""

    __slots__ = (
        "_begun_at",
        "_bot",
        "_connection",
        "_count",
        "_format",
        "_gathered",
        "_heard_timer",
        "_held_timer",
        "_last_mark",
        "_loop",
        "_muted",
        "_on_heard",
        "_playout",
        "_protocol",
        "_relayed_bytes",
        "_reports",
        "_services",
        "_sounded",
        "_tell",
        "_voice",
        "_watch",
        "heard",
    )

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
        watch: CallWatch,
    ) -> None:
        """`tell` sends a command to the peer; `on_heard` is called when the caller has heard everything queued; `watch`
        is told what becomes of prompts."""
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
        self._watch = watch
        self._muted = False
        # A supervisor's voice goes on in pieces of so many bytes, 0: as it comes; and what is no whole piece yet.
        self._relayed_bytes = min(protocol.ptime_ms or 0, _MOST_GATHERED_MS) * self._format.bytes_per_ms
        self._gathered = bytearray()
        self._loop = asyncio.get_running_loop()
        self._playout = Playout(
            bytes_per_ms=self._format.bytes_per_ms,
            ptime_ms=protocol.ptime_ms or services.settings.playout.ptime_ms,
            lead_ms=services.settings.playout.lead_ms,
        )
        self._reports: dict[str, _Report] = {}
        self._begun_at: float | None = None  # the call's first prompt sound
        self._sounded = (-1, 0.0)  # the last round that has been heard of, and since when
        self._count = 0
        self._last_mark = ""
        self._heard_timer: asyncio.TimerHandle | None = None
        self._held_timer: asyncio.TimerHandle | None = None

    async def prepare(self, say: Say) -> Prompt:
        """The prompt, made if it is not in memory: from then on `say` need not wait for it.

        Raises:
            SynthesisError: it cannot be made.
        """
        prompt = self._ready(say)
        return prompt or await self._services.prompts.get(say.text, self._voice, *self._kind(say))

    def _ready(self, say: Say) -> Prompt | None:
        return self._services.prompts.ready(say.text, self._voice, *self._kind(say))

    def _kind(self, say: Say) -> tuple[int, Path | None]:
        """Rate and recording of a prompt."""
        return self._format.sample_rate_hz, self._bot.directory / say.recording if say.recording else None

    def _encoded(self, prompt: Prompt) -> tuple[memoryview, int]:
        """In the call's encoding, and the byte at which it becomes audible.

        PCM16 is not copied: all calls that say a prompt send from the same memory.
        """
        if self._format.encoding is Encoding.PCM_S16LE:
            audio = prompt.pcm.astype("<i2", copy=False).data.cast("B")
        else:
            audio = memoryview(encode(self._format, prompt.pcm))
        return audio, prompt.first_sound * self._format.bytes_per_sample

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
        audio, first_sound = self._encoded(await self.prepare(say))
        if self._muted:
            return
        now = time.monotonic()
        if self._playout.held:
            clock = None  # the caller speaks: how long that takes is no delay of ours
        report = _Report(say, round_id, clock, {**(timing or {}), "tts_ms": (now - begun) * 1000})
        self._queue(report, audio, first_sound, interruptible=interruptible, now=now)

    def interject(self, say: Say, round_id: int) -> bool:
        """Say something that no reply waits for, if nothing else is being said and it is in memory."""
        prompt = self._ready(say)
        if prompt is None or not self.heard.is_set() or self._playout.held or self._muted:
            return False
        audio, first_sound = self._encoded(prompt)
        self._queue(_Report(say, round_id, None, {}), audio, first_sound, interruptible=True, now=time.monotonic())
        return True

    def _queue(self, report: _Report, audio: memoryview, first_sound: int, *, interruptible: bool, now: float) -> None:
        self._count += 1
        mark = f"p{self._count}"
        self._reports[mark] = report
        self._last_mark = mark
        self.heard.clear()
        self._cancel_heard_timer()
        item = PlayoutItem(
            audio=audio,
            mark=mark,
            first_sound_byte=first_sound,
            interruptible=report.say.interruptible and interruptible,
        )
        self._playout.enqueue(item, now)
        self._play(now)

    # A supervisor in the bot's place.

    def mute(self) -> None:
        """Stop at once, also what may not be interrupted; from now on nothing that the bot says is heard."""
        now = time.monotonic()
        self._muted = True
        item = self._playout.current(now)
        heard = None if item is None else self._words_heard(item, now)
        self._drop(item, now)
        self._all_heard(heard)

    def unmute(self) -> None:
        """The bot is heard again, and who spoke in its place no more."""
        if self._muted:
            self._muted = False
            now = time.monotonic()
            self._drop(self._playout.current(now), now)

    def relay(self, pcm: Pcm16) -> bool:
        """Send a supervisor's voice; False where too much of it waits already.

        A dialect that makes a file of each message gets it in pieces as long as its own, up to half a second; what is
        no whole piece yet is never said once the voice is dropped, as is all that was not heard by then.

        Args:
            pcm: int16 mono at the call's rate.
        """
        now = time.monotonic()
        if not self._muted or self._playout.ends_in_s(now) > _MOST_RELAYED_S:
            return False
        audio = encode(self._format, pcm)
        if not (piece := self._relayed_bytes):
            self._relay_piece(audio, now)
            return True
        self._gathered += audio
        whole = len(self._gathered) // piece * piece
        for at in range(0, whole, piece):
            self._relay_piece(bytes(self._gathered[at : at + piece]), now)
        del self._gathered[:whole]
        return True

    def _relay_piece(self, audio: bytes, now: float) -> None:
        self._playout.enqueue(PlayoutItem(audio=memoryview(audio), mark="", interruptible=False), now)
        self._play(now)

    def _drop(self, current: PlayoutItem | None, now: float) -> None:
        """Empty playout; `current` is what is being heard of it."""
        self._gathered.clear()
        if current is not None and not self._playout.held:
            self._clear(now)
        self._playout.drop()
        self._cancel_held_timer()

    def _clear(self, now: float) -> None:
        self._tell(ClearPlayout())
        if (tap := self._watch.tap) is not None:
            tap.bot_cleared(now)

    @property
    def held(self) -> bool:
        """Whether prompts wait for the caller's words to be known."""
        return self._playout.held

    def hold(self, now: float) -> bool:
        """The caller speaks over a prompt: stop until the words are known, or for `limits.held_prompt_s` at most.

        False: nothing to hold.
        """
        item = self._playout.current(now)
        if item is None or not item.interruptible or self._playout.held:
            return False
        self._hold(now)
        self._clear(now)
        self._watch.prompt_held()
        return True

    def wait(self, now: float) -> None:
        """The caller speaks: what is said next is held from its beginning."""
        if not self._playout.held and self._playout.current(now) is None:
            self._hold(now)

    def _hold(self, now: float) -> None:
        self._playout.hold(now)
        for report in self._reports.values():
            report.heard_at = None
            if not report.told:
                report.clock = None
        self._cancel_heard_timer()
        self._cancel_held_timer()
        self._held_timer = self._loop.call_later(self._services.settings.limits.held_prompt_s, self.resume)

    def overlap(self, at: float) -> Overlap | None:
        """What the caller was hearing at a moment not long ago; None: nothing."""
        item = self._playout.current(at)
        report = self._reports.get(item.mark) if item is not None else None
        if report is None:
            return None
        return Overlap(
            question=report.say.question,
            left_ms=round(self._playout.left_s(at) * 1000),
            call_age_ms=round((at - self._begun_at) * 1000) if self._begun_at is not None else 0,
        )

    def sounded_at(self, round_id: int) -> float | None:
        """When the first sound of this round's reply was sent; None: it has not been, or a later one has."""
        return self._sounded[1] if self._sounded[0] == round_id else None

    def played(self, until: float, samples: int) -> Pcm16 | None:
        """What the caller heard of us up to a moment, silence in the gaps; None: nothing.

        int16 mono at the call's rate, shape (samples,). Only the last two seconds are kept. A peer that plays late is
        allowed for, with a little less than its marks say: they come back over the network too.
        """
        rate = self._format.sample_rate_hz
        since = until - max(0.0, self._playout.lag_s - _LAG_SLACK_S) - samples / rate
        pieces = self._playout.heard_since(since)
        if not pieces:
            return None
        heard = np.zeros(samples, np.int16)
        for at, audio in pieces:
            first = round((at - since) * rate)
            pcm = decode(self._format, bytes(audio))[max(0, -first) :]
            place = heard[max(0, first) :][: len(pcm)]
            place[:] = pcm[: len(place)]
        return heard

    def resume(self) -> None:
        """It was no interruption: go on where the caller stopped hearing."""
        self._cancel_held_timer()
        if self._playout.held:
            now = time.monotonic()
            self._playout.resume(now)
            self._play(now)

    def stop(self) -> str | None:
        """The caller has the turn: what is left of the prompts is not wanted.

        A prompt that may not be interrupted is heard out all the same, with what waits behind it.

        Returns:
            The words that the caller has heard of what is dropped and of the prompts before it, back to the last time
            that all had been heard; None where nothing is dropped.
        """
        now = time.monotonic()
        item = self._playout.current(now)
        if item is not None and not item.interruptible:
            self.resume()  # held while the caller went on, it would stay so
            return None
        heard = None
        if item is not None:
            heard = self._words_heard(item, now)
        self._drop(item, now)
        self._all_heard(heard)
        return heard

    def _words_heard(self, current: PlayoutItem, now: float) -> str:
        words: list[str] = []
        for mark, report in self._reports.items():
            if mark == current.mark:
                words.append(part_heard(report.say.text, self._playout.share_heard(now)))
                break
            words.append(report.say.text)
        return " ".join(words).strip()

    def mark_reached(self, name: str) -> None:
        """The peer has played as far as this mark."""
        report = self._reports.get(name)
        if report is not None and report.heard_at is not None:
            self._playout.lag_s = min(max(0.0, time.monotonic() - report.heard_at), _MOST_LAG_S)
        if name == self._last_mark and not self._playout.playing:
            self._playout.drop()  # the peer's word goes before our clock's: there is nothing left to hold
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
                    self._connection.send(message)
                if (tap := self._watch.tap) is not None:
                    tap.bot(step.audio, step.heard_at)
                if step.first_sound:
                    self._tell_prompt(step.item.mark)
            elif step.item.mark:  # a supervisor's voice has none
                self._tell(SendMark(step.item.mark))
                if (report := self._reports.get(step.item.mark)) is not None:
                    report.heard_at = step.heard_at
                if step.item.mark == self._last_mark:
                    delay_s = max(0.0, step.heard_at + self._playout.lag_s - now) + _HEARD_GRACE_S
                    self._cancel_heard_timer()
                    self._heard_timer = self._loop.call_later(delay_s, self._all_heard)
        return self._playout.next_at != math.inf

    def _play(self, now: float) -> None:
        if self.playout_tick(now):
            self._services.clock.add(self)

    def _tell_prompt(self, mark: str) -> None:
        report = self._reports.get(mark)
        if report is None or report.told:
            return
        report.told = True
        now = time.monotonic()
        self._begun_at = self._begun_at or now
        if report.round_id != self._sounded[0]:
            self._sounded = (report.round_id, now)
        timing = {name: round(ms, 2) for name, ms in report.timing.items()}
        if (clock := report.clock) is not None:
            elapsed_s = now - clock.since
            timing[clock.name] = round(elapsed_s * 1000, 2)
            metrics = self._services.metrics
            first = clock.name == "first_utterance_ms"
            (metrics.first_utterance if first else metrics.endpoint_to_reply).observe(elapsed_s)
        say = report.say
        self._tell(
            PromptStarted(round_id=report.round_id, text=say.text, node=say.node, timing=timing, source=say.source)
        )

    def _all_heard(self, heard: str | None = None) -> None:
        """Nothing more is to be heard; `heard` is what was, where a prompt was interrupted."""
        self._cancel_heard_timer()
        if self._reports:
            self._watch.prompt_ended(heard)
        self._playout.let_go(time.monotonic())
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
