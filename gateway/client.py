"""A caller made of recordings: what `voicegate call`, the replay bench and the tests place calls with.

It behaves like a softphone in a quiet room. Audio goes out in 20 ms messages at real time from the first moment to
the last; the bot's audio is "played" on a clock of its own, so marks are echoed when a person would have heard that
far, and `clear` drops what was not played. When a prompt has been heard, the next recording is spoken.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from audio.formats import AudioFormat, Pcm16
from audio.framing import Framer, decode, encode, silence
from audio.levels import first_sound, last_sound
from gateway import background

__all__ = ["CallClient", "CallError", "CallResult", "Recording", "TurnResult"]

_FRAME_S = 0.02
_CONNECT_S = 5.0
_CLOSE_S = 3.0
_LINGER_S = 1.0


class CallError(Exception):
    """A call that could not be placed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One thing the caller says, at the call's rate; `keys` are pressed as it begins."""

    name: str
    pcm: Pcm16
    keys: str = ""


@dataclass(slots=True, kw_only=True)
class TurnResult:
    """One caller turn as the gateway reported it, and what the client measured itself."""

    round_id: int
    spoken: str = ""
    """Name of the recording whose speech this turn is."""
    transcript: str = ""
    intent: str = ""
    score: float = 0.0
    slots: list[dict[str, Any]] = field(default_factory=list)
    reply: str = ""
    node: str = ""
    source: str | None = None
    """Where the reply is from, if not from the flow: "faq/ENTRY", "assistant"."""
    timing: dict[str, float] = field(default_factory=dict)
    speech_end_to_reply_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class CallResult:
    """The whole call."""

    call_id: str = ""
    resumed: bool = False
    greeting: str = ""
    first_utterance_ms: float | None = None
    turns: list[TurnResult] = field(default_factory=list)
    ended_by: str = ""
    """"bot", "caller", "transfer", "out_of_audio" or "error"."""
    disposition: str = ""
    unspoken: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    frames_sent: int = 0
    frames_after_last_mark: int = 0
    """Sent since the last prompt was heard: where the bot hung up then, it may have judged none of them."""
    bot_audio: Pcm16 = field(default_factory=lambda: np.zeros(0, np.int16))


class _Player:
    """The listening end: bot audio on a playout clock, as a phone would play it."""

    def __init__(self, fmt: AudioFormat, *, keep: bool) -> None:
        self._fmt = fmt
        self._keep = keep
        self._bytes_per_s = fmt.bytes_per_ms * 1000
        self.end = 0.0
        """When what has been received is heard out."""
        self._marks: list[tuple[float, str]] = []
        self._framer = Framer(fmt.bytes_per_sample)
        self.heard: list[tuple[float, bytes]] = []

    def receive(self, data: bytes, now: float) -> None:
        self.end = max(self.end, now)
        if self._keep:
            self.heard.append((self.end, data))
        self.end += len(data) / self._bytes_per_s

    def mark(self, name: str, now: float) -> None:
        self._marks.append((max(now, self.end), name))

    def clear(self, now: float) -> None:
        kept: list[tuple[float, bytes]] = []
        for at, data in self.heard:
            if at + len(data) / self._bytes_per_s <= now:
                kept.append((at, data))
            elif at < now:
                whole = int((now - at) * self._bytes_per_s) // self._fmt.bytes_per_sample * self._fmt.bytes_per_sample
                kept.append((at, data[:whole]))
        self.heard = kept
        self.end = min(self.end, now)
        self._marks = [entry for entry in self._marks if entry[0] <= now]

    def reached(self, now: float) -> list[str]:
        if not self._marks:
            return []
        done = [name for at, name in self._marks if at <= now]
        self._marks = [entry for entry in self._marks if entry[0] > now]
        return done

    def recording(self, began: float) -> Pcm16:
        """Everything heard, placed in time, at the call's rate."""
        rate = self._fmt.sample_rate_hz
        pieces = [(max(0, round((at - began) * rate)), decode(self._fmt, data)) for at, data in self.heard]
        length = max((start + len(pcm) for start, pcm in pieces), default=0)
        out = np.zeros(length, np.int16)
        for start, pcm in pieces:
            out[start : start + len(pcm)] = pcm
        return out


