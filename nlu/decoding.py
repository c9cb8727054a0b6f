"""Model scores to meanings: intent with its probability, the out-of-scope decision, slots in raw offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlu.agreement import Agreement
from nlu.calibration import energies
from nlu.crf import Transitions, bio_rules, viterbi
from nlu.labels import SlotTags
from nlu.meaning import OUT_OF_SCOPE, Meaning, Slot
from nlu.scope import Scope
from nlu.tokens import Line

__all__ = ["Decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The labels of a model and what was fitted to it after training.

    `transitions` are scores of tag pairs, the rules of BIO where None; without an `agreement` the slots have no say
    in the intent; without a `scope` (while a model is being trained) energy alone says what is in scope.
    """

    intents: tuple[str, ...]
    tags: SlotTags
    transitions: Transitions | None = None
    agreement: Agreement | None = None
    scope: Scope | None = None
    temperature: float = 1.0
    threshold: float = -math.inf

    def decode(
        self,
        lines: Sequence[Line],
        intent_scores: Tensor,
        tag_scores: Tensor,
        wordings: Tensor,
        *,
        reject: bool = True,
    ) -> list[Meaning]:
        """Meanings of a batch, in its order.

        Args:
            lines: the texts behind the scores.
            intent_scores: float32 (lines, intents).
            tag_scores: float32 (lines, words, tags).
            wordings: float32 (lines, size).
            reject: whether text may be found out of scope.

        Returns:
            A rejected line keeps its slots (a digit string is one, whatever the intent), and its score is that
            of the best intent all the same.
        """
        probabilities = (intent_scores / self.temperature).softmax(dim=1).cpu()
        out_of_scope = self.scope_scores(intent_scores, wordings) < self.threshold
        transitions = bio_rules(self.tags) if self.transitions is None else self.transitions
        tag_scores = tag_scores.cpu()
        counts = [len(line.words) for line in lines]
        tags = viterbi(tag_scores.numpy(), counts, transitions)
        if self.agreement:
            word_counts = torch.tensor(counts).clamp_min(1)
            best = self.agreement.best_intents(probabilities, tag_scores, word_counts, torch.from_numpy(transitions))
        else:
            best = probabilities.argmax(dim=1)
        scores = probabilities.gather(1, best[:, None])[:, 0]
        return [
            Meaning(OUT_OF_SCOPE if reject and rejected else self.intents[intent], score, self._slots(line, path))
            for line, path, score, intent, rejected in zip(
                lines, tags, scores.tolist(), best.tolist(), out_of_scope.tolist(), strict=True
            )
        ]

    def scope_scores(self, intent_scores: Tensor, wordings: Tensor) -> Tensor:
        """How much each line is in scope, (lines,); compare with `threshold`."""
        return self.scope.scores(intent_scores, wordings) if self.scope else energies(intent_scores)

    def _slots(self, line: Line, tags: list[int]) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        for span in self.tags.spans(tags, line.words):
            start, end = line.normal.to_raw(span.start, span.end)
            if slots and start < slots[-1].end:  # two halves of one rewritten number: the first has it all
                continue
            slots.append(Slot(span.name, line.normal.raw[start:end], start, end))
        return tuple(slots)
