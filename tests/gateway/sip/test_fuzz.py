"""A moment of what `python -m tests.gateway.sip.fuzz` does for an hour."""

from __future__ import annotations

import random

import pytest

from tests.gateway.sip.fuzz import fuzz

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seed", range(5))
def test_damaged_datagrams_break_nothing(seed: int) -> None:
    fuzz(random.Random(seed), 200)
