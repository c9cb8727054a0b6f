"""Yes and no in English: "of course", "no problem", "that doesn't sound right", and what is neither.

Where both are said the refusal wins, for it is the one that must not be missed: "no, that's right" is no. Phrases that
hold a word of yes or no and say neither ("I can't hear you", "right now", "is that right") are dropped before either is
looked for, those that assent with a word of refusal ("why not", "I don't mind") before the refusal is.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["find_yes_no"]

# Clauses are parted by " ; " in what these are matched with, all other punctuation but "'" and "-" is gone.
_UNSURE = re.compile(
    r"\b(?:don't|do not|didn't|did not) (?:really )?(?:know|remember)\b[^;]*"
    r"|\bnot (?:\w+ )?sure\b[^;]*"
    r"|\bno idea\b[^;]*"
)
"""Who says so has not said yes, whatever else was said: "yeah, I don't know"."""

_NEITHER = re.compile(
    r"\b(?:don't|do not|can't|cannot|can not|couldn't|didn't|did not) (?:hear|understand|catch)\b[^;]*"
    r"|\b(?:never mind|don't worry)\b"
    r"|(?<!that )(?<!this )\b(?:is|was|isn't) (?:that|it|this)"
    r" (?:right|correct|ok|okay|fine|true|al(?:l )?right|wrong)\b"
    r"|\b(?:what's|what is|something's|is something|is anything) wrong\b"
    r"|\bare you (?:\w+ )?sure\b[^;]*"
    r"|\bmake sure\b[^;]*"
    r"|(?:^|(?<=; ))isn't (?:it|that|this)\b[^;]*"
    r"|\bi(?:'m| am) (?:fine|ok|okay|good|(?:al|all )right)\b(?! with)"
    r"|\bright (?:now|away|here|there)\b"
    r"|\b(?:ok|okay|right|sure|fine|(?:al|all )right)[ ;]+(?:just )?(?:one|a|1|hold|hang|wait|give)\b"
)
_ASSENT_BY_REFUSAL = re.compile(
    r"\bno (?:problem|problems|worries|objections?)\b"
    r"|\bnot a problem\b"
    r"|\b(?:(?:don't|do not|can't) see )?why not\b"
    r"|\b(?:don't|do not) mind\b"
    r"|\bnothing wrong\b|\bnot wrong\b"
)
_FLAT_NO = re.compile(r"\b(?:no|nope|nah|never|wrong|incorrect|false|negative|disagree|refuse|uh-uh|nuh[ -]uh)\b")
_NOT = re.compile(r"(?<!\bif )\b(?:not|cannot)\b|\b[a-z]+n't\b")
_FLAT_YES = re.compile(r"(?:(?:uh|um|oh|well|ah)[ ;]+)*(?:yes|yeah|yea|yep|yup)\b")
_YES = re.compile(
    r"\b(?:yes|yeah|yea|yep|yup|correct|right|sure|ok|okay|o k|fine|exactly|absolutely|definitely|certainly|of course"
    r"|(?:al|all )right|uh[ -]huh|mm+[ -]hmm*|mhm+|true|perfect|affirmative|indeed|confirmed|agreed|i agree|i accept"
    r"|go ahead|please do|let's do (?:it|that)|i (?:think|believe) so)\b"
    r"|\b(?:sounds|looks|that's|that is|all) (?:good|great)\b"
    r"|(?<!\bif )\b(?:that|it) works\b|\bworks for me\b"
)
_SHORT_YES = re.compile(r"i (?:do|did|am|will|would|can)|it is|this is (?:he|she|me)|it's me")
"""A yes only where it is all that is said."""


def find_yes_no(text: str) -> bool | None:
    """True for yes, False for no, None for neither; a refusal wins over an assent ("no that's not right").

    But "yes, not Friday though" and "yeah, I don't know" are neither: the yes may be to the question and the rest to
    something else.
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    clauses = re.sub(r"[.,;!?]+(?=\s|$)", " ; ", plain)
    said = " ".join(re.sub(r"[^a-z';-]+", " ", clauses).split()).strip("; ")
    known = _UNSURE.sub(" ", said)
    meant = _NEITHER.sub(" ", known)
    left = _ASSENT_BY_REFUSAL.sub(" ", meant)
    if _FLAT_NO.search(left):
        return False
    if _NOT.search(left):
        return None if _FLAT_YES.match(said) else False
    assented = left != meant or _YES.search(left) or _SHORT_YES.fullmatch(said)
    return True if assented and known == said else None
