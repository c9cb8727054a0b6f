"""Synthetic speakers for training the recogniser: many voices of espeak-ng, flite, a small neural voice.

Not used in calls. espeak-ng is fast enough to speak fresh sentences during training (3 ms each) and tells
when each phoneme starts; the others are cached. Some voices are kept for tests: a figure on a voice that
training heard says little about callers.

| engine | from | licence | here |
| --- | --- | --- | --- |
| espeak-ng | `espeakng-loader` | GPL-3.0 (called, not copied) | training; 12 voices and an accent for tests |
| flite awb, rms, kal16 | Debian `flite` | BSD-like (CMU) | training, cached |
| flite slt, festival kal | Debian `flite`, `festival`, `festvox-kallpc16k` | BSD-like | tests only |
| hibari heart (neural) | `hibari-tts` | Apache-2.0 | training, cached |
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile as sf
import soxr

from audio.recipe.speech import SAMPLE_RATE_HZ, Samples, Speech, SpeechMaker, VoiceSet

__all__ = [
    "EspeakSpeakers",
    "FestivalSpeaker",
    "FliteSpeakers",
    "HibariSpeaker",
    "available_voices",
    "speakable",
]

TEST_VARIANTS = (
    "f3", "m5", "Andy", "belinda", "steph2", "klatt3", "edward2", "max", "Denis", "Mike", "linda", "victor",
)  # fmt: skip
NOT_SPEECH = {
    "whisper", "whisperf", "Demonic", "UniRobot", "kaukovalta", "anikaRobot", "AnxiousAndy", "fast", "croak",
    "Storm",
}  # fmt: skip
ACCENTS = (
    "en-us", "en-us", "en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029",
    "en-gb-x-gbcwmd",
)  # fmt: skip
TEST_ACCENTS = ("en-gb-x-gbclan", "en-us", "en-us", "en")

PHONE_NAMES = tuple(
    "sil 0 3 3: @ @- @2 @5 @L A: A@ D E I I# I2 IR N O2 O: O@ OI S T U U@ V VR a a# aI aI2 aU aa b d "
    "dZ e@ eI f g h i i: i@ i@3 j k l m n o@ oU p r r- s t t# t2 tS t[ u: v w w# z |".split()
)
"""espeak-ng's own mnemonics of its English voices; anything else is labelled as silence."""


def speakable(text: str) -> str:
    """Lower-case words as an engine should read them: spelled letters in upper case.

    A lone "a" or "i" is a word; beside another single letter it is spelled ("a b c").
    """
    words = text.split()

    def is_letter(index: int) -> bool:
        return 0 <= index < len(words) and len(words[index]) == 1

    return " ".join(
        word.upper() if is_letter(at) and (word not in "ai" or is_letter(at - 1) or is_letter(at + 1)) else word
        for at, word in enumerate(words)
    )


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; `id` is a union that holds a phoneme's name in eight bytes."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_EVENT_END, _EVENT_PHONEME = 0, 7
_OUTPUT_SYNCHRONOUS, _WANT_PHONEME_EVENTS, _POSITION_CHARACTER, _CHARS_UTF8 = 2, 1, 1, 1
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7


class EspeakSpeakers:
    """espeak-ng in many voices and accents, through ctypes (speak_lib.h); one per process.

    With `unheard`, the voices and the accent that training never uses.
    """

    def __init__(self, *, unheard: bool = False) -> None:
        import espeakng_loader

        data = Path(espeakng_loader.get_data_path())
        self._unheard = unheard
        self._variants = tuple(
            name
            for name in sorted(path.name for path in (data / "voices" / "!v").iterdir())
            if name not in NOT_SPEECH and name not in TEST_VARIANTS
            if " " not in name and not name.startswith("robosoft")
        )
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._native_hz = self._library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, str(data).encode(), _WANT_PHONEME_EVENTS
        )
        if self._native_hz <= 0:
            raise RuntimeError(f"espeak-ng found no data in {data}; reinstall espeakng-loader")
        self._pcm: list[np.ndarray[Any, np.dtype[np.int16]]] = []
        self._phones: list[tuple[float, str]] = []
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = prototype(self._receive)  # kept: the library holds only its address
        self._sentences_left = 0

    @property
    def name(self) -> str:
        """See `SpeechMaker`."""
        return "espeak-ng (GPL-3.0; its speech, not its code)"

    @property
    def phone_names(self) -> tuple[str, ...]:
        """See `SpeechMaker`."""
        return PHONE_NAMES

    def speak(self, text: str, rng: Random) -> Speech:
        """Say `text`; the voice stays for some sentences, since a change costs more than a sentence."""
        if self._sentences_left <= 0 or self._unheard:
            self._choose_voice(rng)
            self._sentences_left = rng.randint(3, 8)
        self._sentences_left -= 1
        self._library.espeak_SetSynthCallback(self._callback)  # the library is one for the whole process
        rate = rng.randint(130, 200) if self._unheard else max(110, min(260, int(rng.gauss(165, 30))))
        self._set(_RATE, rate)
        self._set(_PITCH, rng.randint(15, 85))
        self._set(_RANGE, rng.randint(15, 85))
        self._set(_WORD_GAP, rng.choice([0, 0, 0, 1, 3]))
        self._pcm.clear()
        self._phones.clear()
        utf8 = speakable(text).encode() + b"\0"
        self._library.espeak_Synth(
            ctypes.c_char_p(utf8),
            ctypes.c_size_t(len(utf8)),
            0,
            _POSITION_CHARACTER,
            0,
            _CHARS_UTF8,
            None,
            None,
        )
        if not self._pcm:
            raise RuntimeError(f"espeak-ng gave no sound for a text of {len(text)} characters")
        # Another vocal tract for the price of a resampling: pitch, formants and pace move together.
        stretch = rng.uniform(0.86, 1.14) if rng.random() < 0.6 and not self._unheard else 1.0
        native = np.concatenate(self._pcm).astype(np.float32) / np.float32(32768)
        samples = soxr.resample(native, self._native_hz * stretch, SAMPLE_RATE_HZ, quality="LQ")
        return Speech(samples=samples, phones=tuple((time_s / stretch, phone) for time_s, phone in self._phones))

    def _choose_voice(self, rng: Random) -> None:
        if self._unheard:
            voice = f"{rng.choice(TEST_ACCENTS)}+{rng.choice(TEST_VARIANTS)}"
        else:
            voice = rng.choice(ACCENTS)
            if rng.random() < 0.92:
                voice = f"{voice}+{rng.choice(self._variants)}"
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:  # else the old voice stays, silently
            raise RuntimeError(f"espeak-ng has no voice {voice}; this needs espeakng-loader 0.2.4 or newer")

    def _set(self, parameter: int, value: int) -> None:
        self._library.espeak_SetParameter(parameter, value, 0)

    def _receive(self, wav: Any, count: int, events: Any) -> int:
        """Callback of the synthesis: collect sound and phoneme starts; 0 asks for more."""
        if wav and count > 0:
            self._pcm.append(np.ctypeslib.as_array(wav, (count,)).copy())
        at = 0
        while events and events[at].type != _EVENT_END:
            if events[at].type == _EVENT_PHONEME:
                phone = bytes(events[at].name).decode("utf-8", "replace")
                # stress and length marks are not part of the sound's name
                self._phones.append((events[at].audio_position / 1000, phone.strip("',%=;").replace("_", "")))
            at += 1
        return 0


