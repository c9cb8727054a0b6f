"""Reading other people's JSON, cutting frames, keeping what comes early: the parts that dialects share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.formats import AudioFormat, Encoding
from gateway.protocols.early_audio import EarlyAudio
from gateway.protocols.fields import call_id_of, digit_of, metadata_of, number_of, objects_of, parse_object, text_of
from gateway.protocols.outgoing import Backlog, FrameCutter
from gateway.protocols.seam import AudioReceived, DigitReceived, MessageIgnored, StartAwaited

pytestmark = pytest.mark.unit

OBJECTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3)


@given(st.lists(OBJECTS, max_size=5), st.sampled_from(["", " ", "\n", "\0"]))
def test_objects_one_behind_the_other(bodies: list[dict[str, object]], between: str) -> None:
    assert objects_of(between.join(map(json.dumps, bodies)) + between) == (bodies, "")


@given(OBJECTS, OBJECTS, st.data())
def test_a_text_cut_off_gives_what_is_whole_and_the_rest(
    first: dict[str, object], second: dict[str, object], data: st.DataObject
) -> None:
    tail = json.dumps(second)
    tail = tail[: data.draw(st.integers(1, len(tail) - 1))]
    assert objects_of(json.dumps(first) + tail) == ([first], tail)


def test_no_more_than_16_objects_are_read() -> None:
    found, rest = objects_of("{}" * 20)
    assert len(found) == 16 and rest == "{}" * 4


@pytest.mark.parametrize("text", ["", "[]", "{}{}", "{} x", "x {}", '{"a":"\\ud800"}', "{" * 5000, '{"a":1e999}x'])
def test_no_single_object(text: str) -> None:
    assert parse_object(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (" a ", "a"), (5, "5"), (1.5, "1.5"), ("", None), (None, None), (True, None), ([], None), ({}, None)],
)
def test_plain_values_as_text(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_long_values_are_cut_and_endless_numbers_are_none() -> None:
    assert text_of("x" * 600) == "x" * 512
    assert text_of(10**5000) is None and number_of("9" * 5000, 7) == 7


@pytest.mark.parametrize(("value", "number"), [(5, 5), ("5", 5), (" 5 ", 5), ("x", 7), (None, 7), (True, 7), (5.0, 7)])
def test_whole_numbers(value: object, number: int) -> None:
    assert number_of(value, 7) == number


@pytest.mark.parametrize(("value", "call_id"), [("a.b:1", "a.b:1"), ("two words", None), ("x" * 129, None), (17, "17")])
def test_call_ids(value: object, call_id: str | None) -> None:
    assert call_id_of(value) == call_id


@pytest.mark.parametrize(
    ("values", "event"),
    [
        (["5"], DigitReceived("5")),
        ([5], DigitReceived("5")),
        (["", None, "d"], DigitReceived("D")),
        (["#", "1"], DigitReceived("#")),
        (["12"], MessageIgnored("bad_dtmf")),
        ([None, {}], MessageIgnored("bad_dtmf")),
    ],
)
def test_keys(values: list[object], event: DigitReceived | MessageIgnored) -> None:
    assert digit_of(*values) == event


def test_metadata_of_several_sources() -> None:
    assert metadata_of({"a": 1, "b": None}, {"a": "2", "c": {}}) == {"a": "2"}
    assert len(metadata_of({str(n): "x" for n in range(50)})) == 32


# Outgoing.


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 20))
def test_frames_are_whole_and_nothing_is_lost(pieces: list[bytes], size: int) -> None:
    cutter = FrameCutter(size, b"\xff" * size)
    frames = [bytes(frame) for piece in pieces for frame in cutter.push(memoryview(piece))]
    last = cutter.finish()
    assert all(len(frame) == size for frame in frames) and len(last) in (0, size)
    whole = b"".join(pieces)
    assert b"".join(frames) + last == whole + b"\xff" * (-len(whole) % size)
    assert cutter.finish() == b""


def test_a_frame_of_the_right_size_is_not_copied() -> None:
    frame = memoryview(bytes(160))
    (sent,) = FrameCutter(160, bytes(160)).push(frame)
    assert sent is frame


def test_a_backlog_keeps_order_and_its_bound() -> None:
    backlog = Backlog(10)

    def waits() -> bool:
        return bool(backlog.waiting)

    assert not waits()
    backlog.put([b"aaaa", "bb", memoryview(b"cccc"), b"too much"])
    assert waits()
    assert backlog.take(6) == (b"aaaa", "bb")
    assert backlog.take(3) == () and backlog.take(4) == (b"cccc",)
    assert not waits()
    backlog.closed = True
    backlog.put([b"x"])
    backlog.drop()
    assert waits() and backlog.take(9) == ()


# Early audio.


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_early_audio_comes_out_once(pieces: list[bytes]) -> None:
    early = EarlyAudio()
    for piece in pieces:
        assert early.hear(piece) == ()
    early.begin(AudioFormat(sample_rate_hz=16000, channels=2))
    assert b"".join(event.data for event in early.release()) == b"".join(pieces)
    assert early.release() == ()
    early.begin(AudioFormat())
    assert early.hear(b"later") == (AudioReceived(b"later"),)


def test_the_first_early_audio_says_once_how_long_the_start_is_waited_for() -> None:
    early = EarlyAudio(start_within_ms=100)
    assert early.hear(b"") == ()
    assert [early.hear(bytes(40_000)) for _ in range(5)] == [(StartAwaited(100),), (), (), (), ()]
    early.begin(AudioFormat())
    assert early.hear(b"ab") == (AudioReceived(bytes(31_998) + b"\0\0ab"),)


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_where_nothing_follows_the_start_it_comes_with_the_next_audio(first: bytes, second: bytes) -> None:
    early = EarlyAudio()
    early.hear(first)
    early.begin(AudioFormat())
    assert early.hear(second) == (AudioReceived(first + second),)
    assert early.hear(second) == (AudioReceived(second),)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("channels", [1, 2])
def test_the_newest_two_seconds_are_kept_in_whole_samples(encoding: Encoding, channels: int) -> None:
    fmt = AudioFormat(encoding=encoding, channels=channels)
    early, block = EarlyAudio(), fmt.bytes_per_sample * channels
    stream = bytes(n // block % 251 for n in range(150_000 // block * block))
    for at in range(0, len(stream), 777):
        early.hear(stream[at : at + 777])
    early.begin(fmt)
    taken = b"".join(event.data for event in early.release())
    assert stream.endswith(taken) and len(taken) % block == 0
    assert 0 <= fmt.bytes_per_ms * 2000 - len(taken) < 4
