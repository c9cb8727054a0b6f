"""Made sounds: of every kind and level, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.non_speech import KINDS, LEVELS_DBFS, Sound, sounds

pytestmark = pytest.mark.unit


def loudest_dbfs(sound: Sound) -> float:
    blocks = sound.samples[: len(sound.samples) // 160 * 160].reshape(-1, 160).astype(np.float64)
    return float(10 * np.log10(np.square(blocks).mean(axis=1).max()))


def test_every_kind_at_every_level_without_an_odd_sample() -> None:
    made = list(sounds(24, seed=1))
    assert Counter((sound.kind, sound.level_dbfs) for sound in made) == {
        (kind, level): 4 for kind in KINDS for level in LEVELS_DBFS
    }
    for sound in made:
        assert sound.samples.dtype == np.float32
        assert 0.4 * 8000 <= len(sound.samples) <= 6 * 8000
        assert float(np.abs(sound.samples).max()) <= 1
        if sound.level_dbfs <= -20:  # louder ones may be clipped, as on a line
            assert loudest_dbfs(sound) == pytest.approx(sound.level_dbfs, abs=1.5)
        assert loudest_dbfs(sound) > sound.level_dbfs - 8


def test_a_seed_makes_the_same_sounds_and_another_makes_others() -> None:
    first, again, other = (list(sounds(2, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one.samples, two.samples) for one, two in zip(first, again, strict=True))
    assert not any(np.array_equal(one.samples, two.samples) for one, two in zip(first, other, strict=True))
    assert len({sound.samples.tobytes() for sound in first}) == len(first)
