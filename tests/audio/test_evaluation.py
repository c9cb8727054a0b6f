"""Manifests and the evaluation over them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audio.asr import AsrJob, Transcript
from audio.evaluation import ManifestError, evaluate, read_manifest, read_utterance
from audio.files import write_wav
from audio.phone_line import PhoneLine

pytestmark = pytest.mark.unit


class EarByLength:
    """Says how many tenths of a second it was given, padding excluded; hears nothing in a second or more."""

    name = "ear"

    def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
        tenths = [round((len(job.pcm) / job.sample_rate_hz - 0.44) * 10) for job in jobs]
        return [Transcript(text=str(n)) if n < 10 else Transcript(text="", gated_by="energy") for n in tenths]

    def padded_frames(self, job: AsrJob) -> int:
        return len(job.pcm)


def manifest(folder: Path, *lines: str) -> Path:
    for n in range(1, 11):
        write_wav(folder / f"{n}.wav", np.ones(n * 800, np.int16), 8000)
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_figures_over_a_manifest(tmp_path: Path) -> None:
    """Of four words one is substituted and one, gated, is missing."""
    texts = {3: "three", 4: "4", 5: "six", 10: "ten"}
    lines = [json.dumps({"audio": f"{n}.wav", "text": text, "speaker": "x"}) for n, text in texts.items()]
    seen: list[int] = []
    result = evaluate(
        EarByLength(), read_manifest(manifest(tmp_path, *lines)), sample_rate_hz=16000, progress=seen.append
    )
    assert (result.n, result.gated, seen) == (4, 1, [4])
    assert result.wer == pytest.approx(3 / 5)  # "ten" is two digit words
    assert result.audio_s == pytest.approx(0.3 + 0.4 + 0.5 + 1.0 + 4 * 0.44, abs=0.01)
    assert 0 < result.real_time_factor < 1


def test_over_a_line_the_recogniser_gets_eight_khz_of_it(tmp_path: Path) -> None:
    given: list[AsrJob] = []

    class Ear(EarByLength):
        def transcribe(self, jobs: list[AsrJob]) -> list[Transcript]:
            given.extend(jobs)
            return super().transcribe(jobs)

    lines = read_manifest(manifest(tmp_path, *(json.dumps({"audio": f"{n}.wav", "text": str(n)}) for n in (3, 4))))
    for n in (3, 4):
        write_wav(tmp_path / f"{n}.wav", (9000 * np.sin(np.arange(n * 800))).astype(np.int16), 8000)
    plain = evaluate(Ear(), lines, sample_rate_hz=16000)
    noisy = evaluate(Ear(), lines, sample_rate_hz=16000, line=PhoneLine.NOISE_10DB)
    again = evaluate(Ear(), lines, sample_rate_hz=16000, line=PhoneLine.NOISE_10DB)
    assert plain.heard == noisy.heard == again.heard == ("3", "4")
    assert plain.audio_s == pytest.approx(noisy.audio_s)
    assert [job.sample_rate_hz for job in given] == [16000] * 2 + [8000] * 4
    assert np.abs(given[2].pcm[:1000]).max() > 0, "noise is in the silence too"
    np.testing.assert_array_equal(given[2].pcm, given[4].pcm)
    assert not np.array_equal(given[2].pcm[:1000], given[3].pcm[:1000]), "each recording has its own"


def test_a_recording_gets_the_silence_a_call_leaves_around_it(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.full(800, 5, np.int16), 8000)
    job = read_utterance(tmp_path / "a.wav", 8000)
    assert len(job.pcm) == 800 + 3520
    assert np.flatnonzero(job.pcm)[[0, -1]].tolist() == [1920, 2719]


def test_empty_lines_are_skipped_and_lines_keep_their_number(tmp_path: Path) -> None:
    lines = read_manifest(manifest(tmp_path, "", '{"audio": "1.wav", "text": ""}', "  "))
    assert [(line.audio, line.text, line.line) for line in lines] == [(tmp_path / "1.wav", "", 2)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"manifest\.jsonl:2: not JSON .* write \{"),
        ('["1.wav", "one"]', r":2: needs the strings \"audio\" and \"text\""),
        ('{"audio": "1.wav"}', ":2: needs the strings"),
        ('{"audio": "1.wav", "text": 1}', ":2: needs the strings"),
        ("[" * 100_000, r":2: not JSON"),
        ('{"audio": "gone.wav", "text": "one"}', r":2: no such file .*gone\.wav; paths are relative"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_manifest(manifest(tmp_path, '{"audio": "1.wav", "text": "one"}', line))


def test_signs_that_end_no_line_of_json(tmp_path: Path) -> None:
    """A byte order mark, carriage returns, and U+2028 and U+0085 within a text."""
    path = manifest(tmp_path)
    line = '{"audio": "1.wav", "text": "one\u2028two\u0085three"}'
    path.write_bytes(f"\ufeff{line}\r\n{line}\r\n".encode())
    assert [(line.text, line.line) for line in read_manifest(path)] == [("one\u2028two\u0085three", n) for n in (1, 2)]


def test_no_manifest_and_no_lines(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no lines"):
        read_manifest(manifest(tmp_path, ""))
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "gone.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"audio": "caf\xe9.wav"}')
    with pytest.raises(ManifestError, match="give a JSON Lines file in UTF-8"):
        read_manifest(tmp_path / "latin.jsonl")
