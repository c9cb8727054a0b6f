"""A caller made of recordings and his ear, fed with messages and times: when he speaks, what he hears, how it ends."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from audio.framing import silence
from gateway.replay.call_ear import Ear, Recording
from gateway.replay.lines import REPLAYED
from gateway.replay.recorded_caller import FRAME_S, RecordedCaller, as_said
from gateway.replay.tape import TapeRecorder
from gateway.sip.line import CallFacts, Line
from gateway.sip.lines import NativeLine

pytestmark = pytest.mark.unit

FMT = AudioFormat()
LOUD = np.full(160, 8000, np.int16)
QUIET = silence(FMT, 160)
REACHED = '{"type": "mark_reached", "name": "p1"}'
YES = Recording("yes.wav", np.concatenate([LOUD, LOUD, np.zeros(160, np.int16)]))
HELLO = LOUD.tobytes() * 5
"""The bot, for 100 ms."""


class Talk:
    """A call without a gateway: its clock is turned by hand."""

    def __init__(self, *recordings: Recording, line: Line | None = None, **options: Any) -> None:
        self.line = line or NativeLine(facts())
        self.latencies: list[tuple[str, float, float | None]] = []
        self.ear = options.pop("ear", None) or Ear(self.line, on_latency=self.note, keep_audio=True)
        self.ear.open(0.0)
        said = as_said(recordings, self.line.format)
        self.caller = RecordedCaller(self.line, self.ear, said, now=0.0, **options)
        self.now = 0.0
        self.sent: list[str | bytes] = []
        self.over = False

    def note(self, name: str, ms: float, tail_ms: float | None) -> None:
        self.latencies.append((name, round(ms, 3), tail_ms))

    def go(self, seconds: float) -> list[str | bytes]:
        """What is sent in this time."""
        until, sent = self.now + seconds - 1e-9, list[str | bytes]()
        while not self.over and self.caller.due <= until:
            messages = self.caller.tick(self.caller.due)
            self.over = messages is None
            sent += messages or []
        self.now += seconds
        return sent

    def hear(self, *messages: str | bytes | dict[str, Any]) -> None:
        for message in messages:
            self.ear.receive(json.dumps(message) if isinstance(message, dict) else message, self.now)


def facts(fmt: AudioFormat = FMT) -> CallFacts:
    return CallFacts(call_id="c-1", caller="", dialled="", format=fmt, bot="tester")


def prompt(round_id: int, **timing: float) -> dict[str, Any]:
    return {"type": "prompt", "round_id": round_id, "text": "Hello", "node": "greet", "timing": timing, "source": None}


def mark(name: str) -> dict[str, Any]:
    return {"type": "mark", "name": name}


def test_he_waits_until_the_prompt_was_heard_and_then_speaks() -> None:
    talk = Talk(YES)
    assert talk.go(0.1) == [QUIET] * 5
    talk.hear(HELLO, prompt(0, first_utterance_ms=2.0), mark("p1"))
    assert talk.go(0.09) == [QUIET] * 5, "the bot is heard for 100 ms"
    sent = talk.go(0.06)
    assert [message for message in sent if message != QUIET] == [REACHED, LOUD.tobytes()]
    assert sent.index(REACHED) < sent.index(LOUD.tobytes())
    assert talk.ear.result.unspoken == [] and talk.ear.spoken == "yes.wav"
    assert talk.go(0.04) == [LOUD.tobytes(), QUIET]
    assert talk.latencies == [("first_utterance_ms", 2.0, None)]


def test_an_impatient_recording_is_said_over_the_prompt_and_only_once_it_has_begun() -> None:
    talk = Talk(YES, replace(YES, name="wait.wav", over_ms=300))
    talk.hear(prompt(0), HELLO, mark("p0"))
    talk.go(0.2)
    assert talk.ear.spoken == "yes.wav", "the first waits to be asked"
    talk.go(5.0)
    assert talk.ear.spoken == "yes.wav", "nothing to interrupt"
    talk.hear(prompt(1), *[HELLO] * 10)
    talk.go(0.28)
    assert talk.ear.spoken == "yes.wav"
    talk.hear(prompt(1))  # more of the same turn
    sent = talk.go(0.1)
    assert talk.ear.spoken == "wait.wav" and LOUD.tobytes() in sent


def test_a_reply_is_counted_from_the_last_loud_frame_to_the_first_sound() -> None:
    talk = Talk(YES)
    talk.hear(HELLO, prompt(0), mark("p1"))
    talk.go(0.2)  # heard at 0.1, loud at 0.12 and 0.14
    talk.now = 0.96
    talk.hear({"type": "transcript", "round_id": 1, "text": "yes", "final": True, "supersedes": None})
    talk.hear(QUIET)
    talk.now = 0.98
    talk.hear(HELLO, prompt(1, endpoint_to_reply_ms=3.0, tail_ms=800.0, asr_ms=40.0))
    assert ("speech_end_to_reply_ms", 840.0, 800.0) in talk.latencies
    assert {name for name, _, _ in talk.latencies} == {"speech_end_to_reply_ms", "endpoint_to_reply_ms", "asr_ms"}
    (turn,) = talk.ear.result.turns
    assert (turn.transcript, turn.spoken, turn.reply) == ("yes", "yes.wav", "Hello")


def test_what_is_cleared_is_not_heard_and_its_mark_not_reached() -> None:
    talk = Talk(YES)
    talk.hear(HELLO, prompt(0), mark("p1"))
    talk.go(0.04)
    talk.hear({"type": "clear"})
    assert talk.go(0.2) == [QUIET] * 10
    assert len(talk.ear.recording(0.0)) == 0.04 * 8000


def test_he_goes_on_where_no_prompt_comes_and_hangs_up_a_second_after_the_last() -> None:
    talk = Talk(YES, reply_timeout_s=0.5)
    talk.go(0.6)
    assert talk.ear.result.errors == ["no prompt within 0.5 s of the call's start"]
    talk.hear(HELLO, prompt(1), mark("p1"))
    sent = talk.go(2.0)
    assert talk.over and talk.ear.result.errors == ["no prompt within 0.5 s of the call's start"]
    assert len(sent) == pytest.approx(55, abs=2), "100 ms to hear it, then a second"
    assert talk.ear.result.frames_sent == 30 + sum(isinstance(message, bytes) for message in sent)


def test_keys_are_pressed_as_a_recording_begins_and_a_tape_has_them_all() -> None:
    file = io.StringIO()
    recorder = TapeRecorder(file, FMT, bot=None)
    recorder.begin(0.0)
    talk = Talk(Recording("digits", np.zeros(0, np.int16), "47"), recorder=recorder)
    talk.hear(HELLO, prompt(0), mark("p1"))
    sent = talk.go(0.2)
    assert [json.loads(text) for text in sent if isinstance(text, str)][1:] == [
        {"type": "dtmf", "digit": "4"},
        {"type": "dtmf", "digit": "7"},
    ]
    lines = [json.loads(line) for line in file.getvalue().splitlines()[1:]]
    assert [line["key"] for line in lines if "key" in line] == ["4", "7"]
    assert sum("audio" in line for line in lines) == sum(isinstance(message, bytes) for message in sent)
    assert [line["said"] for line in lines if "said" in line] == ["digits"]


@given(st.floats(0.2, 8.0))
def test_speed_changes_the_pace_and_nothing_else(speed: float) -> None:
    talk = Talk(YES, speed=speed)
    talk.go(100.0 * FRAME_S / speed)
    assert talk.ear.result.frames_sent == pytest.approx(100, abs=1)


@pytest.mark.parametrize("fmt", [FMT, AudioFormat(encoding=Encoding.ALAW), AudioFormat(channels=2)])
def test_a_recording_is_made_into_whole_frames_once(fmt: AudioFormat) -> None:
    short = Recording("short", np.full(200, 8000, np.int16))
    one, again = as_said([short, short], fmt)
    assert one is again and one.loud_frame == 1
    assert [len(frame) for frame in one.frames] == [fmt.bytes_per_ms * 20] * 2
    assert one.frames[1].endswith(silence(AudioFormat(encoding=fmt.encoding), 120))


def test_a_products_dialect_is_followed_by_ear() -> None:
    dialect = REPLAYED["twilio"]
    line = dialect.line(facts(dialect.format))
    latencies: list[tuple[str, float]] = []
    ear = dialect.ear(line, lambda name, ms, tail_ms: latencies.append((name, round(ms, 3))))
    talk = Talk(YES, line=line, ear=ear)
    sound = silence(line.format, 160).replace(b"\xff", b"\x00")  # as loud as μ-law gets

    def media(audio: bytes) -> dict[str, Any]:
        sid = json.loads(line.hello()[1])["streamSid"]
        return {"event": "media", "streamSid": sid, "media": {"payload": base64.b64encode(audio).decode()}}

    def named(event: str, **more: Any) -> dict[str, Any]:
        return {"event": event, "streamSid": media(b"x")["streamSid"], **more}

    talk.now = 0.05
    talk.hear(media(sound), named("mark", mark={"name": "p1"}))
    assert latencies == [("first_utterance_ms", 50.0)]
    talk.go(0.1)  # heard at 0.07: he begins to speak
    assert ear.spoken == "yes.wav" and not ear.prompt_heard
    talk.go(0.1)
    talk.now = 1.0
    talk.hear(media(sound), named("mark", mark={"name": "p2"}), named("clear"))
    assert [turn.spoken for turn in ear.result.turns] == ["yes.wav"] and len(latencies) == 2
    texts = [json.loads(text) for text in talk.go(0.02)]
    assert [text["mark"]["name"] for text in texts if text["event"] == "mark"] == ["p2"], "Twilio gives it back"
