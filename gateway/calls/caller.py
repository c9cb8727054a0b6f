"""What one caller does, as entries for the conversation: utterances, keys, and what of the bot they came over.

    silent --SpeechStarted--> speaking --UtteranceEnded--> silent: a `Spoke`
    speaking --speech lasts--> the prompt is held          any --keys, complete--> a `Keyed`

Events come in synchronously from the connection's callbacks, through the echo filter; entries leave through `put`.
A prompt is held here; whether it goes on is for the words to say, which the conversation waits for. It is held when the
endpointer has counted its `sustained_ms` of speech, or 200 ms after the first of it where somebody speaks just then:
words with gaps in them ("six", "stop it") are slow to count.

Where a number is asked for, keys and words are one answer: keys pressed before or during an utterance go with it
("four four one", then 7 on the keypad). An entry complete by its `#` waits 1.5 s at most for the words around it, since
what a detector calls speech may be a noisy line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from audio.asr import Expectation
from audio.endpointing import EndpointState
from audio.inbound import (
    InboundChain,
    InboundEvent,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)
from dialogue.loop import KeyEntries
from gateway.calls.echo_filter import EchoFilter
from gateway.calls.interruption import Overlap, Verdict
from gateway.calls.keypad import Keypad
from gateway.calls.listening import Listener
from gateway.calls.services import Services
from gateway.calls.speaker import Speaker
from gateway.monitoring.call_watch import CallWatch
from gateway.protocols.seam import Command, SpeechEdge, TurnHeard

__all__ = ["Caller", "Counterpart", "Keyed", "Spoke"]

_PARTIAL_EVERY_S = 0.5
_KEYS_WAIT_S = 1.5
_HOLD_AFTER_S = 0.2
_HOLD_AT_LAST_S = 0.26


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoke:
    """An utterance, with the keys pressed before and during it where a number was asked for."""

    utterance: UtteranceEnded
    at: float
    """When the audio that completed the tail arrived (monotonic seconds, as all times here)."""
    began: float
    over: Overlap | None
    """What the caller was hearing as they began; None: nothing."""
    tail_ms: int
    keys_before: str = ""
    keys_after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """A keypad entry. `heard` is what of the prompt that its first key stopped had been heard; None: all of it."""

    digits: str
    at: float
    began: float
    over: Overlap | None = None
    heard: str | None = None


Entry: TypeAlias = Spoke | Keyed


class Counterpart(Protocol):
    """What the caller's side asks of the conversation."""

    @property
    def next_round_id(self) -> int:
        """The number that the caller's next turn will have."""
        ...

    @property
    def ending(self) -> bool:
        """The bot's last words are being said; they cannot be interrupted."""
        ...

    def expected(self, began: float, over: Overlap | None) -> Expectation | None:
        """What is waited for from a caller who began to speak then."""
        ...

    def caller_is_active(self) -> None:
        """The caller speaks or presses keys."""
        ...

    def caller_is_quiet(self) -> None:
        """What seemed to be speech was none."""
        ...

    def put(self, entry: Entry) -> bool:
        """Take an entry; False: there is no room."""
        ...


