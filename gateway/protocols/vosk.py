"""The protocol of Vosk's server: audio in, one text back for every audio message, no dialogue.

    configuring --first audio--> hearing --eof--> over          (eof: the last words, then we close)
                                 hearing --reset--> hearing

Clients read in lock-step: a message left unanswered would hang them. A `config` text has no answer; `eof` and `reset`
have one. Audio is linear 16-bit mono at the rate of the `config`, 8 kHz unless it says.

Odd cases: a config after audio changes nothing; a text that makes no sense has no answer, as in the original;
`eof` is read as JSON, where the original compares one exact string, so that every spelling works.

Source: alphacep/vosk-server websocket/asr_server.py and its sample clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.protocols.fields import dump, number_of, object_of, parse_object, text_of
from gateway.protocols.seam import MessageIgnored, WireMessage

__all__ = [
    "RATES_HZ",
    "AudioHeard",
    "Configured",
    "RateRefused",
    "Reset",
    "StreamEnded",
    "VoskEvent",
    "VoskProtocol",
    "final_text",
    "partial_text",
]

RATES_HZ: Final = range(4000, 192_001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """The client's config: sample rate in Hz and language (from a model's name such as "en"), where it says."""

    sample_rate_hz: int
    language: str | None = None


@dataclass(frozen=True, slots=True)
class AudioHeard:
    """Linear 16-bit audio; one reply is due."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """The words so far are wanted, and a new utterance begins; one reply is due."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The last words are wanted; one reply is due, then the connection ends."""


@dataclass(frozen=True, slots=True)
class RateRefused:
    """A sample rate that no audio has."""

    sample_rate_hz: int


VoskEvent: TypeAlias = Configured | AudioHeard | Reset | StreamEnded | RateRefused | MessageIgnored


class VoskProtocol:
    """One connection's state: whether audio came yet."""

    def __init__(self) -> None:
        self._hearing = False

    def receive(self, message: WireMessage) -> Sequence[VoskEvent]:
        """Translate one message. Never raises on peer input."""
        if not isinstance(message, str):
            self._hearing = True
            return (AudioHeard(message),)
        parsed = parse_object(message)
        if parsed is None:
            return (MessageIgnored("bad_json"),)
        if "config" in parsed:
            config = object_of(parsed["config"])
            if self._hearing:
                return (MessageIgnored("late_start"),)
            # Clients write 8000, "8000" and, from a sound file's header, 8000.0.
            given = config.get("sample_rate")
            rate = number_of(int(given) if isinstance(given, float) and given.is_integer() else given, 8000)
            if rate not in RATES_HZ:
                return (RateRefused(rate),)
            return (Configured(sample_rate_hz=rate, language=text_of(config.get("language"))),)
        if parsed.get("eof"):
            return (StreamEnded(),)
        if parsed.get("reset"):
            return (Reset(),)
        return (MessageIgnored("unknown_event"),)


def partial_text(words: str) -> str:
    """The reply to audio in which no utterance ended; `words` are those heard so far, perhaps none."""
    return dump({"partial": words})


def final_text(words: str) -> str:
    """The reply to audio in which an utterance ended. Vosk's `result` list of timed words is not given."""
    return dump({"text": words})
