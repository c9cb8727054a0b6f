"""Playout: pace, lead, marks, hold and resume, by values."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.calls.playout import AudioDue, Playout, PlayoutItem, PromptSent

pytestmark = pytest.mark.unit

BYTES_PER_MS = 16  # 8 kHz PCM16
FRAME = 320


def item(ms: int, mark: str = "m", **more: object) -> PlayoutItem:
    content = bytes(i % 251 for i in range(ms * BYTES_PER_MS))
    return PlayoutItem(audio=memoryview(content), mark=mark, **more)  # type: ignore[arg-type]


def run(playout: Playout, start: float, stop: float, tick: float = 0.02) -> list[tuple[float, object]]:
    """Poll on a grid; (time, step) pairs."""
    out: list[tuple[float, object]] = []
    for i in range(round((stop - start) / tick) + 1):
        now = start + i * tick
        out += [(now, step) for step in playout.poll(now)]
    return out


def audio(steps: list[tuple[float, object]]) -> bytes:
    return b"".join(bytes(s.audio) for _, s in steps if isinstance(s, AudioDue))


def test_first_frames_leave_at_once_and_the_lead_is_never_exceeded() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    prompt = item(1000)
    playout.enqueue(prompt, 10.0)
    steps = run(playout, 10.0, 11.2)
    assert audio(steps) == bytes(prompt.audio)
    assert steps[0][0] == 10.0
    sent = 0
    for now, step in steps:
        if isinstance(step, AudioDue):
            sent += len(step.audio)
            assert sent / BYTES_PER_MS / 1000 <= now - 10.0 + 0.1 + 0.020001
    marks = [s for _, s in steps if isinstance(s, PromptSent)]
    assert [m.item.mark for m in marks] == ["m"]
    assert marks[0].heard_at == pytest.approx(11.0)


def test_a_minute_plays_at_fifty_frames_a_second() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    playout.enqueue(item(61_000), 0.0)
    frames = [now for now, s in run(playout, 0.0, 60.0) if isinstance(s, AudioDue)]
    # Frames sit on the poll's own grid, so one may fall to either side of the window's edge.
    assert abs(len([t for t in frames if 1.0 <= t < 60.0]) - 59 * 50) <= 1


def test_the_first_sound_is_found_where_it_is() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    playout.enqueue(item(100, first_sound_byte=FRAME * 2 + 5), 0.0)
    flags = [s.first_sound for _, s in run(playout, 0.0, 0.2) if isinstance(s, AudioDue)]
    assert flags == [False, False, True, False, False]


def test_prompts_follow_each_other_without_a_gap_and_idle_time_is_not_made_up() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    playout.enqueue(item(200, "a"), 0.0)
    playout.enqueue(item(200, "b"), 0.05)
    assert [s.heard_at for _, s in run(playout, 0.0, 0.5) if isinstance(s, PromptSent)] == pytest.approx([0.2, 0.4])
    playout.enqueue(item(200, "c"), 5.0)
    assert [s.heard_at for _, s in run(playout, 5.0, 5.5) if isinstance(s, PromptSent)] == pytest.approx([5.2])


def test_hold_goes_back_to_what_was_heard_and_resume_repeats_only_that() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    prompt = item(1000)
    playout.enqueue(prompt, 0.0)
    before = audio(run(playout, 0.0, 0.5))
    assert len(before) == 620 * BYTES_PER_MS  # 500 ms heard, the frame due now, 100 ms of lead
    playout.hold(0.51)
    assert playout.held and playout.get_timer() is None and playout.poll(0.9) == ()
    playout.resume(2.0)
    after = audio(run(playout, 2.0, 3.0))
    heard = 500 * BYTES_PER_MS
    assert before[:heard] + after == bytes(prompt.audio)


def test_hold_brings_back_a_prompt_whose_end_was_sent_but_not_heard() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    playout.enqueue(item(80, "a"), 0.0)
    playout.enqueue(item(80, "b"), 0.0)
    run(playout, 0.0, 0.06)
    playout.hold(0.06)
    playout.resume(1.0)
    again = run(playout, 1.0, 1.3)
    assert len(audio(again)) == 100 * BYTES_PER_MS
    assert [s.item.mark for _, s in again if isinstance(s, PromptSent)] == ["a", "b"]


def test_drop_names_what_was_not_sent_and_leaves_silence() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    first, second = item(500, "a"), item(500, "b")
    playout.enqueue(first, 0.0)
    playout.enqueue(second, 0.0)
    run(playout, 0.0, 0.1)
    playout.hold(0.1)
    assert playout.drop() == [first, second]
    assert not playout.playing and playout.current(0.2) is None and playout.get_timer() is None
    third = item(100, "c")
    playout.enqueue(third, 1.0)
    assert audio(run(playout, 1.0, 1.2)) == bytes(third.audio)


def test_current_is_what_the_caller_hears_not_what_was_sent() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=200)
    a, b = item(100, "a"), item(300, "b")
    playout.enqueue(a, 0.0)
    playout.enqueue(b, 0.0)
    run(playout, 0.0, 0.08)
    assert playout.current(0.08) is a
    run(playout, 0.1, 0.38)
    assert playout.current(0.12) is b
    assert playout.current(0.41) is None


class PlayingPeer:
    """Plays what it gets from when it gets it, without a gap, and drops the rest when told: by its own clock alone."""

    def __init__(self, line: bytes) -> None:
        self.line = line  # no sample of it twice
        self.position = 0.0  # of what it plays
        self.received = 0
        self._began: float | None = None  # when it had nothing, and something came
        self._base = 0.0

    def play(self, now: float) -> None:
        if self._began is not None:
            due = self._base + (now - self._began) * BYTES_PER_MS * 1000
            assert due <= self.received + 1e-6 or self.received == len(self.line), "it never runs dry within the line"
            self.position = min(due, float(self.received))

    def take(self, audio: bytes, now: float) -> None:
        at = self.line.index(audio[:2])
        while at % 2:
            at = self.line.index(audio[:2], at + 1)
        if self._began is None:
            assert self.position - FRAME < at + 1e-6 and at <= self.position + 1e-6, (
                f"at {self.position} it goes on from {at}: nothing is left out, and less than a frame comes twice"
            )
            self._began, self._base = now, float(at)
        else:
            assert at == self.received, "in order, without a gap"
        assert audio == self.line[at : at + len(audio)]
        self.received = at + len(audio)

    def clear(self, now: float) -> None:
        self.play(now)
        self._began = None


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    holds=st.lists(st.tuples(st.floats(0, 1.5), st.floats(0.01, 0.5)), max_size=3),
    tick=st.sampled_from([0.005, 0.02, 0.033]),
)
def test_every_byte_is_heard_in_order_whatever_is_held(
    lengths: list[int], holds: list[tuple[float, float]], tick: float
) -> None:
    """A peer that plays what it gets and obeys clear hears all of the prompts; of a frame that was cut, the beginning
    twice."""
    line = np.arange(sum(lengths) * BYTES_PER_MS // 2, dtype="<u2").tobytes()
    playout, peer = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100), PlayingPeer(line)
    at = 0
    for mark, ms in enumerate(lengths):
        audio = memoryview(line)[at : at + ms * BYTES_PER_MS]
        playout.enqueue(PlayoutItem(audio=audio, mark=str(mark)), 0.0)
        at += len(audio)
    pauses, now = sorted(holds), 0.0
    while peer.position < len(line):
        assert now < 20, f"stopped at {peer.position} of {len(line)}"
        for step in playout.poll(now):
            if isinstance(step, AudioDue):
                peer.take(bytes(step.audio), now)
        peer.play(now)
        if pauses and now >= pauses[0][0] and peer.position < len(line):
            playout.hold(now)
            peer.clear(now)
            now += pauses.pop(0)[1]
            playout.resume(now)
        else:
            now += tick


def test_what_was_heard_of_the_current_item_and_what_is_left() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    playout.enqueue(item(400, "a"), 0.0)
    playout.enqueue(item(200, "b"), 0.0)
    assert playout.share_heard(0.0) == 0.0 and playout.left_s(0.0) == pytest.approx(0.6)
    run(playout, 0.0, 0.3)
    assert playout.share_heard(0.3) == pytest.approx(0.75)
    assert playout.share_heard(0.1) == pytest.approx(0.25), "of a moment ago"
    assert playout.left_s(0.3) == pytest.approx(0.3)
    run(playout, 0.3, 0.6)
    assert (playout.share_heard(0.7), playout.left_s(0.7)) == (1.0, 0.0)


def test_a_hold_goes_back_to_what_a_peer_that_plays_late_has_played() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    playout.lag_s = 0.2
    prompt = item(1000)
    playout.enqueue(prompt, 0.0)
    before = audio(run(playout, 0.0, 0.5))
    playout.hold(0.5)
    assert playout.share_heard(0.5) == pytest.approx(0.3)
    playout.resume(1.0)
    assert before[: 300 * BYTES_PER_MS] + audio(run(playout, 1.0, 2.0)) == bytes(prompt.audio)


def test_a_lag_that_grows_takes_back_nothing_that_is_gone() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    playout.enqueue(item(200, "a"), 0.0)
    playout.enqueue(item(200, "b"), 0.0)
    run(playout, 0.0, 0.3)
    playout.lag_s = 2.0
    playout.hold(0.3)
    playout.resume(1.0)
    again = run(playout, 1.0, 1.5)
    assert [s.item.mark for _, s in again if isinstance(s, PromptSent)] == ["b"]
    assert len(audio(again)) == 200 * BYTES_PER_MS


def test_a_prompt_after_a_pause_begins_at_once_though_the_peer_plays_late() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    playout.lag_s = 1.0
    playout.enqueue(item(200, "a"), 0.0)
    run(playout, 0.0, 0.2)
    playout.enqueue(item(500, "b"), 0.5)
    steps = run(playout, 0.5, 0.5)
    assert len(audio(steps)) == 120 * BYTES_PER_MS, (
        "the lead and the frame that is due, not what the pause has saved up"
    )
    assert steps[0][0] == 0.5 and isinstance(steps[0][1], AudioDue) and steps[0][1].heard_at == pytest.approx(0.5)


def heard(playout: Playout, since: float) -> list[tuple[float, bytes]]:
    return [(round(at, 6), bytes(audio)) for at, audio in playout.heard_since(since)]


def test_a_prompt_behind_a_dropped_one_begins_at_once() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    playout.enqueue(item(10_000), 0.0)
    run(playout, 0.0, 0.5)
    playout.drop()
    after = item(100)
    playout.enqueue(after, 0.6)
    assert audio(run(playout, 0.6, 0.7)) == bytes(after.audio)


def test_what_was_heard_is_known_with_its_times_however_it_was_held_and_dropped() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS, lead_ms=100)
    first, second = item(400, "a"), item(400, "b")
    playout.enqueue(first, 1.0)
    playout.enqueue(second, 1.0)
    run(playout, 1.0, 1.5)
    playout.hold(1.5)
    assert heard(playout, 0.0) == [(1.0, bytes(first.audio)), (1.4, bytes(second.audio[: 100 * BYTES_PER_MS]))]
    playout.resume(2.0)
    run(playout, 2.0, 2.1)
    playout.hold(2.1)
    playout.drop()
    rest = (2.0, bytes(second.audio[100 * BYTES_PER_MS : 200 * BYTES_PER_MS]))
    assert heard(playout, 1.45) == [(1.45, bytes(second.audio[50 * BYTES_PER_MS : 100 * BYTES_PER_MS])), rest]
    assert heard(playout, 2.2) == []


def test_of_what_was_heard_two_seconds_are_kept_in_memory_of_their_own() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    prompt = item(5000)
    playout.enqueue(prompt, 0.0)
    run(playout, 0.0, 5.0)
    playout.let_go(5.0)
    assert heard(playout, 0.0) == [(3.0, bytes(prompt.audio[-2000 * BYTES_PER_MS :]))]
    assert all(audio.obj is not prompt.audio.obj for _, audio in playout.heard_since(0.0))
    following = item(100)
    playout.enqueue(following, 6.0)
    run(playout, 6.0, 6.1)
    assert heard(playout, 4.5) == [(3.0, bytes(prompt.audio[-2000 * BYTES_PER_MS :])), (6.0, bytes(following.audio))]
    playout.enqueue(following, 9.0)
    assert heard(playout, 0.0) == []


def test_a_call_that_is_talked_to_keeps_no_object_for_each_frame() -> None:
    """A garbage collection walks through all that a worker's calls keep, and stops them all meanwhile."""
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    playout.enqueue(item(60_000), 0.0)
    run(playout, 0.0, 1.0)
    gc.collect()
    before = len(gc.get_objects())
    run(playout, 1.0, 59.0)
    gc.collect()
    assert len(gc.get_objects()) - before < 20
    assert len(playout.heard_since(57.0)) == 1


def test_prompts_heard_long_ago_are_let_go() -> None:
    playout = Playout(bytes_per_ms=BYTES_PER_MS)
    for number in range(50):
        playout.enqueue(item(1000, str(number)), float(number))
        run(playout, float(number), number + 0.98)
    assert len(playout._items) <= 4
