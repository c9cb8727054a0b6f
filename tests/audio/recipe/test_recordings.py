"""Recordings: split by speaker, spelling mended, broken files skipped, nothing there is an error that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from audio.recipe.plan import TrainingDataError
from audio.recipe.recordings import Recordings, is_test_speaker
from tests.audio.recipe.tone_speaker import write_data

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return Recordings.load(write_data(tmp_path_factory.mktemp("data")))


def test_no_speaker_is_on_both_sides(recordings: Recordings) -> None:
    train = {clip.speaker for clips in recordings.train.values() for clip in clips}
    test = {clip.speaker for clips in recordings.test.values() for clip in clips}
    assert train and test and not train & test
    assert all(is_test_speaker(speaker) for speaker in test)


def test_transcripts_are_plain_and_missing_files_skipped(recordings: Recordings) -> None:
    texts = {clip.text for clips in recordings.train.values() for clip in clips}
    assert texts <= {"yes", "no", "stop it", "seven"}


def test_first_recordings_of_a_digit_are_held_out(recordings: Recordings) -> None:
    assert {len(clips) for clips in recordings.digits_train["ann"].values()} == {2}
    assert {len(clips) for clips in recordings.digits_test["ann"].values()} == {1}


def test_single_digits_of_many_are_those_to_learn_from(recordings: Recordings) -> None:
    digits = recordings.single_digits()
    assert set(digits) == {7} and {clip.text for clip in digits[7]} == {"seven"}
    assert not any(is_test_speaker(clip.speaker) or clip.speaker == "ann" for clip in digits[7])


def test_a_speaker_may_be_held_out_whole(tmp_path: Path) -> None:
    recordings = Recordings.load(write_data(tmp_path / "data"), ("ann", "speaker1"))
    assert not recordings.digits_train and not recordings.digits_test
    assert {len(clips) for clips in recordings.digits_unheard["ann"].values()} == {3}
    assert "speaker1" in {clip.speaker for clips in recordings.test.values() for clip in clips}
    assert "speaker1" not in {clip.speaker for clips in recordings.train.values() for clip in clips}


def test_whom_to_hold_out_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"'bob' to hold out.*FSDD has ann"):
        Recordings.load(write_data(tmp_path / "data"), ("bob",))


def test_a_noise_is_held_out_by_name(recordings: Recordings) -> None:
    assert (len(recordings.noise_train), len(recordings.noise_test)) == (1, 1)


def test_sources_name_their_licences(recordings: Recordings) -> None:
    assert all("CC BY" in line for line in recordings.sources())


def test_an_empty_folder_is_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"fsdd.*speech_commands"):
        Recordings.load(tmp_path)


def test_a_broken_manifest_line_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "speech" / "grid"
    folder.mkdir(parents=True)
    (folder / "manifest.jsonl").write_text('{"audio": "a.flac", "text": "x"}\n')
    with pytest.raises(TrainingDataError, match=r"manifest\.jsonl:1"):
        Recordings.load(tmp_path)
