"""How many callers do the gates around the recogniser turn away, and how much noise do they let through?

    python -m bench.asr_gates [--data ../shared/data] [--model FOLDER] [--detector auto] [--json FILE]
    python -m bench.asr_gates --evidence=-99,0,0.5,1,1.5     on the development split, to choose a threshold

Callers speak over a line with noise from before they speak until after, recorded noise and made sounds of any level
(`bench.non_speech`: noise, tones, music, breath, knocks) go over the same line without a caller; the gateway's detector
and endpointer cut utterances from both, so that the recogniser hears what it would in a call. The detector is the first
of the gates. A caller is lost where the bare path, WebRTC's detector and no gates, gives words and the gated one none;
a piece of noise got through where it gives any. Development and test share no speaker, recording or voice:

    Speech Commands   by speaker, halves of those that `asr train` keeps from training
    FSDD              by speaker, recordings 0-4: known speakers, unheard recordings
    espeak-ng         voices that no training uses, half of them each; templates that no training uses
    noise             test: recordings that `asr train` keeps from training; development: those it trains on
    made sounds       by seed
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from audio.asr import AsrJob
from audio.bundled import bundled_model_path
from audio.cascade import detector_maker
from audio.detection import DetectorKind, DetectorSettings, VoiceDetector
from audio.endpointing import EndpointSettings
from audio.engine_choice import load_engine
from audio.formats import AudioFormat, Pcm16
from audio.gates import GateSettings
from audio.inbound import InboundChain, UtteranceEnded
from audio.phone_line import add_noise
from audio.recipe.channel import Background, companding, unit_noise
from audio.recipe.evaluation_sets import DOMAIN_TOPICS
from audio.recipe.examples import spliced_digits
from audio.recipe.phrases import draw_sentence
from audio.recipe.recordings import Recordings
from audio.recipe.speech import SAMPLE_RATE_HZ, Samples, to_pcm16
from audio.recipe.spoken_forms import SLOTS
from audio.scoring import score
from audio.telephone_band import telephone_band
from audio.whisper_profile import read_profile
from bench import non_speech
from bench.asr_expectation import OPEN, Said, speaker
from gateway.machine import describe_machine
from tts_stub.training_voices import TEST_VARIANTS

SEED = 7
PER_KIND = 40
RECORDED, MADE = "recorded noise", "made sounds"
CONDITIONS = ("clean", "mulaw", "noise10", "noise5")
QUIET_DBFS = -60
NOISE_DBFS = (-42, -25)
PIECES = 40
MADE_PER_KIND = 60
BURST_S, STEADY_S = (0.3, 2.5), 6.0
LEAD, TAIL = SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 5 // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Recordings of one kind in one condition. `words` are empty where nobody speaks; `utterances` of a recording are
    what the endpointer cut from it."""

    kind: str
    condition: str
    words: Sequence[str]
    utterances: Sequence[Sequence[Pcm16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of a `Line`: of `n` calls, how many had an utterance cut from them (`found`) and how many gave words,
    and callers' word error rate in % (those that the endpointer missed included)."""

    kind: str
    condition: str
    n: int
    found: int
    with_words: int
    wer_pct: float | None


def callers(recordings: Recordings, *, test: bool) -> Iterator[tuple[str, list[Said]]]:
    """Everything that is said, of one split."""
    rng, generator = Random(SEED), np.random.default_rng(SEED)
    for recorded, clips in recordings.test.items():
        if recorded.name == "speech_commands":
            side = [clip for clip in clips if zlib.crc32(clip.speaker.encode()) // 10 % 2 == int(test)]
            yes_no = [clip for clip in side if clip.text in ("yes", "no")]
            for name, fit in (("Speech Commands", side), ("yes, no", yes_no)):
                yield name, [Said(c.text, c.samples) for c in rng.sample(fit, min(PER_KIND, len(fit)))]
    digits = {name: recordings.digits_test[name] for name in sorted(recordings.digits_test)[int(test) :: 2]}
    singles = [clip for by_digit in digits.values() for clips in by_digit.values() for clip in clips]
    chosen = rng.sample(singles, min(PER_KIND, len(singles)))
    yield "FSDD, one digit", [Said(c.text, c.samples) for c in chosen]
    strings = [spliced_digits(rng, rng.choice(list(digits.values())), rng.randint(3, 6), generator) for _ in chosen]
    yield "FSDD, 3-6 digits spliced", [Said(*string) for string in strings]
    speak = speaker(TEST_VARIANTS[int(test) :: 2], rng)
    for name, slot in (("espeak amounts", "AMT"), ("espeak dates", "DATE")):
        values = [SLOTS[slot](rng) for _ in range(PER_KIND)]
        yield name, [Said(value, speak(value)) for value in values]
    sentences = [draw_sentence(rng, test=True, topics=DOMAIN_TOPICS) for _ in range(PER_KIND)]
    yield "espeak sentences, new templates", [Said(text, speak(text)) for text in sentences]


def over(condition: str, said: Sequence[Said], noises: Sequence[Samples]) -> list[Pcm16]:
    """Calls in which one thing is said, noise all along."""
    rng, generator = Random(SEED), np.random.default_rng(SEED)
    calls = []
    for one in said:
        level = one.samples * np.float32(0.3 / (float(np.abs(one.samples).max()) + 1e-9))
        call = np.pad(level, (LEAD, TAIL))
        if condition != "clean":
            call = telephone_band(call)
        if condition.startswith("noise"):
            noise = unit_noise(rng, generator, len(call), Background(noises=noises))
            call = add_noise(call, noise, float(condition.removeprefix("noise")))
        calls.append(_on_the_line(call, generator, coded=condition != "clean"))
    return calls


def noise_alone(noises: Sequence[Samples]) -> Iterator[tuple[str, list[Pcm16]]]:
    """Calls in which nobody speaks: bursts of noise, and noise for six seconds, at two levels."""
    rng, generator = Random(SEED), np.random.default_rng(SEED)
    calls: dict[str, list[Pcm16]] = {"bursts": [], "steady": []}
    for noise in noises:
        for number in range(PIECES if len(noise) > STEADY_S * SAMPLE_RATE_HZ else 2):
            name = ("bursts", "steady")[number % 2]
            seconds = rng.uniform(*BURST_S) if name == "bursts" else STEADY_S
            count = min(len(noise), int(seconds * SAMPLE_RATE_HZ))
            start = rng.randrange(len(noise) - count + 1)
            piece = noise[start : start + count]
            unit = piece / np.float32(np.sqrt(float((piece**2).mean())) + 1e-7)
            for dbfs in NOISE_DBFS:
                call = np.pad(unit * np.float32(10 ** (dbfs / 20)), (LEAD, TAIL))
                calls[name].append(_on_the_line(telephone_band(call), generator, coded=True))
    yield from calls.items()


def made_sounds(*, test: bool) -> Iterator[tuple[str, list[Pcm16]]]:
    """Calls in which nobody speaks: what no recording is needed for, by kind."""
    seed = 2 * SEED + test
    generator = np.random.default_rng(seed)
    calls: dict[str, list[Pcm16]] = {kind: [] for kind in non_speech.KINDS}
    for sound in non_speech.sounds(MADE_PER_KIND, seed):
        call = telephone_band(np.pad(sound.samples, (LEAD, TAIL)))
        calls[sound.kind].append(_on_the_line(call, generator, coded=True))
    yield from calls.items()


def _on_the_line(call: Samples, generator: np.random.Generator, *, coded: bool) -> Pcm16:
    """With the hiss of a quiet line, through mu-law."""
    hiss = generator.normal(0, 10 ** (QUIET_DBFS / 20), len(call)).astype(np.float32)
    sound = np.clip(call + hiss, -1, 1)
    return to_pcm16(companding(sound, law="mulaw") if coded else sound)


def cut(call: Pcm16, detector: VoiceDetector) -> list[Pcm16]:
    """The utterances that a gateway finds."""
    fmt = AudioFormat()
    chain = InboundChain(fmt, EndpointSettings(), detector)
    wire, step = call.astype("<i2").tobytes(), fmt.bytes_per_ms * 20
    events = [event for start in range(0, len(wire), step) for event in chain.push(wire[start : start + step])]
    return [event.pcm for event in (*events, *chain.flush()) if isinstance(event, UtteranceEnded)]


def lines(data: Path, kind_of_detector: DetectorKind, *, test: bool) -> Iterator[Line]:
    """Everything that is measured, of one split, cut into utterances."""
    recordings = Recordings.load(data)
    make_detector = detector_maker(DetectorSettings(kind=kind_of_detector))

    def heard(calls: Sequence[Pcm16]) -> list[list[Pcm16]]:
        return [cut(call, make_detector(SAMPLE_RATE_HZ)) for call in calls]

    noises = recordings.noise_test if test else recordings.noise_train
    long = [noise for noise in noises if len(noise) > STEADY_S * SAMPLE_RATE_HZ]
    said = list(callers(recordings, test=test))
    for condition in CONDITIONS:
        for kind, these in said:
            words = [one.words for one in these]
            yield Line(
                kind=kind,
                condition=condition,
                words=words,
                utterances=heard(over(condition, these, long)),
            )
    for condition, calls in noise_alone(noises):
        yield Line(kind=RECORDED, condition=condition, words=[""] * len(calls), utterances=heard(calls))
    for condition, calls in made_sounds(test=test):
        yield Line(kind=MADE, condition=condition, words=[""] * len(calls), utterances=heard(calls))


def measure(model: str, gates: GateSettings, corpus: Sequence[Line]) -> list[Row]:
    """Hear everything with these gates."""
    engine = load_engine(model, device="cpu", gates=gates)
    rows = []
    for line in corpus:
        heard = []
        for utterances in line.utterances:
            jobs = [AsrJob(pcm=pcm, sample_rate_hz=SAMPLE_RATE_HZ, language="en") for pcm in utterances]
            heard.append(" ".join(transcript.text for transcript in engine.transcribe(jobs)).strip())
        wer = score(line.words, heard, "en").wer if any(line.words) else None
        rows.append(
            Row(
                kind=line.kind,
                condition=line.condition,
                n=len(line.utterances),
                found=sum(bool(utterances) for utterances in line.utterances),
                with_words=sum(bool(text) for text in heard),
                wer_pct=None if wer is None else 100 * wer,
            )
        )
    return rows


def table(rows: Sequence[Row], unguarded: Sequence[Row]) -> str:
    """Markdown; `unguarded` are the same calls on the bare path: it tells a lost caller from an unheard one."""
    text = [
        "| said | line | n | with words, bare | found by the detector | with words | lost, % | WER, bare | WER |",
        "| --- " * 9 + "|",
    ]
    for row, free in zip(rows, unguarded, strict=True):
        cells = [row.kind, row.condition, str(row.n), str(free.with_words), str(row.found), str(row.with_words)]
        if row.wer_pct is None or free.wer_pct is None:
            cells += ["", "", ""]
        else:
            cells += [f"{lost_pct([row], [free]):.1f}", f"{free.wer_pct:.1f}", f"{row.wer_pct:.1f}"]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def lost_pct(rows: Sequence[Row], unguarded: Sequence[Row]) -> float:
    """Callers stopped by detector or gates, of those that had words on the bare path."""
    return 100 * (1 - sum(row.with_words for row in rows) / max(1, sum(row.with_words for row in unguarded)))


def summary(rows: Sequence[Row], unguarded: Sequence[Row]) -> str:
    """One line of the trade-off: callers lost by condition, noise and sounds with words; all in %."""
    cells = []
    for condition in CONDITIONS:
        of = [index for index, row in enumerate(rows) if row.condition == condition]
        cells.append(f"{lost_pct([rows[i] for i in of], [unguarded[i] for i in of]):.1f}")
    for kind in (RECORDED, MADE):
        noise = [row for row in rows if row.kind == kind]
        cells.append(f"{100 * sum(row.with_words for row in noise) / max(1, sum(row.n for row in noise)):.1f}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--model", default=str(bundled_model_path()))
    parser.add_argument("--evidence", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--detector", type=DetectorKind, choices=list(DetectorKind), default=DetectorKind.AUTO)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    gates = read_profile(Path(arguments.model), "").gates
    test = arguments.evidence is None
    bare = list(lines(arguments.data, DetectorKind.WEBRTC, test=test))
    unguarded = measure(arguments.model, OPEN, bare)
    corpus = list(lines(arguments.data, arguments.detector, test=test))
    heads = [
        "least evidence",
        *(f"lost {condition}" for condition in CONDITIONS),
        "noise with words",
        "made with words",
    ]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for least in arguments.evidence or [gates.min_evidence]:
        rows = measure(arguments.model, dataclasses.replace(gates, min_evidence=least), corpus)
        print(f"| {least:g} | {summary(rows, unguarded)} |", flush=True)
    print(f"\n{table(rows, unguarded)}")
    if arguments.json is not None:
        report = {"machine": describe_machine(), "gates": asdict(gates), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
