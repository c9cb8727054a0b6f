"""What travels: out as it went in, no sample lost, and garbage is told so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.g711 import alaw_decode, mulaw_decode
from gateway.inference.job_queue import Urgency
from gateway.inference.streams.wire import (
    ENTRY_BYTES,
    ENTRY_JOBS,
    Answered,
    JobEntry,
    Kind,
    ShardKeys,
    Spoken,
    WireJob,
    Word,
    pack_answers,
    pack_jobs,
    pack_request,
    pack_words,
    shard_of,
    together,
    unpack_answers,
    unpack_jobs,
    unpack_request,
    unpack_words,
)

pytestmark = pytest.mark.unit

idents = st.integers(0, 2**63 - 1)
jobs = st.builds(WireJob, idents, st.integers(-(2**31), 2**31), st.binary(max_size=64))
bodies = st.dictionaries(st.text(max_size=8), st.none() | st.floats(allow_nan=False) | st.text(max_size=8), max_size=4)


@given(st.builds(JobEntry, st.text(max_size=20), st.lists(jobs, max_size=10).map(tuple)))
def test_jobs_come_out_as_they_went_in(entry: JobEntry) -> None:
    assert unpack_jobs(pack_jobs(entry)) == entry


@given(st.lists(st.builds(Answered, idents, st.text(max_size=20), bodies), max_size=10))
def test_answers_come_out_as_they_went_in(answers: list[Answered]) -> None:
    assert unpack_answers(pack_answers(answers)) == answers


@given(st.text(max_size=20), st.lists(st.builds(Spoken, st.sampled_from(Word), idents, st.none() | bodies), max_size=4))
def test_words_come_out_as_they_went_in(asker: str, words: list[Spoken]) -> None:
    assert unpack_words(pack_words(asker, words)) == (asker, words)


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    for unpack in (unpack_jobs, unpack_words, unpack_answers, unpack_request):
        try:
            unpack(data)
        except ValueError:
            pass


@pytest.mark.parametrize("value", [b"\xc1", b"", pack_jobs(JobEntry("a", ()))[:-1], b"\x93\x01\x02\x03"])
def test_these_are_told_as_no_jobs(value: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_jobs(value)


@given(st.binary(max_size=400))
def test_every_samples_survive(pcm: bytes) -> None:
    assert unpack_request(pack_request({"op": "asr", "pcm": pcm})) == {"op": "asr", "pcm": pcm}


@given(st.binary(min_size=300, max_size=2000), st.sampled_from([mulaw_decode, alaw_decode]))
def test_what_a_telephone_line_said_takes_a_byte_a_sample(line: bytes, decode: object) -> None:
    pcm = decode(line).astype("<i2").tobytes()  # type: ignore[operator]
    packed = pack_request({"op": "asr", "pcm": pcm})
    assert unpack_request(packed)["pcm"] == pcm
    assert len(packed) < len(line) + 40


def test_audio_in_a_form_that_is_not_ours_is_told() -> None:
    with pytest.raises(ValueError, match="unknown form"):
        unpack_request(pack_request({"op": "asr", "law": "gsm"}))


@given(st.lists(st.integers(0, 2 * ENTRY_BYTES), max_size=40))
def test_entries_keep_order_and_limits(sizes: list[int]) -> None:
    class Sized(bytes):
        size: int

        def __len__(self) -> int:
            return self.size

    made = []
    for number, size in enumerate(sizes):
        request = Sized()
        request.size = size
        made.append(WireJob(number, 0, request))
    entries = list(together(made))
    assert [job.ident for entry in entries for job in entry] == list(range(len(sizes)))
    for entry in entries:
        assert 1 <= len(entry) <= ENTRY_JOBS
        assert len(entry) == 1 or sum(len(job.request) for job in entry) <= ENTRY_BYTES


def test_the_keys_of_a_shard_share_one_hash_tag() -> None:
    keys = ShardKeys("p", 2)
    every = [*keys.all_jobs, keys.words, keys.beats, keys.answers("host:1:ab")]
    assert all(key.startswith("vg:{inference:p:2}:") for key in every)
    assert len(set(every)) == len(every) == len(Kind) * len(Urgency) + 3


def test_askers_are_spread_over_the_shards() -> None:
    counts = np.bincount([shard_of(f"host:{n}:ab", 4) for n in range(400)], minlength=4)
    assert counts.min() > 50
    assert {shard_of(f"host:{n}", 1) for n in range(10)} == {0}
