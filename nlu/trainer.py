"""The learning itself: samples, batches, losses, the optimizer, which weights are kept, and taking a run up again.

`nlu.training` gives it a model and examples and makes an artefact of what comes out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nlu.averaging import WeightMean
from nlu.calibration import energies
from nlu.checkpoint import Checkpoint, CheckpointFile
from nlu.data import Example
from nlu.decoding import Decoder
from nlu.engine import compute_dtype
from nlu.evaluation import Evaluation, evaluate
from nlu.labels import Span
from nlu.meaning import Meaning
from nlu.model import JointModel, Scores
from nlu.noise import Noise
from nlu.schedule import Schedule
from nlu.tokens import Batch, Line, LineReader, collate

__all__ = ["Progress", "Scored", "Trainer"]

_IGNORED = -100  # torch's own default for "no target here"
_SORT_WINDOW = 50  # batches shuffled together, then sorted by length: little padding, still random
_SCORED_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training run is. `epochs` counts cycles too; `dev` is the score of the last finished epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    dev: Evaluation | None


@dataclass(frozen=True, slots=True)
class _Sample:
    """A line with its targets; `intent` is `_IGNORED` where it is out of scope or unknown to training."""

    line: Line
    intent: int
    tags: tuple[int, ...]
    in_scope: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A model's view of labelled lines: `intent_scores` (lines, intents) and `wordings` (lines, size), float32.

    `intents` int64 (lines,) are the right ones where `known`: that is not so for lines out of scope, nor for intents
    that training never showed.
    """

    intent_scores: Tensor
    wordings: Tensor
    intents: Tensor
    known: Tensor
    in_scope: Tensor


