"""Text to what the model reads: normal form, word pieces, words; and batches of them as padded tensors.

The raw `tokenizers` library does it in 0.08 ms a line, transformers' wrapper around it in 0.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from nlu.normalization import NormalText, normalize

__all__ = ["Batch", "Line", "LineReader", "collate"]


@dataclass(frozen=True, slots=True)
class Line:
    """One text as the model sees it.

    `ids` are the word pieces with [CLS] first and [SEP] last. A word is what lies between spaces and
    punctuation (each Chinese character is one); `heads[i]` is the position in `ids` of word i's first piece,
    `words[i]` its character span in the normal form.
    """

    normal: NormalText
    ids: tuple[int, ...]
    heads: tuple[int, ...]
    words: tuple[tuple[int, int], ...]


class LineReader:
    """Normalises and splits texts. `max_tokens` bounds the pieces of a line; what is beyond is not read."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.no_padding()  # some checkpoints' tokenizer.json pads every line to 128
        tokenizer.enable_truncation(max_tokens)
        self._tokenizer = tokenizer

    def reads_whole(self, text: str) -> bool:
        """Whether nothing of a text lies beyond the bound."""
        return not self._tokenizer.encode(normalize(text).text).overflowing

    def read(self, text: str) -> Line:
        """Read one text; a text without words has no `heads`."""
        normal = normalize(text)
        encoding = self._tokenizer.encode(normal.text)
        heads: list[int] = []
        words: list[tuple[int, int]] = []
        current: int | None = None
        for position, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word is None:  # [CLS] and [SEP]
                continue
            if word == current:
                words[-1] = words[-1][0], end
            else:
                heads.append(position)
                words.append((start, end))
            current = word
        return Line(normal, tuple(encoding.ids), tuple(heads), tuple(words))


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded lines.

    `ids` int64 (batch, tokens); `mask` bool (batch, tokens), None where nothing is padded; `heads` int64
    (batch, words), 0 beyond a line's words; `word_counts` int64 (batch,), on the CPU, at least 1 (a line
    without words gets [CLS] for one, because packed sequences cannot be empty).
    """

    ids: Tensor
    mask: Tensor | None
    heads: Tensor
    word_counts: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; `word_counts` stays on the CPU, where packing wants it."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.ids.to(device), mask, self.heads.to(device), self.word_counts)


def collate(lines: Sequence[Line]) -> Batch:
    """Pad lines to the longest of them."""
    lengths = torch.tensor([len(line.ids) for line in lines])
    counts = torch.tensor([max(1, len(line.heads)) for line in lines])
    ids = torch.zeros(len(lines), int(lengths.max()), dtype=torch.int64)
    heads = torch.zeros(len(lines), int(counts.max()), dtype=torch.int64)
    for row, line in enumerate(lines):
        ids[row, : len(line.ids)] = torch.tensor(line.ids)
        heads[row, : len(line.heads)] = torch.tensor(line.heads, dtype=torch.int64)
    padded = bool((lengths != ids.shape[1]).any())
    mask = torch.arange(ids.shape[1]) < lengths[:, None] if padded else None
    return Batch(ids, mask, heads, counts)
