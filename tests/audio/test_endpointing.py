"""The endpointer as a table of speech frames and the events they bring."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio.detection import WebRtcDetector
from audio.endpointing import (
    Endpointer,
    EndpointEvent,
    EndpointSettings,
    EndpointState,
    EndReason,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)

pytestmark = pytest.mark.unit

FRAME = 160  # samples of 20 ms at 8 kHz
SETTINGS = EndpointSettings(
    tail_ms=800,
    pause_ms=260,
    min_speech_ms=100,
    onset_window_ms=160,
    rejoin_ms=40,
    resume_ms=100,
    sustained_ms=200,
    onset_padding_ms=240,
    keep_after_ms=200,
    max_utterance_ms=5000,
)


def run(script: str, endpointer: Endpointer | None = None) -> list[EndpointEvent]:
    """Feed a script of frames: `#` speech, `.` none; "50." is fifty of them."""
    endpointer = endpointer or Endpointer(SETTINGS, 8000)
    return [event for frame in frames(script) for event in endpointer.push(frame)]


def frames(script: str) -> list[bool]:
    out: list[bool] = []
    for word in script.split():
        count, kind = (int(word[:-1]), word[-1]) if len(word) > 1 else (1, word)
        out += [kind == "#"] * count
    return out


def test_an_utterance_from_first_speech_to_endpoint() -> None:
    assert run("50. 30# 50.") == [
        SpeechStarted(50 * FRAME),
        SpeechSustained(50 * FRAME),
        Pause(start=38 * FRAME, end=90 * FRAME),
        UtteranceEnded(start=38 * FRAME, end=90 * FRAME, decided_at=120 * FRAME, reason=EndReason.TAIL),
    ]


def test_positions_count_samples_at_the_rate_of_the_call() -> None:
    wide = Endpointer(SETTINGS, 16000)
    assert run("50. 30# 50.", wide)[-1] == UtteranceEnded(
        start=38 * 320, end=90 * 320, decided_at=120 * 320, reason=EndReason.TAIL
    )
    assert (wide.frames_seen, wide.samples_seen) == (130, 130 * 320)


def test_speech_is_told_on_the_frame_that_makes_it_sure() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    assert run("10. 4#", endpointer) == []
    assert endpointer.state is EndpointState.SILENCE
    assert endpointer.push(True) == (SpeechStarted(10 * FRAME),)
    assert (endpointer.state, endpointer.speech_ms) == (EndpointState.SPEECH, 100)


@pytest.mark.parametrize("blip", ["4#", "4# 4. #", "2# 4. 2#", "# . # . # . #"])
def test_noises_shorter_than_the_minimum_never_become_an_utterance(blip: str) -> None:
    assert run(f"20. {blip} 100.") == []


def test_five_scattered_frames_within_the_window_do() -> None:
    """Onset is judged over a window: one frame missing does not start the count again."""
    assert run("20. 2# . 3#") == [SpeechStarted(20 * FRAME)]
    assert run("20. # 3. 4#") == [SpeechStarted(20 * FRAME)]


def test_a_short_tail_ends_without_a_pause_and_ends_sooner() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    endpointer.set_tail_ms(200)
    assert run("12. 10# 10.", endpointer) == [
        SpeechStarted(12 * FRAME),
        SpeechSustained(12 * FRAME),
        UtteranceEnded(start=0, end=32 * FRAME, decided_at=32 * FRAME, reason=EndReason.TAIL),
    ]


def test_the_tail_may_change_within_a_tail() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    run("12. 10# 30.", endpointer)
    endpointer.set_tail_ms(1600)
    assert run("49.", endpointer) == []
    assert run(".", endpointer) == [
        UtteranceEnded(start=0, end=32 * FRAME, decided_at=102 * FRAME, reason=EndReason.TAIL)
    ]
    run("10# 30.", endpointer)
    endpointer.set_tail_ms(400)
    (ended,) = run(".", endpointer)
    assert isinstance(ended, UtteranceEnded)


def test_the_caller_who_goes_on_after_a_pause() -> None:
    events = run("12. 10# 20. 10# 20. 6# 60.")
    assert events[2:] == [
        Pause(start=0, end=32 * FRAME),
        SpeechResumed(42 * FRAME),
        Pause(start=0, end=62 * FRAME),
        SpeechResumed(72 * FRAME),
        Pause(start=0, end=88 * FRAME),
        UtteranceEnded(start=0, end=88 * FRAME, decided_at=118 * FRAME, reason=EndReason.TAIL),
    ]


def test_a_hesitation_shorter_than_a_pause_is_not_told() -> None:
    events = run("12. 10# 11. 10#")
    assert events == [SpeechStarted(12 * FRAME), SpeechSustained(12 * FRAME)]


@pytest.mark.parametrize("click", ["#", "4#", "2# . 2#"])
def test_a_click_in_the_tail_does_not_prolong_it(click: str) -> None:
    """WebRTC's detector makes four frames of one click."""
    assert run(f"12. 10# 20. {click} 40.") == run("12. 10# 70.")


