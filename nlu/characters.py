"""An encoder that needs no pretrained weights: characters and their pairs, seen through small windows.

For Chinese where no hub can be reached: some two million weights, trained from nothing with the head on the bot's
own examples. A token is known by its character and by the two pairs that it makes with its neighbours; pairs are
hashed into a fixed number of rows, so there is no vocabulary to build or to ship. Words of Latin letters and
figures are one word each, spelled character by character, as word pieces are.

`CharacterEncoder` is shaped like `nlu.bert.Bert`: `embeddings` are what is not trained (here: the hashing), and
`layers` all that is. Every row starts at zero and only those of characters seen in training move: a character
that training never saw is the zero vector, which dropped-out characters make the layers above get used to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import string
from dataclasses import dataclass

import torch
from tokenizers import BertWordPieceTokenizer, Tokenizer
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CHARACTERS", "CharacterConfig", "CharacterEncoder", "Characters"]

CHARACTERS = "characters"
"""Name of this encoder, where others have a folder, package or hub id."""

_MAX_POSITIONS = 512  # nothing in the encoder needs a bound; a line that long is no utterance
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterConfig:
    """Shape of the encoder; `num_hidden_layers` counts its windows."""

    vocab_size: int
    hidden_size: int = 256
    character_size: int = 128
    pair_size: int = 64
    pair_rows: int = 16384
    num_hidden_layers: int = 2
    dropout: float = 0.3
    unseen_share: float = 0.1
    """Characters that training hides, so that one it never met is nothing new."""


class Pairs(nn.Module):
    """Each token's character and the rows of its pairs with the tokens before and after it. Has no weights."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 (batch, tokens) -> int64 (batch, tokens, 3); beyond the ends of a line stands padding, 0."""
        before = functional.pad(ids[:, :-1], (1, 0))
        after = functional.pad(ids[:, 1:], (0, 1))
        return torch.stack([ids, self._row(before, ids), self._row(ids, after)], dim=2)

    def _row(self, first: Tensor, second: Tensor) -> Tensor:
        """Multiplicative hashing (Knuth 1973, 6.4); ids below 2^15 keep the product within int64."""
        return (((first << 15) + second) * 2654435761 >> 20) % self._rows


class Tables(nn.Module):
    """Vectors of characters and pairs, side by side."""

    def __init__(self, config: CharacterConfig) -> None:
        super().__init__()
        self.character = nn.Embedding(config.vocab_size, config.character_size)
        self.pair = nn.Embedding(config.pair_rows, config.pair_size)
        for table in (self.character, self.pair):
            nn.init.zeros_(table.weight)
        self.dropout = nn.Dropout(config.dropout)
        self.unseen_share = config.unseen_share

    def forward(self, grams: Tensor, mask: Tensor | None) -> Tensor:
        """grams: int64 (batch, tokens, 3), as `Pairs` gives them -> (batch, tokens, character + 2 pairs)."""
        characters = self.character(grams[:, :, 0])
        if self.training:
            kept = torch.rand(characters.shape[:2], device=characters.device) >= self.unseen_share
            characters = characters * kept[:, :, None]
        return self.dropout(torch.cat([characters, self.pair(grams[:, :, 1:]).flatten(2)], dim=2))  # type: ignore[no-any-return]


