"""Training a joint model from a file of examples.

The whole recipe: word embeddings stay as pretrained, encoder layers learn slowly, the head fast; warm-up, then a
linear fall to zero; the dev score after every epoch decides which weights are kept and when to stop. Afterwards
temperature and out-of-scope threshold are fitted on dev, the artefact is written, and what is reported are the
figures of that artefact, read back from disk.

Out-of-scope lines ("oos"), where the training file has them, teach the energy of the scores to be low on them
(a logistic loss on the energy, after Du et al. 2022, "VOS"); they are never a class.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nlu.artefact import Manifest, write_artefact
from nlu.calibration import energies, fit_temperature, fit_threshold
from nlu.data import DataError, Dataset, DataWarning, Example, hold_out, read_dataset, unseen_labels
from nlu.decoding import Decoder
from nlu.encoders import default_encoder, find_encoder
from nlu.engine import NluEngine, compute_dtype, pick_device
from nlu.evaluation import Evaluation, evaluate
from nlu.labels import SlotTags, Span
from nlu.meaning import Meaning
from nlu.model import HeadConfig, JointModel
from nlu.schedule import Schedule, computing_with, threads_for
from nlu.tokens import Batch, Line, LineReader, collate

__all__ = ["Progress", "TrainConfig", "TrainingSummary", "train"]

_IGNORED = -100  # torch's own default for "no target here"
_DEV_SHARE = 0.1
_SORT_WINDOW = 50  # batches shuffled together, then sorted by length: little padding, still random


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
    gru_size: int = 128
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training run is. `dev` is the score of the last finished epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    dev: Evaluation | None


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


@dataclass(frozen=True, slots=True)
class _Sample:
    """A line with its targets; `intent` is `_IGNORED` where it is out of scope or unknown to training."""

    line: Line
    intent: int
    tags: tuple[int, ...]
    in_scope: bool


def train(config: TrainConfig, progress: Callable[[Progress], None] | None = None) -> TrainingSummary:
    """Train, and write the artefact to `config.out`.

    The same data, seed, number of threads and machine give the same bytes.

    Args:
        config: the run.
        progress: called after every step.

    Raises:
        DataError: a file of examples is unreadable, malformed, or has no example in scope.
        EncoderError: the encoder cannot be found or read.
        ArtefactError: `config.out` cannot be written.
    """
    began = time.monotonic()
    training, dev, warnings = _read(config)
    files = find_encoder(config.encoder or default_encoder(config.language))
    max_tokens = min(config.max_tokens, files.max_positions)
    reader = LineReader(files.read_tokenizer(), max_tokens)
    decoder = Decoder(
        intents=tuple(sorted({e.intent for e in training if e.in_scope})),
        tags=SlotTags.of(slot.name for e in training for slot in e.slots),
    )
    schedule = Schedule.for_size(len(training), config.epochs, pretrained=files.pretrained)
    head = HeadConfig(intents=len(decoder.intents), tags=len(decoder.tags), gru_size=config.gru_size)
    threads = config.threads or threads_for(len(training))
    with torch.random.fork_rng(), computing_with(threads):
        torch.manual_seed(config.seed)
        model = JointModel(files.read_encoder(), head).to(pick_device(config.device))
        trainer = _Trainer(model, schedule, decoder, reader, config.seed)
        trainer.run(training, dev, progress)
        learned = time.monotonic() - began
        decoder = trainer.calibrated(dev)
        manifest = Manifest(
            name=config.out.name or "nlu",
            language=config.language,
            encoder=files.name,
            encoder_sha256=files.sha256(),
            intents=decoder.intents,
            slots=decoder.tags.names,
            gru_size=config.gru_size,
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
        version = write_artefact(config.out, manifest, trainer.best_state)
        engine = NluEngine.load(config.out, config.device, encoder=config.encoder)
        dev_figures = evaluate(engine, dev)
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
        dev=dev_figures,
        warnings=warnings,
    )


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


class _Trainer:
    """A model being trained, and the best weights so far."""

    def __init__(self, model: JointModel, schedule: Schedule, decoder: Decoder, reader: LineReader, seed: int) -> None:
        self._model = model
        self._schedule = schedule
        self._decoder = decoder
        self._reader = reader
        self._device = next(model.parameters()).device
        self._dtype = compute_dtype(self._device)
        self._shuffle = random.Random(seed)
        self._rejection = nn.Linear(1, 1).to(self._device)  # energy -> log odds of being in scope
        nn.init.ones_(self._rejection.weight)
        nn.init.zeros_(self._rejection.bias)
        self._best_score: tuple[float, float] | None = None
        self.best_state: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.epochs_run = 0

    def run(
        self,
        training: Sequence[Example],
        dev: Sequence[Example],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Learn until the schedule ends or dev no longer improves."""
        schedule = self._schedule
        samples = [self._sample(example) for example in training]
        steps = -(-len(samples) // schedule.batch_size)
        optimizer, rates = self._optimizer(schedule.epochs * steps)
        score: Evaluation | None = None
        for epoch in range(1, schedule.epochs + 1):
            self._model.train()
            for step, batch in enumerate(self._batches(samples), start=1):
                optimizer.zero_grad(set_to_none=True)
                loss = self._loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self._model.parameters(), schedule.gradient_norm)
                optimizer.step()
                rates.step()
                if progress:
                    progress(
                        Progress(
                            epoch=epoch,
                            epochs=schedule.epochs,
                            step=step,
                            steps=steps,
                            loss=float(loss.detach()),
                            dev=score,
                        )
                    )
            self.epochs_run = epoch
            score = self._keep_if_best(epoch, dev)
            if epoch - self.best_epoch >= schedule.patience:
                break

    def predict(self, texts: list[str], *, reject: bool = True) -> list[Meaning]:
        """Meanings under the present weights: what `evaluate` asks for."""
        lines = [self._reader.read(text) for text in texts]
        intent_scores, tag_scores = self._scores(lines)
        return self._decoder.decode(lines, intent_scores, tag_scores, reject=reject)

    def calibrated(self, dev: Sequence[Example]) -> Decoder:
        """The decoder with temperature and threshold fitted to the best weights."""
        self._model.load_state_dict(self.best_state, strict=False)
        samples = [self._sample(example) for example in dev]
        order = sorted(samples, key=lambda sample: len(sample.line.ids))
        size = self._schedule.batch_size
        scores = torch.cat(
            [
                self._scores([s.line for s in order[first : first + size]])[0].cpu()
                for first in range(0, len(order), size)
            ]
        )
        intents = torch.tensor([sample.intent for sample in order])
        in_scope = torch.tensor([sample.in_scope for sample in order])
        known = intents != _IGNORED
        energy = energies(scores)
        return dataclasses.replace(
            self._decoder,
            temperature=fit_temperature(scores[known], intents[known]),
            threshold=fit_threshold(energy[known], energy[~in_scope]),
        )

    def _sample(self, example: Example) -> _Sample:
        line = self._reader.read(example.text)
        spans = [
            Span(slot.name, *normal)
            for slot in example.slots
            if (normal := line.normal.to_normal(slot.start, slot.end))
        ]
        intents = self._decoder.intents
        intent = intents.index(example.intent) if example.intent in intents else _IGNORED
        return _Sample(line, intent, tuple(self._decoder.tags.tag(spans, line.words)), example.in_scope)

    def _batches(self, samples: Sequence[_Sample]) -> Iterator[Sequence[_Sample]]:
        """All samples once, in seeded random batches of like lengths."""
        size = self._schedule.batch_size
        order = list(samples)
        self._shuffle.shuffle(order)
        batches: list[Sequence[_Sample]] = []
        for first in range(0, len(order), size * _SORT_WINDOW):
            window = sorted(order[first : first + size * _SORT_WINDOW], key=lambda s: len(s.line.ids))
            batches += [window[start : start + size] for start in range(0, len(window), size)]
        self._shuffle.shuffle(batches)
        return iter(batches)

    def _loss(self, samples: Sequence[_Sample]) -> Tensor:
        batch = collate([sample.line for sample in samples])
        intents = torch.tensor([sample.intent for sample in samples], device=self._device)
        tags = torch.full(batch.heads.shape, _IGNORED)
        for row, sample in enumerate(samples):
            tags[row, : len(sample.tags)] = torch.tensor(sample.tags, dtype=torch.int64)
        intent_scores, tag_scores = self._forward(batch)
        # Summed and divided by hand: a batch may have no line in scope, and a mean of nothing is NaN.
        intent_loss = functional.cross_entropy(intent_scores, intents, reduction="sum") / len(samples)
        slot_loss = functional.cross_entropy(
            tag_scores.flatten(0, 1), tags.to(self._device).flatten(), reduction="sum"
        ) / max(1, int((tags != _IGNORED).sum()))
        loss = intent_loss + slot_loss
        if any(not sample.in_scope for sample in samples):
            in_scope = torch.tensor([float(sample.in_scope) for sample in samples], device=self._device)
            odds = self._rejection(energies(intent_scores)[:, None])[:, 0]
            loss = loss + functional.binary_cross_entropy_with_logits(odds, in_scope)
        return loss

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            scores: tuple[Tensor, Tensor] = self._model(batch.to(self._device))
        return scores

    def _scores(self, lines: Sequence[Line]) -> tuple[Tensor, Tensor]:
        self._model.eval()
        with torch.inference_mode():
            return self._forward(collate(lines))

    def _optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        schedule = self._schedule
        optimizer = torch.optim.AdamW(
            [
                {"params": list(self._model.bert.layers.parameters()), "lr": schedule.encoder_rate},
                {
                    "params": [*self._model.head.parameters(), *self._rejection.parameters()],
                    "lr": schedule.head_rate,
                },
            ],
            weight_decay=schedule.weight_decay,
            fused=True,  # a step of the optimizer takes half the time of the plain one
        )
        warm_up = max(1, round(schedule.warm_up_share * steps))

        def factor(step: int) -> float:
            return min((step + 1) / warm_up, max(0.0, (steps - step) / max(1, steps - warm_up)))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def _keep_if_best(self, epoch: int, dev: Sequence[Example]) -> Evaluation:
        """Score dev; intents and slots count alike, whole sentences decide between equals, then the later epoch."""
        result = evaluate(self, dev)
        parts = [part for part in (result.intent_accuracy, result.slot_f1) if part is not None]
        score = (sum(parts) / max(1, len(parts)), result.sentence_accuracy or 0.0)
        if self._best_score is None or score >= self._best_score:
            self._best_score, self.best_epoch = score, epoch
            self.best_state = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self._model.state_dict().items()
                if not name.startswith("bert.embeddings.")
            }
        return result
