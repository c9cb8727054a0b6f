"""A word on slow work: what the bot says while its reply is not there yet.

The caller who hears nothing after an answer says "hello?", and then two speak at once. A filler is no reply: no budget
is completed by it, no state changes, and it is never said over anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dialogue.flow import Flow
from dialogue.turns import Say
from gateway.calls.speaker import Speaker
from gateway.metrics import Metrics

__all__ = ["Filler"]


class Filler:
    """One call's. Prompts with values in them are left out: they are not in memory when they are needed."""

    def __init__(self, flow: Flow, speaker: Speaker, metrics: Metrics, *, after_ms: int) -> None:
        """`after_ms` 0: nothing is ever said."""
        self._prompts = [prompt for prompt in flow.filler if not prompt.slots] if after_ms else []
        self._speaker = speaker
        self._metrics = metrics
        self._after_s = after_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._said = 0

    @contextmanager
    def covering(self, since: float, *, node: str, round_id: int, unless: Callable[[], bool]) -> Iterator[None]:
        """Say the next filler, once, if what is done within takes longer than `after_ms` from `since`.

        Args:
            since: when the caller began to wait (monotonic seconds).
            node, round_id: what the `prompt` message says of it: where the dialogue stands.
            unless: asked at that moment; true where somebody speaks.
        """

        def say() -> None:
            prompt = self._prompts[self._said % len(self._prompts)]
            words = Say(text=prompt.text, node=node, recording=prompt.recording)
            if not unless() and self._speaker.interject(words, round_id):
                self._said += 1
                self._metrics.fillers.inc()

        timer = None
        if self._prompts:
            timer = self._loop.call_later(max(0.0, since + self._after_s - time.monotonic()), say)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
