"""The network: a small Whisper, its tokenizer, two training-only heads, and the batches it eats.

Whisper's architecture is kept so that the result loads in `faster_whisper.WhisperModel` like any other.
Three losses share the encoder: the decoder's cross-entropy on tokens; CTC on characters; cross-entropy on
the phone heard in each 20 ms. The last is what gets a small encoder off the plateau where everything is
blank, and costs nothing, since the synthesiser knows when it said what. Both heads stay out of the export.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from audio.recipe.examples import Example, Mel
from audio.recipe.plan import Shape, TrainingError

__all__ = ["Batch", "Losses", "SpeechNetwork", "build_tokenizer", "collate", "mask_bands"]

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
CHARACTER_IDS = {character: index + 1 for index, character in enumerate(CHARACTERS)}
"""CTC classes; 0 is the blank."""

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
"""In the order that CTranslate2's converter expects, after all text tokens."""

MAX_POSITIONS = 1500
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B examples of one padded length T (even), L tokens.

    `mel` float32 (B, 80, T); `inputs`, `targets` int64 (B, L), ignored targets -100; `characters` int64, all
    texts in a row, `character_counts` (B,); `positions` (B,) encoder positions that hold sound; `phones`
    int64 (B, T/2), -100 where unknown.
    """

    mel: Tensor
    inputs: Tensor
    targets: Tensor
    characters: Tensor
    character_counts: Tensor
    positions: Tensor
    phones: Tensor

    def __len__(self) -> int:
        return len(self.mel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Scalars with gradients, each divided by a constant (see `SpeechNetwork.losses`)."""

    tokens: Tensor
    characters: Tensor
    phones: Tensor


