"""Tapes: written, read again, cut off, faulty; a gateway's recording as one; and what a taped caller does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audio.files import AudioFileError
from audio.formats import AudioFormat, Encoding
from audio.framing import silence
from gateway.replay.call_ear import Ear
from gateway.replay.outcome import Outcome, TurnOutcome
from gateway.replay.tape import Sent, Tape, TapedCaller, TapeError, TapeRecorder, read_tape
from gateway.sip.line import CallFacts
from gateway.sip.lines import NativeLine

pytestmark = pytest.mark.unit

FMT = AudioFormat()
LOUD = np.full(160, 8000, np.int16).tobytes()
QUIET = silence(FMT, 160)
HEARD = Outcome(
    greeting="Hello",
    first_utterance_ms=2.5,
    turns=(TurnOutcome(spoken="a.wav", transcript="five", intent="give", slots=(("digits", "5"),), reply="Thanks"),),
    ended_by="bot",
    disposition="done",
    errors=(),
)


def taped(path: Path, *lines: dict[str, Any], tail: str = "") -> Path:
    head = {"tape": 1, "encoding": "pcm_s16le", "sample_rate": 8000, "channels": 1, "bot": "load"}
    path.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)) + tail)
    return path


@pytest.mark.parametrize("fmt", [FMT, AudioFormat(encoding=Encoding.MULAW), AudioFormat(sample_rate_hz=16000)])
def test_what_was_sent_is_read_again(tmp_path: Path, fmt: AudioFormat) -> None:
    file = io.StringIO()
    recorder = TapeRecorder(file, fmt, bot="load")
    recorder.begin(100.0)
    frame = silence(fmt, fmt.samples(20))
    recorder.audio(frame, 100.0)
    recorder.said("a.wav", 100.02)
    recorder.key("5", 100.02)
    recorder.audio(frame, 100.0213)
    recorder.heard(HEARD)
    (tmp_path / "one.tape").write_text(file.getvalue())
    tape = read_tape(tmp_path / "one.tape")
    assert (tape.format, tape.bot, tape.heard, tape.seconds) == (fmt, "load", HEARD, 0.0213)
    assert list(tape.sent) == [
        Sent(at_ms=0.0, audio=frame),
        Sent(at_ms=20.0, said="a.wav"),
        Sent(at_ms=20.0, key="5"),
        Sent(at_ms=21.3, audio=frame),
    ]


@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=40) | st.sampled_from(["1", "#", "D"])), max_size=8))
def test_any_call_comes_back_as_it_went(entries: list[tuple[int, bytes | str]]) -> None:
    file = io.StringIO()
    recorder = TapeRecorder(file, FMT, bot=None)
    recorder.begin(0.0)
    for at_ms, what in entries:
        if isinstance(what, str):
            recorder.key(what, at_ms / 1000)
        else:
            recorder.audio(what, at_ms / 1000)
    path = _Kept(file.getvalue())
    sent = [(one.at_ms, one.key or one.audio) for one in read_tape(path).sent if not one.said]
    assert sent == [(float(at_ms), what) for at_ms, what in entries]


class _Kept(type(Path())):  # type: ignore[misc]
    """A path whose file is a string: examples are many, and disks slow."""

    def __new__(cls, text: str) -> _Kept:
        made: _Kept = super().__new__(cls, "kept.tape")
        made.text = text
        return made

    def is_dir(self) -> bool:
        return False

    def is_file(self) -> bool:
        return True

    def read_text(self, *args: Any, **kwargs: Any) -> str:
        return str(self.text)


def test_a_tape_cut_off_in_its_last_line_is_read_up_to_there(tmp_path: Path) -> None:
    path = taped(tmp_path / "cut.tape", {"at_ms": 0, "key": "1"}, tail='{"at_ms": 20.0, "aud')
    assert [one.key for one in read_tape(path).sent] == ["1"] and read_tape(path).heard is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: no JSON"),
        ('{"tape": 2}', "line 1: no tape of version 1"),
        ('{"tape": 1, "encoding": "opus", "sample_rate": 8000, "channels": 1}', "opus"),
        ('{"tape": 1}', "encoding, sample_rate and channels"),
    ],
)
def test_what_is_no_tape_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.tape"
    path.write_text(text)
    with pytest.raises(TapeError, match="bad.tape, line 1") as caught:
        read_tape(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "line", ["{}", '{"at_ms": "x"}', '{"at_ms": 0, "key": "Z"}', '{"at_ms": 0, "audio": "?"}', "[]"]
)
def test_a_faulty_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = taped(tmp_path / "bad.tape", {"at_ms": 0, "key": "1"}, tail=f"{line}\n")
    with pytest.raises(TapeError, match="bad.tape, line 3"):
        read_tape(path)


def test_a_missing_file_and_one_that_is_no_sound_are_named(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"gone.tape: no such file; make a tape with `voicegate call"):
        read_tape(tmp_path / "gone.tape")
    with pytest.raises(TapeError, match="a folder; give one tape"):
        read_tape(tmp_path)
    (tmp_path / "note.txt").write_text("no sound")
    with pytest.raises(AudioFileError, match="note.txt: neither a tape"):
        read_tape(tmp_path / "note.txt")


def test_the_caller_of_a_gateways_recording_is_a_tape(tmp_path: Path) -> None:
    second = np.zeros(8000, np.int16)
    speech = np.full(1610, 8000, np.int16)
    caller = np.concatenate([second, speech, second, speech])
    soundfile.write(tmp_path / "call.wav", np.stack([caller, np.full_like(caller, 9)], axis=1), 8000)
    tape = read_tape(tmp_path / "call.wav")
    assert b"".join(one.audio for one in tape.sent)[: len(caller) * 2] == caller.tobytes()
    assert [one.at_ms for one in tape.sent if one.audio] == [20.0 * at for at in range(-(-len(caller) // 160))]
    assert [one.said for one in tape.sent if one.said] == ["speech 1 at 1.0 s", "speech 2 at 2.2 s"]
    assert sum(one.speech_ends for one in tape.sent) == 2


def test_a_taped_caller_sends_what_is_due_and_stays_until_the_bot_was_heard() -> None:
    line = NativeLine(CallFacts(call_id="c", caller="", dialled="", format=FMT))
    ear = Ear(line)
    sent = [
        Sent(at_ms=0.0, audio=QUIET),
        Sent(at_ms=20.0, said="yes"),
        Sent(at_ms=20.0, audio=LOUD, speech_ends=True),
        Sent(at_ms=40.0, key="5"),
    ]
    caller = TapedCaller(line, ear, Tape(name="t", format=FMT, sent=sent), now=10.0, speed=2.0)
    assert caller.due == 10.0
    assert caller.tick(10.0) == [QUIET] and caller.due == 10.01
    assert caller.tick(10.01) == [LOUD] and ear.spoken == "yes"
    assert caller.tick(10.02) == ['{"type": "dtmf", "digit": "5"}']
    ear.receive(LOUD, 10.5)  # the bot, 20 ms of it, and its mark
    ear.receive('{"type": "mark", "name": "p"}', 10.5)
    now, said = caller.due, list[object]()
    while (messages := caller.tick(now)) is not None:
        said += messages
        now = max(now + 0.01, caller.due)
    assert '{"type": "mark_reached", "name": "p"}' in said
    assert 11.5 < now < 11.6, "a second after the bot was heard out"
    assert ear.result.frames_sent == 2 + sum(message == QUIET for message in said)
