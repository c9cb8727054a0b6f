"""A labelled file as a recogniser would have heard it, with an exact share of words wrong: the noisy test sets.

    python -m bench.noisy_text --data DIR/snips/test.jsonl --out noisy.jsonl [--rate 0.10] [--seed 2026]

Independent of the noise that models are trained with (`nlu.noise`), so that a test does not only measure how well a
model learnt the habits of one generator: here words sound as espeak-ng pronounces them, there as their spelling
suggests; the draw, the shares of the kinds of error and the number of errors differ as well. Both hear words of the
encoder's vocabulary.

Of the errors 65 % are substitutions, 20 % deletions, 15 % insertions. A word gives way to one of those nearest by
weighted edit distance over phonemes, common words preferred. The number of errors is `rate` times the words of the
file, spread over its words evenly; slots move along, and one that loses all its words is gone.
`bench/data/snips-test-noisy-10.jsonl` is SNIPS's test file at the defaults.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt

from nlu.data import Example, read_dataset
from nlu.encoders import default_encoder, find_encoder
from nlu.noise import edited

RATE = 0.10
SEED = 2026
DELETED, INSERTED = 0.20, 0.15
PUT_IN = ("the", "a", "and", "to", "of", "so", "uh", "in", "well", "then", "at", "my", "has", "oh")
CANDIDATES = 6
MAX_PHONEMES = 16

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_STRESS = str.maketrans("", "", "ˈˌː")

# Phonemes that are taken for each other; within a group a substitution costs little.
_GROUPS = (
    "p b", "t d ɾ", "k ɡ", "f v θ", "s z", "ʃ ʒ tʃ dʒ", "m n ŋ", "l ɹ ɫ əl", "w ʊ u", "j i ɪ iə",
    "ɛ æ eɪ e", "ɑ ɔ oʊ ʌ ɒ ɐ", "ə ɐ ɚ ɜ ʌ ɪ", "aɪ aʊ a ɔɪ",
)  # fmt: skip
_VOWELS = frozenset("aeiouɛæɑɔʌɒɐəɚɜɪʊ")

Codes = npt.NDArray[np.int64]


class Pronouncer:
    """espeak-ng's phonemes of single words, in American English."""

    def __init__(self) -> None:
        lib = ctypes.CDLL(espeakng_loader.get_library_path())
        lib.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        lib.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0x8000)
        lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        lib.espeak_SetVoiceByName(b"en-us")
        lib.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._lib = lib

    def phonemes(self, word: str) -> list[str]:
        """IPA without stress and length."""
        text = ctypes.c_char_p(word.encode())
        utf8, ipa = 1, 0x02 | ord("|") << 8
        said = self._lib.espeak_TextToPhonemes(ctypes.byref(text), utf8, ipa).decode()
        return [plain for phoneme in said.split("|") if (plain := phoneme.translate(_STRESS).strip())]


