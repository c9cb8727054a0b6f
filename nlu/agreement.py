"""Which slots go with which intent: slots that no example of an intent has speak against it.

Intent and slots are two answers of one model, and where the intent is in doubt the slots often are not: what "see" is
in a line with a film in it is a question that the film decides. So the intents that are likeliest by themselves are
weighed by how much of all that the CRF thinks possible is left once the slots foreign to them are made improbable.

An intent's examples are never all there could be, so a foreign slot is no contradiction: the rule of succession says
how often it may yet come, and where an intent has few examples it says nothing against any slot.

What the slots say changes which intent is best, not the score: scores are calibrated without it, and both answers come
from one encoder, whose errors they share. Figures are in docs/nlu.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nlu.crf import log_partition
from nlu.data import Example
from nlu.labels import SlotTags

__all__ = ["Agreement"]

_CANDIDATES = 3  # the right intent is among the three best of 99.9 % of lines; it costs a search for each
_KEY = "agreement.penalties"


@dataclass(frozen=True, slots=True)
class Agreement:
    """`penalties` float32 (intents, tags), on the CPU: what a tag's score loses under an intent, 0 or less."""

    penalties: Tensor

    @classmethod
    def fit(cls, examples: Iterable[Example], intents: tuple[str, ...], tags: SlotTags) -> Agreement | None:
        """Count which slots the examples of each intent have; None where that speaks against no slot anywhere."""
        counts = torch.zeros(len(intents), len(tags.names))
        sizes = torch.zeros(len(intents), 1)
        rows = {intent: row for row, intent in enumerate(intents)}
        for example in examples:
            if example.intent in rows:
                sizes[rows[example.intent]] += 1
                for name in {slot.name for slot in example.slots}:
                    counts[rows[example.intent], tags.names.index(name)] += 1
        # Laplace's rule of succession: what was never seen in n lines has 1 / (n + 2) to come in the next one.
        usual = (counts.sum(dim=0) + 1) / (sizes.sum() + 2)
        penalties = torch.zeros(len(intents), len(tags))
        unseen = (1 / (sizes + 2) / usual).log().clamp_max(0.0)
        penalties[:, 1 : 1 + len(tags.names)] = torch.where(counts > 0, 0.0, unseen)  # a slot is counted at its B
        return cls(penalties) if bool(penalties.any()) else None

    def best_intents(
        self, probabilities: Tensor, tag_scores: Tensor, word_counts: Tensor, transitions: Tensor
    ) -> Tensor:
        """The intents that text and slots agree on best, all lines at once.

        Args:
            probabilities: of the intents by themselves, float32 (lines, intents).
            tag_scores: float32 (lines, words, tags).
            word_counts: int64 (lines,), at least 1.
            transitions: float32, see `nlu.crf.Transitions`.

        Returns:
            int64 (lines,).
        """
        likely, candidates = probabilities.topk(min(_CANDIDATES, probabilities.shape[1]), dim=1)
        lines, count = candidates.shape
        scores = tag_scores[:, None] + self.penalties[candidates][:, :, None]
        # What all sequences weigh without penalties is the same for each candidate of a line, and left out.
        left = log_partition(scores.flatten(0, 1), word_counts.repeat_interleave(count), transitions)
        chosen = (likely.log() + left.view(lines, count)).argmax(dim=1, keepdim=True)
        return candidates.gather(1, chosen)[:, 0]

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, to be stored with a model's weights."""
        return {_KEY: self.penalties}

    @classmethod
    def take_from(cls, state: dict[str, Tensor]) -> Agreement | None:
        """Build from what `state` gave, and take it out of the dictionary; None where nothing of it is in there."""
        return cls(state.pop(_KEY)) if _KEY in state else None