def test_a_click_to_a_detector_in_the_tail_does_not_prolong_it() -> None:
    """With the detector that calls have, which holds on after every sound."""
    generator = np.random.default_rng(1)
    line = generator.normal(0, 4, 8000 * 3)
    line[8000:12000] += 4000 * np.sin(np.arange(4000) * 2 * np.pi * 200 / 8000) * generator.normal(1, 0.3, 4000)
    clicked = line.copy()
    clicked[16000:16016] += generator.normal(0, 2000, 16)

    def heard(samples: NDArray[np.float64]) -> list[EndpointEvent]:
        detector, endpointer = WebRtcDetector(8000), Endpointer(SETTINGS, 8000)
        pcm = samples.astype("<i2").tobytes()
        return [
            event for at in range(0, len(pcm), 320) for event in endpointer.push(detector.is_speech(pcm[at:][:320]))
        ]

    detector = WebRtcDetector(8000)
    alone = [detector.is_speech(clicked.astype("<i2").tobytes()[at:][:320]) for at in range(31000, 35000, 320)]
    assert sum(alone) >= 4, "it is fooled"
    assert heard(clicked) == heard(line) != []


def test_before_a_pause_little_speech_continues_the_utterance() -> None:
    """A weak syllable in noise is flagged in pieces: only what undoes a pause must be more."""
    assert run("12. 10# 8. 2# 8. 2#") == [SpeechStarted(12 * FRAME), SpeechSustained(12 * FRAME)]


@pytest.mark.parametrize("silent", [35, 38, 39])
def test_speech_that_begins_as_the_tail_closes_is_not_cut_off(silent: int) -> None:
    """It needs five frames to be sure, and the tail has forty."""
    events = run(f"12. 10# {silent}. 10# 60.")
    assert [type(event) for event in events[2:]] == [Pause, SpeechResumed, Pause, UtteranceEnded]
    assert events[3] == SpeechResumed((22 + silent) * FRAME)


def test_a_click_as_the_tail_closes_delays_the_end_by_no_more_than_itself() -> None:
    (ended,) = (event for event in run("12. 10# 38. 4# 60.") if isinstance(event, UtteranceEnded))
    assert (ended.end, ended.decided_at) == (32 * FRAME, 66 * FRAME)


def test_what_flickers_for_ever_does_not_hold_the_end_back() -> None:
    ended = run("12. 10# 14. " + "# . " * 40)[-1]
    assert isinstance(ended, UtteranceEnded) and ended.decided_at <= (12 + 10 + 40 + 8) * FRAME


def test_more_to_resume_than_to_begin_is_a_setting_like_any_other() -> None:
    """The frames kept were those of the onset's window, so that 200 ms in the tail could never resume."""
    endpointer = Endpointer(dataclasses.replace(SETTINGS, resume_ms=300), 8000)
    assert SpeechResumed(42 * FRAME) in run("12. 10# 20. 20#", endpointer)


def test_a_click_does_not_hide_the_pause() -> None:
    """The pause falls due on the very frame of the click."""
    assert run("12. 10# 12. #")[-1] == Pause(start=0, end=32 * FRAME)


def test_a_dropped_frame_does_not_end_speech_nor_count_it_twice() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    run("12. 10# . 10#", endpointer)
    assert (endpointer.state, endpointer.speech_ms) == (EndpointState.SPEECH, 400)


def test_sustained_speech_is_told_once_wherever_it_is_reached() -> None:
    """Across a hesitation too; never for a short word."""
    assert run("12. 6# 60.")[1:2] == [Pause(start=0, end=28 * FRAME)]
    assert run("12. 6# 5. 4#") == [SpeechStarted(12 * FRAME), SpeechSustained(12 * FRAME)]
    early = Endpointer(dataclasses.replace(SETTINGS, sustained_ms=60), 8000)
    assert run("12. 5#", early) == [SpeechStarted(12 * FRAME), SpeechSustained(12 * FRAME)]


def test_an_endless_noise_is_cut_and_goes_on_without_gap_or_overlap() -> None:
    endings = [event for event in run("20. 600# 60.") if isinstance(event, UtteranceEnded)]
    assert [ended.reason for ended in endings] == [EndReason.MAX_LENGTH, EndReason.MAX_LENGTH, EndReason.TAIL]
    assert [ended.end - ended.start for ended in endings[:2]] == [250 * FRAME, 250 * FRAME]
    assert [ended.start for ended in endings] == [8 * FRAME, endings[0].end, endings[1].end]


