"""The endpointing and detector benches: labels and verdicts right on made-up sounds, and whole runs on few turns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from audio.endpointing import EndReason, UtteranceEnded
from bench import detectors, endpointing
from bench.endpointing import Heard, judge, listen
from bench.labelled_turns import PAUSE_MS, LabelledTurn, Noises, build_turns, find_speech

pytestmark = pytest.mark.model

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason="shared recordings are not here")
SECOND = 8000


def tone(*loud: tuple[float, float], seconds: float) -> np.ndarray:
    """Silence with stretches of tone, in seconds."""
    samples = np.zeros(int(seconds * SECOND), np.float32)
    for start, end in loud:
        at = slice(int(start * SECOND), int(end * SECOND))
        samples[at] = 0.3 * np.sin(2 * np.pi * 300 * np.arange(at.stop - at.start) / SECOND)
    return samples


def turn(*speech: tuple[float, float], seconds: float = 6.0) -> LabelledTurn:
    spans = tuple((int(start * SECOND), int(end * SECOND)) for start, end in speech)
    pcm = (tone(*speech, seconds=seconds) * 32767).astype(np.int16)
    return LabelledTurn(kind="tones", pcm=pcm, speech=spans, end=spans[-1][1], pauses_ms=())


def verdicts(*speech: tuple[float, float], seconds: float = 6.0) -> list[bool]:
    return [any(start * 50 <= frame < end * 50 for start, end in speech) for frame in range(int(seconds * 50))]


def utterance(start: float, end: float, decided_at: float) -> UtteranceEnded:
    at = (int(seconds * SECOND) for seconds in (start, end, decided_at))
    return UtteranceEnded(**dict(zip(("start", "end", "decided_at"), at, strict=True)), reason=EndReason.TAIL)


def test_labels_find_the_sound_and_bridge_a_closure() -> None:
    samples = tone((0.5, 0.8), (0.86, 1.2), (1.6, 2.0), seconds=2.5)
    assert find_speech(samples) == ((4000, 9600), (12800, 16000))


def test_a_clip_that_is_noise_from_end_to_end_is_no_reference() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, SECOND).astype(np.float32)
    assert find_speech(noise) == ()
    assert find_speech(noise, trimmed=True) == ((0, SECOND),)


def test_a_frame_is_speech_where_half_of_it_is() -> None:
    labels = turn((1.0, 1.01), (2.0, 2.5)).labels(160)
    assert np.flatnonzero(labels).tolist() == [50, *range(100, 125)]


def test_an_endpoint_in_a_thinking_pause_is_a_false_trigger() -> None:
    spoken = ((1.0, 1.5), (2.2, 2.8))
    early, right = (judge(turn(*spoken), listen(verdicts(*spoken), tail_ms)) for tail_ms in (400, 800))
    assert (early.false_triggers, right.false_triggers) == (1, 0)
    assert not early.cut_off
    assert (early.delay_ms, right.delay_ms) == (400, 800)


def test_a_last_word_nobody_heard_is_cut_off() -> None:
    outcome = judge(turn((1.0, 1.5), (2.5, 2.8)), listen(verdicts((1.0, 1.5)), 400))
    assert outcome.cut_off
    assert outcome.delay_ms is None
    assert not outcome.missed, "nothing is open: the gateway believes that it heard all"


def test_an_utterance_still_open_is_missed_and_loses_nothing() -> None:
    outcome = judge(turn((1.0, 1.5)), listen(verdicts((1.0, 6.0)), 800))
    assert outcome.missed
    assert not outcome.cut_off


def test_an_utterance_without_speech_is_a_ghost() -> None:
    outcome = judge(turn((1.0, 1.5)), Heard((utterance(1.0, 1.7, 1.8), utterance(3.0, 3.5, 3.9)), None))
    assert (outcome.ghosts, outcome.false_triggers) == (1, 0)


@needs_data
def test_turns_are_the_same_for_the_same_seed_and_labelled() -> None:
    turns, again = build_turns(DATA, 12, seed=5), build_turns(DATA, 12, seed=5)
    assert {one.kind for one in turns} == {"digits", "words", "sentences"}
    for one, other in zip(turns, again, strict=True):
        assert np.array_equal(one.pcm, other.pcm)
        assert one.end == one.speech[-1][1] < len(one.pcm)
        assert all(PAUSE_MS[0] <= pause <= PAUSE_MS[1] for pause in one.pauses_ms)
        assert all(before[1] < after[0] for before, after in zip(one.speech, one.speech[1:], strict=False))


@needs_data
def test_noise_is_mixed_at_the_ratio_asked_for() -> None:
    noises = Noises(DATA)
    assert len(noises) > 0
    (one,) = build_turns(DATA, 1)
    noise = noises.mix(one, 10.0, seed=1).astype(float) - one.pcm
    spoken = np.concatenate([one.pcm[start:end] for start, end in one.speech]).astype(float)
    assert 10 * np.log10(np.mean(spoken**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.5)


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds neither fsdd/ nor speech/"):
        build_turns(tmp_path, 1)


@needs_data
def test_the_endpointing_bench_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    command = ["x", "--data", str(DATA), "--turns", "4", "--html", str(page), "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(endpointing, "SNRS_DB", (None, 10.0))
    endpointing.main()
    rows = json.loads(figures.read_text())["rows"]
    assert {row["detector"] for row in rows} == {"webrtc", "cascade", "auto"}
    by_tail = {row["tail_ms"]: row for row in rows if row["detector"] == "webrtc" and row["snr_db"] is None}
    assert sorted(by_tail) == list(range(200, 1201, 100))
    assert by_tail[1200]["delay_p50_ms"] - by_tail[200]["delay_p50_ms"] == pytest.approx(1000, abs=40)
    assert by_tail[1200]["false_triggers_pct"] <= by_tail[200]["false_triggers_pct"]
    text = page.read_text()
    assert text.count("<svg") == 9
    assert "http" not in text.replace("http-equiv", "")
    assert "300 -> 800 ms" in capsys.readouterr().out


@needs_data
def test_the_detector_bench_tells_speech_from_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "SNRS_DB", (None, 5.0))
    rows = {(row.detector, row.snr_db): row for row in detectors.qualities(DATA, 6)}
    assert rows["webrtc 2", None].recall > 0.9
    assert rows["cascade 2", 5.0].specificity > rows["webrtc 2", 5.0].specificity + 0.2
    assert rows["silero", None].precision > 0.7
    assert len(detectors.table(list(rows.values()), []).splitlines()) == 2 + 8 + 3