class Caller:
    """One call's caller. `meet` makes the bot's side known, once there is one."""

    def __init__(
        self,
        services: Services,
        chain: InboundChain,
        *,
        sample_rate_hz: int,
        tell: Callable[[Command], None],
        watch: CallWatch,
        counterpart: Counterpart,
    ) -> None:
        """`tell` sends a command to the peer, `watch` tells those who watch what the peer is not to know."""
        self._services = services
        self._chain = chain
        self._rate = sample_rate_hz
        self._tell = tell
        self._call_watch = watch
        self._counterpart = counterpart
        self._loop = asyncio.get_running_loop()
        self._speaker: Speaker | None = None
        self._listener: Listener | None = None
        self._keypad = Keypad(self._loop, self._entry_complete)
        self._echo = EchoFilter(chain, sample_rate_hz, speech_over_echo=self._heard, echo_ended=self._echo_ended)
        self._partial_timer: asyncio.TimerHandle | None = None
        self._keys_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._tail_ms = services.settings.endpointing.tail_ms
        self._number_wanted = False
        # Of the utterance in progress, or the last one.
        self.speaking = False
        """An utterance is in progress, its tail included."""
        self.insists = False
        """It has lasted long enough to hold a prompt."""
        self.began = 0.0
        self.over: Overlap | None = None
        self.keys_before = ""
        self._keys_after = ""
        # Of the keypad entry in progress.
        self._entry: Keyed | None = None

    def meet(self, speaker: Speaker, listener: Listener) -> None:
        """Who is spoken over, and who understands."""
        self._speaker, self._listener = speaker, listener
        self._echo.listen_to(speaker)

    def listen(self, tail_ms: int, keys: KeyEntries) -> None:
        """The dialogue waits for its caller: the silence that ends a turn, and what may be keyed in."""
        self._tail_ms = tail_ms
        self._chain.set_tail_ms(tail_ms)
        self._number_wanted = keys.most_digits > 0
        self._keypad.listen(keys)

    def close(self) -> None:
        """The call is over."""
        self._stop_watching()
        self._keypad.close()
        self._echo.close()
        for timer in (self._keys_timer, self._hold_timer):
            if timer is not None:
                timer.cancel()

    # From the connection's callbacks.

    def speech_event(self, event: InboundEvent, now: float) -> None:
        """What the endpointer saw in audio that arrived at `now`."""
        for left in self._echo.push(event, now):
            self._heard(left, now)

    def key_pressed(self, key: str) -> None:
        """A DTMF key: the caller has taken the turn."""
        if self._keypad.is_late_end(key):  # the reply to its entry is on its way, and must not be cut for it
            self._keypad.press(key)
            return
        now = time.monotonic()
        entry = self._entry or Keyed(digits="", at=now, began=now, over=self._hearing(now))
        heard = entry.heard
        if self._speaker is not None and not self._counterpart.ending:
            stopped = self._speaker.stop()
            heard = stopped if stopped is not None else heard
        self._entry = Keyed(digits="", at=now, began=entry.began, over=entry.over, heard=heard)
        self._counterpart.caller_is_active()
        self._keypad.press(key)

    # Speech.

    def _heard(self, event: InboundEvent, now: float) -> None:
        match event:
            case SpeechStarted():
                self._began(event.at, now)
            case SpeechSustained():
                self.insists = True
                # Last words are heard out, with what is said before them: nothing would decide about a hold.
                if self._speaker is not None and not self._counterpart.ending and self._speaker.hold(now):
                    taken_s = self._ms(self._chain.samples_seen - event.at) / 1000
                    self._services.metrics.barge_in.observe(taken_s)
            case Pause():
                listener, other = self._listener, self._counterpart
                if listener is not None and self._services.settings.asr.speculate and not other.ending:
                    self._cancel_partial_timer()  # the speculation hears the same words
                    listener.speculate(event, other.expected(self.began, self.over))
            case SpeechResumed():
                if self._listener is not None:
                    self._listener.cancel()
                self._watch()
                if self._speaker is not None and self.insists and not self._counterpart.ending:
                    self._speaker.hold(now)  # at the pause it was a backchannel, and the prompt went on
            case UtteranceEnded():
                self._ended(event, now)

    def _began(self, at: int, now: float) -> None:
        self.speaking, self.insists = True, False
        self.began = now - self._ms(self._chain.samples_seen - at) / 1000
        self.over = self._hearing(self.began)
        self.keys_before = self._take_keys()
        self._counterpart.caller_is_active()
        if self.over is not None:
            self._hold_by(_HOLD_AFTER_S, at)
        self._watch()
        self._tell(SpeechEdge(started=True, at_ms=self._ms(at)))

    def _hold_by(self, after_s: float, at: int) -> None:
        """Hold the prompt so long after the speech that began at sample `at`, should somebody speak then."""

        def hold() -> None:
            now = time.monotonic()
            if not self.speaking or self.insists or self.began != began:
                return
            if self._chain.state is EndpointState.SPEECH:
                self.speech_event(SpeechSustained(at), now)
            elif after_s < _HOLD_AT_LAST_S:
                self._hold_by(_HOLD_AT_LAST_S, at)

        began = self.began
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self._loop.call_later(max(0.0, began + after_s - time.monotonic()), hold)

    def _ended(self, utterance: UtteranceEnded, now: float) -> None:
        self.speaking = False
        self._stop_watching()
        self._forget_keys_timer()
        if self._listener is not None:
            self._listener.ended()
        self._tell(SpeechEdge(started=False, at_ms=self._ms(utterance.end)))
        if self._keys_after:
            self._entry = None  # it goes with these words; the next key begins another
        spoke = Spoke(
            utterance=utterance,
            at=now,
            began=self.began,
            over=self.over,
            tail_ms=self._tail_ms,
            keys_before=self.keys_before,
            keys_after=self._keys_after + self._take_keys(),
        )
        self._keys_after = ""
        if not self._counterpart.put(spoke) and self._speaker is not None:
            self._speaker.resume()  # nobody will decide about a prompt held for this

    def _echo_ended(self) -> None:
        self._services.metrics.overlaps.labels(Verdict.ECHO).inc()
        if self.speaking:  # it was taken for speech at first
            self.speaking = False
            self._stop_watching()
            self._tell(SpeechEdge(started=False, at_ms=self._ms(self._chain.samples_seen)))
            if self._speaker is not None:
                self._speaker.resume()
            self._give_keys_back()
        self._counterpart.caller_is_quiet()  # the prompt may have been heard while its echo went on

    def _hearing(self, at: float) -> Overlap | None:
        return None if self._speaker is None else self._speaker.overlap(at)

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self._rate

    # Keys.

    def _entry_complete(self, digits: str) -> None:
        if self.speaking and self._number_wanted:
            self._keys_after += digits
            self._forget_keys_timer()
            self._keys_timer = self._loop.call_later(_KEYS_WAIT_S, self._keys_alone)
        else:
            self._put_keys(digits)

    def _keys_alone(self) -> None:
        """The utterance that the keys were to go with does not end: those before and within it are one entry."""
        self._forget_keys_timer()
        digits, self.keys_before, self._keys_after = self.keys_before + self._keys_after, "", ""
        if digits:
            self._put_keys(digits)

    def _forget_keys_timer(self) -> None:
        if self._keys_timer is not None:
            self._keys_timer.cancel()
            self._keys_timer = None

    def _give_keys_back(self) -> None:
        """The words that keys were to go with were none."""
        if self._keys_after:
            self._keys_alone()
        elif self.keys_before:
            keys, self.keys_before = self.keys_before, ""
            self._keypad.put_back(keys)

    def forget_keys(self) -> None:
        """What was keyed was for somebody else."""
        self._entry = None
        self._keypad.forget()

    def _put_keys(self, digits: str) -> None:
        now = time.monotonic()
        entry, self._entry = self._entry, None
        began, over, heard = (entry.began, entry.over, entry.heard) if entry is not None else (now, None, None)
        self._counterpart.put(Keyed(digits=digits, at=now, began=began, over=over, heard=heard))

    def _take_keys(self) -> str:
        """The keys so far, where they go with words."""
        if not self._number_wanted:
            return ""
        keys = self._keypad.take()
        if keys:
            self._entry = None
        return keys

    # Partials, about twice a second while the caller speaks: where the settings have them, and while a supervisor
    # listens in. Then the peer gets none, for it is not to learn of that.

    def _watch(self) -> None:
        self._cancel_partial_timer()
        if self._services.settings.asr.partials or self._call_watch.listened_to:
            self._partial_timer = self._loop.call_later(_PARTIAL_EVERY_S, self._ask_partial)

    def _ask_partial(self) -> None:
        listener, so_far = self._listener, self._echo.so_far()
        if listener is not None and so_far is not None:
            round_id = self._counterpart.next_round_id
            tell = self._tell if self._services.settings.asr.partials else self._call_watch.told
            listener.watch(
                so_far,
                self._counterpart.expected(self.began, self.over),
                lambda text: tell(TurnHeard(round_id=round_id, text=text, final=False)),
            )
        self._partial_timer = self._loop.call_later(_PARTIAL_EVERY_S, self._ask_partial)

    def _stop_watching(self) -> None:
        self._cancel_partial_timer()
        if self._listener is not None:
            self._listener.stop_watching()

    def _cancel_partial_timer(self) -> None:
        if self._partial_timer is not None:
            self._partial_timer.cancel()
            self._partial_timer = None
