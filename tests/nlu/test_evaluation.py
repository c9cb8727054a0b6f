from __future__ import annotations

import pytest

from nlu.data import Example
from nlu.evaluation import Evaluation, evaluate, score
from nlu.meaning import OUT_OF_SCOPE, Meaning, Slot

pytestmark = pytest.mark.unit

DATE = Slot("date", "friday", 7, 13)
LINES = [
    Example("pay on friday", "promise", (DATE,)),
    Example("hello", "greet", ()),
    Example("what is the weather", OUT_OF_SCOPE, ()),
    Example("tell a joke", OUT_OF_SCOPE, ()),
]


class Scripted:
    """A predictor with fixed answers; without rejection it never says out of scope."""

    def __init__(self, answers: dict[str, Meaning]) -> None:
        self.answers = answers
        self.asked: list[bool] = []

    def predict(self, texts: list[str], *, reject: bool = True) -> list[Meaning]:
        self.asked.append(reject)
        found = [self.answers[text] for text in texts]
        return (
            found if reject else [Meaning("greet", m.score, m.slots) if m.intent == OUT_OF_SCOPE else m for m in found]
        )


PREDICTOR = Scripted(
    {
        "pay on friday": Meaning("promise", 0.9, (DATE,)),
        "hello": Meaning(OUT_OF_SCOPE, 0.2),
        "what is the weather": Meaning(OUT_OF_SCOPE, 0.1),
        "tell a joke": Meaning("greet", 0.6),
    }
)


def test_without_out_of_scope_lines_nothing_is_rejected() -> None:
    result = evaluate(PREDICTOR, LINES[:2])
    assert result == Evaluation(
        n=2, intent_accuracy=1.0, slot_f1=1.0, sentence_accuracy=1.0, oos_recall=None, oos_precision=None
    )


def test_with_out_of_scope_lines_a_rejected_line_in_scope_is_wrong() -> None:
    result = evaluate(PREDICTOR, LINES)
    assert result == Evaluation(
        n=4, intent_accuracy=0.5, slot_f1=1.0, sentence_accuracy=0.5, oos_recall=0.5, oos_precision=0.5
    )


def test_results_keep_the_order_of_the_lines_and_progress_counts_them() -> None:
    lines = [Example("x" * length, f"i{length}", ()) for length in range(70, 0, -1)]
    predictor = Scripted({line.text: Meaning(line.intent, 1.0) for line in lines})
    done: list[int] = []
    assert evaluate(predictor, lines, done.append).intent_accuracy == 1.0
    assert done == [32, 64, 70]


@pytest.mark.parametrize(
    ("given", "f1", "sentence"),
    [
        ((DATE,), 1.0, 1.0),
        ((), 0.0, 0.0),
        ((Slot("date", "on friday", 4, 13),), 0.0, 0.0),
        ((Slot("amount", "friday", 7, 13),), 0.0, 0.0),
        ((Slot("amount", "pay", 0, 3), DATE), 2 / 3, 0.0),
    ],
)
def test_slots_count_by_exact_span_and_name(given: tuple[Slot, ...], f1: float, sentence: float) -> None:
    result = score(LINES[:1], [Meaning("promise", 1.0, given)])
    assert (result.intent_accuracy, result.slot_f1, result.sentence_accuracy) == (1.0, f1, sentence)


def test_slots_of_out_of_scope_lines_do_not_count() -> None:
    result = score(LINES[1:3], [Meaning("greet", 1.0), Meaning("greet", 1.0, (DATE,))])
    assert (result.slot_f1, result.oos_recall, result.oos_precision) == (None, 0.0, 0.0)
