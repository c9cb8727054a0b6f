"""Tokenizer, batches and network: shapes, masks, and what each part of a batch means."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from audio.recipe.examples import Example
from audio.recipe.network import SPECIAL_TOKENS, SpeechNetwork, build_tokenizer, collate, mask_bands
from audio.recipe.plan import Shape

pytestmark = pytest.mark.unit

SHAPE = Shape(width=32, encoder_layers=1, decoder_layers=1, phones=4)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(["one two three", "i'll pay"] * 20, 300)


@pytest.fixture
def examples() -> list[Example]:
    generator = np.random.default_rng(0)
    mels = [generator.normal(size=(80, frames)).astype(np.float32) for frames in (90, 120, 60)]
    return [
        Example(mel=mels[0], text="one two", phones=np.full(45, 2, np.int16)),
        Example(mel=mels[1], text="i'll pay"),
        Example(mel=mels[2], text=""),
    ]


def test_text_tokens_come_before_the_special_ones(tokenizer: Tokenizer) -> None:
    end = tokenizer.token_to_id("<|endoftext|>")
    assert [tokenizer.token_to_id(token) - end for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    ids = tokenizer.encode(" one two zebra", add_special_tokens=False).ids
    assert max(ids) < end and tokenizer.decode(ids) == " one two zebra"


def test_a_batch_is_padded_and_masked(tokenizer: Tokenizer, examples: list[Example]) -> None:
    batch = collate(examples, tokenizer, Random(0))
    frames = batch.mel.shape[2]
    assert batch.mel.shape[:2] == (3, 80) and frames % 2 == 0 and 120 < frames <= 150
    assert batch.inputs.shape == batch.targets.shape
    assert batch.positions.tolist() == [45, 60, 30]
    assert (batch.mel[2, :, 60:] == 0).all()
    assert (batch.phones[0, :45] == 2).all() and (batch.phones[0, 45:] == -100).all()
    assert (batch.phones[1:] == -100).all()
    assert batch.character_counts.tolist() == [7, 8, 0] and len(batch.characters) == 15


def test_targets_are_the_inputs_one_on_and_say_whether_there_is_speech(
    tokenizer: Tokenizer, examples: list[Example]
) -> None:
    batch = collate(examples, tokenizer, Random(0))
    ids = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("nospeech", "notimestamps", "endoftext")}
    assert batch.targets[:, 0].tolist() == [ids["notimestamps"], ids["notimestamps"], ids["nospeech"]]
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        length = sum(target != -100 for target in targets)
        assert inputs[2:length] == targets[1 : length - 1]
        assert targets[length - 1] == ids["endoftext"]


def test_padding_on_request(tokenizer: Tokenizer, examples: list[Example]) -> None:
    assert collate(examples, tokenizer, Random(0), pad_to=3000).mel.shape[2] == 3000


def test_masking_leaves_the_original_alone() -> None:
    mel = np.random.default_rng(0).normal(size=(80, 200)).astype(np.float32)
    before = mel.copy()
    masked = mask_bands(mel, Random(1))
    np.testing.assert_array_equal(mel, before)
    assert masked.shape == mel.shape and masked.dtype == np.float32


def test_losses_reach_the_encoder_only_when_they_should(tokenizer: Tokenizer, examples: list[Example]) -> None:
    torch.manual_seed(0)
    network = SpeechNetwork(tokenizer, SHAPE)
    batch = collate(examples, tokenizer, Random(0))
    encoder = network.whisper.model.encoder.conv1.weight
    for heads_only in (True, False):
        losses = network.losses(batch, frame_budget=400, heads_only=heads_only)
        assert all(torch.isfinite(loss) for loss in (losses.tokens, losses.characters, losses.phones))
        network.zero_grad()
        (losses.characters + losses.phones).backward()
        assert (encoder.grad is None) == heads_only
