"""The joint model: a BERT encoder, intent from [CLS], slots by a bidirectional GRU over the words.

After JointBERT (Chen et al. 2019, "BERT for Joint Intent Classification and Slot Filling"): one pass over the
text gives both. The GRU reads words, not word pieces: the state of a word's first piece stands for it.

Everything in `bert.embeddings` stays as pretrained, so that an artefact need not carry it (half of a small
encoder's weights are word embeddings); layers and head are trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nlu.encoders import Encoder
from nlu.tokens import Batch

__all__ = ["HeadConfig", "JointModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Shape of what stands on the encoder. `gru_size` is per direction."""

    intents: int
    tags: int
    gru_size: int = 128
    dropout: float = 0.1


class Head(nn.Module):
    """Intent and slot scores from encoder states. Runs in float32: it is small, and sums are what it does."""

    def __init__(self, encoder_size: int, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.intent = nn.Linear(encoder_size, config.intents)
        self.gru = nn.GRU(encoder_size, config.gru_size, batch_first=True, bidirectional=True)
        self.slots = nn.Linear(2 * config.gru_size, config.tags)

    def forward(self, states: Tensor, heads: Tensor, word_counts: Tensor) -> tuple[Tensor, Tensor]:
        """See `JointModel.forward`; states are (batch, tokens, encoder_size)."""
        states = self.dropout(states)
        intent_scores = self.intent(states[:, 0])
        words = states.gather(1, heads[:, :, None].expand(-1, -1, states.shape[2]))
        # Packed, so that the backward direction starts at each line's own last word: a line's slots
        # do not depend on what it is batched with.
        packed = pack_padded_sequence(words, word_counts, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return intent_scores, self.slots(self.dropout(read))


class JointModel(nn.Module):
    """Encoder and head."""

    def __init__(self, bert: Encoder, head: HeadConfig) -> None:
        super().__init__()
        self.bert = bert
        self.head = Head(bert.config.hidden_size, head)
        self.bert.embeddings.requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores of a batch.

        Returns:
            Intent scores, float32 (batch, intents), and tag scores, float32 (batch, words, tags). Rows beyond
            a line's words are without meaning.
        """
        states = self.bert(batch.ids, batch.mask)
        with torch.autocast(states.device.type, enabled=False):
            intents, tags = self.head(states.float(), batch.heads, batch.word_counts)
        return intents, tags
