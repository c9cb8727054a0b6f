"""What does a recogniser gain when the dialogue says what it waits for, and what does it cost other callers?

    python -m bench.asr_expectation [--data ../shared/data] [--model FOLDER] [--json FILE]
    python -m bench.asr_expectation --model OUT/ct2 --hold-out george jackson   those whom `asr train` held out of it
    python -m bench.asr_expectation --no-gates --margins 2,2.5,3     on the development split, to choose a margin

Answers to the question (word error rate, without and with the expectation), and sentences that are no answer to it at
a node that waits for digits (how many are transcribed as if nothing was expected), clean and over a line (300-3400 Hz,
noise at 10 dB, mu-law). Development and test share no speaker, recording, voice or sentence:

    Speech Commands   by speaker, as `asr train` keeps them from training
    FSDD              test: recordings 0-4 of every digit and speaker, the authors' split: known speakers; all
                      recordings of those held out, and of them alone, where any were
    espeak-ng         voices that no training uses, half of them each; sentences of the bill reminder's examples

CPU is this process's for the model, recordings read and resampled before.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from audio.asr import AsrJob, Expectation, Transcript
from audio.bundled import bundled_model_path
from audio.engine_choice import load_engine
from audio.gates import GateSettings
from audio.phone_line import add_noise
from audio.recipe.channel import Background, companding, unit_noise
from audio.recipe.examples import spliced_digits
from audio.recipe.recordings import Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Samples, to_pcm16
from audio.recipe.spoken_forms import DIGITS, SLOTS
from audio.scoring import score
from audio.telephone_band import telephone_band
from audio.whisper import WhisperRecogniser
from gateway.machine import describe_machine
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.synthesis import Voice
from tts_stub.training_voices import TEST_VARIANTS, speakable

EXAMPLES = Path(__file__).parent.parent / "dialogue" / "bots" / "bill-reminder"
CONDITIONS = ("clean", "line")
OTHER_WORDS = ("yes", "no", "stop", "go", "right", "off")
SEED = 5
BATCH = 16
PER_KIND = 150
STRINGS = 80
OPEN = GateSettings(min_loudest_dbfs=-120, min_avg_logprob=-99, max_no_speech_prob=1, max_compression_ratio=99)
LEAD, TAIL = SAMPLE_RATE_HZ * 240 // 1000, SAMPLE_RATE_HZ * 200 // 1000


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance: `samples` float32 at 8 kHz, without silence around it."""

    words: str
    samples: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Utterances of one kind, and what they are heard with."""

    name: str
    expect: Expectation
    said: Sequence[Said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Of one kind in one condition: the words, how many a gate stopped, CPU milliseconds a recording."""

    texts: Sequence[str]
    gated: int
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report. Rates in %; `same_pct` of utterances transcribed as without the expectation, `gated_pct`
    stopped by a gate with it and without it alike; CPU a recording."""

    kind: str
    expect: str
    condition: str
    n: int
    gated_pct: float
    wer_without_pct: float
    wer_with_pct: float
    same_pct: float
    cpu_ms_without: float
    cpu_ms_with: float


def kinds(data: Path, *, test: bool, held_out: Sequence[str] = ()) -> Iterator[Kind]:
    """Everything that is measured, of one split; the test's digits of FSDD are those of `held_out`, if anybody was."""
    rng, generator = Random(SEED), np.random.default_rng(SEED)
    recordings = Recordings.load(data, held_out)
    for recorded, clips in (recordings.test if test else recordings.train).items():
        if recorded.name != "speech_commands":
            continue
        for name, expect, words in (
            ("Speech Commands digits", Expectation.DIGITS, DIGITS),
            ("Speech Commands yes, no", Expectation.YES_NO, ("yes", "no")),
            ("other words: yes, no, stop, go, right, off", Expectation.DIGITS, OTHER_WORDS),
        ):
            fit = [clip for clip in clips if clip.text in words]
            chosen = rng.sample(fit, min(PER_KIND, len(fit)))
            yield Kind(name=name, expect=expect, said=[Said(c.text, c.samples) for c in chosen])
    tested = recordings.digits_unheard or recordings.digits_test
    digits = tested if test else recordings.digits_train
    singles = [clip for by_digit in digits.values() for clips in by_digit.values() for clip in clips]
    chosen = rng.sample(singles, min(PER_KIND, len(singles)))
    yield Kind(name="FSDD, one digit", expect=Expectation.DIGITS, said=[Said(c.text, c.samples) for c in chosen])
    speakers = sorted(digits)
    strings = [
        Said(*spliced_digits(rng, digits[speakers[i % len(speakers)]], rng.randint(3, 6), generator))
        for i in range(STRINGS)
    ]
    yield Kind(name="FSDD, 3-6 digits spliced", expect=Expectation.DIGITS, said=strings)
    speak = speaker(TEST_VARIANTS[int(test) :: 2], rng)
    for name, expect, slot in (("amounts", Expectation.AMOUNT, "AMT"), ("dates", Expectation.DATE, "DATE")):
        values = [SLOTS[slot](rng) for _ in range(PER_KIND // 2)]
        yield Kind(name=f"espeak {name}", expect=expect, said=[Said(v, speak(v)) for v in values])
    others = _other_sentences(rng, test=test)[:PER_KIND]
    yield Kind(name="other sentences", expect=Expectation.DIGITS, said=[Said(v, speak(v)) for v in others])


def speaker(variants: Sequence[str], rng: Random) -> Callable[[str], Samples]:
    """What says a text in one of espeak-ng's voices, at a rate that changes too: float32 at 8 kHz."""
    espeak = EspeakSynthesizer()

    def speak(text: str) -> Samples:
        voice = Voice(name=f"en-us+{rng.choice(variants)}", rate_wpm=rng.randint(140, 190))
        return espeak.synthesize(speakable(text), voice, SAMPLE_RATE_HZ).astype(np.float32) / np.float32(32768)

    return speak


def _other_sentences(rng: Random, *, test: bool) -> list[str]:
    """Of the bill reminder's examples those without digits: what its callers say instead of an account number."""
    written = [
        json.loads(line)["text"].lower()
        for name in ("examples.jsonl", "examples.dev.jsonl")
        for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    ]
    plain = {re.sub(r"[^a-z' ]", "", text).strip() for text in written if not re.search(r"\d", text)}
    one_side = sorted(text for text in plain if text and (zlib.crc32(text.encode()) % 2 == 1) == test)
    spoken_digits = set(DIGITS)
    found = [text for text in one_side if not spoken_digits.intersection(text.split())]
    rng.shuffle(found)
    return found


def over(condition: str, said: Sequence[Said]) -> list[AsrJob]:
    """The utterances as an endpointer hands them over: at a usual level, silence around, English."""
    rng, generator = Random(SEED), np.random.default_rng(SEED)
    jobs = []
    for one in said:
        sound = one.samples * np.float32(0.4 / (float(np.abs(one.samples).max()) + 1e-9))
        sound = np.pad(sound, (LEAD, TAIL))
        if condition == "line":
            noise = unit_noise(rng, generator, len(sound), Background())
            sound = companding(np.clip(add_noise(telephone_band(sound), noise, 10), -1, 1), law="mulaw")
        jobs.append(AsrJob(pcm=to_pcm16(sound), sample_rate_hz=SAMPLE_RATE_HZ, language="en"))
    return jobs


def transcribe(engine: WhisperRecogniser, jobs: Sequence[AsrJob], expect: Expectation) -> tuple[Heard, Heard]:
    """What becomes of the jobs without and with the expectation, in turns, so that both meet the same machine."""
    transcripts: tuple[list[Transcript], list[Transcript]] = ([], [])
    cpu_s = [0.0, 0.0]
    for start in range(0, len(jobs), BATCH):
        free = list(jobs[start : start + BATCH])
        for side, batch in enumerate((free, [dataclasses.replace(job, expect=expect) for job in free])):
            began = time.process_time()
            transcripts[side].extend(engine.transcribe(batch))
            cpu_s[side] += time.process_time() - began
    without, expecting = (
        Heard(
            texts=[transcript.text for transcript in heard],
            gated=sum(transcript.gated_by is not None for transcript in heard),
            cpu_ms=seconds * 1000 / len(jobs),
        )
        for heard, seconds in zip(transcripts, cpu_s, strict=True)
    )
    return without, expecting


def compare(kind: Kind, condition: str, without: Heard, expecting: Heard) -> Row:
    """One kind in one condition, without and with its expectation."""
    said = [one.words for one in kind.said]

    def wer_pct(texts: Sequence[str]) -> float:
        return 100 * (score(said, texts, "en").wer or 0.0)

    return Row(
        kind=kind.name,
        expect=kind.expect,
        condition=condition,
        n=len(said),
        gated_pct=100 * without.gated / len(said),
        wer_without_pct=wer_pct(without.texts),
        wer_with_pct=wer_pct(expecting.texts),
        same_pct=100 * sum(a == b for a, b in zip(without.texts, expecting.texts, strict=True)) / len(said),
        cpu_ms_without=without.cpu_ms,
        cpu_ms_with=expecting.cpu_ms,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    titles = (
        "utterances",
        "expected",
        "condition",
        "n",
        "gated",
        "WER without",
        "with",
        "same",
        "CPU ms without",
        "with",
    )
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for row in rows:
        rates = (
            row.gated_pct,
            row.wer_without_pct,
            row.wer_with_pct,
            row.same_pct,
            row.cpu_ms_without,
            row.cpu_ms_with,
        )
        cells = (row.kind, row.expect, row.condition, str(row.n), *(f"{rate:.1f}" for rate in rates))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default=str(bundled_model_path()))
    parser.add_argument("--hold-out", nargs="*", default=[], metavar="SPEAKER")
    parser.add_argument("--margins", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--no-gates", action="store_true", help="recogniser alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engine = load_engine(arguments.model, device="cpu", gates=OPEN if arguments.no_gates else None)
    corpus = [
        (kind, condition, over(condition, kind.said))
        for kind in kinds(arguments.data, test=arguments.margins is None, held_out=arguments.hold_out)
        for condition in CONDITIONS
    ]
    runs = []
    for margin in arguments.margins or [engine.profile.expectation_margin]:
        engine.profile = dataclasses.replace(engine.profile, expectation_margin=margin)
        rows = [compare(kind, condition, *transcribe(engine, jobs, kind.expect)) for kind, condition, jobs in corpus]
        runs.append({"margin": margin, "rows": [asdict(row) for row in rows]})
        print(f"\n{engine.name}, margin {margin}\n\n{table(rows)}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"model": engine.name, "machine": describe_machine(), "runs": runs}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
