"""What text callers say and how fast: the part of `bench/locustfile.py` that knows nothing of Locust."""

from __future__ import annotations

import json
import random
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ScriptError", "conversations", "fault_of", "talking_s"]

WORDS_PER_S = 2.5  # English in conversation, 150 words a minute
CHARACTERS_PER_S = 4.5  # Chinese, 270 characters a minute
TAIL_S = 0.8  # of silence, after which the gateway takes an utterance to be over


class ScriptError(ValueError):
    """A file of texts that cannot be replayed; the message says which line, and what a line must be."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """What a file holds: whole conversations, and single texts to make some of."""

    whole: list[list[str]]
    single: list[str]


def conversations(path: Path, *, rounds: int, seed: int) -> list[list[str]]:
    """Conversations to replay.

    Args:
        path: JSON Lines; each line {"texts": [...]}, a conversation, or {"text": ...}, as NLU data has it. Single
            texts are shuffled and dealt out, `rounds` to a conversation; those that are marked as out of scope are
            left out, since no score can be asked of them.
        seed: of the shuffling.

    Raises:
        ScriptError: a line that is neither, or nothing to say.
    """
    lines = _read(path)
    random.Random(seed).shuffle(lines.single)
    dealt = [lines.single[at : at + rounds] for at in range(0, len(lines.single), rounds)]
    if not lines.whole and not dealt:
        raise ScriptError(f'{path}: holds no texts; write lines of {{"texts": ["...", "..."]}} or {{"text": "..."}}')
    return lines.whole + dealt


def _read(path: Path) -> _Lines:
    found = _Lines([], [])
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            texts = entry.get("texts", [entry["text"]] if "text" in entry else None)
        except (ValueError, AttributeError):
            texts = None
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ScriptError(f'{path}:{number}: must be {{"texts": ["...", "..."]}} or {{"text": "..."}}')
        if "texts" in entry:
            found.whole.append(texts)
        elif entry.get("intent") != "oos":
            found.single.extend(texts)
    return found


def talking_s(text: str) -> float:
    """Seconds that it takes to say a text."""
    ideographs = sum(unicodedata.category(character) == "Lo" for character in text)
    words = len([word for word in text.split() if any(unicodedata.category(c) in ("Ll", "Lu", "Nd") for c in word)])
    return words / WORDS_PER_S + ideographs / CHARACTERS_PER_S


def fault_of(answer: dict[str, Any], *, asked: dict[str, Any], min_score: float) -> str | None:
    """Why an answer is not good enough, or None. Without the text: it goes into a report."""
    for key in ("call_id", "round_id", "uid", "seq"):
        if key in asked and answer.get(key) != asked[key]:
            return f"{key} is not the request's"
    score = answer.get("score")
    if not isinstance(score, int | float):
        return "no score"
    if score < min_score:
        return f"score below {min_score:g}"
    return None
