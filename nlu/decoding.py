"""Model scores to meanings: intent with its probability, the out-of-scope decision, slots in raw offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nlu.calibration import energies
from nlu.labels import SlotTags
from nlu.meaning import OUT_OF_SCOPE, Meaning, Slot
from nlu.tokens import Line

__all__ = ["Decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The labels of a model and its two fitted numbers (see `nlu.calibration`)."""

    intents: tuple[str, ...]
    tags: SlotTags
    temperature: float = 1.0
    threshold: float = -math.inf

    def decode(
        self, lines: Sequence[Line], intent_scores: Tensor, tag_scores: Tensor, *, reject: bool = True
    ) -> list[Meaning]:
        """Meanings of a batch, in its order.

        Args:
            lines: the texts behind the scores.
            intent_scores: float32 (lines, intents).
            tag_scores: float32 (lines, words, tags).
            reject: whether text may be found out of scope.

        Returns:
            A rejected line keeps its slots (a digit string is one, whatever the intent), and its score is that
            of the best intent all the same.
        """
        scores, best = (intent_scores / self.temperature).softmax(dim=1).max(dim=1)
        out_of_scope = energies(intent_scores) < self.threshold
        tag_rows = tag_scores.cpu().numpy()
        return [
            Meaning(
                OUT_OF_SCOPE if reject and rejected else self.intents[intent],
                score,
                self._slots(line, self.tags.decode(rows[: len(line.words)])),
            )
            for line, rows, score, intent, rejected in zip(
                lines, tag_rows, scores.tolist(), best.tolist(), out_of_scope.tolist(), strict=True
            )
        ]

    def _slots(self, line: Line, tags: list[int]) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        for span in self.tags.spans(tags, line.words):
            start, end = line.normal.to_raw(span.start, span.end)
            if slots and start < slots[-1].end:  # two halves of one rewritten number: the first has it all
                continue
            slots.append(Slot(span.name, line.normal.raw[start:end], start, end))
        return tuple(slots)
