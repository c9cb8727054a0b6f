"""The model card: what the recogniser hears, what it does not, and every figure by kind of test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audio.recipe.evaluation_sets import CONDITIONS
from audio.recipe.scoring import Figure

__all__ = ["CardFacts", "write_card"]

HEADINGS = {"clean": "clean", "mulaw": "mu-law", "alaw": "A-law", "noise10": "noise 10 dB"}

INTRODUCTION = """\
A small English recogniser for telephone speech in Whisper's architecture, made to let a fresh checkout
work without a network: first run, tests and demo. It loads through `faster_whisper.WhisperModel`.

**It hears** digits and digit strings, short answers, and sentences of the demo bot's domain (a bill
reminder: promises to pay, dates, amounts, disputes, "call me back", references), spoken clearly.
**It does not hear** free conversation by human callers, unusual names, or words outside its training; there
it writes something wrong that may look sure. Production wants stock Whisper weights: `--model small`.
It writes lower-case words without punctuation, digits spelled out. Its decoder completes sentences it
knows, so only the rows on new templates say how it does on new text.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What the card tells of a training. `started_from` names the model of a warm start, "" for none; `held_out` are
    speakers kept for tests by name; `baseline` is its name in the comparing column, with `baseline_figures` on the
    same clips."""

    name: str
    version: str
    parameters: int
    size_bytes: int
    presentations: int
    minutes: float
    seed: str
    started_from: str
    voices: Sequence[str]
    test_voices: Sequence[str]
    recordings: Sequence[str]
    held_out: Sequence[str] = ()
    figures: Sequence[Figure]
    baseline: str = ""
    baseline_figures: Sequence[Figure] = ()


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the card as Markdown."""
    sections = [
        f"# {facts.name} {facts.version}\n\n{INTRODUCTION}",
        _training(facts),
        _data(facts),
        _figures(facts),
        _rejection(facts),
        LIMITS,
    ]
    path.write_text("\n".join(sections))


LIMITS = """\
## Limits
- Most training speech is synthetic; the rows on synthetic voices that training never used are the honest
  measure for the demo's callers, and say little about people. The rows on people are few and of single words
  or digits.
- Human sentences: see the row on Common Voice, if there is one. Do not expect to be understood.
- Noise: gates (energy, average log-probability, no-speech probability) stand before and after it; some noise
  still gives words.
- Trained by `voicegate asr train`; the same command and seed make an equal recipe, not equal bits: the examples
  of a resumed run depend on where it was resumed.
"""


def _training(facts: CardFacts) -> str:
    start = (
        f"Weights were taken from `{facts.started_from}`, a model of the same shape and tokenizer, at the start: "
        "what that model had heard counts as heard here too, recordings that are tests here among it"
        + (f"; it never heard {', '.join(facts.held_out)} either. " if facts.held_out else ". ")
        if facts.started_from
        else "Trained from random weights. "
    ) + (
        "Of the Free Spoken Digit Dataset, rows on known speakers are of people that training heard, in recordings it "
        "did not" + (" (its start may have)." if facts.started_from else ".")
    )
    return (
        "## Training\n"
        f"{facts.parameters / 1e6:.1f} M parameters, {facts.size_bytes / 1e6:.1f} MB in int8. "
        f"{facts.presentations:,} presentations in {facts.minutes:.0f} minutes of training time, seed {facts.seed}. "
        f"{start}\n"
    )


def _data(facts: CardFacts) -> str:
    lines = [f"- Speech made by {voice}" for voice in facts.voices]
    lines += [f"- {line}" for line in facts.recordings]
    lines.append("- Text: the recipe's own phrase grammar; requests of BANKING77 (CC BY 4.0)")
    held = "; ".join(facts.test_voices)
    also = f", and {', '.join(facts.held_out)}" if facts.held_out else ""
    return (
        "## Training data and licences\n"
        + "\n".join(lines)
        + f"\n\nKept for tests: {held}; every tenth human speaker{also}; one phrase template in eight; "
        "recorded noises of a kitchen and a running tap.\n"
    )


def _figures(facts: CardFacts) -> str:
    """Word error rates by test (rows) and condition (columns)."""
    by_title: dict[str, dict[str, Figure]] = {}
    for figure in facts.figures:
        if figure.wer is not None:
            by_title.setdefault(figure.title, {})[figure.condition] = figure
    before = {
        figure.title: figure.wer
        for figure in facts.baseline_figures
        if figure.wer is not None and figure.condition == CONDITIONS[0]
    }
    head = ["test", "clips", *(HEADINGS[name] for name in CONDITIONS), "all words right (clean)"]
    if before:
        head.append(f"{facts.baseline}, clean")
    rows = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for title, figures in by_title.items():
        clean = figures[CONDITIONS[0]]
        cells = [title, str(clean.count)]
        cells += [_percent(figures[name].wer) if name in figures else "" for name in CONDITIONS]
        cells.append(_percent(clean.exact))
        if before:
            cells.append(_percent(before.get(title)))
        rows.append("| " + " | ".join(cells) + " |")
    return (
        "## Word error rate, per cent\n"
        "Three beams, int8, gates included, one core. mu-law and A-law: 300-3400 Hz and G.711 there and back; "
        "noise 10 dB: made noise, then mu-law.\n\n" + "\n".join(rows) + "\n"
    )


def _rejection(facts: CardFacts) -> str:
    before = {figure.title: figure.words_share for figure in facts.baseline_figures if figure.wer is None}
    lines = [
        f"- {figure.title}: {_percent(figure.words_share)} % of {figure.count} pieces gave words"
        + (f" ({facts.baseline}: {_percent(before[figure.title])} %)" if figure.title in before else "")
        for figure in facts.figures
        if figure.wer is None
    ]
    return "## Sounds without words, gates included\n" + "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
