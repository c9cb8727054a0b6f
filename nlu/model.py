"""The joint model: an encoder, intent from the line as a whole, slots by a bidirectional recurrence over the words.

After JointBERT (Chen et al. 2019, "BERT for Joint Intent Classification and Slot Filling"): one pass over the
text gives both. What each part of the head brought is in docs/nlu.md:

- the intent reads [CLS] and the mean of all tokens;
- a word is the mean of its pieces, and stands beside [CLS], so that the slots know what the line is about;
- the recurrence is a GRU or an LSTM; a CRF learns which tag follows which.

Everything in `bert.embeddings` stays as pretrained, so that an artefact need not carry it (half of a small
encoder's weights are word embeddings); layers and head are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nlu.crf import Crf, Transitions, bio_rules
from nlu.encoders import Encoder
from nlu.labels import SlotTags
from nlu.tokens import Batch

__all__ = ["HeadConfig", "JointModel", "Recurrence", "Scores", "SlotDecoding"]


class Recurrence(StrEnum):
    """What reads the words."""

    GRU = "gru"
    LSTM = "lstm"


class SlotDecoding(StrEnum):
    """What is known of tag sequences: the rules of BIO, or beside them how likely each pair of tags is."""

    CONSTRAINED = "constrained"
    CRF = "crf"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Shape of what stands on the encoder. `size` is the recurrence's, per direction."""

    intents: int
    tags: SlotTags
    size: int = 128
    recurrence: Recurrence = Recurrence.GRU
    decoding: SlotDecoding = SlotDecoding.CRF
    dropout: float = 0.1


class Scores(NamedTuple):
    """What the model says of a batch, float32.

    `intents` (batch, intents) and `tags` (batch, words, tags) are scores; rows beyond a line's words are without
    meaning. `wordings` (batch, size) is what the scope is judged by beside them.
    """

    intents: Tensor
    tags: Tensor
    wordings: Tensor


class Head(nn.Module):
    """Intent and slot scores from encoder states. Runs in float32: it is small, and sums are what it does."""

    def __init__(self, encoder_size: int, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.intent = nn.Linear(2 * encoder_size, config.intents)
        kind = nn.GRU if config.recurrence is Recurrence.GRU else nn.LSTM
        self.words = kind(2 * encoder_size, config.size, batch_first=True, bidirectional=True)
        self.slots = nn.Linear(2 * config.size, len(config.tags))
        self.crf = Crf(config.tags) if config.decoding is SlotDecoding.CRF else None
        self._rules = bio_rules(config.tags)

    def forward(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Intent and tag scores; states are (batch, tokens, encoder_size), float32."""
        lengths = _lengths(batch)
        real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        features = torch.cat([states[:, 0], (states * real[:, :, None]).sum(dim=1) / lengths[:, None]], dim=1)
        words = self.dropout(_word_means(states, batch, lengths))
        about = self.dropout(states[:, :1]).expand(-1, words.shape[1], -1)
        # Packed, so that the backward direction starts at each line's own last word: a line's slots
        # do not depend on what it is batched with.
        packed = pack_padded_sequence(
            torch.cat([words, about], dim=2), batch.word_counts, batch_first=True, enforce_sorted=False
        )
        read, _ = pad_packed_sequence(self.words(packed)[0], batch_first=True)
        return self.intent(self.dropout(features)), self.slots(self.dropout(read))

    def transitions(self) -> Transitions:
        """Scores of tag pairs, for `nlu.crf.viterbi`."""
        return self._rules if self.crf is None else self.crf.transitions()


def _lengths(batch: Batch) -> Tensor:
    """Tokens of each line, int64 (batch,)."""
    if batch.mask is None:
        return torch.full((batch.ids.shape[0],), batch.ids.shape[1], device=batch.ids.device)
    return batch.mask.sum(dim=1)


def _word_means(states: Tensor, batch: Batch, lengths: Tensor) -> Tensor:
    """The mean state of each word's pieces, (batch, words, encoder size); zeros beyond a line's words.

    A word ends where the next begins, the last one at [SEP], which is every line's last token.
    """
    starts = batch.heads
    last = torch.arange(starts.shape[1]) == batch.word_counts[:, None] - 1
    ends = torch.where(last.to(starts.device), lengths[:, None] - 1, starts.roll(-1, dims=1))
    positions = torch.arange(states.shape[1], device=states.device)
    inside = ((starts[:, :, None] <= positions) & (positions < ends[:, :, None])).to(states.dtype)
    means: Tensor = inside @ states / inside.sum(dim=2, keepdim=True).clamp_min(1)
    return means


class JointModel(nn.Module):
    """Encoder and head."""

    def __init__(self, bert: Encoder, head: HeadConfig) -> None:
        super().__init__()
        self.bert = bert
        self.head = Head(bert.config.hidden_size, head)
        self.bert.embeddings.requires_grad_(False)

    def forward(self, batch: Batch) -> Scores:
        """Scores of a batch."""
        states = self.bert(batch.ids, batch.mask)
        with torch.autocast(states.device.type, enabled=False):
            intents, tags = self.head(states.float(), batch)
            return Scores(intents, tags, self.bert.wordings(batch.ids, batch.mask).float())
