"""Make the demo's caller audio, and ask the bundled recogniser what it hears in it.

    python -m bench.make_demo_audio make --fsdd ../shared/data/fsdd     write gateway/demo/**.wav, check each
    python -m bench.make_demo_audio check                               check the WAVs that are there
    python -m bench.make_demo_audio survey "when is it due"             which test voices are heard right

Sentences are spoken by espeak-ng in voices that the bundled recogniser was not trained on; account and
reference numbers are human digits of the Free Spoken Digit Dataset, strung together at the pace people
dictate. All pass a telephone channel: 300-3400 Hz, faint line noise, G.711 μ-law. The table of calls below,
the data and espeak-ng's version give the same samples every time.

`check` plays each file the way a call brings it (20 ms messages, detector, endpointer) and exits with 1
where the words differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from audio.asr import AsrEngine, AsrJob
from audio.bundled import bundled_model_path
from audio.endpointing import EndpointSettings
from audio.files import read_audio, write_wav
from audio.formats import AudioFormat, Pcm16
from audio.g711 import mulaw_decode, mulaw_encode
from audio.inbound import InboundChain, UtteranceEnded
from audio.recipe.recordings import FSDD_TEST_RECORDINGS
from audio.resampling import float_to_pcm16, pcm16_to_float
from audio.telephone_band import telephone_band
from audio.whisper_engine import WhisperEngine
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.shaping import shape_prompt
from tts_stub.synthesis import Voice
from tts_stub.training_voices import TEST_VARIANTS

DEMO: Final = Path(__file__).parent.parent / "gateway" / "demo"
RATE_HZ: Final = 8000
SEED: Final = 20261121

LINE_NOISE_DBFS: Final = -58.0
"""RMS; about 35 dB below the speech, a quiet line."""
EDGE_MS: Final = 200
"""Line noise before and after the words."""
DIGIT_GAP_MS: Final = (220, 340)
"""Between dictated digits; well below the tail that ends an utterance."""
DIGIT_WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence by espeak-ng. `written` is what it reads; commas and capitals are for its prosody."""

    file: str
    words: str
    voice: Voice
    written: str


@dataclass(frozen=True, slots=True)
class Dictated:
    """Human digits: `speaker` of FSDD, `digits` in order."""

    file: str
    digits: str
    speaker: str

    @property
    def words(self) -> str:
        """The digits as the recogniser writes them."""
        return " ".join(DIGIT_WORDS[int(digit)] for digit in self.digits)


_MAN = Voice("en-us+m5", 155, 50)
_WOMAN = Voice("en-us+f3", 155, 50)

CALLS: Final[dict[str, tuple[Said | Dictated, ...]]] = {
    # Asks back, then promises to pay on Friday: ends in node goodbye, disposition promise_to_pay.
    "": (
        Said("01-yes-speaking", "yes speaking", _MAN, "Yes, speaking."),
        Dictated("02-account-digits", "4417", "yweweler"),
        Said("03-when-is-it-due", "when is it due", _MAN, "When is it due?"),
        Said("04-i-can-pay-on-friday", "i can pay on friday", _MAN, "I can pay on Friday."),
        Said("05-yes-that-is-correct", "yes that is correct", _MAN, "Yes, that is correct."),
        Said("06-no-that-is-all", "no that is all", _MAN, "No, that is all."),
    ),
    # Has paid, and has the reference: ends in node goodbye, disposition already_paid.
    "paid": (
        Said("01-yes-this-is-me", "yes this is me", _WOMAN, "Yes, this is me."),
        Dictated("02-account-digits", "4417", "george"),
        Said("03-i-already-paid", "i already paid", _WOMAN, "I already paid."),
        Dictated("04-reference-digits", "52896", "george"),
        Said("05-yes-that-is-right", "yes that is right", _WOMAN, "Yes, that is right."),
        Said("06-no-thank-you", "no thank you", _WOMAN, "No, thank you."),
    ),
}


def even(pcm: Pcm16) -> Pcm16:
    """Speech at prompt level, ends trimmed and faded.

    Raises:
        ValueError: there is no sound in it.
    """
    shaped = shape_prompt(pcm, RATE_HZ)
    if shaped is None:
        raise ValueError("a recording without sound")
    return shaped[0]


