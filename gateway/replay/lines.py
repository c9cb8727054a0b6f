"""Which dialects a replay can speak, and what each tells of a call: lines of `gateway.sip.lines`, and two more.

    dialect         stands for                               tells of a call
    native          a client of voicegate.v1                 words, meanings, prompts, the gateway's own timings
    asterisk        chan_websocket, plain texts              when the bot is heard and when it hangs up
    asterisk-json   the same, JSON texts                     the same
    twilio          Media Streams, bidirectional             when the bot is heard; the close is its hang-up
    freeswitch      mod_audio_stream and a dialplan script   when the bot is heard and when it hangs up
    jambonz         listen with streaming playback           the same
    vosk            a client of a Vosk server                words alone: nobody answers

Source: docs/protocols.md; drachtio/drachtio-freeswitch-modules mod_audio_fork; alphacep/vosk-server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from audio.formats import AudioFormat, Encoding
from gateway.replay.call_ear import Ear, Events, Latency, native_events
from gateway.sip.line import BaseLine, CallFacts, DropPlayback, Line, LineOrder, LineOver, Messages, PlayAudio, PlayMark
from gateway.sip.lines import DIALECTS

__all__ = ["REPLAYED", "JambonzLine", "ReplayDialect", "VoskLine"]


_LINEAR: Final = AudioFormat()
_MULAW: Final = AudioFormat(encoding=Encoding.MULAW)
"""What a PBX dials with, unless told otherwise."""


class JambonzLine(BaseLine):
    """mod_audio_fork with streaming playback, 8 kHz mono: raw L16 both ways, marks as texts between."""

    path = "/jambonz"
    subprotocols: tuple[str, ...] = ("audio.jambonz.org",)

    def __init__(self, facts: CallFacts) -> None:
        super().__init__(facts)
        self.format = AudioFormat()

    def query(self) -> dict[str, str]:
        return {"bot": self._facts.bot} if self._facts.bot else {}

    def hello(self) -> Messages:
        facts = self._facts
        call = {"callSid": facts.call_id, "from": facts.caller, "to": facts.dialled, "direction": "inbound"}
        return (json.dumps({"sampleRate": self.format.sample_rate_hz, "mixType": "mono", **call}),)

    def speak(self, audio: bytes) -> Messages:
        return (audio,)

    def press(self, digit: str) -> Messages:
        return (json.dumps({"event": "dtmf", "dtmf": digit, "duration": "1600"}),)

    def played(self, mark: str) -> Messages:
        return self._mark(mark, "playout")

    def dropped(self, marks: Sequence[str]) -> Messages:
        return [text for mark in marks for text in self._mark(mark, "cleared")]

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        if isinstance(message, bytes):
            return (PlayAudio(message[: len(message) // 2 * 2]),)
        body = _object(message)
        match body.get("type"):
            case "mark":
                data = body.get("data")
                return (PlayMark(str(data.get("name"))),) if isinstance(data, dict) else ()
            case "killAudio":
                return (DropPlayback(),)
            case "disconnect" | "transfer":
                return (LineOver(),)
        return ()

    def _mark(self, name: str, event: str) -> Messages:
        return (json.dumps({"type": "mark", "data": {"name": name, "event": event}}),)


class VoskLine(BaseLine):
    """A client that wants its audio as text; every message is answered with the words so far, or an utterance's."""

    path = "/vosk"

    def __init__(self, facts: CallFacts) -> None:
        super().__init__(facts)
        self.format = AudioFormat()

    def query(self) -> dict[str, str]:
        return {}

    def hello(self) -> Messages:
        return (json.dumps({"config": {"sample_rate": self.format.sample_rate_hz}}),)

    def speak(self, audio: bytes) -> Messages:
        return (audio,)

    def press(self, digit: str) -> Messages:
        return ()

    def played(self, mark: str) -> Messages:
        return ()

    def hang_up(self) -> Messages:
        return ('{"eof": 1}',)

    def receive(self, message: str | bytes) -> Sequence[LineOrder]:
        return ()


def _vosk_events() -> Events:
    """Each utterance that ended with words is a turn."""
    rounds = 0

    def events(message: str | bytes) -> Sequence[dict[str, Any]]:
        nonlocal rounds
        if '"text"' not in (message if isinstance(message, str) else "") or not (words := _object(message).get("text")):
            return ()
        rounds += 1
        return ({"type": "transcript", "round_id": rounds, "text": words},)

    return events


def _object(message: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDialect:
    """How a replay calls in one dialect."""

    name: str
    line: Callable[[CallFacts], Line]
    format: AudioFormat = _LINEAR
    """Of the callers' audio, where the dialect leaves it open."""
    events: Callable[[], Events | None] = lambda: None
    """What one call's line tells beside audio and marks."""
    replies: bool = True
    """Whether there is a bot at the other end."""

    def ear(self, line: Line, on_latency: Latency) -> Ear:
        """The listening end of one call."""
        return Ear(line, events=self.events(), replies=self.replies, on_latency=on_latency)


REPLAYED: Final[dict[str, ReplayDialect]] = {
    "native": ReplayDialect(name="native", line=DIALECTS["native"], events=lambda: native_events),
    **{name: ReplayDialect(name=name, line=line, format=_MULAW) for name, line in DIALECTS.items() if name != "native"},
    "jambonz": ReplayDialect(name="jambonz", line=JambonzLine),
    "vosk": ReplayDialect(name="vosk", line=VoskLine, events=_vosk_events, replies=False),
}
"""By name."""
