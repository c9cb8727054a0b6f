"""One call's caller on a tape: every message of audio and every key with its time, to be sent again as it was.

A tape is a file of JSON Lines, named *.tape:

    {"tape": 1, "encoding": "pcm_s16le", "sample_rate": 8000, "channels": 1, "bot": "bill-reminder"}
    {"at_ms": 0.0, "audio": "AAAA..."}      base64, in that encoding; ms since the call was accepted
    {"at_ms": 5120.1, "said": "yes.wav"}    from here on, what is said has this name
    {"at_ms": 7200.4, "key": "5"}
    {"heard": {...}}                        what came of the call as it was taped (`outcome.Outcome`), or nothing

A tape cut off in the middle of its last line is read up to there. What the gateway records (docs/monitoring.md) and any
other WAV is a tape as well: its left channel in frames of 20 ms, one after the other. A tape holds a caller's voice:
keep it as you keep recordings.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import soundfile

from audio.files import AudioFileError
from audio.formats import AudioFormat, UnsupportedFormatError
from audio.framing import decode, encode, silence
from audio.levels import first_sound
from gateway.protocols.fields import DIGIT
from gateway.replay.call_ear import Ear
from gateway.replay.outcome import Outcome, read_outcome
from gateway.sip.line import Line, Messages

__all__ = ["SUFFIX", "Sent", "Tape", "TapeError", "TapeRecorder", "TapedCaller", "read_tape"]

SUFFIX: Final = ".tape"
_VERSION: Final = 1
_FRAME_MS: Final = 20
_QUIET_MS: Final = 600.0
"""A stretch of speech ends with so much of quiet behind it."""
_LINGER_S: Final = 1.0
_REPLY_S: Final = 12.0


class TapeError(Exception):
    """A file that is no tape; the message names it, the line and the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One thing that the caller's side sent, `at_ms` after the call was accepted."""

    at_ms: float
    audio: bytes = b""
    key: str = ""
    said: str = ""
    speech_ends: bool = False
    """This audio holds the last sound before some quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """One call's caller."""

    name: str
    format: AudioFormat
    sent: Sequence[Sent]
    bot: str | None = None
    heard: Outcome | None = None

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self.sent[-1].at_ms / 1000 if self.sent else 0.0


class TapeRecorder:
    """Writes a tape while its call goes on."""

    def __init__(self, file: TextIO, fmt: AudioFormat, *, bot: str | None) -> None:
        self._file = file
        self._since: float | None = None
        known = {"encoding": fmt.encoding.value, "sample_rate": fmt.sample_rate_hz, "channels": fmt.channels}
        self._write({"tape": _VERSION, **known, "bot": bot})

    def begin(self, now: float) -> None:
        """The call was accepted."""
        self._since = now

    def audio(self, data: bytes, now: float) -> None:
        """Audio goes out, in the call's format."""
        self._note(now, audio=base64.b64encode(data).decode())

    def key(self, key: str, now: float) -> None:
        """A key is pressed."""
        self._note(now, key=key)

    def said(self, name: str, now: float) -> None:
        """What is said from now on."""
        self._note(now, said=name)

    def heard(self, outcome: Outcome) -> None:
        """What came of the call."""
        self._write({"heard": outcome.document()})

    def _note(self, now: float, **what: str) -> None:
        since = self._since if self._since is not None else now
        self._write({"at_ms": round((now - since) * 1000, 2), **what})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


class TapedCaller:
    """A `Microphone` (gateway.replay.recorded_caller) that does what a tape says, when it says, whatever the bot does
    now.

    When the tape is over the line stays open, silent, until what the bot says was heard.
    """

    def __init__(self, line: Line, ear: Ear, tape: Tape, *, now: float, speed: float = 1.0) -> None:
        """`line` has the tape's format; `now`: when the call was accepted; `speed` of the tape, times real time."""
        self._line = line
        self._ear = ear
        self._sent = tape.sent
        self._at = 0
        self._since = now
        self._speed = speed
        self._frame_s = _FRAME_MS / 1000 / speed
        fmt = line.format
        self._frame_bytes = fmt.bytes_per_ms * _FRAME_MS
        self._quiet = silence(fmt, fmt.samples(_FRAME_MS) * fmt.channels)
        self._over_since = now
        self.due = now
        ear.result.unspoken = []

    def tick(self, now: float) -> Messages | None:
        """What is due; None: the tape is over and the bot has been heard."""
        ear, result = self._ear, self._ear.result
        messages = ear.due(now)
        if self._at == len(self._sent):
            if self._is_answered(now):
                return None
            messages += self._line.speak(self._quiet)
            result.frames_sent += 1
            result.frames_after_last_mark += 1
            self.due += self._frame_s
            return messages
        while self._at < len(self._sent) and self._due_of(self._at) <= now:
            messages += self._send(self._sent[self._at], now)
            self._at += 1
        if self._at < len(self._sent):
            self.due = self._due_of(self._at)
        else:
            self.due = now + self._frame_s
            self._over_since = now
        return messages

    def _send(self, sent: Sent, now: float) -> Messages:
        if sent.said:
            self._ear.spoke(sent.said)
        if sent.key:
            return self._line.press(sent.key)
        if not sent.audio:
            return ()
        if sent.speech_ends:
            self._ear.speech_ended(now)
        frames = len(sent.audio) // self._frame_bytes
        self._ear.result.frames_sent += frames
        self._ear.result.frames_after_last_mark += frames
        return self._line.speak(sent.audio)

    def _due_of(self, index: int) -> float:
        return self._since + self._sent[index].at_ms / 1000 / self._speed

    def _is_answered(self, now: float) -> bool:
        quiet_since = max(self._over_since, self._ear.playing_until)
        return now - quiet_since > (_LINGER_S if self._ear.prompt_heard else _REPLY_S)


