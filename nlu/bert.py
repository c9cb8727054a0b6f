"""BERT, and no more of it than an encoder needs: embeddings, layers, the state of every token.

Written out rather than imported because of start time and latency: importing transformers' BertModel takes
2.3-3.3 s on one core, this module a few milliseconds beyond torch, and query, key and value are one matrix
product here. Any checkpoint of model type "bert" fits (bert-base-uncased, bert-base-chinese,
hfl/chinese-bert-wwm-ext, MiniLM); `from_checkpoint` renames its tensors. That the outputs agree with
transformers' own is a test.

Source: Devlin et al. 2019, "BERT"; post-norm layers as in the released checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Bert", "BertConfig", "from_checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Shape of a BERT; the names are those of the checkpoint's `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    @classmethod
    def read(cls, path: Path) -> BertConfig:
        """Read a checkpoint's `config.json`.

        Raises:
            ValueError: not a BERT, or one with parts this module lacks (another activation, relative
                positions); the message names the part.
        """
        raw = json.loads(path.read_text(encoding="utf-8"))
        for key, supported in (
            ("model_type", "bert"),
            ("hidden_act", "gelu"),
            ("position_embedding_type", "absolute"),
        ):
            if (found := raw.get(key, supported)) != supported:
                raise ValueError(f"{key} is {found!r}, only {supported!r} is supported")
        known = {field.name for field in fields(cls)}
        if missing := sorted(f.name for f in fields(cls) if f.default is MISSING and f.name not in raw):
            raise ValueError(f"{', '.join(missing)} missing")
        return cls(**{name: value for name, value in raw.items() if name in known})


class Embeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalised. All text is segment 0."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 (batch, tokens) -> (batch, tokens, hidden)."""
        summed = self.word(ids) + self.position.weight[: ids.shape[1]] + self.segment.weight[0]
        return self.dropout(self.norm(summed))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Self-attention, then the feed-forward block; each added to its input and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.up = nn.Linear(hidden, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.attention_dropout = config.attention_probs_dropout_prob

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """states: (batch, tokens, hidden); mask: see `Bert._attention_mask`."""
        batch, tokens, hidden = states.shape
        qkv = self.qkv(states).view(batch, tokens, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        if mask is not None and mask.is_floating_point():
            query, key, value = qkv.flatten(1, 2)
            attended = _attend(query, key, value, mask).view(batch, self.heads, tokens, -1)
        else:
            query, key, value = qkv
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=self.attention_dropout if self.training else 0.0
            )
        attended = self.attention_out(attended.transpose(1, 2).reshape(batch, tokens, hidden))
        states = self.attention_norm(states + self.dropout(attended))
        fed_forward = self.down(functional.gelu(self.up(states)))
        return self.output_norm(states + self.dropout(fed_forward))  # type: ignore[no-any-return]


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention by two matrix products; all are (batch x heads, tokens, size), `bias` is added to the scores.

    torch's own is made for long texts: on a CPU, in bfloat16, 32 texts of 13 tokens take it 2.6 ms and this 1.0.
    """
    scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=query.shape[2] ** -0.5)
    return torch.bmm(scores.softmax(dim=2), value)


class Bert(nn.Module):
    """The encoder. `embeddings` and `layers` are apart because only the layers are fine-tuned and shipped."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """States of all tokens.

        Args:
            ids: int64, shape (batch, tokens), tokens <= `max_position_embeddings`.
            mask: bool, shape (batch, tokens), False at padding; None where nothing is padded (faster).

        Returns:
            Shape (batch, tokens, hidden), in the dtype of the layers. Padding has undefined states.
        """
        states = self.embeddings(ids)
        attention_mask = self._attention_mask(mask, states)
        for layer in self.layers:
            states = layer(states, attention_mask)
        return states  # type: ignore[no-any-return]

    def wordings(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """What a line speaks of, whatever its order: the mean of its tokens' word vectors, float32 (batch, hidden)."""
        words = self.embeddings.word(ids).float()
        if mask is None:
            return words.mean(dim=1)  # type: ignore[no-any-return]
        return (words * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)  # type: ignore[no-any-return]

    def _attention_mask(self, mask: Tensor | None, states: Tensor) -> Tensor | None:
        """What a layer wants to know of the padding: for `_attend` a bias in the dtype of the states, shape
        (batch x heads, 1, tokens) or (1, 1, 1), else a bool of shape (batch, 1, 1, tokens), or None."""
        if not self.training and states.device.type == "cpu" and states.dtype is torch.bfloat16 and len(states) > 1:
            if mask is None:
                return states.new_zeros(1, 1, 1)
            bias = states.new_zeros(mask.shape).masked_fill(~mask, torch.finfo(states.dtype).min)
            return bias.repeat_interleave(self.config.num_attention_heads, dim=0)[:, None, :]
        return None if mask is None else mask[:, None, None, :]


_EMBEDDING_NAMES = {
    "word": "word_embeddings",
    "position": "position_embeddings",
    "segment": "token_type_embeddings",
    "norm": "LayerNorm",
}
_LAYER_NAMES = {
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}


def from_checkpoint(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors to those of `Bert`, float32.

    Accepts the "bert." prefix of checkpoints saved with a head and the gamma/beta names of the first
    releases; heads and poolers are left out.

    Raises:
        KeyError: a tensor is missing; the key is its name in the checkpoint.
    """
    source = {
        name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias"): tensor
        for name, tensor in tensors.items()
    }
    state: dict[str, Tensor] = {}
    for ours, theirs in _EMBEDDING_NAMES.items():
        for kind in ("weight", "bias") if ours == "norm" else ("weight",):
            state[f"embeddings.{ours}.{kind}"] = source[f"embeddings.{theirs}.{kind}"]
    for index in range(layers):
        for kind in ("weight", "bias"):
            prefix = f"encoder.layer.{index}"
            state[f"layers.{index}.qkv.{kind}"] = torch.cat(
                [source[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            )
            for ours, theirs in _LAYER_NAMES.items():
                state[f"layers.{index}.{ours}.{kind}"] = source[f"{prefix}.{theirs}.{kind}"]
    return {name: tensor.float() for name, tensor in state.items()}
