"""A synthesiser for tests: every letter is a tone of its own, 60 ms long, and a "phone"."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import soundfile as sf

from audio.recipe.speech import SAMPLE_RATE_HZ, Speech
from audio.recipe.spoken_forms import DIGITS

LETTER_S = 0.06


class ToneSpeaker:
    """Satisfies `SpeechMaker`; says a text in a few milliseconds, the same way each time."""

    name = "tones"
    phone_names = ("sil", *"abcdefghijklmnopqrstuvwxyz'")

    def speak(self, text: str, rng: Random) -> Speech:
        time_s = np.arange(int(LETTER_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        sounds, phones = [], []
        for at, letter in enumerate(text):
            index = self.phone_names.index(letter) if letter != " " else 0
            level = 0.3 if index else 0.0
            sounds.append(level * np.sin(2 * np.pi * (250 + 90 * index) * time_s))
            phones.append((at * LETTER_S, self.phone_names[index]))
        return Speech(samples=np.concatenate(sounds).astype(np.float32), phones=tuple(phones))


def write_data(folder: Path) -> Path:
    """A data folder with a little of each kind: FSDD, one recorded set, noise, requests."""
    speaker, rng = ToneSpeaker(), Random(0)
    for name in ("fsdd", "speech/speech_commands", "speech/noise", "banking77"):
        (folder / name).mkdir(parents=True)
    for digit, word in enumerate(DIGITS):
        for index in (0, 5, 6):
            sf.write(folder / f"fsdd/{digit}_ann_{index}.wav", speaker.speak(word, rng).samples, SAMPLE_RATE_HZ)
    rows = []
    for number in range(20):
        text = ("yes", "no", "stop it", "seven")[number % 4]
        sf.write(folder / f"speech/speech_commands/{number}.flac", speaker.speak(text, rng).samples, SAMPLE_RATE_HZ)
        rows.append({"audio": f"{number}.flac", "text": text.title() + "!", "speaker": f"speaker{number}"})
    rows.append({"audio": "missing.flac", "text": "gone", "speaker": "speaker0"})
    manifest = folder / "speech/speech_commands/manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    noise = np.random.default_rng(0).normal(0, 0.05, 2 * SAMPLE_RATE_HZ)
    for name in ("fan", "running_tap"):
        sf.write(folder / f"speech/noise/{name}.flac", noise, SAMPLE_RATE_HZ)
    request = {"text": "Where's my card?", "intent": "card", "slots": []}
    for split in ("train", "test"):
        (folder / f"banking77/{split}.jsonl").write_text(json.dumps(request) + "\n")
    return folder
