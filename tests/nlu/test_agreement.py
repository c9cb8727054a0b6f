from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from nlu.agreement import Agreement
from nlu.artefact import read_artefact
from nlu.crf import bio_rules
from nlu.data import Example
from nlu.decoding import Decoder
from nlu.labels import SlotTags
from nlu.meaning import Slot
from nlu.tokens import LineReader
from nlu.training import TrainingSummary

pytestmark = pytest.mark.unit

TAGS = SlotTags(("film", "song"))  # O, B-film, B-song, I-film, I-song
INTENTS = ("play", "watch")


def examples(intent: str, count: int, *slots: str) -> list[Example]:
    return [Example("x", intent, tuple(Slot(name, "x", 0, 1) for name in slots), 1)] * count


def agreement() -> Agreement:
    found = Agreement.fit([*examples("play", 98, "song"), *examples("watch", 48, "film")], INTENTS, TAGS)
    assert found
    return found


def test_a_slot_that_no_example_of_an_intent_has_costs_what_the_rule_of_succession_says() -> None:
    expected = torch.zeros(2, len(TAGS))
    expected[0, 1] = math.log((1 / 100) / (49 / 148))  # "play" with a film, at its B
    expected[1, 2] = math.log((1 / 50) / (99 / 148))
    torch.testing.assert_close(agreement().penalties, expected)


def test_a_slot_seen_once_with_an_intent_costs_it_nothing() -> None:
    lines = [*examples("play", 98, "song"), *examples("watch", 48, "film"), *examples("watch", 1, "song", "song")]
    found = Agreement.fit(lines, INTENTS, TAGS)
    assert found
    assert found.penalties[1].tolist() == [0.0] * 5


def test_few_examples_speak_against_no_slot() -> None:
    lines = [*examples("play", 98, "song"), *examples("watch", 2, "film")]
    found = Agreement.fit(lines, INTENTS, TAGS)
    assert found
    assert found.penalties[1, 2] > -1.5
    rare = Agreement.fit([*examples("play", 98), *examples("watch", 2, "film")], INTENTS, TAGS)
    assert rare
    assert rare.penalties[1].tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        (examples("play", 9) + examples("watch", 9), SlotTags(())),
        (examples("play", 9, "film", "song") + examples("watch", 9, "song", "film"), TAGS),
        (examples("oos", 9, "film"), TAGS),
    ],
)
def test_there_is_none_where_it_would_say_nothing(lines: list[Example], tags: SlotTags) -> None:
    assert Agreement.fit(lines, INTENTS, tags) is None


@pytest.mark.parametrize("seed", range(5))
def test_an_intent_is_weighed_by_all_sequences_of_tags(seed: int) -> None:
    """Against a sum over each sequence by itself; two lines of different lengths, four intents."""
    generator = torch.Generator().manual_seed(seed)
    found = Agreement(-4 * torch.rand(4, len(TAGS), generator=generator))
    probabilities = torch.randn(2, 4, generator=generator).softmax(dim=1)
    scores = 3 * torch.randn(2, 3, len(TAGS), generator=generator)
    transitions = torch.from_numpy(bio_rules(TAGS)) + torch.randn(6, 5, generator=generator)
    counts = [3, 2]
    expected: list[int] = []
    for line, count in enumerate(counts):
        weights: dict[int, float] = {}
        for intent in probabilities[line].topk(3).indices.tolist():
            tags = scores[line] + found.penalties[intent]
            weights[intent] = float(probabilities[line, intent]) * sum(
                math.exp(
                    sum(
                        float(transitions[1 + before, tag] + tags[word, tag])
                        for word, (before, tag) in enumerate(zip((-1, *path), path, strict=False))
                    )
                )
                for path in itertools.product(range(len(TAGS)), repeat=count)
            )
        expected.append(max(weights, key=weights.__getitem__))
    assert found.best_intents(probabilities, scores, torch.tensor(counts), transitions).tolist() == expected


def test_sure_slots_decide_a_doubtful_intent_and_the_score_stays_its_own() -> None:
    vocabulary = Tokenizer(WordLevel({"[UNK]": 0, "see": 1, "psycho": 2}, unk_token="[UNK]"))
    vocabulary.pre_tokenizer = Whitespace()
    lines = [LineReader(vocabulary, 8).read(text) for text in ("see psycho", "see", "see psycho")]
    intent_scores = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.999, 0.001]]).log()
    tag_scores = torch.zeros(3, 2, len(TAGS))
    tag_scores[:, 0, 0] = 9.0
    tag_scores[:, 1, 1] = 9.0  # a film
    decoder = Decoder(intents=INTENTS, tags=TAGS, transitions=bio_rules(TAGS), agreement=agreement())
    meanings = decoder.decode(lines, intent_scores, tag_scores, torch.zeros(3, 1))
    assert [meaning.intent for meaning in meanings] == ["watch", "play", "play"]
    assert [meaning.score for meaning in meanings] == pytest.approx([0.4, 0.6, 0.999], abs=1e-5)
    alone = Decoder(intents=INTENTS, tags=TAGS, transitions=bio_rules(TAGS))
    before = alone.decode(lines, intent_scores, tag_scores, torch.zeros(3, 1))
    assert [meaning.intent for meaning in before] == ["play"] * 3
    assert [meaning.slots for meaning in before] == [meaning.slots for meaning in meanings]
    assert [slot.name for slot in meanings[0].slots] == ["film"]


def test_it_is_stored_with_the_weights() -> None:
    state = {"head.w": torch.ones(1)} | agreement().state()
    again = Agreement.take_from(state)
    assert again
    assert list(state) == ["head.w"]
    assert np.array_equal(again.penalties, agreement().penalties)
    assert Agreement.take_from(state) is None


def test_a_trained_model_knows_which_slots_its_intents_have(trained: TrainingSummary) -> None:
    manifest, state, _ = read_artefact(trained.out)
    found = Agreement.take_from(state)
    assert found
    foreign = (manifest.intents.index("promise"), 1 + manifest.slots.index("person"))
    assert found.penalties[foreign] == pytest.approx(math.log((1 / 20) / (13 / 50)), abs=1e-2)
    assert found.penalties[manifest.intents.index("promise"), 1 + manifest.slots.index("date")] == 0