class Confusions:
    """The words of a lexicon nearest in sound, commonest words preferred. `words` come commonest first."""

    def __init__(self, words: Sequence[str]) -> None:
        self._pronouncer = Pronouncer()
        self._inventory: dict[str, int] = {"": 0}
        said = [(word, self._codes(word)) for word in words]
        kept = [(word, codes) for word, codes in said if 0 < len(codes) <= MAX_PHONEMES]
        self._words = [word for word, _ in kept]
        self._lengths = np.array([len(codes) for _, codes in kept])
        self._table = np.zeros((len(kept), MAX_PHONEMES), dtype=np.int64)
        for row, (_, codes) in enumerate(kept):
            self._table[row, : len(codes)] = codes
        self._found: dict[str, list[str]] = {}

    def nearest(self, word: str) -> list[str]:
        """Up to `CANDIDATES` words, the likeliest first; never the word itself."""
        if word not in self._found:
            codes = self._codes(word)[:MAX_PHONEMES]
            distance = self._distances(codes) / max(1, len(codes))
            penalty = 0.05 * np.log1p(np.arange(len(self._words)) / 500)  # rarer words are heard less
            order = np.argsort(distance + penalty, kind="stable")[: CANDIDATES + 1]
            self._found[word] = [self._words[i] for i in order if self._words[i] != word][:CANDIDATES]
        return self._found[word]

    def _codes(self, word: str) -> list[int]:
        return [
            self._inventory.setdefault(phoneme, len(self._inventory)) for phoneme in self._pronouncer.phonemes(word)
        ]

    def _distances(self, codes: Sequence[int]) -> npt.NDArray[np.float64]:
        """Weighted edit distance to every word, one dynamic programme over all rows at once."""
        costs = self._costs()
        insertion = costs[0][self._table]
        before = np.concatenate([np.zeros((len(self._words), 1)), insertion.cumsum(axis=1)], axis=1)
        for code in codes:
            row = np.empty_like(before)
            row[:, 0] = before[:, 0] + costs[0, code]
            for place in range(MAX_PHONEMES):
                row[:, place + 1] = np.minimum(
                    np.minimum(before[:, place + 1] + costs[0, code], row[:, place] + insertion[:, place]),
                    before[:, place] + costs[code][self._table[:, place]],
                )
            before = row
        found: npt.NDArray[np.float64] = before[np.arange(len(self._words)), self._lengths]
        return found

    def _costs(self) -> npt.NDArray[np.float64]:
        """Cost of taking one phoneme for another; row and column 0 are leaving out and putting in."""
        size = len(self._inventory)
        costs = np.ones((size, size))
        names = list(self._inventory)
        for one, first in enumerate(names):
            for other, second in enumerate(names):
                if first == second:
                    costs[one, other] = 0.0
                elif not one or not other:
                    costs[one, other] = 0.5 if (first or second) in ("ə", "ɐ", "ɪ", "h", "ɹ") else 0.8
                elif any(first in group.split() and second in group.split() for group in _GROUPS):
                    costs[one, other] = 0.35
                elif first[0] in _VOWELS and second[0] in _VOWELS:
                    costs[one, other] = 0.6
        return costs


def make_noisy(examples: Sequence[Example], words: Sequence[str], rate: float, seed: int) -> list[Example]:
    """The examples with `rate` times their words misheard, the errors spread evenly over all words of all lines.

    Args:
        examples: the clean lines.
        words: the recogniser's lexicon, commonest first.
        rate: word errors by words, 0..1.
        seed: of the draw.
    """
    confusions = Confusions(words)
    chance = random.Random(seed)
    matches = [list(_WORD.finditer(example.text)) for example in examples]
    places = [(line, index) for line, found in enumerate(matches) for index in range(len(found))]
    struck: dict[int, list[int]] = {}
    for line, index in sorted(chance.sample(places, round(rate * len(places)))):
        struck.setdefault(line, []).append(index)
    noisy: list[Example] = []
    for line, example in enumerate(examples):
        edits: list[tuple[int, int, str]] = []
        found = matches[line]
        for index in struck.get(line, ()):
            word = found[index]
            kind = chance.random()
            if kind < DELETED and len(found) > 1:
                before = found[index - 1].end() if index else word.start()
                after = word.end() if index else found[1].start()
                edits.append((before, after, ""))
            elif kind < DELETED + INSERTED:
                edits.append((word.end(), word.end(), f" {chance.choice(PUT_IN)}"))
            else:
                heard = confusions.nearest(word.group().lower())
                edits.append((word.start(), word.end(), chance.choices(heard, range(len(heard), 0, -1))[0]))
        noisy.append(edited(example, edits))
    return noisy


def lexicon() -> list[str]:
    """Whole words of the English encoder's vocabulary, which lists them by how common they are."""
    vocabulary = find_encoder(default_encoder("en")).read_tokenizer().get_vocab()
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    return [word for word in ordered if word.isascii() and word.isalpha() and (len(word) > 1 or word in ("a", "i"))]


def main() -> None:
    """Parse the command line, write the file, and print what was done to it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    examples = read_dataset(arguments.data).examples
    noisy = make_noisy(examples, lexicon(), arguments.rate, arguments.seed)
    with arguments.out.open("w", encoding="utf-8") as file:
        for example in noisy:
            slots = [{"name": slot.name, "start": slot.start, "end": slot.end} for slot in example.slots]
            line = {"text": example.text, "intent": example.intent, "slots": slots}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    lost = sum(len(e.slots) for e in examples) - sum(len(e.slots) for e in noisy)
    print(json.dumps({"lines": len(noisy), "word_error_rate": word_error_rate(examples, noisy), "slots_lost": lost}))


def word_error_rate(clean: Sequence[Example], noisy: Sequence[Example]) -> float:
    """As measured by alignment: a little less than what was asked for where errors touch."""
    import jiwer

    return round(float(jiwer.wer([e.text for e in clean], [e.text for e in noisy])), 4)


if __name__ == "__main__":
    main()
