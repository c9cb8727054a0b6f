"""Where training text comes from: the phrase grammar, a bot's own examples, people's requests, word salad."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from audio.recipe.phrases import draw_sentence, fill_slots, is_test_template, plain_words
from audio.recipe.plan import TrainingDataError

__all__ = ["TextSource", "Texts", "bot_templates", "bot_utterances", "real_requests"]

SLOT_NAMES = {"date": "DATE", "amount": "AMT", "time": "TIME"}
"""Slots of the bundled bots -> slots of the grammar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Text of training besides the grammar: `requests` as people wrote them, `templates` of a bot."""

    requests: Sequence[str] = ()
    templates: Sequence[str] = ()

    @classmethod
    def load(cls, data: Path, bot: Path | None) -> Texts:
        """BANKING77 from the data folder where it is there, and a bot's examples where one is named.

        Raises:
            TrainingDataError: the bot has none.
        """
        if bot and not (bot / "examples.jsonl").exists():
            raise TrainingDataError(f"{bot} holds no examples.jsonl; name the folder of a bot")
        return cls(
            requests=real_requests(data, "train"),
            templates=bot_templates(bot / "examples.jsonl") if bot else (),
        )


class TextSource:
    """Draws training text. Word salad (random words in a row) keeps the decoder from leaning on sentences
    that it knows."""

    def __init__(self, rng: Random, texts: Texts, *, request_words: int = 500) -> None:
        self._rng = rng
        self._templates = texts.templates
        fixed = Random(1)
        known = set(_grammar_words())
        known |= {word for template in texts.templates for word in fill_slots(fixed, template).split()}
        counts = Counter(word for text in texts.requests for word in text.split() if word not in known)
        self.vocabulary = sorted(known) + [word for word, _ in counts.most_common(request_words)]
        known |= set(self.vocabulary)
        self._requests = [text for text in texts.requests if known.issuperset(text.split())]

    def draw(self, max_words: int) -> str:
        """One text of 1 to `max_words` words, never of a test template."""
        while True:
            text = self._draw()
            if 0 < len(text.split()) <= max_words:
                return text

    def _draw(self) -> str:
        rng = self._rng
        kind = rng.random()
        if kind < 0.14:
            return " ".join(rng.choice(self.vocabulary) for _ in range(rng.randint(1, 5)))
        if kind < 0.24 and self._requests:
            words = rng.choice(self._requests).split()
            count = rng.randint(2, 8)
            start = rng.randrange(max(1, len(words) - count + 1))
            return " ".join(words[start : start + count])
        if kind < 0.6 and self._templates:
            return fill_slots(rng, rng.choice(self._templates))
        return draw_sentence(rng)


@cache
def _grammar_words() -> frozenset[str]:
    """Words that the grammar draws, the same whatever the seed of a training."""
    fixed = Random(1)
    return frozenset(word for _ in range(20_000) for word in draw_sentence(fixed).split())


def real_requests(data: Path, split: str) -> list[str]:
    """Requests written by people (BANKING77, CC BY 4.0) that hold words only; empty without the file."""
    path = data / "banking77" / f"{split}.jsonl"
    if not path.exists():
        return []
    requests = (plain_words(json.loads(line)["text"]) for line in path.read_text().splitlines() if line)
    return [text for text in requests if re.fullmatch(r"[a-z' ]+", text)]


def bot_templates(path: Path) -> list[str]:
    """A bot's NLU examples with their slots opened again, so that any date or amount may stand there.

    Templates that belong to the tests are left out, and so is what holds figures outside its slots.
    """
    templates = set()
    for line in path.read_text().splitlines():
        if line.strip():
            template = _template(json.loads(line))
            words = template.split()
            if words and all(re.fullmatch(r"[a-z']+|[A-Z]+\d?", word) for word in words):
                templates.add(template)
    return sorted(template for template in templates if not is_test_template(template))


def bot_utterances(path: Path) -> list[str]:
    """A bot's NLU examples as they stand, those of words only."""
    lines = [plain_words(json.loads(line)["text"]) for line in path.read_text().splitlines() if line.strip()]
    return sorted({text for text in lines if re.fullmatch(r"[a-z' ]+", text)})


def _template(row: dict[str, Any]) -> str:
    """Text of one example, lower case, each slot by the grammar's name for it."""
    parts, end = [], 0
    for slot in sorted(row["slots"], key=lambda slot: int(slot["start"])):
        value = row["text"][slot["start"] : slot["end"]]
        words = len(value.split())
        digits = "D4" if words <= 4 else "D5" if words == 5 else "D6" if words == 6 else "D8"
        parts += [plain_words(row["text"][end : slot["start"]]), SLOT_NAMES.get(slot["name"], digits)]
        end = slot["end"]
    return " ".join(" ".join([*parts, plain_words(row["text"][end:])]).split())
