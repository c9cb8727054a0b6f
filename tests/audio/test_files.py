"""Reading whatever a person hands over, writing WAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.files import AudioFileError, read_audio, write_wav

pytestmark = pytest.mark.unit

PCM = (8000 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000)).astype(np.int16)


def test_wav_comes_back_sample_for_sample(tmp_path: Path) -> None:
    extremes = np.array([0, 1, -1, 32767, -32768, 12345], np.int16)
    write_wav(tmp_path / "a.wav", extremes, 8000)
    assert read_audio(tmp_path / "a.wav", 8000).tolist() == extremes.tolist()
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.flac", None), ("a.wav", "ULAW"), ("a.ogg", None), ("a.wav", "FLOAT")]
)
def test_other_formats_and_rates(tmp_path: Path, name: str, subtype: str | None) -> None:
    soundfile.write(tmp_path / name, PCM / 32768, 8000, subtype=subtype)
    heard = read_audio(str(tmp_path / name), 16000)
    assert heard.dtype == np.int16
    assert abs(len(heard) - 16000) <= 2
    assert np.corrcoef(heard[1000:15000:2], PCM[500:7500])[0, 1] > 0.98


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.array([[1000, 3000], [-200, 200]], np.int16), 8000)
    assert read_audio(tmp_path / "s.wav", 8000).tolist() == [2000, 0]


def test_nan_in_a_float_file_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "f.wav", np.array([0.5, np.nan, 2.0], np.float32), 8000, subtype="FLOAT")
    assert read_audio(tmp_path / "f.wav", 8000).tolist() == [16384, 0, 32767]


def test_what_cannot_be_read_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("not audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.int16), 8000)
    for path, words in (
        (tmp_path / "gone.wav", r"gone\.wav: no such file; give the path"),
        (tmp_path, "a folder, not a file"),
        (tmp_path / "notes.wav", r"notes\.wav: not audio that libsndfile reads \(.+\); convert it"),
        (tmp_path / "empty.wav", r"empty\.wav: holds no samples"),
    ):
        with pytest.raises(AudioFileError, match=words):
            read_audio(path, 8000)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"b\.wav: cannot be written .* check that its folder exists"):
        write_wav(tmp_path / "nowhere" / "b.wav", PCM, 8000)