class Window(nn.Module):
    """A convolution over each token and its two neighbours.

    Two of them were better than a recurrent layer on the dev lines of a public Chinese set (slot F1 82.7 against
    79.1) and took three quarters of the time. The head's GRU reads the whole line all the same.
    """

    def __init__(self, input_size: int, config: CharacterConfig) -> None:
        super().__init__()
        # A matrix over the three side by side, and no nn.Conv1d: its weights are rows, as the artefact stores them.
        self.mix = nn.Linear(3 * input_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.adds = input_size == config.hidden_size

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """states: (batch, tokens, input) -> (batch, tokens, hidden); mask: bool (batch, tokens) or None."""
        if mask is not None:
            states = states * mask[:, :, None]  # what stands beyond a line's end is the same in every batch: nothing
        padded = functional.pad(states, (0, 0, 1, 1))
        mixed = self.dropout(functional.gelu(self.mix(torch.cat([padded[:, :-2], states, padded[:, 2:]], dim=2))))
        return self.norm(states + mixed if self.adds else mixed)  # type: ignore[no-any-return]


class Summary(nn.Module):
    """Makes the first position, [CLS], stand for the line: the maximum over its tokens, feature by feature.

    A window at the line's beginning sees no more of it than two characters.
    """

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """states: (batch, tokens, hidden), and the same out; mask: bool (batch, tokens) or None."""
        real = states if mask is None else states.masked_fill(~mask[:, :, None], -torch.inf)
        return torch.cat([real.amax(dim=1, keepdim=True), states[:, 1:]], dim=1)


class CharacterEncoder(nn.Module):
    """The encoder, with random weights until it is trained or loaded."""

    def __init__(self, config: CharacterConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Pairs(config.pair_rows)
        sizes = [config.character_size + 2 * config.pair_size]
        sizes += [config.hidden_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList([Tables(config), *(Window(size, config) for size in sizes), Summary()])

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """States of all tokens; see `nlu.bert.Bert.forward`."""
        states = self.embeddings(ids)
        for layer in self.layers:
            states = layer(states, mask)
        return states  # type: ignore[no-any-return]

    def wordings(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """See `nlu.bert.Bert.wordings`; of characters and pairs, by the tables as trained."""
        grams = self.layers[0](self.embeddings(ids), mask).float()
        if mask is None:
            return grams.mean(dim=1)  # type: ignore[no-any-return]
        return (grams * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Characters:
    """Where the encoder comes from: this module. Satisfies `nlu.encoders.EncoderSource`."""

    name: str = CHARACTERS
    pretrained: bool = False
    max_positions: int = _MAX_POSITIONS

    def sha256(self) -> str:
        """Hash over the characters known and the shape, hex."""
        described = [list(_vocabulary()), dataclasses.asdict(self.read_config())]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def read_config(self) -> CharacterConfig:
        """The shape of the encoder."""
        return CharacterConfig(vocab_size=len(_vocabulary()))

    def read_encoder(self) -> CharacterEncoder:
        """An encoder that has learnt nothing yet, in training mode."""
        return CharacterEncoder(self.read_config())

    def blank_encoder(self) -> CharacterEncoder:
        """The same: all its weights are in the artefact."""
        return self.read_encoder()

    def read_state(self, layers: int) -> dict[str, Tensor]:
        """No weights come with this encoder."""
        return {}

    def read_tokenizer(self) -> Tokenizer:
        """Splits into words as BERT does (each Chinese character is one), and words into characters."""
        return Tokenizer.from_str(BertWordPieceTokenizer(_vocabulary()).to_str())


def _vocabulary() -> dict[str, int]:
    """Ids of characters: those of GB 2312 (6,763 simplified) and of Big5's first plane (5,401 traditional).

    Both sets are in Python's codecs, so no file need be shipped. Letters and digits stand twice: at the start of a
    word and within one ("##").
    """
    simplified = _decoded("gb2312", range(0xB0, 0xF8))
    traditional = _decoded("big5", range(0xA4, 0xC7))
    latin = string.ascii_lowercase + string.digits
    han = dict.fromkeys(char for char in simplified + traditional if "\u4e00" <= char <= "\u9fff")
    pieces = [*_SPECIAL, *latin, *(f"##{char}" for char in latin), *string.punctuation, *han]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def _decoded(codec: str, rows: range) -> str:
    """All characters of a two-byte character set's rows."""
    cells = (bytes([row, cell]) for row in rows for cell in range(0x40, 0xFF))
    return "".join(cell.decode(codec, errors="ignore") for cell in cells)
