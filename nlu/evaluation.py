"""How right a model is on labelled lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nlu.data import Example
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["Evaluation", "Predictor", "evaluate", "predict_all", "score"]

_BATCH = 32


class Predictor(Protocol):
    """What can be evaluated: an `NluEngine`, or a stand-in for one."""

    def predict(self, texts: list[str], *, reject: bool = True) -> list[Meaning]:
        """Meanings in the order of the texts; with `reject` off every text gets an intent in scope."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Shares are 0..1, or None where the lines give nothing to count.

    Intent, slot and sentence figures count lines in scope only; `n` counts all lines.
    """

    n: int
    intent_accuracy: float | None
    slot_f1: float | None
    """Micro-averaged over exact spans: name, start and end must all be right."""
    sentence_accuracy: float | None
    """Intent and all slots right."""
    oos_recall: float | None
    oos_precision: float | None


def evaluate(
    predictor: Predictor, examples: Sequence[Example], progress: Callable[[int], None] | None = None
) -> Evaluation:
    """Predict all lines and score them.

    Rejection is on only where the lines hold out-of-scope ones; then a line in scope that is called out of
    scope is wrong.

    Args:
        predictor: the model.
        examples: labelled lines.
        progress: called after each batch with the number of lines done.
    """
    return score(examples, predict_all(predictor, examples, progress))


def predict_all(
    predictor: Predictor, examples: Sequence[Example], progress: Callable[[int], None] | None = None
) -> list[Meaning]:
    """What the model makes of each line, in their order; rejection and `progress` as in `evaluate`."""
    reject = any(not example.in_scope for example in examples)
    # Alike lengths side by side: a batch costs its longest line.
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].text))
    meanings: dict[int, Meaning] = {}
    for first in range(0, len(order), _BATCH):
        batch = order[first : first + _BATCH]
        texts = [examples[index].text for index in batch]
        meanings.update(zip(batch, predictor.predict(texts, reject=reject), strict=True))
        if progress:
            progress(len(meanings))
    return [meanings[index] for index in range(len(examples))]


def score(examples: Sequence[Example], meanings: Sequence[Meaning]) -> Evaluation:
    """Compare predictions with labels, line by line."""
    in_scope = [(e, m) for e, m in zip(examples, meanings, strict=True) if e.in_scope]
    out_of_scope = len(examples) - len(in_scope)
    right_intents = right_sentences = right_slots = gold_slots = given_slots = 0
    for example, meaning in in_scope:
        gold = {(slot.name, slot.start, slot.end) for slot in example.slots}
        given = {(slot.name, slot.start, slot.end) for slot in meaning.slots}
        intent_right = example.intent == meaning.intent
        right_intents += intent_right
        right_sentences += intent_right and gold == given
        right_slots += len(gold & given)
        gold_slots += len(gold)
        given_slots += len(given)
    rejected = sum(meaning.intent == OUT_OF_SCOPE for meaning in meanings)
    rightly_rejected = rejected - sum(meaning.intent == OUT_OF_SCOPE for _, meaning in in_scope)
    return Evaluation(
        n=len(examples),
        intent_accuracy=_share(right_intents, len(in_scope)),
        slot_f1=_share(2 * right_slots, gold_slots + given_slots),
        sentence_accuracy=_share(right_sentences, len(in_scope)),
        oos_recall=_share(rightly_rejected, out_of_scope),
        # Where all that was out of scope was missed there is nothing to be precise about: 0, not None.
        oos_precision=(_share(rightly_rejected, rejected) or 0.0) if out_of_scope else None,
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
