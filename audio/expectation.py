"""What a caller was asked for, as words: the vocabulary to listen for, and when to believe that it was used.

A model with a small vocabulary of its own is held to the expected words in a second decoding, and only where it wrote
others in the first (`Vocabulary.settles`): a greedy decoder that kept to the allowed tokens of itself would write the
same again. Then the two are compared (`is_plausible`), so that "i want to speak to a person" comes through where
digits were asked for. Large multilingual models take a hint in their prompt instead: it leans the decoder and forbids
nothing.

Source: words from the bundled bots' examples and `audio.recipe.spoken_forms`; the comparison was chosen among several
on a development split, the recogniser alone, bundled model 1: at the same gain in digits and yes/no, the weakest
expected token against the free mean left 96 % of other sentences as they were, the difference of the means 53 %.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from audio.asr import NEAREST_LANGUAGE, Expectation, language_code

__all__ = ["Vocabulary", "hint", "is_plausible"]

_DIGITS = "zero oh one two three four five six seven eight nine double triple"
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth"
)
_WORDS: Mapping[str, Mapping[Expectation, frozenset[str]]] = MappingProxyType(
    {
        "en": {
            Expectation.DIGITS: frozenset(_DIGITS.split()),
            Expectation.NUMBER: frozenset(f"zero a {_NUMBERS} hundred thousand and half couple of dozen".split()),
            Expectation.YES_NO: frozenset("yes yeah yep yup no nope okay right wrong correct incorrect sure".split()),
            Expectation.AMOUNT: frozenset(
                f"zero a {_NUMBERS} hundred thousand and point half pounds pound pence penny dollars dollar cents cent "
                "euros euro bucks all of it the full whole amount".split()
            ),
            Expectation.DATE: frozenset(
                "january february march april may june july august september october november december "
                "monday tuesday wednesday thursday friday saturday sunday today tomorrow tonight next this the of on "
                "in a by after end day days week weeks month weekend morning afternoon evening "
                f"{_NUMBERS} {_ORDINALS}".split()
            ),
        },
        "zh": {
            Expectation.DIGITS: frozenset("零一二三四五六七八九幺两"),
            Expectation.NUMBER: frozenset("零一二三四五六七八九十百千万两半打个位"),
            Expectation.YES_NO: frozenset("是的不对好可以没有错嗯行"),
            Expectation.AMOUNT: frozenset("零一二三四五六七八九十百千万两半点块元毛角分钱全部"),
            Expectation.DATE: frozenset("零一二三四五六七八九十年月号日今明后天下个这周星期末礼拜早上午晚"),
        },
    }
)
_ANY_TIME: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "en": frozenset("yes no yeah stop help wait repeat operator agent goodbye hello sorry what wrong".split()),
        "zh": frozenset("是不对没有停等喂什么再说人工见"),
    }
)
"""Short answers to any question, left as heard, alone and among other words: who says "four one seven no wait" must not
have said "four one seven oh eight". That costs no digits: of 170 recordings over a noisy line one digit was heard as
"no" and one as "stop", and held to digits both became other digits."""
_HINTS: Mapping[str, Mapping[Expectation, str]] = MappingProxyType(
    {
        "en": {
            Expectation.DIGITS: "0 1 2 3 4 5 6 7 8 9",
            Expectation.NUMBER: "2, 5, 12, 40",
            Expectation.YES_NO: "Yes. No.",
            Expectation.AMOUNT: "$84.50, $120, 35 dollars",
            Expectation.DATE: "Monday, tomorrow, next Friday, March 3rd",
        },
        "zh": {
            Expectation.DIGITS: "0 1 2 3 4 5 6 7 8 9",
            Expectation.NUMBER: "2，5，12，40",
            Expectation.YES_NO: "是的。不是。",
            Expectation.AMOUNT: "84块5，120元，三百块",
            Expectation.DATE: "星期一，明天，下周五，三月三号",
        },
    }
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words that answer a question, and the tokens one model spells them with.

    `words` are lower case; of Chinese, characters. `any_time` are those that a caller may say whatever was asked.
    `tokens` are ids of `words`, the end token not among them.
    """

    language: str | None
    words: frozenset[str]
    any_time: frozenset[str]
    tokens: frozenset[int]

    @classmethod
    def of(cls, expect: Expectation, language: str | None, encode: Callable[[str], Sequence[int]]) -> Vocabulary | None:
        """What `expect` waits for; None where this module knows no words of the language.

        Args:
            expect: the question.
            language: a code such as "en" or "zh-CN".
            encode: text to the model's token ids, without special tokens.
        """
        code = _code(language)
        words = _WORDS.get(code, {}).get(expect)
        if words is None:
            return None
        before = " " if _is_spaced(language) else ""
        tokens = frozenset(token for word in words for token in encode(before + word))
        return cls(language, words, _ANY_TIME[code], tokens)

    def spells(self, text: str) -> bool:
        """Whether a text has words, all of them expected. Pieces of the vocabulary can make other words."""
        parts = self._parts(text)
        return bool(parts) and self.words.issuperset(parts)

    def settles(self, text: str, tokens: Collection[int]) -> bool:
        """Whether what was heard freely stands as it is: nothing, an answer, or with a word for any question in it."""
        return self.tokens.issuperset(tokens) or not self.any_time.difference(self.words).isdisjoint(self._parts(text))

    def shortens(self, expected: str, free: str) -> bool:
        """Whether an expected text is the free one without its last words: dropped words cost no probability."""
        heard, kept = list(self._parts(free)), list(self._parts(expected))
        return len(kept) < len(heard) and heard[: len(kept)] == kept

    def _parts(self, text: str) -> Collection[str]:
        return text.split() if _is_spaced(self.language) else text.replace(" ", "")


def hint(expect: Expectation, language: str | None) -> str:
    """Text as large models write it, to stand in a prompt as if said before. Empty where the language has none."""
    return _HINTS.get(_code(language), {}).get(expect, "")


def is_plausible(expected: Sequence[float], free_avg_logprob: float, margin: float) -> bool:
    """Whether what the caller was asked for may stand in place of what was heard freely.

    The weakest token decides: forced on a sentence, digits fit at most of their places somehow, and at one not at
    all; a mean forgives that one.

    Args:
        expected: log-probability of each token of the constrained hypothesis, by the unconstrained model.
        free_avg_logprob: mean of the free hypothesis per token, its end token included.
        margin: how much less likely, natural log; the model's own, chosen on a development split.
    """
    return bool(expected) and min(expected) >= free_avg_logprob - margin


@cache
def _code(language: str | None) -> str:
    code = language_code(language or "")
    return NEAREST_LANGUAGE.get(code, code)


def _is_spaced(language: str | None) -> bool:
    return _code(language) != "zh"