class FliteSpeakers:
    """flite's voices, a process a sentence (40 ms)."""

    def __init__(self, voices: tuple[str, ...]) -> None:
        self._voices = voices

    @property
    def name(self) -> str:
        """See `SpeechMaker`."""
        return f"flite {', '.join(dict.fromkeys(self._voices))} (BSD-like, CMU)"

    @property
    def phone_names(self) -> tuple[str, ...]:
        """See `SpeechMaker`."""
        return ()

    def speak(self, text: str, rng: Random) -> Speech:
        """See `SpeechMaker`."""
        voice, stretch = rng.choice(self._voices), rng.uniform(0.75, 1.25)
        with tempfile.TemporaryDirectory() as folder:
            wav = f"{folder}/sentence.wav"
            command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.2f}"]
            _run([*command, "-t", speakable(text), wav], "flite")
            return Speech(samples=_read_wav(wav))


class FestivalSpeaker:
    """festival's voice kal (diphones, 16 kHz), a process a sentence."""

    @property
    def name(self) -> str:
        """See `SpeechMaker`."""
        return "festival kal (BSD-like, Edinburgh)"

    @property
    def phone_names(self) -> tuple[str, ...]:
        """See `SpeechMaker`."""
        return ()

    def speak(self, text: str, rng: Random) -> Speech:
        """See `SpeechMaker`."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "say.scm")
            wav = f"{folder}/sentence.wav"
            script.write_text(f'(utt.save.wave (utt.synth (Utterance Text "{speakable(text)}")) "{wav}")\n')
            _run(["festival", "--batch", str(script)], "festival")
            return Speech(samples=_read_wav(wav))


class HibariSpeaker:
    """A small neural voice (`hibari-tts`, 15 ms a sentence), made several by changes of pace and pitch."""

    def __init__(self) -> None:
        from hibari import Hibari  # type: ignore[import-untyped,unused-ignore]  # optional, untyped

        self._engine = Hibari(threads=1)

    @property
    def name(self) -> str:
        """See `SpeechMaker`."""
        return "hibari heart (Apache-2.0)"

    @property
    def phone_names(self) -> tuple[str, ...]:
        """See `SpeechMaker`."""
        return ()

    def speak(self, text: str, rng: Random) -> Speech:
        """See `SpeechMaker`."""
        pace, seed = rng.uniform(0.8, 1.3), rng.randrange(1 << 30)
        sound = np.asarray(self._engine(speakable(text), speed=pace, seed=seed), np.float32)
        # Half of the sentences an octave's third to two thirds lower: one woman becomes men as well.
        pitch = rng.uniform(0.68, 0.85) if rng.random() < 0.5 else rng.uniform(0.9, 1.12)
        return Speech(samples=soxr.resample(sound, 24000 * pitch, SAMPLE_RATE_HZ))


def available_voices() -> VoiceSet:
    """Every engine that this machine has; espeak-ng always, the others where they are installed."""
    slow: list[SpeechMaker] = []
    unheard: list[tuple[str, SpeechMaker]] = [("espeak-ng, unheard voices", EspeakSpeakers(unheard=True))]
    if shutil.which("flite"):
        slow.append(FliteSpeakers(("awb", "rms", "awb", "rms", "kal16")))
        unheard.append(("flite slt, unheard", FliteSpeakers(("slt",))))
    if shutil.which("festival"):
        unheard.append(("festival kal, unheard", FestivalSpeaker()))
    if find_spec("hibari"):
        slow.append(HibariSpeaker())
    return VoiceSet(live=EspeakSpeakers, slow=tuple(slow), unheard=tuple(unheard))


def _run(command: list[str], engine: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{engine} failed with status {done.returncode}: {done.stderr[-200:]!r}")


def _read_wav(path: str) -> Samples:
    samples, rate_hz = sf.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), np.float32)
