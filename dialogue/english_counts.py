"""How many, in English: "three", "two of us. No, three", "half a dozen", "1,200".

Read where the bot has just asked for a number, or where the understanding marked one. A caller says more than the
number, and other numbers with it: times, sums, rooms, "one moment". What is none of these must be one value, or the
last after a correction; where it is several ("two adults and one child", "two or three"), or part of something that is
no whole number ("two and a half"), there is none, and the bot asks again.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Callable

from dialogue.english_words import CORRECTION
from nlu.normalization import normalize

__all__ = ["find_number", "say_number"]

_CLAUSES = re.compile(r"[,;!?]+(?!\d)|\.+(?!\d)|\n")
_CLOCK = re.compile(r"\b\d{1,2}[:.]\d\d(?:\s*[ap]\.?\s?m\b\.?)|\b\d{1,2}:\d\d")
_NOT_WHOLE = re.compile(r"\d\s*[-–~]\s*\d|(?<![\w.])[-−]\s*\d|\d/\d")
"""In the text as given: a range, a number below nothing, a fraction or a date."""

_AMOUNTS_OF: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b(?:a )?half (?:a )?dozen\b"), lambda match: "6"),
    (re.compile(r"\b(?:a )?couple(?: of)?(?= (?:dozen|hundred|thousand)s?\b)"), lambda match: "2"),
    (re.compile(r"\b(?:a )?couple(?: of)?\b"), lambda match: "2"),
    (re.compile(r"\b(\d{1,7}) dozens?\b"), lambda match: str(int(match[1]) * 12)),
    (re.compile(r"\b(?:a )?dozen\b"), lambda match: "12"),
    (re.compile(r"\b(\d{1,6}) hundreds?\b"), lambda match: f"{match[1]}00"),
    (re.compile(r"\b(\d{1,5}) thousands?\b"), lambda match: f"{match[1]}000"),
    (re.compile(r"\bhundred and (\d{1,2})\b(?![.\d])"), lambda match: str(100 + int(match[1]))),
    (re.compile(r"\bhundred\b"), lambda match: "100"),
    (re.compile(r"\bthousand\b"), lambda match: "1000"),
)
_UNSURE = re.compile(
    r"\b(?:few|several|some|many) (?:dozen|hundred|thousand)"
    r"|\d (?:or|to) (?:\d|a\b)|\bbetween \d"
    r"|\d (?:and (?:a )?(?:half|quarter)|point|[mb]illion|halfs?|halves)\b"
    r"|\d\.\d|\bminus \d"
    r"|\bno one\b"  # nobody, or not that but one?
)
_OF_THE_CALENDAR = "|".join((*calendar.month_name[1:], *calendar.day_name)).lower()
_COUNT = re.compile(
    rf"(?<![\w.])(?<!\bat )(?<!\bby )(?<!\buntil )(?<!\btill )(?<!\bpast )(?<!\bbefore )(?<!\bafter )(?<!\broom )"
    rf"(?<!\btable )(?<!\bflat )(?<!\bfloor )(?<!\bapartment )(?<!\bnumber )(?<!\bnot )(?<!\bnot for )"
    rf"(\d{{1,9}})(?![\w.])"
    rf"(?! (?:[ap] ?m|o'?clock|in the (?:morning|afternoon|evening)|tonight)\b)"
    rf"(?! (?:dollars?|cents?|bucks?|euros?|pounds?|pence|quid|percent)\b)"
    rf"(?! (?:of )?(?:{_OF_THE_CALENDAR})\b)"
)
_DAY_OF_MONTH = re.compile(rf"\b(?:{_OF_THE_CALENDAR}) \d{{1,2}}\b")
_ONE_OF_SOMETHING_ELSE = re.compile(
    r"\b1 (?:(?:quick|last|small) )?(?:moment|sec|second|minute please|more|question|thing)\b"
)


def find_number(text: str) -> int | None:
    """The whole number in `text`, at most nine figures; None where there is none, or more than one."""
    plain = _CLOCK.sub(" ", unicodedata.normalize("NFKC", text).lower().replace("’", "'"))
    if _NOT_WHOLE.search(plain):
        return None
    # Clause by clause: "two. No, one" has a comma that "no one" has not.
    said = " | ".join(normalize(clause).text for clause in _CLAUSES.split(plain))
    if _UNSURE.search(said):
        return None
    for form, figures in _AMOUNTS_OF:
        said = form.sub(figures, said)
    said = _ONE_OF_SOMETHING_ELSE.sub(" ", _DAY_OF_MONTH.sub(" ", said))
    if _UNSURE.search(said):
        return None
    for stretch in reversed(re.split(CORRECTION, said)):
        if counts := {int(figures) for figures in _COUNT.findall(stretch)}:
            return counts.pop() if len(counts) == 1 else None
    return None


def say_number(value: int) -> str:
    """Figures, which the synthesiser reads as a number; the sign in words, for it may take that for a dash."""
    return f"minus {-value}" if value < 0 else str(value)
