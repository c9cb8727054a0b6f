"""Silero's voice detector: a small recurrent network that hears speech through noise. Arrays in, arrays out.

The network (`models/silero-vad/silero_vad.onnx`, Silero VAD 6.2.3, MIT) judges chunks of 32 ms, each with the 4 ms
before it as context, and carries a state from chunk to chunk. It takes 8 and 16 kHz and any number of calls in a batch;
what it says of a call does not depend on the others in the batch. onnxruntime is loaded with the first model, not
with this module: a worker whose calls use WebRTC's detector alone never pays for it.

Measured (2 cores, bench/detectors.py): 80-95 µs for one chunk, 33 µs a chunk in batches of 32 and more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from audio.formats import AudioError

__all__ = ["CHUNK_MS", "CONTEXT_MS", "Floats", "SileroError", "SileroModel"]

CHUNK_MS = 32
CONTEXT_MS = 4
STATE_SIZE = 128
MODEL_FILE = Path(__file__).parent / "models" / "silero-vad" / "silero_vad.onnx"

Floats: TypeAlias = npt.NDArray[np.float32]


class SileroError(AudioError):
    """The model cannot be loaded; the message says why and the mend."""


class SileroModel:
    """The network, shared by all calls of one sample rate. Immutable: a call's state is its own.

    Args:
        sample_rate_hz: 8000 or 16000.
        path: the model file.
        other: of the other rate, whose network is used: it takes both, and loading it takes 40 ms and 10 MB.

    Raises:
        SileroError: onnxruntime or the model file is missing or broken.
    """

    def __init__(self, sample_rate_hz: int, path: Path = MODEL_FILE, *, other: SileroModel | None = None) -> None:
        if sample_rate_hz not in (8000, 16000):
            raise SileroError(f"Silero hears 8000 or 16000 Hz, not {sample_rate_hz}")
        self._run: Callable[..., list[Floats]]
        self._rate = np.array(sample_rate_hz, np.int64)
        self.chunk_samples = sample_rate_hz * CHUNK_MS // 1000
        self.context_samples = sample_rate_hz * CONTEXT_MS // 1000
        if other is not None:
            self._run = other._run
            return
        # Since 1.29 it tells its maker of machines and models over the network, and keeps an identifier in ~/.cache.
        # Not here, unless whoever starts us says so (0). It reads this once.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except ImportError as error:
            raise SileroError(f"onnxruntime cannot be loaded ({error}); install it: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a worker is one core; its calls are what runs side by side
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise SileroError(f"{path}: cannot be loaded as a model ({error}); install the project again") from error

    @staticmethod
    def initial_states(calls: int = 1) -> Floats:
        """The state before anything was heard: float32, shape (2, calls, 128)."""
        return np.zeros((2, calls, STATE_SIZE), np.float32)

    def probabilities(self, states: Floats, chunks: Floats) -> tuple[Floats, Floats]:
        """Judge one chunk of each call.

        Args:
            states: float32, shape (2, calls, 128), as the last chunk of each call left it.
            chunks: float32 in [-1, 1], shape (calls, context_samples + chunk_samples).

        Returns:
            Probability of speech, shape (calls,), and the states for the next chunks.
        """
        found, after = self._run(None, {"input": chunks, "state": states, "sr": self._rate})
        return found[:, 0], after