def test_the_limit_falls_within_a_tail_too() -> None:
    settings = dataclasses.replace(SETTINGS, max_utterance_ms=1000, tail_ms=2000)
    ended = run("12. 25# 40.", Endpointer(settings, 8000))[-1]
    assert ended == UtteranceEnded(start=0, end=47 * FRAME, decided_at=50 * FRAME, reason=EndReason.MAX_LENGTH)


def test_flush_ends_an_utterance_and_nothing_else() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    assert endpointer.flush() == ()
    run("20. 4#", endpointer)
    assert endpointer.flush() == ()
    run("6#", endpointer)
    assert endpointer.flush() == (
        UtteranceEnded(start=8 * FRAME, end=30 * FRAME, decided_at=30 * FRAME, reason=EndReason.FLUSH),
    )
    assert (endpointer.flush(), endpointer.state, endpointer.speech_ms) == ((), EndpointState.SILENCE, 0)


def test_padding_never_reaches_back_into_the_utterance_before() -> None:
    endpointer = Endpointer(SETTINGS, 8000)
    run("20. 10#", endpointer)
    (first,) = endpointer.flush()
    (second,) = [event for event in run("5# 60.", endpointer) if isinstance(event, UtteranceEnded)]
    assert isinstance(first, UtteranceEnded)
    assert second.start == first.end


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tail_ms": 0}, "tail_ms=0 must be at least 20"),
        ({"pause_ms": 100}, "pause_ms=100 must be at least keep_after_ms=200"),
        ({"onset_window_ms": 80}, "onset_window_ms=80 must be at least 100"),
        ({"max_utterance_ms": 300}, "max_utterance_ms=300 must be at least"),
        ({"tail_ms": -1, "resume_ms": 0}, "tail_ms=-1 .*; resume_ms=0"),
        ({"rejoin_ms": 10}, "rejoin_ms=10 must be at least 20"),
    ],
)
def test_settings_that_cannot_work_are_all_named(change: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SETTINGS, **change)
    with pytest.raises(ValueError, match="tail_ms=0"):
        Endpointer(SETTINGS, 8000).set_tail_ms(0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=40))
def test_whatever_the_frames_say(stretches: list[tuple[bool, int]]) -> None:
    """Utterances never overlap, start with a SpeechStarted and hold it; pauses promise the end's own cut."""
    endpointer = Endpointer(SETTINGS, 8000)
    events = [event for speech, n in stretches for _ in range(n) for event in endpointer.push(speech)]
    events += endpointer.flush()
    previous_end, begun, pause = 0, None, None
    for event in events:
        match event:
            case SpeechStarted(at=at):
                assert begun is None
                begun = at
            case Pause():
                assert begun is not None
                assert pause is None
                pause = event
            case SpeechResumed(at=at):
                assert pause is not None
                assert at > begun
                pause = None
            case UtteranceEnded(start=start, end=end, decided_at=decided_at):
                assert begun is not None
                assert previous_end <= start <= begun < end <= decided_at
                assert end - start <= 250 * FRAME
                assert pause is None or (pause.start, pause.end) == (start, end)
                previous_end, begun, pause = end, None, None
    assert begun is None
    assert endpointer.state is EndpointState.SILENCE


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 120)), max_size=20),
    st.lists(st.sampled_from([200, 800, 3000]), min_size=1, max_size=5),
)
def test_no_utterance_is_ever_stuck(stretches: list[tuple[bool, int]], tails_ms: list[int]) -> None:
    """Whatever came before, and however the dialogue changed the tail: within the limit while frames come, and at
    the end of a tail of silence, nobody is taken to be speaking."""
    endpointer = Endpointer(SETTINGS, 8000)
    open_since = None
    for turn, (speech, count) in enumerate(stretches):
        endpointer.set_tail_ms(tails_ms[turn % len(tails_ms)])
        for _ in range(count):
            for event in endpointer.push(speech):
                match event:
                    case SpeechStarted():
                        open_since = endpointer.frames_seen
                    case UtteranceEnded():
                        open_since = None
            assert (open_since is None) is (endpointer.state is EndpointState.SILENCE)
            assert open_since is None or endpointer.frames_seen - open_since <= 250
    for _ in range(tails_ms[(len(stretches) - 1) % len(tails_ms)] // 20 if stretches else 0):
        endpointer.push(False)
    assert endpointer.state is EndpointState.SILENCE
