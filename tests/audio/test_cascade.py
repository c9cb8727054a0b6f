"""The cascade: Silero asked only where WebRTC's detector says speech, in batches that form by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import cascade
from audio.cascade import (
    LINGER_FRAMES,
    MAX_BATCH,
    NOISY_DBFS,
    CascadeDetector,
    SileroPool,
    SileroStream,
    detector_maker,
)
from audio.detection import DetectorKind, DetectorSettings, FrameSizeError, WebRtcDetector
from audio.endpointing import EndpointSettings
from audio.files import read_audio
from audio.formats import AudioFormat
from audio.inbound import InboundChain, InboundEvent, SpeechStarted, UtteranceEnded
from audio.silero import Floats, SileroModel

pytestmark = pytest.mark.model

DEMO = Path(__file__).parents[2] / "gateway" / "demo"


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel(8000)


class CountingModel(SileroModel):
    """The real network, which notes how many chunks each batch held."""

    def __init__(self, sample_rate_hz: int = 8000) -> None:
        super().__init__(sample_rate_hz)
        self.batches: list[int] = []

    def probabilities(self, states: Floats, chunks: Floats) -> tuple[Floats, Floats]:
        self.batches.append(len(chunks))
        return super().probabilities(states, chunks)


def call_audio(seed: int = 0, rate: int = 8000) -> np.ndarray:
    """A quiet line, a sentence, a second of loud hiss, the sentence again, and 1.2 s of quiet."""
    rng = np.random.default_rng(seed)
    said = read_audio(DEMO / "01-yes-speaking.wav", rate)

    def hiss(seconds: float, level: float) -> np.ndarray:
        return rng.normal(0, level, int(seconds * rate))

    return np.concatenate([hiss(0.5, 5), said, hiss(1, 900), said, hiss(1.2, 5)]).astype(np.int16)


def frames(pcm: np.ndarray, rate: int = 8000) -> list[bytes]:
    size = rate // 50
    return [pcm[at : at + size].astype("<i2").tobytes() for at in range(0, len(pcm) - size + 1, size)]


def verdicts(detector: CascadeDetector | WebRtcDetector, pcm: np.ndarray, rate: int = 8000) -> list[bool]:
    return [detector.is_speech(frame) for frame in frames(pcm, rate)]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_speech_is_heard_and_noise_that_fools_webrtc_is_not(rate: int) -> None:
    pcm = call_audio(rate=rate)
    said = len(read_audio(DEMO / "01-yes-speaking.wav", rate)) * 50 // rate
    noise = slice(25 + said + 10, 25 + said + 50)
    pool = SileroPool(SileroModel(rate))
    by_webrtc = verdicts(WebRtcDetector(rate, 1), pcm, rate)
    by_both = verdicts(CascadeDetector(rate, pool, 1), pcm, rate)
    assert sum(by_both[25 : 25 + said]) > 0.5 * said
    assert sum(by_both[noise]) <= 0.2 * 40
    assert all(webrtc for webrtc, both in zip(by_webrtc, by_both, strict=True) if both)


def test_silence_costs_nothing() -> None:
    model = CountingModel()
    detector = CascadeDetector(8000, SileroPool(model))
    assert not any(verdicts(detector, np.zeros(16000, np.int16)))
    assert model.batches == []


def test_silero_is_asked_no_longer_than_the_linger() -> None:
    model = CountingModel()
    detector = CascadeDetector(8000, SileroPool(model))
    verdicts(detector, np.concatenate([read_audio(DEMO / "01-yes-speaking.wav", 8000), np.zeros(800, np.int16)]))
    model.batches.clear()
    verdicts(detector, np.zeros(8 * 8000, np.int16))
    assert len(model.batches) <= (LINGER_FRAMES + 5) * 20 / 32 + 1  # five: WebRTC's own hang-over


def test_calls_share_batches_and_hear_what_they_would_alone() -> None:
    """Frame by frame in turns, as a worker hears its calls; starts and noise differ."""
    count = 12
    calls = [np.concatenate([np.zeros(160 * call, np.int16), call_audio(call)]) for call in range(count)]
    length = min(map(len, calls)) // 160
    alone = [verdicts(CascadeDetector(8000, SileroPool(SileroModel(8000))), pcm)[:length] for pcm in calls[:3]]
    model = CountingModel()
    pool = SileroPool(model)
    detectors = [CascadeDetector(8000, pool) for _ in calls]
    wire = [frames(pcm) for pcm in calls]
    together: list[list[bool]] = [[] for _ in calls]
    for at in range(length):
        for call in range(count):
            together[call].append(detectors[call].is_speech(wire[call][at]))
        assert len(pool) <= count
    assert together[:3] == alone
    assert np.mean(model.batches) > 3


def test_a_batch_is_bounded_and_holds_who_asks(model: SileroModel) -> None:
    counting = CountingModel()
    pool = SileroPool(counting)
    streams = [SileroStream() for _ in range(MAX_BATCH + 10)]
    for stream in streams:
        pool.submit(stream, bytes(2 * 288))
    pool.judge(streams[-1])
    assert counting.batches == [MAX_BATCH]
    assert streams[-1].chunk == b""
    assert [stream for stream in streams if stream.chunk] == streams[MAX_BATCH - 1 : -1]
    pool.judge(streams[-1])
    assert counting.batches == [MAX_BATCH], "nothing waits, nothing is judged"


def test_a_call_that_ends_in_the_middle_hurts_nobody() -> None:
    pool = SileroPool(CountingModel())
    speech = frames(call_audio())[25:60]
    gone, stays = CascadeDetector(8000, pool), CascadeDetector(8000, pool)
    for frame in speech[:9]:
        gone.is_speech(frame)
    heard = [stays.is_speech(frame) for frame in speech]
    assert any(heard[10:])
    assert len(pool) <= 1


def test_a_wrong_length_is_refused_and_changes_nothing(model: SileroModel) -> None:
    wire = frames(call_audio())
    detector, spared = (CascadeDetector(8000, SileroPool(model)) for _ in range(2))
    heard = []
    for frame in wire[:100]:
        with pytest.raises(FrameSizeError):
            detector.is_speech(frame[:-2])
        heard.append(detector.is_speech(frame))
    assert heard == [spared.is_speech(frame) for frame in wire[:100]]


def events(model: SileroModel, wire: bytes, sizes: list[int]) -> list[InboundEvent]:
    chain = InboundChain(AudioFormat(), EndpointSettings(), CascadeDetector(8000, SileroPool(model)))
    found: list[InboundEvent] = []
    at, turn = 0, 0
    while at < len(wire):
        size = sizes[turn % len(sizes)]
        found += chain.push(wire[at : at + size])
        at, turn = at + size, turn + 1
    return found


@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=6))
@settings(max_examples=10, deadline=None)
def test_messages_of_any_size_give_the_same_events(model: SileroModel, sizes: list[int]) -> None:
    wire = call_audio().astype("<i2").tobytes()
    expected = events(model, wire, [320])
    assert events(model, wire, sizes) == expected
    assert any(isinstance(event, UtteranceEnded) for event in expected)


def test_an_onset_reads_no_later_than_the_padding_covers(model: SileroModel) -> None:
    pcm = call_audio()
    speech_at = 4000 + int(np.flatnonzero(np.abs(pcm[4000:].astype(int)) > 1000)[0])
    found = events(model, pcm.astype("<i2").tobytes(), [320])
    assert isinstance(found[0], SpeechStarted)
    assert abs(found[0].at - speech_at) <= 8 * 100
    ended = next(event for event in found if isinstance(event, UtteranceEnded))
    assert ended.start <= speech_at


def line(noise_dbfs: float, seed: int = 0) -> np.ndarray:
    """A sentence on a line with hiss of that level all through, and a second and a half after it."""
    said = read_audio(DEMO / "01-yes-speaking.wav", 8000)
    said = np.where(np.abs(said.astype(int)) > 150, said, 0)  # the recording's own noise away
    rng = np.random.default_rng(seed)
    sound = np.concatenate([np.zeros(8000), said, np.zeros(12000)])
    return np.clip(np.rint(sound + rng.normal(0, 32768 * 10 ** (noise_dbfs / 20), len(sound))), -32768, 32767).astype(
        np.int16
    )


def adaptive(model: SileroModel) -> CascadeDetector:
    return CascadeDetector(8000, SileroPool(model), noisy_from_dbfs=NOISY_DBFS)


def test_a_quiet_line_is_judged_by_webrtc_alone() -> None:
    model, pcm = CountingModel(), line(-72)
    assert verdicts(adaptive(model), pcm) == verdicts(WebRtcDetector(8000), pcm)
    assert model.batches == []


def test_a_noisy_line_is_judged_as_by_the_cascade() -> None:
    model, pcm = CountingModel(), line(-40)
    heard = verdicts(adaptive(model), pcm)
    assert heard == verdicts(CascadeDetector(8000, SileroPool(model)), pcm)
    assert sum(heard) > 20
    assert model.batches


def test_a_line_that_turns_noisy_is_noticed_and_one_that_turns_quiet_too() -> None:
    model = CountingModel()
    detector = adaptive(model)
    verdicts(detector, line(-72))
    assert model.batches == []
    noise = [detector.is_speech(frame) for frame in frames(np.concatenate([line(-30, seed) for seed in range(2)]))]
    assert model.batches
    assert sum(noise[-60:]) < 5, "the hiss after the last sentence is no speech"
    verdicts(detector, line(-72)[:8000])
    model.batches.clear()
    verdicts(detector, line(-72))
    assert model.batches == []


def test_the_setting_chooses() -> None:
    assert isinstance(detector_maker(DetectorSettings(kind=DetectorKind.WEBRTC))(8000), WebRtcDetector)
    for kind, asks_on_a_quiet_line in ((DetectorKind.AUTO, False), (DetectorKind.CASCADE, True)):
        make = detector_maker(DetectorSettings(kind=kind))
        detector = make(8000)
        assert isinstance(detector, CascadeDetector)
        assert isinstance(make(16000), CascadeDetector)
        pcm = line(-72)
        same_as_webrtc = verdicts(detector, pcm) == verdicts(WebRtcDetector(8000), pcm)
        assert same_as_webrtc is not asks_on_a_quiet_line
    assert DetectorSettings().kind is DetectorKind.AUTO
    with pytest.raises(ValueError, match="aggressiveness=4 must be 0 to 3"):
        DetectorSettings(aggressiveness=4)


def test_no_call_waits_for_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading one takes 40 ms, in which a worker hears nobody."""
    make = detector_maker(DetectorSettings())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    assert all(isinstance(make(rate), CascadeDetector) for rate in (8000, 16000))


def test_thresholds_leave_room_for_hysteresis() -> None:
    assert 0 < cascade.KEEP < cascade.START < 1
