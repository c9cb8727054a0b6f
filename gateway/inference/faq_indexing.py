"""The FAQs of bots as indexes to look questions up in. Imports torch: for the inference worker and programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from dialogue.bots import Bot
from dialogue.flow import FaqPlace
from nlu.faq import ALWAYS, FaqIndex
from nlu.sentence_encoder import SentenceEncoder
from nlu.sentences import CharacterGrams, SentenceSpace

__all__ = ["faq_indexes", "questions_of", "said_by_callers"]

log = logging.getLogger(__name__)


def faq_indexes(bots: Iterable[Bot], *, device: str = "auto") -> dict[str, FaqIndex]:
    """The indexes of those bots that have an FAQ, by name. Takes half a second for the first; the sentence encoder of a
    language is loaded once."""
    encoders: dict[str, SentenceEncoder | None] = {}
    indexes = {}
    for bot in bots:
        questions = questions_of(bot)
        if not questions or bot.nlu_path is None:
            continue
        if bot.language not in encoders:
            encoders[bot.language] = SentenceEncoder.of_language(bot.language, device)
        space: SentenceSpace | None = encoders[bot.language]
        if space is None:
            known = [*(wording for _, wording in questions), *said_by_callers(bot.examples)]
            space = CharacterGrams(known, bot.language)
        indexes[bot.name] = FaqIndex(
            space, questions, threshold=bot.flow.faq.threshold, unsure_below=_unsure_below(bot)
        )
        log.info("bot %s: %d questions in its FAQ, by %s", bot.name, len(questions), type(space).__name__)
    return indexes


def questions_of(bot: Bot) -> list[tuple[str, str]]:
    """Every wording of the bot's FAQ, behind the name of its entry."""
    return [(name, wording) for name, entry in bot.flow.faq.entries.items() for wording in entry.questions]


def _unsure_below(bot: Bot) -> float:
    """What counts as not understood: where a node wants its FAQ first, everything."""
    asked_first = any(node.faq is FaqPlace.FIRST for node in bot.flow.nodes.values())
    return ALWAYS if asked_first else bot.flow.min_score


def said_by_callers(files: Iterable[Path]) -> Iterator[str]:
    """The texts of examples files, which `load_bot` has checked."""
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield json.loads(line)["text"]
