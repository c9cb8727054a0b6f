"""One call's events: what happens in its conversation, as watchers are told of it.

Made with the call. Each method costs one look at a flag while nobody gets the call's events; only then are values built
and numbered. What a watcher who comes later must know is read from the dialogue's own state (`present`). That keeps the
last turns alone: those before, and the bot's first words, are kept here as they are, up to `MOST_TURNS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from audio.formats import AudioFormat
from dialogue.bots import Bot
from dialogue.loop import DialogueLoop
from dialogue.slots import SlotValue
from dialogue.state import DialogueState, Turn
from gateway.calls.call_clock import CallClock
from gateway.calls.interruption import Verdict
from gateway.monitoring.bus import EventBus
from gateway.monitoring.events import (
    BargedIn,
    BudgetMissed,
    CallEnded,
    CallerSilent,
    CallEvent,
    CallPresent,
    CallStarted,
    FaultTold,
    KeysPressed,
    NodeEntered,
    PartialHeard,
    PastTurn,
    PromptEnded,
    PromptHeld,
    PromptStarted,
    Published,
    SlotsFilled,
    SpeechEnded,
    SpeechStarted,
    Supervised,
    TransferStarted,
    TurnHeard,
    TurnIgnored,
    TurnSuperseded,
    TurnUnderstood,
)
from gateway.monitoring.stereo import AudioTap, StereoLine
from gateway.protocols import seam

__all__ = ["BUDGETS_MS", "MOST_TURNS", "CallWatch"]

BUDGETS_MS: Final[Mapping[str, float]] = {
    "first_utterance_ms": 200.0,
    "endpoint_to_reply_ms": 200.0,
    "barge_in_ms": 300.0,
}
"""What 99 of 100 calls or turns may take; one that takes longer is told."""

_MOST_OPENING: Final = 4
"""Prompts before the caller's first turn: a caller who says nothing is asked again and again."""
MOST_TURNS: Final = 100
"""Of one call, for who opens it late: most are over long before, and a page's story has room for them."""


class CallRecorder(Protocol):
    """Who writes a call down: `gateway.monitoring.recording.Recording`."""

    def note(self, published: Published) -> None:
        """An event of the call."""
        ...

    def finish(self) -> None:
        """The call is over."""
        ...


