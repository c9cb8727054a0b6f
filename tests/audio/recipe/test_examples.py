"""The stream of examples: seeded, labelled in step with the sound, batches within their budget."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from audio.recipe.examples import MAX_FRAMES, ExampleStream, Mel, log_mel, spliced_digits
from audio.recipe.recordings import Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Clip, ClipStore, Samples
from audio.recipe.texts import Texts
from tests.audio.recipe.tone_speaker import ToneSpeaker, write_data

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return Recordings.load(write_data(tmp_path_factory.mktemp("data")))


def stream(recordings: Recordings, seed: int, cached: list[ClipStore] | None = None) -> ExampleStream:
    texts = Texts(templates=["hello", "okay then"])
    return ExampleStream(seed=seed, maker=ToneSpeaker(), recordings=recordings, cached=cached or [], texts=texts)


def test_features_are_eighty_mels_every_ten_ms() -> None:
    mel = log_mel(np.zeros(SAMPLE_RATE_HZ, np.float32))
    assert mel.shape == (80, 100) and mel.dtype == np.float32


def test_a_seed_fixes_the_stream(recordings: Recordings) -> None:
    first, second = stream(recordings, 7), stream(recordings, 7)
    for _ in range(12):
        one, other = first.draw(), second.draw()
        assert one.text == other.text
        np.testing.assert_array_equal(one.mel, other.mel)


def test_labels_cover_the_sound_and_exist_where_the_maker_gave_times(recordings: Recordings) -> None:
    source = stream(recordings, 3)
    drawn = [source.draw() for _ in range(60)]
    assert {bool(example.text) for example in drawn} == {True, False}
    labelled = [example for example in drawn if example.phones is not None]
    assert labelled and len(labelled) < len(drawn)
    for example in labelled:
        assert example.phones is not None
        assert len(example.phones) == (example.mel.shape[1] + 1) // 2
        spoken = {ToneSpeaker.phone_names[index] for index in example.phones} - {"sil"}
        assert spoken == set(example.text) - {" "}


def test_batches_are_as_many_as_asked_and_within_budget(recordings: Recordings) -> None:
    batches = stream(recordings, 1).batches(4, 1200)
    assert len(batches) == 4
    for batch in batches:
        frames = [example.mel.shape[1] for example in batch]
        assert max(frames) <= MAX_FRAMES
        assert len(batch) == 1 or len(batch) * (max(frames) + 12) <= 1200 * 1.3


def test_cached_speech_is_heard(recordings: Recordings, tmp_path: Path) -> None:
    clip = Clip(text="quokka", speaker="x", pcm=np.full(4000, 1000, np.int16))
    ClipStore.write(tmp_path, [clip])
    source = stream(recordings, 2, [ClipStore(tmp_path)])
    assert any(source.draw().text == "quokka" for _ in range(40))


def test_spliced_digits_say_what_is_written(recordings: Recordings) -> None:
    digits = recordings.digits_train["ann"]
    text, samples = spliced_digits(Random(0), digits, 5, np.random.default_rng(0))
    assert len(text.split()) == 5 and len(samples) > 5 * 0.15 * SAMPLE_RATE_HZ


def test_digits_are_one_speakers_or_those_of_many(recordings: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[str]] = []

    def note(
        rng: Random, digits: dict[int, list[Clip]], count: int, generator: np.random.Generator
    ) -> tuple[str, Samples]:
        given.append({clip.speaker for clips in digits.values() for clip in clips})
        return spliced_digits(rng, digits, count, generator)

    monkeypatch.setattr("audio.recipe.examples.spliced_digits", note)
    source = stream(recordings, 4)
    for _ in range(200):
        source.draw()
    assert {"ann"} in given, "FSDD's speaker, who said many"
    assert any(len(speakers) > 1 and "ann" not in speakers for speakers in given), "the others, who said one each"


def test_the_pace_changes_only_where_nobody_said_when_a_phone_was(
    recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[float] = []

    def note(mel: Mel, factor: float) -> Mel:
        changed.append(factor)
        return mel

    monkeypatch.setattr("audio.recipe.examples.change_pace", note)
    synthesised = stream(Recordings(), 5)
    assert all(example.phones is not None for example in (synthesised.draw() for _ in range(60)) if example.text)
    assert not changed
    source = stream(recordings, 5)
    for _ in range(60):
        source.draw()
    assert changed and all(0.8 <= factor <= 1.2 for factor in changed)