class Trainer:
    """A model being trained, and the best weights so far.

    Args:
        model: on its device; changed in place.
        schedule: how long and how fast.
        decoder: the labels.
        reader: how texts are read.
        noise: what makes noisy copies; None for a language without.
        seed: of the order of lines and of the noise (the weights' is torch's own generator).
    """

    def __init__(
        self,
        model: JointModel,
        schedule: Schedule,
        decoder: Decoder,
        reader: LineReader,
        noise: Noise | None,
        seed: int,
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._decoder = decoder
        self._reader = reader
        self._noise = noise
        self._device = next(model.parameters()).device
        self._dtype = compute_dtype(self._device)
        self._chance = random.Random(seed)
        self._rejection = nn.Linear(1, 1).to(self._device)  # energy -> log odds of being in scope
        nn.init.ones_(self._rejection.weight)
        nn.init.zeros_(self._rejection.bias)
        self._optimizer = self._new_optimizer()
        self._mean = WeightMean()  # of the best weights before the cycles and those at the end of each
        self._best_score: tuple[float, float] | None = None
        self.best_state: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.epochs_run = 0

    def run(
        self,
        training: Sequence[Example],
        dev: Sequence[Example],
        checkpoints: CheckpointFile,
        fingerprint: str,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Learn while there are epochs and dev improves, then in cycles; go on from a checkpoint where there is one.

        Raises:
            CheckpointError: the checkpoint is broken or of another run, or none can be written.
        """
        schedule = self._schedule
        if found := checkpoints.read(fingerprint):
            self._restore(found)
        clean = [self._sample(example) for example in training]
        copies = round(schedule.noisy_share * len(training)) if self._noise else 0
        steps = -(-(len(clean) + copies) // schedule.batch_size)
        score: Evaluation | None = None
        while self._goes_on():
            cycling = self._mean.count > 0
            samples = [*clean, *self._noisy(training, copies)]
            self._model.train()
            for step, batch in enumerate(self._batches(samples)):
                done = step / steps if cycling else (self.epochs_run * steps + step) / (schedule.epochs * steps)
                self._set_rates(schedule.rate(done) * (schedule.cycle_rate if cycling else 1.0))
                self._optimizer.zero_grad(set_to_none=True)
                loss = self._loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self._model.parameters(), schedule.gradient_norm)
                self._optimizer.step()
                if progress:
                    progress(
                        Progress(
                            epoch=self.epochs_run + 1,
                            epochs=schedule.epochs + schedule.cycles,
                            step=step + 1,
                            steps=steps,
                            loss=float(loss.detach()),
                            dev=score,
                        )
                    )
            self.epochs_run += 1
            score = self._keep_mean(dev) if cycling else self._keep_if_best(dev)
            if schedule.cycles and not cycling and not self._goes_on():
                self._begin_cycles()
            checkpoints.write(Checkpoint(epoch=self.epochs_run, fingerprint=fingerprint, state=self._state()))

    def predict(self, texts: list[str], *, reject: bool = True) -> list[Meaning]:
        """Meanings under the present weights: what `evaluate` asks for."""
        lines = [self._reader.read(text) for text in texts]
        return self._decoder.decode(lines, *self._scores(lines), reject=reject)

    def best_scores(self, examples: Sequence[Example]) -> Scored:
        """What the best weights make of examples, in order of length; the model has these weights from then on."""
        self._model.load_state_dict(self.best_state, strict=False)
        samples = sorted(map(self._sample, examples), key=lambda sample: len(sample.line.ids))
        parts = [self._scores([sample.line for sample in piece]) for piece in _pieces(samples)]
        return Scored(
            intent_scores=torch.cat([part.intents.cpu() for part in parts]),
            wordings=torch.cat([part.wordings.cpu() for part in parts]),
            intents=torch.tensor([sample.intent for sample in samples]),
            known=torch.tensor([sample.intent != _IGNORED for sample in samples]),
            in_scope=torch.tensor([sample.in_scope for sample in samples]),
        )

    def wordings(self, examples: Sequence[Example]) -> Tensor:
        """Wordings of examples under the present weights, float32 (lines, size), in order of length."""
        lines = sorted((self._reader.read(example.text) for example in examples), key=lambda line: len(line.ids))
        self._model.eval()
        with torch.inference_mode():
            batches = [collate(piece).to(self._device) for piece in _pieces(lines)]
            return torch.cat([self._model.bert.wordings(batch.ids, batch.mask).cpu() for batch in batches])

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

    def _noisy(self, training: Sequence[Example], copies: int) -> Iterator[_Sample]:
        """Copies of some lines, other ones and other errors in every epoch."""
        if self._noise:
            for example in self._chance.sample(training, copies):
                rate = self._chance.uniform(*self._schedule.noise_rates)
                yield self._sample(self._noise.noisy(example, rate, self._chance))

    def _batches(self, samples: list[_Sample]) -> Iterator[Sequence[_Sample]]:
        """All samples once, in a random order of batches of about one length."""
        size = self._schedule.batch_size
        self._chance.shuffle(samples)
        batches: list[Sequence[_Sample]] = []
        for start in range(0, len(samples), size * _SORT_WINDOW):
            window = sorted(samples[start : start + size * _SORT_WINDOW], key=lambda s: len(s.line.ids))
            batches += [window[first : first + size] for first in range(0, len(window), size)]
        self._chance.shuffle(batches)
        return iter(batches)

    def _loss(self, samples: Sequence[_Sample]) -> Tensor:
        batch = collate([sample.line for sample in samples])
        intents = torch.tensor([sample.intent for sample in samples], device=self._device)
        tags = torch.full(batch.heads.shape, _IGNORED)
        for row, sample in enumerate(samples):
            tags[row, : len(sample.tags)] = torch.tensor(sample.tags, dtype=torch.int64)
        scores = self._forward(batch)
        # Summed and divided by hand: a batch may have no line in scope, and a mean of nothing is NaN.
        intent_loss = functional.cross_entropy(scores.intents, intents, reduction="sum") / len(samples)
        loss = intent_loss + self._slot_loss(scores, tags.to(self._device), batch.word_counts)
        if any(not sample.in_scope for sample in samples):
            in_scope = torch.tensor([float(sample.in_scope) for sample in samples], device=self._device)
            odds = self._rejection(energies(scores.intents)[:, None])[:, 0]
            loss = loss + functional.binary_cross_entropy_with_logits(odds, in_scope)
        return loss

    def _slot_loss(self, scores: Scores, tags: Tensor, word_counts: Tensor) -> Tensor:
        """Mean over words, with the CRF too, so that the balance with the intents does not hang on the decoder."""
        words = max(1, int((tags != _IGNORED).sum()))
        crf = self._model.head.crf
        if crf is None or len(self._decoder.tags) == 1:
            return functional.cross_entropy(scores.tags.flatten(0, 1), tags.flatten(), reduction="sum") / words
        worded = tags[:, 0] != _IGNORED  # a line without words has no tags
        counts = word_counts[worded.cpu()]
        return crf.negative_log_likelihood(scores.tags[worded], tags[worded], counts).sum() / words

    def _forward(self, batch: Batch) -> Scores:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            scores: Scores = self._model(batch.to(self._device))
        return scores

    def _scores(self, lines: Sequence[Line]) -> Scores:
        self._model.eval()
        with torch.inference_mode():
            return self._forward(collate(lines))

    def _new_optimizer(self) -> torch.optim.AdamW:
        schedule = self._schedule
        return torch.optim.AdamW(
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

    def _set_rates(self, share: float) -> None:
        """Learn at this share of the schedule's rates from now on."""
        rates = (self._schedule.encoder_rate, self._schedule.head_rate)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share

    def _goes_on(self) -> bool:
        """Whether another epoch is to come: a cycle once these have begun, before them one while dev improves."""
        schedule = self._schedule
        if self._mean.count:
            return self._mean.count <= schedule.cycles
        return self.epochs_run < schedule.epochs and self.epochs_run - self.best_epoch < schedule.patience

    def _begin_cycles(self) -> None:
        """Go back to the best weights, and learn from there as if for the first time."""
        self._model.load_state_dict(self.best_state, strict=False)
        self._mean.add(self.best_state)
        self._optimizer = self._new_optimizer()

    def _keep_if_best(self, dev: Sequence[Example]) -> Evaluation:
        """Score dev; intents and slots count alike, whole sentences decide between equals, then the later epoch."""
        result = self._score(dev)
        parts = [part for part in (result.intent_accuracy, result.slot_f1) if part is not None]
        score = (sum(parts) / max(1, len(parts)), result.sentence_accuracy or 0.0)
        if self._best_score is None or score >= self._best_score:
            self._best_score, self.best_epoch = score, self.epochs_run
            self.best_state = self._learnt()
        return result

    def _keep_mean(self, dev: Sequence[Example]) -> Evaluation:
        """Keep the mean with the present weights in it, and go on from the present weights, not from the mean.

        Whatever dev says of it: the best of many epochs was chosen on these lines, which flatters it there, and the
        mean is the better of the two on lines that neither saw.
        """
        present = self._learnt()
        self._mean.add(present)
        self._model.load_state_dict(self._mean.weights, strict=False)
        result = self._score(dev)
        self.best_epoch, self.best_state = self.epochs_run, self._mean.weights
        self._model.load_state_dict(present, strict=False)
        return result

    def _score(self, dev: Sequence[Example]) -> Evaluation:
        """What the present weights make of dev."""
        self._decoder = dataclasses.replace(self._decoder, transitions=self._model.head.transitions())
        return evaluate(self, dev)

    def _learnt(self) -> dict[str, Tensor]:
        """A copy of all weights that training changes."""
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self._model.state_dict().items()
            if not name.startswith("bert.embeddings.")
        }

    def _state(self) -> dict[str, object]:
        """All that `_restore` needs to go on as if nothing had happened."""
        return {
            "weights": self._learnt(),
            "rejection": self._rejection.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best_score": self._best_score,
            "best_epoch": self.best_epoch,
            "best_state": self.best_state,
            "mean_count": self._mean.count,
            "mean_weights": self._mean.weights,
            "chance": self._chance.getstate(),
            "torch": torch.get_rng_state(),
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        state: dict[str, Any] = dict(checkpoint.state)
        self._model.load_state_dict(state["weights"], strict=False)
        self._rejection.load_state_dict(state["rejection"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.best_state = state["best_state"]
        self._mean = WeightMean(state["mean_count"], state["mean_weights"])
        self._chance.setstate(state["chance"])
        torch.set_rng_state(state["torch"])
        self.epochs_run = checkpoint.epoch


_T = TypeVar("_T")


def _pieces(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[first : first + _SCORED_AT_ONCE] for first in range(0, len(items), _SCORED_AT_ONCE))