def dictate(line: Dictated, fsdd: Path, rng: np.random.Generator) -> Pcm16:
    """A digit string from one speaker's clips, those kept for tests, each evened, with silent gaps.

    Raises:
        AudioFileError: `fsdd` is not the folder of the dataset's WAVs.
    """
    pieces: list[Pcm16] = []
    for digit in line.digits:
        clip = fsdd / f"{digit}_{line.speaker}_{rng.integers(FSDD_TEST_RECORDINGS)}.wav"
        gap = np.zeros(int(rng.integers(*DIGIT_GAP_MS)) * RATE_HZ // 1000, np.int16)
        pieces += [even(read_audio(clip, RATE_HZ)), gap]
    return np.concatenate(pieces[:-1])


def over_the_phone(speech: Pcm16, rng: np.random.Generator) -> Pcm16:
    """The speech as a gateway gets it: line noise around and under it, telephone band, G.711."""
    padded = pcm16_to_float(np.pad(speech, EDGE_MS * RATE_HZ // 1000))
    padded += rng.normal(0, 10 ** (LINE_NOISE_DBFS / 20), len(padded)).astype(np.float32)
    return mulaw_decode(mulaw_encode(float_to_pcm16(telephone_band(padded))))


def render(line: Said | Dictated, fsdd: Path, synthesizer: EspeakSynthesizer) -> Pcm16:
    """One caller utterance, int16 mono at 8 kHz; the same for the same line."""
    rng = np.random.default_rng([SEED, *line.file.encode(), *line.words.encode()])
    match line:
        case Said():
            speech = even(synthesizer.synthesize(line.written, line.voice, RATE_HZ))
        case Dictated():
            speech = dictate(line, fsdd, rng)
    return over_the_phone(speech, rng)


def hear(pcm: Pcm16, engine: AsrEngine) -> list[str]:
    """Transcripts of the utterances that a call would find in `pcm`."""
    chain = InboundChain(AudioFormat(), EndpointSettings())
    second = np.zeros(RATE_HZ, np.int16)
    wire = np.concatenate([second, pcm, second, second]).astype("<i2").tobytes()
    utterances = [
        event.pcm
        for start in range(0, len(wire), 320)
        for event in chain.push(wire[start : start + 320])
        if isinstance(event, UtteranceEnded)
    ]
    jobs = [AsrJob(pcm=utterance, sample_rate_hz=RATE_HZ, language="en") for utterance in utterances]
    return [transcript.text for transcript in engine.transcribe(jobs)]


def lines() -> Iterator[tuple[Path, Said | Dictated]]:
    """Every line with the path of its WAV."""
    for folder, call in CALLS.items():
        for line in call:
            yield DEMO / folder / f"{line.file}.wav", line


def make(fsdd: Path) -> None:
    """Write all WAVs."""
    synthesizer = EspeakSynthesizer()
    for path, line in lines():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, render(line, fsdd, synthesizer), RATE_HZ)


def check(engine: AsrEngine) -> int:
    """Print what is heard in each WAV; the number of files heard wrong."""
    wrong = 0
    for path, line in lines():
        heard = hear(read_audio(path, RATE_HZ), engine)
        right = heard == [line.words]
        wrong += not right
        print(f"{'ok ' if right else 'BAD'} {path.relative_to(DEMO)!s:32} {' / '.join(heard) or '(nothing)'}")
    print(f"{engine.name}: {wrong} of {len(list(lines()))} heard wrong")
    return wrong


def survey(sentence: str, engine: AsrEngine) -> None:
    """Say a sentence in every test voice and print what is heard: for choosing voices and words."""
    synthesizer = EspeakSynthesizer()
    for accent, variant, rate in product(("en-us", "en"), TEST_VARIANTS, (150, 170)):
        line = Said("survey", sentence, Voice(f"{accent}+{variant}", rate), sentence)
        heard = hear(render(line, Path(), synthesizer), engine)
        print(f"{'ok ' if heard == [sentence] else 'BAD'} {line.voice.name:16} {rate} {' / '.join(heard)}")


def main() -> int:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAVs")
    commands.add_parser("check")
    commands.add_parser("survey").add_argument("sentence", help="lower case, as the recogniser writes it")
    arguments = parser.parse_args()
    engine = WhisperEngine(bundled_model_path("en"))
    match arguments.command:
        case "survey":
            survey(arguments.sentence, engine)
            return 0
        case "make":
            make(arguments.fsdd)
    return 1 if check(engine) else 0


if __name__ == "__main__":
    sys.exit(main())
