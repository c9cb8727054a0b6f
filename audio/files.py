"""Recordings on disk: whatever libsndfile reads (WAV, FLAC, Ogg, MP3 ...) to mono PCM16, and WAV out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from audio.formats import AudioError, Pcm16
from audio.resampling import float_to_pcm16

__all__ = ["AudioFileError", "read_audio", "write_wav"]


class AudioFileError(AudioError):
    """A file that cannot be read or written as audio; the message names the file, the reason and the mend."""


def read_audio(path: Path | str, sample_rate_hz: int) -> Pcm16:
    """Read a recording whole.

    Args:
        path: the file.
        sample_rate_hz: wanted rate; another one is resampled.

    Returns:
        int16 mono, shape (samples,); channels are averaged, what is out of range is clipped.

    Raises:
        AudioFileError: missing, unreadable, not audio, or holding no samples.
    """
    path = Path(path)
    if not path.is_file():
        reason = "a folder, not a file" if path.is_dir() else "no such file"
        raise AudioFileError(f"{path}: {reason}; give the path of a recording")
    try:
        samples, file_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioFileError(
            f"{path}: not audio that libsndfile reads ({error.error_string.rstrip('.')}); "
            "convert it, for example to a 16-bit WAV"
        ) from error
    except OSError as error:
        raise AudioFileError(f"{path}: {error.strerror or error}; check the file's permissions") from error
    if not len(samples):
        raise AudioFileError(f"{path}: holds no samples; record it again")
    mono = np.nan_to_num(samples.mean(axis=1), copy=False)  # float files may hold NaN
    if file_hz != sample_rate_hz:
        mono = soxr.resample(mono, file_hz, sample_rate_hz, quality="HQ")
    return float_to_pcm16(mono)


def write_wav(path: Path | str, pcm: Pcm16, sample_rate_hz: int) -> None:
    """Write mono 16-bit WAV; an existing file is replaced.

    Raises:
        AudioFileError: the folder is missing or not writable.
    """
    try:
        soundfile.write(path, pcm, sample_rate_hz, subtype="PCM_16", format="WAV")
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioFileError(f"{path}: cannot be written ({error}); check that its folder exists") from error
