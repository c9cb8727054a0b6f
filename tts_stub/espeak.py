"""espeak-ng behind the `Synthesizer` seam: robotic, free, in any language, and with no system package.

The library and its data come from the `espeakng-loader` wheel and are loaded at run time (GPLv3; nothing
of espeak-ng is copied here, see NOTICE). Facts of espeak-ng 1.52 that shape this module, each found by a run:

- The library is global to the process: one voice, one callback, one utterance at a time. Hence the lock.
- An unknown voice leaves the previous one set; an unknown `+variant` even reports success. Hence the
  comparison with the voice that is current afterwards.
- Without `DONT_EXIT` a missing data folder ends the process, and a data path of more than about 155 bytes
  is cut short and then missing. Hence the short link to it.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, ClassVar, Final

import espeakng_loader
import numpy as np

from audio.formats import Pcm16
from audio.resampling import resample
from tts_stub.spoken_form import spoken_form
from tts_stub.synthesis import EngineUnavailableError, SynthesisError, UnknownVoiceError, Voice

__all__ = ["EspeakSynthesizer"]

MAX_TEXT_CHARS: Final = 2000
"""About two minutes of speech; more is a fault of the flow, and would hold the lock for everyone."""

# Constants of espeak-ng's speak_lib.h.
_OUTPUT_SYNCHRONOUS: Final = 2
_DONT_EXIT: Final = 0x8000
_CHARS_UTF8: Final = 1
_POSITION_CHARACTER: Final = 1
_RATE, _PITCH = 1, 3
_OK: Final = 0

_MAX_DATA_PATH_BYTES: Final = 140
_SEED: Final = 1
"""The breath of some voices is random, seeded by the clock; fixed, the same program says the same samples."""


class _EspeakVoice(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h, as far as it is read."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    ]


# int callback(short *wav, int samples, espeak_EVENT *events); `wav` is NULL once all is spoken.
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Library:
    """The one espeak-ng of this process. Every method but the constructor needs `lock` held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._link: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
            data = Path(espeakng_loader.get_data_path())
        except (OSError, RuntimeError) as error:
            raise EngineUnavailableError(
                f"espeak-ng cannot be loaded ({error}); reinstall it: pip install --force-reinstall espeakng-loader"
            ) from error
        self._declare()
        self.sample_rate_hz = self._lib.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, os.fsencode(self._short(data)), _DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise EngineUnavailableError(
                f"espeak-ng cannot read its data in {data}; reinstall it: pip install --force-reinstall espeakng-loader"
            )
        self._blocks: list[Pcm16] = []
        self._callback = _Callback(self._receive)  # kept: the library holds only a bare pointer to it
        self._lib.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        """Argument types: without them ctypes would pass a size_t or a pointer as a 32-bit int."""
        lib = self._lib
        lib.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        lib.espeak_SetSynthCallback.argtypes = [_Callback]
        lib.espeak_SetSynthCallback.restype = None
        lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        lib.espeak_GetCurrentVoice.argtypes = []
        lib.espeak_GetCurrentVoice.restype = ctypes.POINTER(_EspeakVoice)
        lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        lib.espeak_ng_SetRandSeed.restype = None
        lib.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        uint, pointer = ctypes.c_uint, ctypes.c_void_p
        lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, uint, ctypes.c_int, uint, uint, pointer, pointer,
        ]  # fmt: skip

    def _short(self, data: Path) -> Path:
        """`data`, or a link to it under the temporary folder where its path is too long for espeak-ng."""
        if len(os.fsencode(data)) <= _MAX_DATA_PATH_BYTES:
            return data
        self._link = tempfile.TemporaryDirectory(prefix="voicegate-espeak-", ignore_cleanup_errors=True)
        link = Path(self._link.name) / "espeak-ng-data"
        link.symlink_to(data, target_is_directory=True)
        return link

    def _receive(self, wav: Any, samples: int, _events: int | None) -> int:
        """Callback of the library, on the thread that called `say`: copy the block, go on (0)."""
        if wav and samples > 0:
            self._blocks.append(np.ctypeslib.as_array(wav, (samples,)).copy())
        return 0

    def select(self, voice: Voice) -> None:
        """Make `voice` current.

        Raises:
            UnknownVoiceError: no such voice, or no such variant of it.
        """
        status = self._lib.espeak_SetVoiceByName(voice.name.encode())
        _, _, variant = voice.name.partition("+")
        if status == _OK and variant:
            identifier = (self._lib.espeak_GetCurrentVoice().contents.identifier or b"").decode()
            status = _OK if identifier.endswith(f"+{variant}") else -1
        if status != _OK:
            raise UnknownVoiceError(
                f"espeak-ng has no voice {voice.name!r:.60}; try en-us, en, en-gb-x-rp or cmn, "
                "each with a variant such as +f3 if you like (en-gb is called en)"
            )
        self._lib.espeak_SetParameter(_RATE, voice.rate_wpm, 0)
        self._lib.espeak_SetParameter(_PITCH, voice.pitch, 0)

    def say(self, text: str) -> Pcm16:
        """Speak with the current voice: int16 mono at `sample_rate_hz`."""
        self._lib.espeak_ng_SetRandSeed(_SEED)
        self._blocks = []
        encoded = text.encode() + b"\0"
        status = self._lib.espeak_Synth(encoded, len(encoded), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
        if status != _OK:
            raise EngineUnavailableError(f"espeak-ng failed with status {status}")
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


_library: _Library | None = None
_loading = threading.Lock()


def _load() -> _Library:
    global _library
    with _loading:
        if _library is None:
            _library = _Library()
        return _library


class EspeakSynthesizer:
    """A `Synthesizer` on the process's espeak-ng. Instances share the library and its lock.

    A second of speech takes about a millisecond; a second thread gains nothing.

    Raises:
        EngineUnavailableError: at construction, where the library or its data cannot be loaded.
    """

    def __init__(self) -> None:
        self._library = _load()

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        """See `Synthesizer.synthesize`. Resampled from espeak-ng's 22,050 Hz.

        Raises:
            UnknownVoiceError: as `Voice.name` says; nothing was spoken with another voice instead.
            SynthesisError: the text is too long or has nothing to speak in it.
        """
        if len(text) > MAX_TEXT_CHARS:
            raise SynthesisError(
                f"a prompt of {len(text)} characters is too long; split it, {MAX_TEXT_CHARS} is the limit"
            )
        spoken = spoken_form(text, voice.name)
        with self._library.lock:
            self._library.select(voice)
            pcm = self._library.say(spoken)
        if not pcm.any():
            raise SynthesisError(
                f"a prompt of {len(text)} characters gives no sound with voice {voice.name}; "
                "it needs a word that the voice's language can read"
            )
        return resample(pcm, self._library.sample_rate_hz, sample_rate_hz)