class CallWatch:
    """One per call. Methods are for the loop's thread."""

    __slots__ = (
        "_bot",
        "_bus",
        "_call_id",
        "_caller",
        "_dialogue",
        "_earlier",
        "_epoch",
        "_history",
        "_models",
        "_node",
        "_opening",
        "_position_ms",
        "_protocol",
        "_seq",
        "_since",
        "_slots",
        "_spoke_at_ms",
        "clock",
        "listened_to",
        "nlu_version",
        "recording",
        "taken_over_by",
        "tap",
    )

    def __init__(self, bus: EventBus, *, protocol: str = "", position_ms: Callable[[], int] = lambda: 0) -> None:
        """`position_ms` is how much of the caller's audio has been heard."""
        self.clock = CallClock()
        """For all that is told of this call, and written into its state."""
        self.nlu_version = ""
        """Version of the model that answered the last turn; known whether or not anybody watches."""
        self.taken_over_by: str | None = None
        """The supervisor who speaks in the bot's place."""
        self.listened_to = False
        """A supervisor listens in: the words are wanted as they are said."""
        self.tap: AudioTap | None = None
        """There while somebody hears the call's audio."""
        self.recording: CallRecorder | None = None
        self._bus = bus
        self._protocol = protocol
        self._position_ms = position_ms
        self._seq = 0
        self._since = time.monotonic()
        self._dialogue: DialogueLoop | None = None
        self._bot: Bot | None = None
        self._call_id = ""
        self._epoch = 0
        self._caller: str | None = None
        self._models: dict[str, str] = {}
        self._opening: tuple[str, ...] = ()
        self._earlier: tuple[Turn, ...] = ()  # that the dialogue has forgotten
        self._history: tuple[Turn, ...] = ()  # that it had after the last step
        # After the last step.
        self._node = ""
        self._slots: Mapping[str, SlotValue] = {}
        self._spoke_at_ms = 0

    @property
    def active(self) -> bool:
        """Whether anybody gets this call's events."""
        return self._bus.listening or self.recording is not None

    # The call.

    def opened(
        self,
        dialogue: DialogueLoop,
        bot: Bot,
        call_id: str,
        *,
        caller: str | None,
        models: Mapping[str, str],
        resumed: bool,
    ) -> None:
        """The call's dialogue is open. `models` are versions as they are known before the first turn."""
        self._dialogue, self._bot, self._call_id, self._caller = dialogue, bot, call_id, caller
        self._models, self._epoch = dict(models), dialogue.epoch
        self._history = dialogue.state.history
        if self.active:
            self._publish(
                CallStarted(
                    bot=bot.name,
                    bot_version=bot.version,
                    protocol=self._protocol,
                    language=bot.language,
                    caller=caller,
                    models=self._models,
                    recorded=self.recording is not None,
                    resumed=resumed,
                )
            )

    def closed(self, ended_by: str, *, goes_on: bool = False) -> None:
        """The connection is over, and nothing is told of it any more. `goes_on`: another one has the call."""
        dialogue, self._dialogue = self._dialogue, None
        if not self.active or dialogue is None:
            return
        if not goes_on:
            self._tell_end(ended_by, dialogue.state)
        if self.recording is not None:
            self.recording.finish()
            self.recording = None

    def _tell_end(self, ended_by: str, state: DialogueState) -> None:
        self._publish(
            CallEnded(
                ended_by=ended_by,
                disposition=state.disposition or state.outcome,
                duration_s=round(time.monotonic() - self._since, 3),
                turns=state.turns,
            )
        )

    @property
    def epoch(self) -> int:
        """Which of the call's connections this is; 0 before its dialogue is open."""
        return self._epoch

    @property
    def is_open(self) -> bool:
        """The call's dialogue is open."""
        return self._dialogue is not None

    def present(self, *, turns: int) -> Published | None:
        """Where the call stands now, with its last turns; None before its dialogue is open."""
        if self._dialogue is None or self._bot is None:
            return None
        state = self._dialogue.state
        event = CallPresent(
            bot=self._bot.name,
            bot_version=self._bot.version,
            protocol=self._protocol,
            language=self._bot.language,
            caller=self._caller,
            models={**self._models, **({"nlu": self.nlu_version} if self.nlu_version else {})},
            recorded=self.recording is not None,
            started_at=state.started_at,
            node=state.node,
            slots={name: slot.value for name, slot in state.slots.items()},
            turns=state.turns,
            opening=" ".join(self._opening),
            history=tuple(
                PastTurn(
                    round_id=turn.round_id,
                    node=turn.node,
                    said=turn.said,
                    intent=turn.intent,
                    score=turn.score,
                    reply=turn.reply,
                )
                for turn in self._turns(state.history)[-turns:]
            ),
            taken_over_by=self.taken_over_by,
        )
        return self._published(event)

    def _turns(self, history: tuple[Turn, ...]) -> tuple[Turn, ...]:
        first = history[0].round_id if history else 0
        return (*(turn for turn in self._earlier if turn.round_id < first), *history)

    # Its audio.

    def open_line(self, fmt: AudioFormat) -> StereoLine:
        """Both sides from now on, for one who hears them. `fmt` is the call's."""
        if self.tap is None:
            self.tap = AudioTap(fmt, on_empty=self._close_tap)
        return self.tap.open_line(time.monotonic())

    def close_line(self, line: StereoLine) -> None:
        """Nobody hears this one any more."""
        if self.tap is not None:
            self.tap.close_line(line)

    def _close_tap(self) -> None:
        self.tap = None

    # What is said to the peer is most of what happens.

    def told(self, command: seam.Command) -> None:
        """A command went to the peer."""
        if type(command) is seam.PromptStarted and command.round_id == 0 and len(self._opening) < _MOST_OPENING:
            self._opening = (*self._opening, command.text)
        if not self.active:
            return
        match command:
            case seam.SpeechEdge(started=True, at_ms=at_ms):
                self._spoke_at_ms = at_ms
                self._publish(SpeechStarted(speech_ms=at_ms))
            case seam.SpeechEdge(at_ms=at_ms):
                self._publish(SpeechEnded(speech_ms=at_ms))
            case seam.TurnHeard(final=False):
                self._publish(PartialHeard(round_id=command.round_id, text=command.text))
            case seam.TurnHeard():
                self._turn_heard(command)
            case seam.TurnUnderstood(round_id=round_id, meaning=meaning):
                slots = tuple((slot.name, slot.text) for slot in meaning.slots)
                self._publish(
                    TurnUnderstood(
                        round_id=round_id,
                        intent=meaning.intent,
                        score=round(meaning.score, 4),
                        slots=slots,
                        model=self.nlu_version,
                    )
                )
            case seam.PromptStarted():
                self._prompt_started(command)
            case seam.TransferCall(target=target):
                self._publish(TransferStarted(target=target))
            case seam.ReportFault(code=code, message=message):
                self._publish(FaultTold(code=code, message=message))

    def _turn_heard(self, heard: seam.TurnHeard) -> None:
        self._publish(TurnHeard(round_id=heard.round_id, text=heard.text, supersedes=heard.supersedes))
        if heard.supersedes is not None:
            self._publish(TurnSuperseded(round_id=heard.supersedes, by_round_id=heard.round_id))

    def _prompt_started(self, prompt: seam.PromptStarted) -> None:
        self._publish(
            PromptStarted(
                round_id=prompt.round_id,
                node=prompt.node,
                text=prompt.text,
                timing=dict(prompt.timing),
                source=prompt.source,
            )
        )
        for budget, took_ms in prompt.timing.items():
            self._measured(budget, took_ms)

    def _measured(self, budget: str, took_ms: float) -> None:
        limit_ms = BUDGETS_MS.get(budget)
        if limit_ms is not None and took_ms > limit_ms:
            self._publish(BudgetMissed(budget=budget, took_ms=took_ms, limit_ms=limit_ms))

    # What the peer is not told.

    def stepped(self, state: DialogueState) -> None:
        """The dialogue took a step."""
        before, self._node = self._node, state.node
        known, self._slots = self._slots, state.slots
        self._keep_forgotten(state.history)
        if not self.active:
            return
        if state.node != before:
            self._publish(NodeEntered(round_id=state.round_id, node=state.node, before=before))
        if fresh := {name: slot.value for name, slot in state.slots.items() if known.get(name) != slot}:
            self._publish(SlotsFilled(round_id=state.round_id, slots=fresh))

    def _keep_forgotten(self, history: tuple[Turn, ...]) -> None:
        first = history[0].round_id if history else 0
        kept = self._earlier[-1].round_id if self._earlier else 0
        if gone := tuple(turn for turn in self._history if kept < turn.round_id < first):
            self._earlier = (*self._earlier, *gone)[-MOST_TURNS:]
        self._history = history

    def judged(self, verdict: Verdict, *, over_prompt: bool, ignored: bool) -> None:
        """What speech was: a turn, or nothing to answer."""
        if not self.active:
            return
        if over_prompt:
            self._publish(BargedIn(verdict=verdict))
        if ignored:
            self._publish(TurnIgnored(why=verdict))

    def keyed(self, digits: str) -> None:
        """A keypad entry came."""
        if self.active:
            self._publish(KeysPressed(count=len(digits)))

    def silent(self) -> None:
        """The caller said nothing."""
        if self.active:
            self._publish(CallerSilent())

    def prompt_held(self) -> None:
        """The caller speaks over a prompt, and it waits."""
        if self.active:
            after_ms = max(0, self._position_ms() - self._spoke_at_ms)
            self._publish(PromptHeld(after_ms=after_ms))
            self._measured("barge_in_ms", after_ms)

    def prompt_ended(self, heard: str | None) -> None:
        """Nothing is left to hear; `heard` where the prompt was interrupted."""
        if self.active:
            self._publish(PromptEnded(heard=heard))

    def supervised(self, act: str, by: str) -> None:
        """A supervisor did something; one who stops listening may do so when the call is over."""
        if self.active and self.is_open:
            self._publish(Supervised(act=act, by=by))

    def _publish(self, event: CallEvent) -> None:
        self._seq += 1
        published = self._published(event)
        if self._bus.listening:
            self._bus.publish(published)
        if self.recording is not None:
            self.recording.note(published)

    def _published(self, event: CallEvent) -> Published:
        return Published(event, self._call_id, self._seq, self._position_ms(), self.clock(), self._epoch)