def build_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE of `size` tokens and the special ones: it can write any word, known ones shortly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([f" {text}" for text in texts], trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # after the text: decoders keep ids below end-of-text
    return tokenizer


def collate(batch: Sequence[Example], tokenizer: Tokenizer, rng: Random, pad_to: int = 0) -> Batch:
    """Pad to one length, at least `pad_to` frames and a few more than the longest; mask parts of each.

    The first target says whether there is speech: `<|notimestamps|>` after the start token if so,
    `<|nospeech|>` if not, which is where Whisper's no-speech probability is read.
    """
    end, start, plain, silent = (
        tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "startoftranscript", "notimestamps", "nospeech")
    )
    longest = max(example.mel.shape[1] for example in batch)
    # two in five as the engine pads (to whole half seconds), the others tight: padding costs time
    frames = -(-(longest + 8) // 50) * 50 if rng.random() < 0.4 else longest + rng.randint(2, 12)
    frames = max(frames, pad_to)
    frames = min(frames + frames % 2, 2 * MAX_POSITIONS)
    ids = [
        tokenizer.encode(f" {example.text}", add_special_tokens=False).ids if example.text else [] for example in batch
    ]
    length = max(map(len, ids)) + 2
    mel = np.zeros((len(batch), 80, frames), np.float32)
    inputs = np.full((len(batch), length), end)
    targets = np.full((len(batch), length), IGNORED)
    phones = np.full((len(batch), frames // 2), IGNORED)
    for row, example in enumerate(batch):
        mel[row, :, : example.mel.shape[1]] = mask_bands(example.mel, rng)
        tokens = [start, plain, *ids[row], end]
        inputs[row, : len(tokens) - 1] = tokens[:-1]
        targets[row, : len(tokens) - 1] = tokens[1:]
        targets[row, 0] = plain if example.text else silent
        if example.phones is not None:
            phones[row, : len(example.phones)] = example.phones
    characters = [[CHARACTER_IDS[character] for character in example.text] for example in batch]
    return Batch(
        mel=torch.from_numpy(mel),
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(targets),
        characters=torch.tensor([one for text in characters for one in text], dtype=torch.long),
        character_counts=torch.tensor([len(text) for text in characters]),
        positions=torch.tensor([(example.mel.shape[1] + 1) // 2 for example in batch]),
        phones=torch.from_numpy(phones),
    )


def mask_bands(mel: Mel, rng: Random) -> Mel:
    """SpecAugment: a shift in level, two masked bands of mels, one masked stretch every 1.5 s."""
    mel = mel + np.float32(rng.uniform(-0.15, 0.15))
    frames, fill = mel.shape[1], mel.mean()
    for _ in range(2):
        height = rng.randint(0, 10)
        low = rng.randint(0, 80 - height)
        mel[low : low + height] = fill
    for _ in range(1 + frames // 150):
        width = rng.randint(0, 16)
        first = rng.randint(0, max(0, frames - width))
        mel[:, first : first + width] = fill
    return mel


class SpeechNetwork(nn.Module):
    """Whisper with a CTC head and a phone head on its encoder."""

    def __init__(self, tokenizer: Tokenizer, shape: Shape) -> None:
        super().__init__()
        end, start = (tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "startoftranscript"))
        self.shape = shape
        self.whisper = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=tokenizer.get_vocab_size(),
                d_model=shape.width,
                encoder_layers=shape.encoder_layers,
                decoder_layers=shape.decoder_layers,
                encoder_attention_heads=max(1, shape.width // 64),
                decoder_attention_heads=max(1, shape.width // 64),
                encoder_ffn_dim=4 * shape.width,
                decoder_ffn_dim=4 * shape.width,
                # faster-whisper's transcribe() pads to 30 s whatever the model says
                max_source_positions=MAX_POSITIONS,
                max_target_positions=448,
                num_mel_bins=80,
                pad_token_id=end,
                bos_token_id=end,
                eos_token_id=end,
                decoder_start_token_id=start,
                suppress_tokens=[],
                begin_suppress_tokens=[],
                attn_implementation="eager",  # a quarter faster than SDPA on a CPU at these lengths
            )
        )
        self.character_head = nn.Linear(shape.width, len(CHARACTERS) + 1)
        self.phone_head = nn.Linear(shape.width, shape.phones)

    def load_whisper(self, folder: Path) -> None:
        """Take the weights of a Whisper of the same shape and tokenizer (`model.safetensors`); heads stay.

        Raises:
            TrainingError: another shape; the message says which tensor.
        """
        from safetensors.torch import load_file

        own = self.whisper.state_dict()
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name not in own or own[name].shape != tensor.shape:
                want = tuple(own[name].shape) if name in own else "no such tensor"
                raise TrainingError(
                    f"{folder} holds {name} {tuple(tensor.shape)}, this network has {want}: "
                    "start from a model of the same width, layers and tokenizer"
                )
            own[name].copy_(tensor)

    def encode(self, mel: Tensor) -> Tensor:
        """(B, 80, T) -> (B, T/2, width). Transformers insists on 3,000 frames, the weights do not."""
        encoder: Any = self.whisper.model.encoder
        hidden = F.gelu(encoder.conv1(mel))
        hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        normed: Tensor = encoder.layer_norm(hidden)
        return normed

    def losses(self, batch: Batch, *, frame_budget: int, heads_only: bool, device: str = "cpu") -> Losses:
        """The three losses of a batch, summed and divided by what a usual batch of that budget holds.

        A constant divisor rather than the batch's own count gives every word the same weight, whatever the
        batch. With `heads_only` the heads learn without moving the encoder: the first steps after a warm
        start, when theirs would be noise.
        """
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = self.encode(batch.mel.to(device))
            decoded = self.whisper.model.decoder(
                input_ids=batch.inputs.to(device), encoder_hidden_states=hidden, use_cache=False
            ).last_hidden_state
            token_logits = self.whisper.proj_out(decoded)
            heard = hidden.detach() if heads_only else hidden
            character_logits, phone_logits = self.character_head(heard), self.phone_head(heard)
        clips = frame_budget / 200  # a usual clip: 2 s, 6 tokens, 14 characters
        tokens = F.cross_entropy(
            token_logits.float().flatten(0, 1),
            batch.targets.to(device).flatten(),
            ignore_index=IGNORED,
            label_smoothing=0.05,
            reduction="sum",
        )
        ctc = F.ctc_loss(
            character_logits.float().log_softmax(-1).transpose(0, 1),
            batch.characters.to(device),
            batch.positions,
            batch.character_counts,
            zero_infinity=True,
            reduction="none",
        )
        phones = F.cross_entropy(
            phone_logits.float().flatten(0, 1),
            batch.phones.to(device).flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        return Losses(
            tokens=tokens / (clips * 6),
            characters=ctc[batch.character_counts.to(ctc.device) > 0].sum() / (clips * 14),
            phones=phones / (frame_budget * 0.2),
        )
