"""The inbound chain: bytes in any pieces to the same events with the same samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import endpointing
from audio.endpointing import EndpointSettings, EndpointState
from audio.formats import AudioFormat, Encoding
from audio.framing import decode, encode
from audio.inbound import (
    InboundChain,
    InboundEvent,
    Pause,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
    UtteranceEnded,
)

pytestmark = pytest.mark.unit


class LoudnessDetector:
    """Speech is what is loud: exact, so that the test knows where it begins."""

    def is_speech(self, frame: bytes) -> bool:
        return int(np.abs(np.frombuffer(frame, "<i2").astype(np.int32)).max()) > 1000


def call_audio(rate: int) -> np.ndarray:
    """1 s of hiss, 0.6 s of tone, 0.4 s hiss, 0.4 s tone, 1.2 s hiss, 0.4 s tone and a little more."""
    rng = np.random.default_rng(5)
    parts = []
    for seconds, loud in ((1, 0), (0.6, 1), (0.4, 0), (0.4, 1), (1.2, 0), (0.4, 1), (0.33, 0)):
        n = int(seconds * rate)
        parts.append(loud * 8000 * np.sin(2 * np.pi * 300 * np.arange(n) / rate) + rng.normal(0, 30, n))
    return np.concatenate(parts).astype(np.int16)


def hear(fmt: AudioFormat, wire: bytes, sizes: list[int]) -> list[InboundEvent]:
    """Push `wire` in messages of `sizes`, again and again, then flush."""
    chain = InboundChain(fmt, EndpointSettings(), LoudnessDetector())
    events: list[InboundEvent] = []
    at, turn = 0, 0
    while at < len(wire):
        size = sizes[turn % len(sizes)]
        events += chain.push(wire[at : at + size])
        at, turn = at + size, turn + 1
    assert chain.frames_seen == len(wire) // (fmt.bytes_per_ms * 20)
    return events + list(chain.flush())


def samples(events: list[InboundEvent]) -> list[list[int]]:
    return [event.pcm.tolist() for event in events if isinstance(event, Pause | UtteranceEnded)]


FORMATS = [
    AudioFormat(encoding=encoding, sample_rate_hz=rate, channels=channels)
    for encoding in Encoding
    for rate in (8000, 16000)
    for channels in (1, 2)
]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f"{f.encoding}-{f.sample_rate_hz}-{f.channels}")
def test_every_format_gives_the_utterances_with_their_samples(fmt: AudioFormat) -> None:
    """With two channels the other leg is a loud tone, which must not be heard."""
    rate = fmt.sample_rate_hz
    pcm = call_audio(rate)
    sent = np.column_stack([pcm, np.full_like(pcm, 20000)]).ravel() if fmt.channels == 2 else pcm
    wire = encode(fmt, sent)
    events = hear(fmt, wire, [fmt.bytes_per_ms * 20])
    assert [type(event) for event in events] == [
        SpeechStarted,
        SpeechSustained,
        Pause,
        SpeechResumed,
        Pause,
        UtteranceEnded,
        SpeechStarted,
        SpeechSustained,
        Pause,
        UtteranceEnded,
    ]
    assert (events[0].at, events[3].at) == (rate, 2 * rate)
    heard = decode(fmt, wire)
    for event in events:
        if isinstance(event, Pause | UtteranceEnded):
            assert np.array_equal(event.pcm, heard[event.start : event.end])
    assert (events[5].start, events[5].end) == (int(0.76 * rate), int(2.6 * rate))
    assert events[4].pcm.tolist() == events[5].pcm.tolist()


@pytest.mark.parametrize("fmt", FORMATS[::3], ids=lambda f: f"{f.encoding}-{f.sample_rate_hz}-{f.channels}")
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_messages_of_any_size_give_the_same(fmt: AudioFormat, sizes: list[int]) -> None:
    wire = encode(fmt, np.repeat(call_audio(fmt.sample_rate_hz), fmt.channels))
    expected = hear(fmt, wire, [fmt.bytes_per_ms * 20])
    events = hear(fmt, wire, sizes)
    assert events == expected
    assert samples(events) == samples(expected)


def test_byte_by_byte_and_all_at_once() -> None:
    wire = call_audio(8000).astype("<i2").tobytes()
    expected = hear(AudioFormat(), wire, [320])
    for size in (1, 319, 321, len(wire)):
        assert hear(AudioFormat(), wire, [size]) == expected


def test_an_empty_message_is_legal() -> None:
    chain = InboundChain(AudioFormat(), EndpointSettings(), LoudnessDetector())
    assert chain.push(b"") == ()
    assert chain.samples_seen == 0


def test_nothing_happening_costs_no_list() -> None:
    chain = InboundChain(AudioFormat(), EndpointSettings())
    assert chain.push(bytes(320)) is chain.push(bytes(320))


def test_inbound_events_are_endpoint_events_too() -> None:
    """Code that only wants positions may match on the endpointer's classes."""
    events = hear(AudioFormat(), call_audio(8000).astype("<i2").tobytes(), [320])
    assert isinstance(events[2], endpointing.Pause)
    assert isinstance(events[-1], endpointing.UtteranceEnded)


def test_audio_after_a_flush_goes_on_where_it_was() -> None:
    """A stalled connection: the wall clock flushes, then the rest of the frame arrives."""
    wire = call_audio(8000).astype("<i2").tobytes()
    chain = InboundChain(AudioFormat(), EndpointSettings(), LoudnessDetector())
    cut = 20000 + 7  # within the first speech and within a sample
    chain.push(wire[:cut])
    (ended,) = chain.flush()
    assert isinstance(ended, UtteranceEnded)
    assert chain.state is EndpointState.SILENCE
    events = [event for event in chain.push(wire[cut:]) if isinstance(event, UtteranceEnded)]
    heard = np.frombuffer(wire, "<i2")
    assert events[0].start >= ended.end
    assert np.array_equal(events[0].pcm, heard[events[0].start : events[0].end])


def test_memory_is_bounded_in_silence_and_in_speech() -> None:
    """An hour of either; only an onset's reach, or one utterance, is kept."""
    limits = EndpointSettings(max_utterance_ms=2000)
    chain = InboundChain(AudioFormat(), limits, LoudnessDetector())
    loud = np.full(160, 5000, np.int16).tobytes()
    for frame in (bytes(320), loud):
        for _ in range(3000):
            chain.push(frame)
        assert len(chain._onset) + len(chain._kept) <= 100 + chain._endpointer.onset_frames
    assert chain.speech_ms <= 2000


def test_the_tail_of_a_node_holds_for_its_call() -> None:
    wire = call_audio(8000).astype("<i2").tobytes()
    chain = InboundChain(AudioFormat(), EndpointSettings(), LoudnessDetector())
    chain.set_tail_ms(300)
    ends = [event for event in chain.push(wire) if isinstance(event, UtteranceEnded)]
    assert [ended.end for ended in ends] == [int(1.8 * 8000), int(2.6 * 8000), int(4.2 * 8000)]
    assert [ended.decided_at for ended in ends] == [int(1.9 * 8000), int(2.7 * 8000), int(4.3 * 8000)]