def read_tape(path: Path) -> Tape:
    """Read a tape, or a WAV whose left channel is one.

    Raises:
        TapeError: no such file, or none of these; the message names the line.
        AudioFileError: a WAV that cannot be read.
    """
    if path.is_dir():
        raise TapeError(f"{path}: a folder; give one tape (*{SUFFIX}) or WAV")
    if not path.is_file():
        raise TapeError(f"{path}: no such file; make a tape with `voicegate call ... --record {path.name}`")
    if path.suffix.lower() == SUFFIX:
        return _read_lines(path)
    return _read_sound(path)


def _read_lines(path: Path) -> Tape:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TapeError(f"{path}: cannot be read as text ({error}); is it a tape?") from error
    *lines, cut_off = text.split("\n")  # JSON has no bare line ends; the call, and so the tape, may have been cut off
    if not lines:
        lines = [cut_off]
    head = _parsed(path, 1, lines[0])
    if head.get("tape") != _VERSION:
        raise TapeError(f'{path}, line 1: no tape of version {_VERSION}; its first line begins {{"tape": {_VERSION}')
    try:
        fmt = AudioFormat.parse(str(head["encoding"]), int(head["sample_rate"]), int(head["channels"]))
    except (KeyError, TypeError, ValueError, UnsupportedFormatError) as error:
        raise TapeError(f"{path}, line 1: {error}; it says encoding, sample_rate and channels") from error
    sent: list[Sent] = []
    heard = None
    for number, one in enumerate(lines[1:], 2):
        line = _parsed(path, number, one)
        try:
            if "heard" in line:
                heard = read_outcome(line["heard"])
            else:
                sent.append(_sent_of(line))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise TapeError(f"{path}, line {number}: {error!r}; a line has at_ms and audio, key or said") from error
    bot = head.get("bot")
    marked = _with_speech_ends(sent, fmt)
    return Tape(name=path.name, format=fmt, sent=marked, bot=bot if isinstance(bot, str) else None, heard=heard)


def _parsed(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TapeError(f"{path}, line {number}: no JSON ({error}); a tape has one object a line") from error
    if not isinstance(line, dict):
        raise TapeError(f"{path}, line {number}: no object; a tape has one object a line")
    return line


def _sent_of(line: dict[str, Any]) -> Sent:
    key = str(line.get("key", ""))
    if key and not DIGIT.fullmatch(key):
        raise ValueError(f"key {key!r:.20} is none of 0-9 * # A-D")
    audio = base64.b64decode(line.get("audio", ""), validate=True)
    return Sent(at_ms=float(line["at_ms"]), audio=audio, key=key, said=str(line.get("said", "")))


def _read_sound(path: Path) -> Tape:
    try:
        pcm, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
        fmt = AudioFormat(sample_rate_hz=rate_hz)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioFileError(f"{path}: neither a tape (*{SUFFIX}) nor audio that libsndfile reads ({error})") from error
    except UnsupportedFormatError as error:
        raise AudioFileError(f"{path}: {error}; convert it") from error
    data = encode(fmt, np.ascontiguousarray(pcm[:, 0]))
    size = fmt.bytes_per_ms * _FRAME_MS
    quiet = silence(fmt, fmt.samples(_FRAME_MS))
    sent = [
        Sent(at_ms=float(index * _FRAME_MS), audio=frame + quiet[len(frame) :])
        for index, at in enumerate(range(0, len(data), size))
        if (frame := data[at : at + size])
    ]
    return Tape(name=path.name, format=fmt, sent=_with_speech_ends(sent, fmt))


def _with_speech_ends(sent: Sequence[Sent], fmt: AudioFormat) -> list[Sent]:
    """Mark the last sound of each stretch of speech; where nothing says what was said, name the stretches."""
    loud = [index for index, one in enumerate(sent) if one.audio and _is_loud(one.audio, fmt)]
    ends = {
        here
        for here, following in zip(loud, [*loud[1:], None], strict=False)
        if following is None or sent[following].at_ms - sent[here].at_ms > _QUIET_MS
    }
    begins = {following for here, following in zip(loud, loud[1:], strict=False) if here in ends} | set(loud[:1])
    named = any(one.said for one in sent)
    return list(_marked(sent, ends, set() if named else begins))


def _marked(sent: Sequence[Sent], ends: set[int], begins: set[int]) -> Iterable[Sent]:
    stretch = 0
    for index, one in enumerate(sent):
        if index in begins:
            stretch += 1
            yield Sent(at_ms=one.at_ms, said=f"speech {stretch} at {one.at_ms / 1000:.1f} s")
        yield Sent(at_ms=one.at_ms, audio=one.audio, key=one.key, said=one.said, speech_ends=index in ends)


def _is_loud(audio: bytes, fmt: AudioFormat) -> bool:
    block = fmt.bytes_per_sample * fmt.channels
    return first_sound(decode(fmt, audio[: len(audio) // block * block])) is not None
