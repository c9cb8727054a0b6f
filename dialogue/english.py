"""English values as callers say or type them, and as a bot reads them back.

Readers (`find_*`) look for one value anywhere in a text, so "uh, on the third please" holds a date. They
take what a recogniser writes ("four four one seven", "eighty four dollars and fifty cents", "the day after
tomorrow") and what a person types ("4417", "$84.50", "27 Nov", "2026-11-27"). They return None where there
is no such value, where it is refused ("not friday") or one of several ("forty or fifty"), and never guess a missing
part. Speakers (`say_*`) give words that a synthesiser reads well.
"""

from __future__ import annotations

import re

from dialogue.english_amounts import CURRENCIES, find_amount, say_amount
from dialogue.english_counts import find_number, say_number
from dialogue.english_dates import find_date, say_date
from dialogue.english_times import find_time, say_time
from dialogue.english_words import DIGIT_WORDS, digits_at, is_refused, tokens
from dialogue.english_yes_no import find_yes_no
from nlu.normalization import plain_words

__all__ = [
    "CURRENCIES",
    "find_amount",
    "find_date",
    "find_digit_runs",
    "find_number",
    "find_time",
    "find_yes_no",
    "last_mention",
    "mentions",
    "say_amount",
    "say_date",
    "say_digits",
    "say_number",
    "say_time",
]


def mentions(text: str, words: str) -> bool:
    """Whether the words stand in the text, each whole and one after the other."""
    return bool(_mentions(text, words)[1])


def last_mention(text: str, words: str) -> int:
    """Where the words end in what is heard of the text, the last time that they are not refused; 0 where they are not
    there: "in full, not monthly" mentions no "monthly"."""
    heard, starts, length = *_mentions(text, words), len(plain_words(words))
    return next((start + length for start in reversed(starts) if not _REFUSING.search(heard[:start])), 0)


_REFUSING = re.compile(
    r"(?:^|(?<!\bwhy)(?<!\bif) )(?:not|except|anything but|instead of|rather than"
    r"|(?:can t|cannot|don t|do not|won t)(?: (?:do|pay|want|have))?)(?: (?:in|the|a|it))* $"
)


def _mentions(text: str, words: str) -> tuple[str, list[int]]:
    """What is heard of the text and where the words begin in it."""
    heard, wanted = plain_words(text), plain_words(words)
    found = re.finditer(rf"(?<!\S){re.escape(wanted)}(?!\S)", heard) if wanted else ()
    return heard, [match.start() for match in found]


# Digits


def find_digit_runs(text: str) -> list[str]:
    """Every unbroken run of digits in `text`, in order: "four oh one no double five" -> ["401", "55"].

    What is refused is left out: "four oh one, not double five" -> ["401"].
    Two-figure words count as two digits ("forty four seventeen" -> "4417"), typed groups join ("44 17").
    A leading "oh" before other digits is kept as zero: only the wanted length can tell it from a sigh.
    """
    runs: list[str] = []
    words = tokens(_LAST_FOUR.sub(" ", text))
    i = 0
    while i < len(words):
        start, run = i, ""
        while i < len(words) and (part := digits_at(words, i))[1]:
            run, i = run + part[0], i + part[1]
        if run and not is_refused(words[:start], ()):
            runs.append(run)
        i += not run
    return runs


_LAST_FOUR = re.compile(r"\blast (?:four|4)\b", re.IGNORECASE)


def say_digits(digits: str) -> str:
    """One word a digit, in groups of at most four with a pause between: "four four one seven, two"."""
    words = [DIGIT_WORDS[int(d)] for d in digits]
    return ", ".join(" ".join(words[i : i + 4]) for i in range(0, len(words), 4))
