"""The store of clips that were spoken once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audio.recipe.speech import Clip, ClipStore, to_pcm16

pytestmark = pytest.mark.unit


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    clips = [
        Clip(text="one", speaker="a", pcm=np.arange(5, dtype=np.int16)),
        Clip(text="it's two", speaker="b", pcm=np.arange(7, dtype=np.int16) - 3),
    ]
    assert not ClipStore.exists(tmp_path / "store")
    ClipStore.write(tmp_path / "store", clips)
    assert ClipStore.exists(tmp_path / "store")
    store = ClipStore(tmp_path / "store")
    assert [(clip.text, clip.speaker, clip.pcm.tolist()) for clip in store] == [
        (clip.text, clip.speaker, clip.pcm.tolist()) for clip in clips
    ]


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    ClipStore.write(tmp_path, [])
    assert len(ClipStore(tmp_path)) == 0


def test_samples_become_sixteen_bits_at_the_peak_asked_for() -> None:
    pcm = to_pcm16(np.array([0.0, 0.25, -0.5], np.float32), peak=0.9)
    assert pcm.dtype == np.int16 and pcm.tolist() == [0, 14745, -29490]
    assert to_pcm16(np.array([2.0, -2.0], np.float32)).tolist() == [32767, -32767]
