"""The listening end of a call that we place: what was heard when, what the gateway told, and what comes of it.

The bot's audio is "played" on a clock of its own, so marks are reported when a person would have heard that far, and
`clear` drops what was not played. Pure: messages and the time in, values and messages to send out.

How much a gateway tells depends on the dialect. Our own has events for everything; a product's has audio and marks
alone, so turns are then what was answered, and latencies are those that can be heard from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from audio.formats import AudioFormat, Pcm16
from audio.framing import Framer, decode
from audio.levels import first_sound
from gateway.sip.line import DropPlayback, Line, LineOver, PlayAudio, PlayMark

__all__ = ["CallResult", "Ear", "Recording", "TurnResult", "native_events"]

TIMINGS: Final = ("first_utterance_ms", "endpoint_to_reply_ms", "asr_ms", "nlu_ms", "dialogue_ms", "tts_ms")

Events = Callable[[str | bytes], Sequence[dict[str, Any]]]
"""The events in a message, in the words of voicegate.v1."""
Latency = Callable[[str, float, float | None], None]
"""Told of a latency: its budget's name, ms, and the silence in ms that ended the turn where the gateway said it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One thing the caller says, at the call's rate; `keys` are pressed as it begins."""

    name: str
    pcm: Pcm16
    keys: str = ""
    over_ms: int | None = None
    """Said over the bot's prompt, so long after that began; None: when it was heard. In our own dialect only, which
    tells when a prompt begins."""


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
    """Bot audio on a playout clock, as a phone would play it."""

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

    def clear(self, now: float) -> list[str]:
        """Drop what was not heard; the marks in it."""
        kept: list[tuple[float, bytes]] = []
        for at, data in self.heard:
            if at + len(data) / self._bytes_per_s <= now:
                kept.append((at, data))
            elif at < now:
                whole = int((now - at) * self._bytes_per_s) // self._fmt.bytes_per_sample * self._fmt.bytes_per_sample
                kept.append((at, data[:whole]))
        self.heard = kept
        self.end = min(self.end, now)
        dropped = [name for at, name in self._marks if at > now]
        self._marks = [entry for entry in self._marks if entry[0] <= now]
        return dropped

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


def native_events(message: str | bytes) -> Sequence[dict[str, Any]]:
    """What voicegate.v1 tells: every text is an event."""
    return (json.loads(message),) if isinstance(message, str) else ()


class Ear:
    """One call's. A caller (`gateway.replay.recorded_caller`) asks it whether it is his turn."""

    def __init__(
        self,
        line: Line,
        *,
        events: Events | None = native_events,
        replies: bool = True,
        keep_audio: bool = False,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        on_latency: Latency = lambda name, ms, tail_ms: None,
    ) -> None:
        """
        Args:
            line: the product's end of the dialect.
            events: what the dialect tells beside audio and marks; None: nothing.
            replies: whether a bot greets and answers; else the caller's words in text are the answer.
            keep_audio: whether `recording` has what was heard, 16 kB a second.
            on_event: told every event as it comes.
            on_latency: told every latency as it is known.
        """
        self._line = line
        self._events = events
        self._replies = replies
        self._on_event = on_event
        self._on_latency = on_latency
        self._mono = AudioFormat(encoding=line.format.encoding, sample_rate_hz=line.format.sample_rate_hz)
        self._player = _Player(self._mono, keep=keep_audio)
        self._opened: float | None = None
        self._last_mark = ""
        self._keyed = False
        self._speech_end: float | None = None
        self._reply_ms: float | None = None
        self._unsent: list[str | bytes] = []
        self.result = CallResult()
        self.spoken = ""
        """Name of what the caller said last."""
        self.prompt_heard = not replies
        """The bot's prompt has been heard to its end: the caller's turn."""
        self.heard_since = 0.0
        self.talking_since: float | None = None
        """When the bot began the turn that it has; None: it has none, or does not tell."""

    @property
    def playing_until(self) -> float:
        """When what has been received is heard out."""
        return self._player.end

    # What the caller does.

    def open(self, now: float) -> None:
        """The call was begun, which is what a greeting's latency is counted from."""
        self._opened = self.heard_since = now

    def spoke(self, name: str, *, keys: bool = False) -> None:
        """The caller begins to say this."""
        self.prompt_heard = False
        self.talking_since = None
        self.spoken, self._keyed = name, keys
        self._speech_end = self._reply_ms = None

    def speech_ended(self, now: float) -> None:
        """The last loud sample of it has been sent."""
        self._speech_end, self._reply_ms = now, None

    # What the gateway says.

    def receive(self, message: str | bytes, now: float) -> None:
        """Take one message."""
        for order in self._line.receive(message):
            match order:
                case PlayAudio(data):
                    self._player.receive(data, now)
                    self._listen(data, now)
                case PlayMark(name):
                    self._last_mark = name
                    self._player.mark(name, now)
                case DropPlayback():
                    self._unsent += self._line.dropped(self._player.clear(now))
                case LineOver():
                    self.result.ended_by = self.result.ended_by or "bot"
        if self._events is not None:
            for event in self._events(message):
                self._event(event, now)
                self._on_event(event)

    def due(self, now: float) -> list[str | bytes]:
        """Messages that the product would send now: marks that were reached or dropped, a queue that is full."""
        messages, self._unsent = self._unsent, []
        for name in self._player.reached(now):
            messages += self._line.played(name)
            if name == self._last_mark:
                self.result.frames_after_last_mark = 1  # the one about to go out
                self.prompt_heard, self.heard_since, self.talking_since = True, now, None
        waiting_s = self._player.end - now
        messages += self._line.queued(round(waiting_s * 1000) if waiting_s > 0 else 0)
        return messages

    def recording(self, began: float) -> Pcm16:
        """What was heard since `began`, at the call's rate."""
        return self._player.recording(began)

    def _listen(self, data: bytes, now: float) -> None:
        """Is this the first sound of a prompt that is waited for? Nothing is decoded where none is."""
        waits = self._speech_end is not None and self._reply_ms is None
        greets = self._events is None and self._opened is not None and self.result.first_utterance_ms is None
        untold = self._events is None and self.prompt_heard
        if not (waits or greets or untold) or first_sound(decode(self._mono, data)) is None:
            return
        if untold:
            self.prompt_heard = False
            self._last_mark = ""  # an earlier prompt's mark no longer ends the bot's turn
        if waits and self._speech_end is not None:
            self._reply_ms = (now - self._speech_end) * 1000
            if self._events is None:
                turn = self._turn(len(self.result.turns) + 1)
                turn.speech_end_to_reply_ms = self._reply_ms
                self._on_latency("speech_end_to_reply_ms", self._reply_ms, None)
        if greets and self._opened is not None:
            self.result.first_utterance_ms = (now - self._opened) * 1000
            self._on_latency("first_utterance_ms", self.result.first_utterance_ms, None)

    def _event(self, event: dict[str, Any], now: float) -> None:
        result = self.result
        match event.get("type"):
            case "ready":
                result.call_id, result.resumed = event["call_id"], event["resumed"]
            case "transcript":
                turn = self._turn(event["round_id"])
                turn.transcript = event["text"]
                if not self._replies:
                    self._recognised(turn, now)
            case "intent":
                turn = self._turn(event["round_id"])
                turn.intent, turn.score, turn.slots = event["intent"], event["score"], event["slots"]
            case "prompt":
                self.prompt_heard = False
                self.talking_since = now if self.talking_since is None else self.talking_since
                self._last_mark = ""  # an earlier prompt's mark no longer ends the bot's turn
                self._prompt(event)
            case "transfer":
                result.ended_by, result.disposition = "transfer", event["target"]
            case "hangup":
                result.ended_by, result.disposition = "bot", event["reason"]
            case "error":
                result.errors.append(f"{event['code']}: {event['message']}")

    def _recognised(self, turn: TurnResult, now: float) -> None:
        """Words, where they are all that is waited for. They may come before the recording is over: at a pause."""
        if self._speech_end is not None:
            turn.speech_end_to_reply_ms = (now - self._speech_end) * 1000
            self._on_latency("speech_end_to_reply_ms", turn.speech_end_to_reply_ms, None)
            self.prompt_heard, self.heard_since = True, now

    def _prompt(self, event: dict[str, Any]) -> None:
        result, timing = self.result, event["timing"]
        for name, ms in timing.items():
            if name in TIMINGS:
                self._on_latency(name, ms, None)
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
            turn.speech_end_to_reply_ms = self._reply_ms
            if self._reply_ms is not None:
                self._on_latency("speech_end_to_reply_ms", self._reply_ms, timing.get("tail_ms"))

    def _turn(self, round_id: int) -> TurnResult:
        turns = self.result.turns
        if not turns or turns[-1].round_id != round_id:
            turns.append(TurnResult(round_id=round_id, spoken=self.spoken))
        return turns[-1]
