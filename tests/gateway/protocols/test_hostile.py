"""A few seconds of what `tests.gateway.protocols.hostile` does for as long as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.protocols.hostile import PATHS, attack

pytestmark = pytest.mark.unit


async def test_hostile_peers_harm_nobody_but_themselves(tmp_path: Path) -> None:
    outcome = await attack(4, 1, tmp_path)
    assert outcome.faults == []
    assert set(outcome.inputs) == set(PATHS) and outcome.inputs.total() > 500
    # Client, worker and siege share one loop here, in debug mode: who has half a core keeps half the pace.
    assert 42 * outcome.core_share < outcome.neighbour_frames_per_s < 55, outcome
