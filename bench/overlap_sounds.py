"""What becomes of sounds over a prompt: coughs, noises, spoken backchannels and interruptions, by the real recogniser.

    python -m bench.overlap_sounds [--data ../shared/data] [--show] [--json FILE]

Each goes over a telephone line into the default detector, endpointer and bundled recogniser (English), and the words,
if any, are judged as if they had come in the middle of a statement. `bench.overlap_verdicts` judges words as written;
here they are as heard.

    noise           recordings that `asr train` keeps from training, in bursts and for six seconds; must go on
    coughs          one to three bursts of falling, breathy noise, made here: no recorded ones are at hand; must go on
    backchannels    espeak-ng, voices that no training uses; must go on. It reads "mm hmm" like letters
    interruptions   likewise; must give way
    commands        Speech Commands' "no" and "stop", by people of the test split; must give way
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from audio.asr import AsrEngine, AsrJob
from audio.bundled import bundled_model_path
from audio.cascade import detector_maker
from audio.detection import DetectorSettings
from audio.engine_choice import load_engine
from audio.formats import Pcm16
from audio.recipe.recordings import Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Samples
from bench.asr_expectation import Said, speaker
from bench.asr_gates import cut, noise_alone, over
from bench.frame_path import machine
from bench.overlap_verdicts import STATEMENT
from gateway.calls.interruption import Verdict, judge
from tts_stub.training_voices import TEST_VARIANTS

SEED = 7
COUGHS = 40
VOICES_EACH = 4
COMMANDS = 40
BACKCHANNELS = ("uh huh", "mm hmm", "yeah", "okay", "right", "i see", "sure", "got it", "yes", "oh okay")
INTERRUPTIONS = ("stop", "wait", "no", "hold on", "who is this", "i already paid", "not now", "repeat that please",
                 "i want to speak to a person", "how much is it")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of `n` sounds of one kind: `right` went as they should; `words` had any; `wrong` tells the others."""

    kind: str
    n: int
    words: int
    right: int
    wrong: tuple[str, ...]


def coughs() -> list[Said]:
    """Coughs as an engineer draws them: a sharp onset, 150-300 ms of noise below 2 kHz that falls by 40 dB."""
    generator = np.random.default_rng(SEED)
    made = []
    for _ in range(COUGHS):
        bursts = []
        for _ in range(int(generator.integers(1, 4))):
            count = int(generator.uniform(0.15, 0.3) * SAMPLE_RATE_HZ)
            noise = np.convolve(generator.normal(size=count + 3), np.full(4, 0.25), "valid")
            bursts += [
                noise * np.geomspace(1, 0.01, count),
                np.zeros(int(generator.uniform(0.05, 0.25) * SAMPLE_RATE_HZ)),
            ]
        made.append(Said("", np.concatenate(bursts).astype(np.float32)))
    return made


def spoken(phrases: Sequence[str], rng: Random) -> list[Said]:
    """Each phrase in some voices."""
    speak = speaker(TEST_VARIANTS, rng)
    return [Said(phrase, speak(phrase)) for phrase in phrases for _ in range(VOICES_EACH)]


def commands(recordings: Recordings, rng: Random) -> list[Said]:
    """People who say "no" or "stop"."""
    clips = [
        clip for recorded, clips in recordings.test.items() if recorded.name == "speech_commands" for clip in clips
    ]
    fit = [clip for clip in clips if clip.text in ("no", "stop")]
    return [Said(clip.text, clip.samples) for clip in rng.sample(fit, min(COMMANDS, len(fit)))]


def calls(data: Path) -> Iterator[tuple[str, bool, list[str], list[Pcm16]]]:
    """By kind: whether the prompt must go on, what is said, and the calls' audio."""
    rng = Random(SEED)
    if data.is_dir():
        recordings = Recordings.load(data)
        for name, made in noise_alone(recordings.noise_test):
            yield f"noise, {name}", True, [""] * len(made), made
        yield "commands", False, *_over_line(commands(recordings, rng), recordings.noise_test)
    yield "coughs", True, *_over_line(coughs(), ())
    yield "backchannels", True, *_over_line(spoken(BACKCHANNELS, rng), ())
    yield "interruptions", False, *_over_line(spoken(INTERRUPTIONS, rng), ())


def _over_line(said: Sequence[Said], noises: Sequence[Samples]) -> tuple[list[str], list[Pcm16]]:
    return [one.words for one in said], over("mulaw", said, noises)


def heard(engine: AsrEngine, call: Pcm16) -> str:
    """The words that a gateway would have of it."""
    detector = detector_maker(DetectorSettings())(SAMPLE_RATE_HZ)
    jobs = [AsrJob(pcm=pcm, sample_rate_hz=SAMPLE_RATE_HZ, language="en") for pcm in cut(call, detector)]
    return " ".join(transcript.text for transcript in engine.transcribe(jobs)).strip() if jobs else ""


def measure(engine: AsrEngine, data: Path) -> Iterator[Row]:
    """Hear everything."""
    for kind, goes_on, said, audio in calls(data):
        texts = [heard(engine, call) for call in audio]
        went_on = [judge(text, STATEMENT, answers=False, hello_ms=0) is not Verdict.INTERRUPTION for text in texts]
        wrong = [
            f"{words!r} heard {text!r}" for words, text, on in zip(said, texts, went_on, strict=True) if on != goes_on
        ]
        yield Row(
            kind=kind, n=len(texts), words=sum(map(bool, texts)), right=len(texts) - len(wrong), wrong=tuple(wrong)
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--show", action="store_true", help="name what went wrong")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    rows = []
    print(f"{'kind':<16}{'n':>5}{'words':>7}{'right':>8}")
    for row in measure(load_engine(str(bundled_model_path()), device="cpu"), args.data):
        rows.append(row)
        print(f"{row.kind:<16}{row.n:>5}{row.words:>7}{row.right / row.n:>8.1%}", flush=True)
        if args.show and row.wrong:
            print("  " + " | ".join(row.wrong))
    if args.json:
        args.json.write_text(json.dumps({**machine(), "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
