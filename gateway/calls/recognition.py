"""Recognition alone, for Vosk's clients: a connection's audio goes through detection and the recogniser, no dialogue.

    opened --config | first audio--> hearing --eof--> last words --> over

Messages wait in a bounded inbox, and one task hears and answers them in order: with the words of the utterances that
ended in a message, once they are known, or the words heard so far. What is heard before its time waits: ten times real
time is the fastest, in pieces of 200 ms, so that one client's file does not take a worker from its calls. A client in
lock-step is slowed down by that; one that waits for no reply may leave 256 messages or 4 MiB waiting.

Odd cases: several utterances that end in one message are one reply; rates other than 8 and 16 kHz are resampled. Files
are often cut at their first and last sound, which no call is: they are heard with silence around (`_around`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from audio.asr import AsrJob
from audio.endpointing import EndpointState
from audio.formats import AudioFormat, Pcm16
from audio.framing import Framer
from audio.inbound import InboundChain, InboundEvent, UtteranceEnded
from audio.resampling import StreamResampler
from gateway import logs
from gateway.calls.bot_choice import choose_bot
from gateway.calls.services import Services
from gateway.calls.session import Calls
from gateway.calls.websocket import Connection
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import InferenceError
from gateway.logs import CallLog, call_id_var
from gateway.protocols.seam import CloseCode, MessageIgnored
from gateway.protocols.vosk import (
    AudioHeard,
    Configured,
    RateRefused,
    Reset,
    StreamEnded,
    VoskProtocol,
    final_text,
    partial_text,
)

__all__ = ["RecognitionSession"]

log = logging.getLogger(__name__)

_NAME: Final = "vosk"
_MAX_WAITING: Final = 256
_MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
_PIECE_MS: Final = 200
_SAVED_S: Final = 0.5  # a client that was slow may catch up this much of the clock at once
_MAX_SPEED: Final = 10
_PARTIAL_EVERY_S: Final = 0.5
_WIDE_HZ: Final = 16000
_HANG_OVER_MS: Final = 100
"""A detector says so long after the last sound that somebody speaks, at most."""


class RecognitionSession:
    """Implements `gateway.calls.websocket.Receiver` and `gateway.calls.session.OpenCall`."""

    subprotocol: str | None = None

    def __init__(self, services: Services, calls: Calls) -> None:
        """The session enters and leaves `calls` by itself."""
        self.call_id = secrets.token_hex(16)
        self._services = services
        self._calls = calls
        self._limits = services.settings.limits
        self._protocol = VoskProtocol()
        self._log = CallLog(log, lambda: self.call_id)
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._partial: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[AudioHeard | Reset | StreamEnded] = asyncio.Queue(_MAX_WAITING)
        self._waiting_bytes = 0
        self._chain: InboundChain | None = None
        self._rate_hz = 0
        self._language = services.settings.asr.language or choose_bot(services.bots, None, None).language
        self._resampler: StreamResampler | None = None
        self._framer = Framer(2)
        self._words_so_far = ""
        self._partial_at = 0.0
        self._opened_at = self._audio_at = self._due = time.monotonic()
        self._frames_counted = 0
        self._ended_by = ""

    # The connection's callbacks.

    def connection_opened(self, connection: Connection) -> None:
        """The 101 is out."""
        self._connection = connection
        self._calls.open.add(self)
        self._services.metrics.calls.labels(_NAME).inc()
        self._task = self._loop.create_task(self._run(), name="recognition")
        self._task.add_done_callback(lambda _: self._release())  # even where it was cancelled before it ran

    def message_received(self, message: str | bytes) -> None:
        """One message of the client."""
        if self._ended_by:
            return
        for event in self._protocol.receive(message):
            match event:
                case AudioHeard() | Reset() | StreamEnded():
                    self._put(event)
                case Configured():
                    self._configure(event.sample_rate_hz)
                    self._language = event.language or self._language
                case RateRefused():
                    self._fail("bad_start", CloseCode.BAD_START, "sample_rate must be 4000 to 192000")
                case MessageIgnored():
                    self._services.metrics.peer_faults.labels(event.code).inc()

    def connection_closed(self, code: int, reason: str) -> None:
        """Nothing more can be sent."""
        self._services.metrics.calls.labels(_NAME).dec()
        if not self._ended_by:
            self._ended_by = "caller" if code in (CloseCode.NORMAL, 1005) else "lost"
            if self._task is not None:
                self._task.cancel()

    # What the worker calls.

    @property
    def frames_seen(self) -> int:
        """Frames judged so far."""
        return self._chain.frames_seen if self._chain is not None else 0

    def check_limits(self, now: float) -> None:
        """Once a second: what only a wall clock can see."""
        if self._ended_by:
            return
        self._count_frames()
        if now - self._audio_at > self._limits.no_audio_s and self._inbox.empty():
            self._fail("no_audio", CloseCode.TIMEOUT, "no audio for too long")
        elif now - self._opened_at > self._limits.call_s:
            self._fail("call_too_long", CloseCode.TIMEOUT, "connected for too long")

    def go_away(self) -> None:
        """The worker goes down."""
        self._end("error", CloseCode.GOING_AWAY, "going away")

    async def over(self) -> None:
        """Until the session's task has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # From the client.

    def _configure(self, rate_hz: int) -> None:
        """Detection works at 8 or 16 kHz: other rates become the nearer one below, or 8 kHz."""
        self._rate_hz = rate_hz if rate_hz in (8000, _WIDE_HZ) else _WIDE_HZ if rate_hz > _WIDE_HZ else 8000
        self._resampler = StreamResampler(rate_hz, self._rate_hz) if rate_hz != self._rate_hz else None
        fmt = AudioFormat(sample_rate_hz=self._rate_hz)
        detector = self._services.make_detector(self._rate_hz)
        self._chain = InboundChain(fmt, self._services.settings.endpointing, detector)
        self._chain.push(self._around(self._services.settings.endpointing.onset_padding_ms))

    def _around(self, ms: int) -> bytes:
        """Silence as the utterances of a call have it before and after, which a recogniser was trained to hear there.

        Of 90 account numbers of four digits (FSDD, cut tightly) the bundled one gets 84 right without it, one of the
        others with a fifth digit, and 89 with it.
        """
        return bytes(2 * self._rate_hz * ms // 1000)

    def _put(self, event: AudioHeard | Reset | StreamEnded) -> None:
        if isinstance(event, AudioHeard):
            self._audio_at = time.monotonic()
            self._waiting_bytes += len(event.data)
        try:
            if self._waiting_bytes > _MAX_WAITING_BYTES:
                raise asyncio.QueueFull
            self._inbox.put_nowait(event)
        except asyncio.QueueFull:
            self._fail("flooding", CloseCode.FLOODING, f"wait for replies; {self._inbox.qsize()} are outstanding")

    def _peek(self, now: float) -> None:
        """Have the utterance in progress transcribed, now and then and while the engine has time."""
        busy = self._partial is not None and not self._partial.done()
        so_far = self._chain.so_far() if self._chain is not None else None
        if not busy and so_far is not None and now - self._partial_at >= _PARTIAL_EVERY_S:
            self._partial_at = now
            self._partial = self._loop.create_task(self._transcribe_so_far(so_far), name="partial")

    async def _transcribe_so_far(self, pcm: Pcm16) -> None:
        try:
            words = await self._words(pcm, Errand(Urgency.PARTIAL))
        except InferenceError as exc:
            self._log.debug("no partial: %s", exc)
            return
        if self._chain is not None and self._chain.speech_ms:
            self._words_so_far = words

    def _forget_partial(self) -> None:
        """The utterance is over: its words so far, and those on their way, are wanted no more."""
        self._words_so_far = ""
        if self._partial is not None:
            self._partial.cancel()
            self._partial = None

    # The session's task.

    async def _run(self) -> None:
        call_id_var.set(self.call_id)
        try:
            while not self._ended_by:
                event = await self._inbox.get()
                match event:
                    case AudioHeard():
                        self._waiting_bytes -= len(event.data)
                        ended = await self._hear(event.data)
                        self._reply(
                            final_text(await self._all_words(ended)) if ended else partial_text(self._words_so_far)
                        )
                    case Reset() | StreamEnded():
                        self._forget_partial()
                        self._reply(final_text(await self._all_words(self._rest())))
                if isinstance(event, StreamEnded):
                    self._end("caller", CloseCode.NORMAL, "")
        except InferenceError as exc:
            self._log.error("recognition failed: %s", exc)
            self._fail("unavailable", CloseCode.INTERNAL, "the recogniser gave no answer")
        except Exception as exc:
            self._log.error("a fault of ours ended the connection: %s", logs.where(exc))
            self._fail("internal", CloseCode.INTERNAL, "a fault of the gateway's")

    def _release(self) -> None:
        self._forget_partial()
        self._count_frames()
        self._calls.open.discard(self)
        self._services.metrics.calls_ended.labels(self._ended_by or "error").inc()

    async def _hear(self, data: bytes) -> list[Pcm16]:
        """Listen to one message, at no more than its pace; the utterances that ended in it."""
        if self._chain is None:
            self._configure(8000)
        chain = self._chain
        assert chain is not None
        if len(data) % 2 or self._framer.carry:
            data = b"".join(self._framer.push(data))
        if self._resampler is not None:
            data = self._resampler.push(np.frombuffer(data, "<i2")).astype("<i2").tobytes()
        ended: list[Pcm16] = []
        size = self._rate_hz * _PIECE_MS // 1000 * 2
        for at in range(0, len(data), size):
            now = time.monotonic()
            self._due = max(self._due, now - _SAVED_S)
            await asyncio.sleep(max(0.0, self._due - now))  # at least lets the calls have their turn
            piece = data[at : at + size]
            ended += self._utterances(chain.push(piece))
            self._due += len(piece) / 2 / self._rate_hz / _MAX_SPEED
        if ended:
            self._forget_partial()
        elif chain.state is not EndpointState.SILENCE:
            self._peek(time.monotonic())
        return ended

    def _rest(self) -> list[Pcm16]:
        """The utterance in progress, which the client says is over."""
        chain = self._chain
        if chain is None:
            return []
        rest = self._resampler.flush().astype("<i2").tobytes() if self._resampler is not None else b""
        silence = self._around(self._services.settings.endpointing.keep_after_ms + _HANG_OVER_MS)
        return self._utterances([*chain.push(rest + silence), *chain.flush()])

    def _utterances(self, events: Sequence[InboundEvent]) -> list[Pcm16]:
        return [event.pcm for event in events if isinstance(event, UtteranceEnded)]

    def _reply(self, text: str) -> None:
        if self._connection is not None:
            self._connection.send_text(text)

    async def _all_words(self, utterances: Sequence[Pcm16]) -> str:
        words = [await self._words(pcm, Errand()) for pcm in utterances]
        return " ".join(filter(None, words))

    async def _words(self, pcm: Pcm16, errand: Errand) -> str:
        job = AsrJob(pcm=pcm, sample_rate_hz=self._rate_hz, language=self._language)
        heard = await self._services.inference.transcribe(job, timeout_s=self._limits.reply_s, errand=errand)
        return heard.transcript.text.strip()

    def _count_frames(self) -> None:
        if (fresh := self.frames_seen - self._frames_counted) > 0:
            self._services.metrics.frames.inc(fresh)
            self._frames_counted += fresh

    # The end.

    def _fail(self, code: str, close_code: int, reason: str) -> None:
        if not self._ended_by:
            self._services.metrics.peer_faults.labels(code).inc()
            self._log.warning("recognition ended: %s: %s", code, reason)
            self._end("error", close_code, reason)

    def _end(self, by: str, close_code: int, reason: str) -> None:
        if self._ended_by:
            return
        self._ended_by = by
        if self._connection is not None:
            self._connection.close(close_code, reason)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
