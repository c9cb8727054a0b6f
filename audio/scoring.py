"""Error rates of transcripts that do not depend on how numbers are written or words are spelt.

English goes through Whisper's own normaliser (case, punctuation, fillers, contractions, numbers as digits), and then
every digit is a word of its own: "012", "zero one two" and "oh one two" are the same three words, "25" and
"twenty five" the same two. Chinese is compared character by character, digits as characters.

Imports transformers: for evaluation, not for a call.

Source: Radford et al. 2022, appendix C; `transformers.models.whisper.english_normalizer`, without its table of
British spellings, which is part of the tokenizer files and not of the package.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import jiwer

from audio.asr import language_code

__all__ = ["ErrorRates", "normaliser", "score"]

_DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLAIN_NUMBER = re.compile(r"(?<![\w.,$£€])\d+(?![\w%]|[.,]\d)")
_SPOKEN_AFTER = {"$": "dollars", "£": "pounds", "€": "euros", "¢": "cents"}
_AMOUNT = re.compile(r"([$£€¢])(\d+(?:\.\d+)?)")
_CHINESE_DIGITS = str.maketrans("0123456789〇幺两", "零一二三四五六七八九零一二")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRates:
    """Errors over reference length; above 1 where more was invented than said. None where undefined: no
    reference words at all, or words in a language written without spaces."""

    wer: float | None
    cer: float | None


def normaliser(language: str) -> Callable[[str], str]:
    """What brings texts of a language to comparable form; words separated by one space."""
    return _chinese if language_code(language) == "zh" else _english if language_code(language) == "en" else _basic


def score(references: Sequence[str], hypotheses: Sequence[str], language: str) -> ErrorRates:
    """Error rates of a whole set: errors summed over lines, then divided.

    Args:
        references: what was said.
        hypotheses: what was heard, in the same order.
        language: code such as "en" or "zh-CN".
    """
    normalise = normaliser(language)
    said = [normalise(text) for text in references]
    heard = [normalise(text) for text in hypotheses]
    if not any(said):
        return ErrorRates(wer=None, cer=None)
    spaced = language_code(language) not in ("zh", "ja", "th")
    return ErrorRates(wer=float(jiwer.wer(said, heard)) if spaced else None, cer=float(jiwer.cer(said, heard)))


@cache
def _whisper_english() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # type: ignore[no-any-return]


def _spell(digits: str) -> str:
    return " ".join(_DIGIT_WORDS[int(digit)] for digit in digits)


def _english(text: str) -> str:
    # Before: the normaliser reads "012" as the number 12.
    text = _PLAIN_NUMBER.sub(lambda match: _spell(match[0]), text)
    text = _whisper_english()(text)
    text = _AMOUNT.sub(lambda match: f"{match[2]} {_SPOKEN_AFTER[match[1]]}", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text).replace("%", " percent")
    text = re.sub(r"\d", lambda match: f" {_DIGIT_WORDS[int(match[0])]} ", text)
    return " ".join(re.sub(r"[^\w\s]", " ", text).split())


def _chinese(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower().translate(_CHINESE_DIGITS)
    return "".join(char for char in text if char.isalnum())


def _basic(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower()
    return " ".join("".join(char if char.isalnum() else " " for char in text).split())
