"""What a watcher knows of the calls, from their events: a row for each, and a line for each event of one.

Pure: events in, as the JSON objects that `/v1/monitor` sends; rows and lines out. An event's `time` is by the clock of
its call's connection, which no other call need share; `now` and all times of a row are by the watcher's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["CallBoard", "CallRow", "told"]

_ENDED_KEPT_S: Final = 10.0
_MARKS: Final = {"caller": ">", "bot": "<"}


@dataclass(slots=True)
class CallRow:
    """One call. Times are seconds by the watcher's clock."""

    call_id: str
    started_at: float
    """By the clock of the connection with `first_epoch`."""
    first_epoch: int
    bot: str = ""
    node: str = ""
    caller: str = ""
    turns: int = 0
    last_words: str = ""
    """Led by `>` where the caller said them, by `<` where the bot did."""
    intent: str = ""
    score: float = 0.0
    speaking: bool = False
    budgets_missed: int = 0
    faults: int = 0
    taken_over_by: str = ""
    ended_by: str = ""
    ended_at: float = 0.0
    skews: dict[int, float] = field(default_factory=dict)
    """By epoch of a connection: seconds that the watcher's clock is ahead, with its fastest event's way."""

    @property
    def since(self) -> float:
        """When it began."""
        return self.started_at + self.skews[self.first_epoch]

    @property
    def alerts(self) -> list[str]:
        """What somebody should look at."""
        return [
            *([f"{self.budgets_missed} late"] if self.budgets_missed else []),
            *([f"{self.faults} faults"] if self.faults else []),
            *([f"taken over by {self.taken_over_by}"] if self.taken_over_by else []),
            *([f"ended by {self.ended_by}"] if self.ended_by else []),
        ]


@dataclass(slots=True)
class CallBoard:
    """All calls of a stream of events. A call that ended stays for ten seconds."""

    dropped: int = 0
    """Events that the stream lost."""
    _rows: dict[str, CallRow] = field(default_factory=dict)

    def apply(self, event: Mapping[str, Any], now: float) -> None:
        """Take one line of the stream, which came at `now`: seconds of a clock that nobody sets."""
        kind = event["type"]
        if kind == "watching":
            self._rows.clear()  # what follows is all there is
        elif kind == "dropped":
            self.dropped += event["count"]
        else:
            fresh = CallRow(event["call_id"], event["time"], event["epoch"])
            row = self._rows.setdefault(fresh.call_id, fresh)
            if not (_is_lost(event) and event["epoch"] in row.skews):
                skew = now - event["time"]
                row.skews[event["epoch"]] = min(skew, row.skews.get(event["epoch"], skew))
            _apply(row, kind, event, now)

    def rows(self, now: float) -> list[CallRow]:
        """The calls, longest first, those that ended last of all."""
        self._rows = {
            call_id: row
            for call_id, row in self._rows.items()
            if not row.ended_at or now - row.ended_at < _ENDED_KEPT_S
        }
        return sorted(self._rows.values(), key=lambda row: (bool(row.ended_at), row.since))


def _is_lost(event: Mapping[str, Any]) -> bool:
    """A call's end that is told by who missed it, not by the call's clock."""
    return bool(event["type"] == "call_ended" and event["ended_by"] == "lost")


def _apply(row: CallRow, kind: str, event: Mapping[str, Any], now: float) -> None:
    match kind:
        case "call_started" | "call_present":
            row.bot, row.caller = event["bot"], event["caller"] or ""
            row.ended_by, row.ended_at = "", 0.0
            if kind == "call_present":
                _present(row, event)
        case "call_ended":
            row.ended_by, row.speaking = event["ended_by"], False
            row.ended_at = now if _is_lost(event) else event["time"] + row.skews[event["epoch"]]
        case "speech_started" | "speech_ended":
            row.speaking = kind == "speech_started"
        case "partial_heard" | "turn_heard":
            row.last_words = f"{_MARKS['caller']} {event['text']}"
            row.turns += kind == "turn_heard" and event["supersedes"] is None
        case "prompt_started":
            row.last_words = f"{_MARKS['bot']} {event['text']}"
        case "turn_understood":
            row.intent, row.score = event["intent"], event["score"]
        case "node_entered":
            row.node = event["node"]
        case "budget_missed":
            row.budgets_missed += 1
        case "fault_told":
            row.faults += 1
        case "supervised":
            row.taken_over_by = {"take_over": event["by"], "hand_back": ""}.get(event["act"], row.taken_over_by)


def _present(row: CallRow, event: Mapping[str, Any]) -> None:
    if event["started_at"]:
        row.started_at = event["started_at"]  # by the clock of the first connection
    else:
        row.started_at, row.first_epoch = event["time"], event["epoch"]
    row.node, row.turns = event["node"], event["turns"]
    row.taken_over_by = event["taken_over_by"] or ""
    if event["history"]:
        last = event["history"][-1]
        row.intent, row.score = last["intent"], last["score"]
        row.last_words = f"{_MARKS['bot']} {last['reply']}" if last["reply"] else f"{_MARKS['caller']} {last['said']}"
    elif opening := event.get("opening"):  # a worker of an older version does not tell it
        row.last_words = f"{_MARKS['bot']} {opening}"


def told(event: Mapping[str, Any]) -> str | None:
    """One event as a line for people; None for what only programs want."""
    match event["type"]:
        case "call_started":
            return f"call of {event['caller'] or 'an unknown caller'} for {event['bot']}"
        case "call_present":
            return f"in progress with {event['bot']} at {event['node']}, {event['turns']} turns so far"
        case "call_ended":
            outcome = f", {event['disposition']}" if event["disposition"] else ""
            return f"ended by {event['ended_by']} after {event['duration_s']:.1f} s{outcome}"
        case "partial_heard":
            return f"> {event['text']} ..."
        case "turn_heard":
            return f"> {event['text']}"
        case "turn_superseded":
            return f"round {event['round_id']} is withdrawn: the caller went on"
        case "turn_ignored":
            return f"(speech without a turn: {event['why']})"
        case "turn_understood":
            slots = "".join(f", {name} {value!r}" for name, value in event["slots"])
            return f"  {event['intent']} {event['score']:.2f}{slots}"
        case "node_entered":
            return f"  at {event['node']}"
        case "slots_filled":
            return "  " + ", ".join(f"{name} = {value}" for name, value in event["slots"].items())
        case "keys_pressed":
            return f"> ({event['count']} keys)"
        case "caller_silent":
            return "> (silent)"
        case "prompt_started":
            late = event["timing"].get("endpoint_to_reply_ms", event["timing"].get("first_utterance_ms"))
            return f"< {event['text']}" + (f"   [{late:.0f} ms]" if late is not None else "")
        case "prompt_ended" if event["heard"] is not None:
            return f"  interrupted after {event['heard']!r}"
        case "barged_in":
            return f"  spoken over: {event['verdict']}"
        case "budget_missed":
            return f"! {event['budget']} {event['took_ms']:.0f} over {event['limit_ms']:.0f}"
        case "transfer_started":
            return f"transferred to {event['target']}"
        case "fault_told":
            return f"! {event['code']}: {event['message']}"
        case "supervised":
            return f"* {event['act'].replace('_', ' ')} by {event['by']}"
    return None
