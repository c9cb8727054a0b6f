"""Silero's network: probabilities of arrays, alike alone and in company."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audio.files import read_audio
from audio.silero import CHUNK_MS, CONTEXT_MS, SileroError, SileroModel

pytestmark = pytest.mark.model

SPOKEN = Path(__file__).parents[2] / "gateway" / "demo" / "01-yes-speaking.wav"


@pytest.fixture(scope="module", params=[8000, 16000])
def model(request: pytest.FixtureRequest) -> SileroModel:
    return SileroModel(request.param)


def rate_of(model: SileroModel) -> int:
    return model.chunk_samples * 1000 // CHUNK_MS


def chunks_of(model: SileroModel, samples: np.ndarray) -> np.ndarray:
    """(chunks, context + chunk), the first with silence before it."""
    padded = np.concatenate([np.zeros(model.context_samples, np.float32), samples.astype(np.float32)])
    size = model.context_samples + model.chunk_samples
    return np.stack([padded[at : at + size] for at in range(0, len(padded) - size + 1, model.chunk_samples)])


def listen(model: SileroModel, samples: np.ndarray) -> np.ndarray:
    """One call's probabilities, chunk by chunk."""
    states = model.initial_states()
    found = []
    for chunk in chunks_of(model, samples):
        probabilities, states = model.probabilities(states, chunk[None])
        found.append(probabilities[0])
    return np.array(found)


def test_chunks_and_context_are_those_of_the_network(model: SileroModel) -> None:
    rate = rate_of(model)
    assert model.chunk_samples == rate * 32 // 1000
    assert model.context_samples == rate * CONTEXT_MS // 1000


def test_hears_speech_and_neither_silence_nor_noise(model: SileroModel) -> None:
    rate = rate_of(model)
    speech = read_audio(SPOKEN, rate) / 32768
    noise = np.random.default_rng(3).normal(0, 0.05, 2 * rate)
    assert listen(model, speech).max() > 0.9
    assert listen(model, np.zeros(rate)).max() < 0.2
    assert listen(model, noise).max() < 0.35


def test_company_in_a_batch_changes_nothing(model: SileroModel) -> None:
    rate = rate_of(model)
    speech = read_audio(SPOKEN, rate) / 32768
    rng = np.random.default_rng(4)
    calls = [speech, rng.normal(0, 0.05, len(speech)), 0.1 * speech + rng.normal(0, 0.01, len(speech))]
    alone = [listen(model, samples) for samples in calls]
    states = model.initial_states(len(calls))
    assert states.shape == (2, 3, 128)
    for at, batch in enumerate(np.stack([chunks_of(model, samples) for samples in calls], axis=1)):
        probabilities, states = model.probabilities(states, batch)
        assert probabilities.shape == (3,)
        np.testing.assert_allclose(probabilities, [one[at] for one in alone], atol=1e-4)


def test_one_network_serves_both_rates(model: SileroModel) -> None:
    rate = rate_of(model)
    speech = read_audio(SPOKEN, rate) / 32768
    shared = SileroModel(rate, other=SileroModel(24_000 - rate))
    np.testing.assert_array_equal(listen(shared, speech), listen(model, speech))


def test_a_rate_it_cannot_hear_is_refused() -> None:
    with pytest.raises(SileroError, match="8000 or 16000 Hz, not 44100"):
        SileroModel(44100)


def test_a_broken_file_is_named_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "silero.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(SileroError, match=r"silero\.onnx: cannot be loaded as a model .*install the project again"):
        SileroModel(8000, path)


def test_nobody_is_told_that_a_model_was_loaded(tmp_path: Path) -> None:
    """onnxruntime's telemetry leaves an identifier of the machine in the home of whoever it reports on."""
    # It keeps still by itself where a test runs, as far as it can tell from variables like CI.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    program = "from audio.silero import SileroModel; SileroModel(8000)"
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-B", "-c", program], cwd=repository, env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
