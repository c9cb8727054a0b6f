"""Training a joint model from a file of examples.

The whole recipe: word embeddings stay as pretrained, encoder layers learn slowly, the head fast; warm-up, then a
linear fall to zero; beside every epoch's lines stand noisy copies of some; the dev score after every epoch decides
which weights are kept and when to stop. Afterwards temperature, scope and out-of-scope threshold are fitted on dev, the
artefact is written, and what is reported are the figures of that artefact, read back from disk.

Out-of-scope lines ("oos"), where the training file has them, teach the energy of the scores to be low on them
(a logistic loss on the energy, after Du et al. 2022, "VOS"); they are never a class.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nlu.agreement import Agreement
from nlu.artefact import Manifest, write_artefact
from nlu.calibration import fit_temperature, fit_threshold, middle_threshold
from nlu.checkpoint import CheckpointFile, fingerprint
from nlu.data import DataError, Dataset, DataWarning, Example, hold_out, read_dataset, unseen_labels
from nlu.decoding import Decoder
from nlu.encoders import EncoderSource, default_encoder, find_encoder
from nlu.engine import NluEngine, pick_device
from nlu.evaluation import Evaluation
from nlu.homophones import ChineseNoise
from nlu.labels import SlotTags
from nlu.languages import primary_language
from nlu.model import HeadConfig, JointModel, Recurrence, SlotDecoding
from nlu.noise import EnglishNoise, Noise
from nlu.report import Report, report_on
from nlu.schedule import Schedule, computing_with, threads_for
from nlu.scope import Scope
from nlu.tokens import LineReader
from nlu.trainer import Progress, Trainer

__all__ = ["Progress", "TrainConfig", "TrainingSummary", "train"]

_DEV_SHARE = 0.1
_ENOUGH_DEV_LINES = 20
"""With fewer, the threshold of what is out of scope is mostly allowance for their scatter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run.

    Without `dev`, a tenth of the training lines is held out. `epochs` and `threads` override what the number of
    examples suggests (see `nlu.schedule`).
    """

    train: Path
    out: Path
    dev: Path | None = None
    language: str = "en"
    encoder: str | None = None
    seed: int = 1
    epochs: int | None = None
    threads: int | None = None
    max_tokens: int = 128
    recurrence: Recurrence = Recurrence.GRU
    decoding: SlotDecoding = SlotDecoding.CRF
    head_size: int = 128
    device: str = "auto"
    resume: bool = False
    """Go on where an interrupted run in `out` stopped; without, it is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What a training run gave. `dev` are the figures of the artefact as written, rejection as in `evaluate`."""

    out: Path
    version: str
    encoder: str
    examples: int
    dev_examples: int
    intents: int
    slots: int
    epochs: int
    best_epoch: int
    threads: int
    seconds: float
    lines_per_second: float
    size_bytes: int
    temperature: float
    oos_threshold: float
    dev: Evaluation
    warnings: tuple[DataWarning, ...] = field(repr=False)
    report: Report = field(repr=False)


def train(config: TrainConfig, progress: Callable[[Progress], None] | None = None) -> TrainingSummary:
    """Train, and write the artefact to `config.out`.

    The same data, seed, number of threads and machine give the same bytes, with or without an interruption.

    Args:
        config: the run.
        progress: called after every step.

    Raises:
        DataError: a file of examples is unreadable, malformed, or has no example in scope.
        EncoderError: the encoder cannot be found or read.
        ArtefactError: `config.out` cannot be written.
        CheckpointError: the run to resume is another one, or its state cannot be read or written.
    """
    began = time.monotonic()
    training, dev, warnings = _read(config)
    files = find_encoder(config.encoder or default_encoder(config.language))
    max_tokens = min(config.max_tokens, files.max_positions)
    reader = LineReader(files.read_tokenizer(), max_tokens)
    too_long = [
        *_too_long(config.train, training, reader, max_tokens),
        *_too_long(config.dev or config.train, dev, reader, max_tokens),
    ]
    warnings = (*warnings, *dict.fromkeys(too_long))  # where lines are few, those of dev are those of training
    intents = tuple(sorted({e.intent for e in training if e.in_scope}))
    tags = SlotTags.of(slot.name for e in training for slot in e.slots)
    decoder = Decoder(intents=intents, tags=tags, agreement=Agreement.fit(training, intents, tags))
    schedule = Schedule.for_size(len(training), config.epochs, pretrained=files.pretrained)
    checkpoints = CheckpointFile(config.out)
    if not config.resume:
        checkpoints.remove()
    threads = config.threads or checkpoints.threads() or threads_for(len(training))
    with torch.random.fork_rng(), computing_with(threads):
        torch.manual_seed(config.seed)
        model = JointModel(files.read_encoder(), _head(config, decoder)).to(pick_device(config.device))
        trainer = Trainer(model, schedule, decoder, reader, _noise(config.language, files, training), config.seed)
        trainer.run(training, dev, checkpoints, _identity(config, schedule, threads, files, training, dev), progress)
        learned = time.monotonic() - began
        decoder = _fitted(trainer, decoder, training, dev)
        warnings = (*warnings, *_hardly_rejecting(config, training, dev, decoder.threshold))
        manifest = Manifest(
            name=config.out.name or "nlu",
            language=config.language,
            encoder=files.name,
            encoder_sha256=files.sha256(),
            intents=decoder.intents,
            slots=decoder.tags.names,
            head_size=config.head_size,
            recurrence=config.recurrence,
            decoding=config.decoding,
            max_tokens=max_tokens,
            temperature=decoder.temperature,
            oos_threshold=decoder.threshold,
            created_by=f"voicegate {importlib.metadata.version('voicegate')}, torch {torch.__version__}",
            training={
                "examples": len(training),
                "dev_examples": len(dev),
                "seed": config.seed,
                "threads": threads,
                "best_epoch": trainer.best_epoch,
                **dataclasses.asdict(schedule),
            },
        )
        scope = decoder.scope.state() if decoder.scope else {}
        agreement = decoder.agreement.state() if decoder.agreement else {}
        version = write_artefact(config.out, manifest, trainer.best_state | scope | agreement)
        checkpoints.remove()
        engine = NluEngine.load(config.out, config.device, encoder=config.encoder)
        report = report_on(engine, Dataset(str(config.dev or config.train), tuple(dev)))
    return TrainingSummary(
        out=config.out,
        version=version,
        encoder=files.name,
        examples=len(training),
        dev_examples=len(dev),
        intents=len(decoder.intents),
        slots=len(decoder.tags.names),
        epochs=trainer.epochs_run,
        best_epoch=trainer.best_epoch,
        threads=threads,
        seconds=time.monotonic() - began,
        lines_per_second=trainer.epochs_run * len(training) / learned,
        size_bytes=sum(file.stat().st_size for file in config.out.iterdir()),
        temperature=decoder.temperature,
        oos_threshold=decoder.threshold,
        dev=report.evaluation,
        warnings=warnings,
        report=report,
    )


def _too_long(file: Path, examples: Sequence[Example], reader: LineReader, max_tokens: int) -> Iterator[DataWarning]:
    """Warnings for lines of which the model sees the beginning only."""
    for example in examples:
        # A token is a character at least, or half of one ("¥", said): most lines need no second look.
        if len(example.text) > max_tokens // 2 and not reader.reads_whole(example.text):
            yield DataWarning(str(file), example.line, f"longer than {max_tokens} tokens: what is beyond is not read")


def _head(config: TrainConfig, decoder: Decoder) -> HeadConfig:
    return HeadConfig(
        intents=len(decoder.intents),
        tags=decoder.tags,
        size=config.head_size,
        recurrence=config.recurrence,
        decoding=config.decoding,
    )


def _noise(language: str, files: EncoderSource, training: Sequence[Example]) -> Noise | None:
    """How a recogniser of the language errs; None where nothing here knows."""
    texts = [example.text for example in training]
    match primary_language(language):
        case "en":
            return EnglishNoise.of(files.read_tokenizer().get_vocab(), texts)
        case "zh":
            return ChineseNoise(texts)
        case _:
            return None


def _identity(
    config: TrainConfig,
    schedule: Schedule,
    threads: int,
    files: EncoderSource,
    training: Sequence[Example],
    dev: Sequence[Example],
) -> str:
    """What makes a run the same run; see `nlu.checkpoint`."""
    head = (config.recurrence, config.decoding, config.head_size)
    numbers = (config.seed, threads, config.max_tokens)
    return fingerprint([schedule, head, numbers, files.sha256(), tuple(training), tuple(dev)])


def _fitted(trainer: Trainer, decoder: Decoder, training: Sequence[Example], dev: Sequence[Example]) -> Decoder:
    """The decoder with all that is fitted after learning, for the best weights."""
    scored = trainer.best_scores(dev)
    known = scored.known
    held_out = _held_out(training, dev)
    scope = Scope.fit(
        trainer.wordings([example for example in training if example.in_scope]),
        scored.intent_scores[known],
        scored.wordings[known],
        held_out=held_out,
    )
    values = scope.scores(scored.intent_scores, scored.wordings)
    threshold = fit_threshold if held_out else middle_threshold
    return dataclasses.replace(
        decoder,
        scope=scope,
        temperature=fit_temperature(scored.intent_scores[known], scored.intents[known]),
        threshold=threshold(values[known], values[~scored.in_scope]),
    )


def _held_out(training: Sequence[Example], dev: Sequence[Example]) -> bool:
    """Whether dev lines are others than those learnt from."""
    return list(dev) != list(training)


def _hardly_rejecting(
    config: TrainConfig, training: Sequence[Example], dev: Sequence[Example], threshold: float
) -> Iterator[DataWarning]:
    """A warning where what is out of scope is a guess."""
    held_out, judges = _held_out(training, dev), sum(example.in_scope for example in dev)
    if held_out and judges >= _ENOUGH_DEV_LINES:
        return
    if held_out:
        why = f"{judges} lines to judge by"
    else:
        why = "these are the lines learnt from" if config.dev else "too few examples to keep some for judging by"
    if threshold == -math.inf:
        what = "nothing will be refused as out of scope"
    else:
        what = "only what is far out of scope will be refused" if held_out else "what is out of scope is a guess"
    mend = f'{10 * _ENOUGH_DEV_LINES} examples, or {_ENOUGH_DEV_LINES} in a --dev file, and lines of intent "oos"'
    yield DataWarning(str(config.dev or config.train), 0, f"{why}: {what}; {mend}, tell it better")


def _read(config: TrainConfig) -> tuple[Sequence[Example], Sequence[Example], tuple[DataWarning, ...]]:
    """Training and dev lines, and what was odd in their files."""
    dataset = read_dataset(config.train)
    if not any(example.in_scope for example in dataset.examples):
        raise DataError(f"{config.train}: every line is out of scope; add examples of the bot's intents")
    if config.dev is None:
        training, held_out = hold_out(dataset.examples, _DEV_SHARE)
        # Too few lines to spare any: the training lines themselves choose the epoch.
        dev = Dataset(dataset.file, tuple(held_out or training))
        return training, dev.examples, (*dataset.warnings, *unseen_labels(training, dev))
    dev = read_dataset(config.dev)
    return (
        dataset.examples,
        dev.examples,
        (*dataset.warnings, *dev.warnings, *unseen_labels(dataset.examples, dev)),
    )
