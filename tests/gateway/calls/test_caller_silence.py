"""A caller's silence, by values: what of it was heard, and which lines it can be heard on."""

from __future__ import annotations

import pytest

from gateway.calls.caller_silence import CallerSilence

pytestmark = pytest.mark.unit

SECOND = 50  # frames


def looked_at(*frames: int, speech: frozenset[int] = frozenset()) -> CallerSilence:
    """Looked at once a second, so many frames having come by then; at those in `speech` somebody spoke."""
    silence = CallerSilence()
    for second, seen in enumerate(frames):
        silence.look(seen, float(second), speech=second in speech)
    return silence


def test_a_line_that_brings_silence_is_waited_for() -> None:
    silence = looked_at(0, 50, 100)
    silence.begin(100)
    assert silence.missing_ms(100, 6000) == 6000, "paused"
    assert silence.missing_ms(100 + 2 * SECOND, 6000) == 4000, "the rest of it, when it comes"
    assert silence.missing_ms(100 + 6 * SECOND, 6000) == 0
    assert silence.missing_ms(100 + 5 * SECOND, 6000) == 0, "networks jitter"
    assert silence.missing_ms(100 + 4 * SECOND, 6000) == 2000


@pytest.mark.parametrize(
    "silence",
    [
        CallerSilence(),
        looked_at(0, 0, 0, 0),  # nothing ever came
        looked_at(0, 50),  # too short to tell
        looked_at(0, 100, 100, 200, 200),  # in bursts
        looked_at(0, 50, 60, 110, 120),  # suppressed, but for a noise now and then
        looked_at(0, 50, 100, 150, 150, speech=frozenset({1, 2, 3})),  # what came was speech
        looked_at(0, 50, 100, 150, speech=frozenset({1})),  # only once at its pace behind it
    ],
)
def test_a_line_that_may_leave_silence_out_goes_by_the_clock(silence: CallerSilence) -> None:
    silence.begin(200)
    assert silence.missing_ms(200, 6000) == 0


@pytest.mark.parametrize("frames", [(0, 42, 84), (0, 60, 120), (0, 10, 60, 110), (0, 200, 250, 300)])
def test_a_pace_is_a_pace_whatever_came_before(frames: tuple[int, ...]) -> None:
    silence = looked_at(*frames)
    silence.begin(frames[-1])
    assert silence.missing_ms(frames[-1], 6000) == 6000


def test_what_is_known_of_a_line_stays_known() -> None:
    silence = looked_at(0, 50, 100, 100, 100, 150, speech=frozenset({5}))
    silence.begin(150)
    assert silence.missing_ms(150, 1000) == 1000