class CallClient:
    """Places one call and returns its `CallResult`."""

    def __init__(
        self,
        url: str,
        *,
        fmt: AudioFormat | None = None,
        call_id: str | None = None,
        bot: str | None = None,
        caller: str | None = None,
        language: str | None = None,
        metadata: dict[str, str] | None = None,
        token: str | None = None,
        reply_timeout_s: float = 12.0,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        on_sent: Callable[[float], None] | None = None,
        keep_audio: bool = True,
    ) -> None:
        """
        Args:
            url: ws:// address of a native media path.
            fmt: the call's format; 8 kHz PCM16 unless given.
            reply_timeout_s: longest wait for a prompt after a recording was spoken; then the next one is spoken.
            on_event: told every JSON message of the gateway as it comes.
            on_sent: told of every audio message how many seconds late it went out: a load test checks itself by it.
            keep_audio: whether the result holds what the caller heard, 16 kB a second.
        """
        self._fmt = fmt or AudioFormat()
        start = {
            "call_id": call_id,
            "bot": bot,
            "caller": caller,
            "language": language,
            "encoding": self._fmt.encoding.value,
            "sample_rate": self._fmt.sample_rate_hz,
            "channels": self._fmt.channels,
        }
        keys = {key: value for key, value in start.items() if value is not None}
        # A start message may come too late on a slow line or from a busy machine (50 ms), the query cannot; but
        # metadata fit into the message alone.
        self._start = json.dumps({"type": "start", **keys, "metadata": metadata}) if metadata else None
        self._url = url if metadata else f"{url}{'&' if '?' in url else '?'}{urlencode(keys)}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._reply_timeout_s = reply_timeout_s
        self._on_event = on_event
        self._on_sent = on_sent
        self._result = CallResult()
        self._mono = AudioFormat(encoding=self._fmt.encoding, sample_rate_hz=self._fmt.sample_rate_hz)
        self._player = _Player(self._mono, keep=keep_audio)
        self._prompt_heard = asyncio.Event()
        self._hanging_up = False
        self._last_mark = ""
        self._spoken = ""
        self._keyed = False
        self._speech_end: float | None = None
        self._reply_due: float | None = None
        self._began = 0.0

    async def run(self, recordings: Sequence[Recording]) -> CallResult:
        """Place the call and speak the recordings, one after each prompt.

        Raises:
            CallError: no connection.
        """
        result = self._result
        try:
            async with asyncio.timeout(_CONNECT_S):
                ws = await connect(
                    self._url,
                    compression=None,
                    additional_headers=self._headers,
                    max_size=None,
                    close_timeout=_CLOSE_S,
                    proxy=None,
                )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as exc:
            raise CallError(_why_no_connection(self._url.partition("?")[0], exc)) from exc
        self._began = time.monotonic()
        async with ws:
            listener = asyncio.create_task(self._listen(ws))
            speaker = asyncio.create_task(self._speak(ws, list(recordings)))
            try:
                await asyncio.wait([listener, speaker], return_when=asyncio.FIRST_COMPLETED)
                if speaker.done() and not speaker.cancelled() and speaker.exception() is None:
                    result.ended_by = result.ended_by or "out_of_audio"
                    await self._hang_up(ws)
                    await asyncio.wait([listener], timeout=_CLOSE_S)
            except asyncio.CancelledError:
                result.ended_by = result.ended_by or "caller"
                await self._hang_up(ws)
                raise
            finally:
                await background.stop((listener, speaker))
        if not result.ended_by:
            result.ended_by = "error"
            result.errors.append(f"connection closed: {ws.close_code} {ws.close_reason or ''}".strip())
        result.bot_audio = self._player.recording(self._began)
        return result

    @property
    def result(self) -> CallResult:
        """What is known so far."""
        return self._result

    def hang_up(self) -> None:
        """The caller has had enough: the call ends at its next message, and `run` returns."""
        self._hanging_up = True

    async def _hang_up(self, ws: ClientConnection) -> None:
        try:
            await ws.send('{"type":"stop"}')
        except ConnectionClosed:
            pass

    async def _speak(self, ws: ClientConnection, recordings: list[Recording]) -> None:
        """The caller's microphone: speech after each prompt, silence in between, 50 messages a second."""
        if self._start is not None:
            await ws.send(self._start)
        frame_bytes = self._fmt.bytes_per_ms * 20
        quiet = silence(self._fmt, self._fmt.samples(20))
        queue = list(recordings)
        self._result.unspoken = [recording.name for recording in queue]
        frames: list[bytes] = []
        position = 0
        loud_frame = -1
        due = time.monotonic()
        silent_since = heard_since = due
        while True:
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            if self._hanging_up:
                self._result.ended_by = self._result.ended_by or "caller"
                return
            now = time.monotonic()
            if self._on_sent is not None:
                self._on_sent(now - due)
            due += _FRAME_S
            self._result.frames_after_last_mark += 1
            for name in self._player.reached(now):
                await ws.send(json.dumps({"type": "mark_reached", "name": name}))
                if name == self._last_mark:
                    self._result.frames_after_last_mark = 1  # the one about to go out
                    self._prompt_heard.set()
                    heard_since = now
            if position < len(frames):
                await ws.send(frames[position])
                if position == loud_frame:
                    self._speech_end = time.monotonic()
                position += 1
                silent_since = now
            else:
                await ws.send(quiet)
                waited_out = now - max(silent_since, self._player.end) > self._reply_timeout_s
                if self._prompt_heard.is_set() or waited_out:
                    if waited_out and not self._prompt_heard.is_set():
                        what = f"to {self._spoken}" if self._spoken else "of the call's start"
                        self._result.errors.append(f"no prompt within {self._reply_timeout_s:g} s {what}")
                    if not queue:
                        # The bot may hang up now: it waits for the mark that says its goodbye was heard.
                        if now - heard_since > _LINGER_S:
                            return
                        self._result.frames_sent += 1
                        continue
                    recording = queue.pop(0)
                    self._result.unspoken.pop(0)
                    self._prompt_heard.clear()
                    self._spoken = recording.name
                    frames, loud_frame = self._frames(recording, frame_bytes)
                    position = 0
                    self._speech_end = None
                    self._reply_due = None
                    for key in recording.keys:
                        await ws.send(json.dumps({"type": "dtmf", "digit": key}))
                    self._keyed = bool(recording.keys)
            self._result.frames_sent += 1

    def _frames(self, recording: Recording, frame_bytes: int) -> tuple[list[bytes], int]:
        """A recording as messages, and the message that holds its last sample above -50 dBFS."""
        pcm = recording.pcm
        if self._fmt.channels == 2:
            pcm = np.repeat(pcm, 2)
            pcm[1::2] = 0  # the other leg is silent
        coded = encode(self._mono, pcm)
        framer = Framer(frame_bytes)
        frames = list(framer.push(coded))
        rest = coded[len(frames) * frame_bytes :]
        if rest:
            whole = silence(self._fmt, self._fmt.samples(20))
            frames.append(rest + whole[len(rest) :])
        last = last_sound(recording.pcm)
        per_frame = self._fmt.samples(20)
        return frames, (last if last is not None else 0) // per_frame

    async def _listen(self, ws: ClientConnection) -> None:
        try:
            async for message in ws:
                now = time.monotonic()
                if isinstance(message, bytes):
                    self._player.receive(message, now)
                    self._note_reply(message, now)
                else:
                    event = json.loads(message)
                    self._event(event, now)
                    self._on_event(event)
        except ConnectionClosed:
            pass

    def _note_reply(self, data: bytes, now: float) -> None:
        """The first prompt sample after the caller's last speech sample."""
        if self._speech_end is not None and self._reply_due is None:
            if first_sound(decode(self._mono, data)) is not None:
                self._reply_due = (now - self._speech_end) * 1000

    def _event(self, event: dict[str, Any], now: float) -> None:
        result = self._result
        match event.get("type"):
            case "ready":
                result.call_id, result.resumed = event["call_id"], event["resumed"]
            case "transcript":
                self._turn(event["round_id"]).transcript = event["text"]
            case "intent":
                turn = self._turn(event["round_id"])
                turn.intent, turn.score, turn.slots = event["intent"], event["score"], event["slots"]
            case "prompt":
                self._prompt_heard.clear()
                self._last_mark = ""  # an earlier prompt's mark no longer ends the bot's turn
                self._prompt(event)
            case "mark":
                self._last_mark = event["name"]
                self._player.mark(event["name"], now)
            case "clear":
                self._player.clear(now)
            case "transfer":
                result.ended_by, result.disposition = "transfer", event["target"]
            case "hangup":
                result.ended_by, result.disposition = "bot", event["reason"]
            case "error":
                result.errors.append(f"{event['code']}: {event['message']}")

    def _prompt(self, event: dict[str, Any]) -> None:
        result, timing = self._result, event["timing"]
        if "first_utterance_ms" in timing:
            result.first_utterance_ms = timing["first_utterance_ms"]
        turn = next((t for t in result.turns if t.round_id == event["round_id"]), None)
        if turn is None and self._keyed:  # keys have no transcript to begin their turn
            turn, self._keyed = self._turn(event["round_id"]), False
        if turn is None:
            result.greeting = f"{result.greeting} {event['text']}".strip()
            return
        turn.reply = f"{turn.reply} {event['text']}".strip()
        turn.node = event["node"]
        turn.source = turn.source or event.get("source")
        turn.timing.update(timing)
        if "endpoint_to_reply_ms" in timing:
            turn.speech_end_to_reply_ms = self._reply_due

    def _turn(self, round_id: int) -> TurnResult:
        turns = self._result.turns
        if not turns or turns[-1].round_id != round_id:
            turns.append(TurnResult(round_id=round_id, spoken=self._spoken))
        return turns[-1]


def _why_no_connection(url: str, exc: Exception) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return f"nothing listens at {url}; start a gateway with `voicegate serve`"
    if isinstance(exc, TimeoutError):
        return f"no answer from {url} within {_CONNECT_S:g} s"
    status = getattr(getattr(exc, "response", None), "status_code", None)
    if status == 401:
        return f"{url} wants a token: --token, or VOICEGATE_TOKEN; make one with `voicegate token`"
    if status == 403:
        return f"{url} does not allow this token to place calls; it needs the scope `call`"
    if status == 503:
        return f"{url} is full or shutting down; try again later"
    if status == 404:
        return f"{url} has no such path; calls come to /v1/call"
    return f"no call to {url}: {exc}"
