"""Prompts as audio in memory: rendered once, shared by all calls, bounded in bytes and in waiting.

States of a prompt, all on the event loop's thread:

    absent --get--> rendering --done--> cached --evicted (least recently used)--> absent
                        |                  `----- pinned (render_all): never evicted
                        `--failed--> absent       every waiter gets the error; the next `get` tries again

Odd cases: a waiter that times out or is cancelled leaves the rendering to the others and to the cache; a
prompt larger than the cache is handed out and not kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audio.files import read_audio
from audio.formats import AudioError, Pcm16
from tts_stub.shaping import shape_prompt
from tts_stub.synthesis import PromptTimeoutError, RecordingError, SynthesisError, Synthesizer, Voice

__all__ = ["Prompt", "PromptCache", "PromptSpec"]

DEFAULT_MAX_PENDING: Final = 256


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready to play: int16 mono, read-only, shared by every call that plays it.

    `first_sound` is the index of the first sample above -50 dBFS, less than 10 ms in.
    """

    pcm: Pcm16
    sample_rate_hz: int
    first_sound: int

    @property
    def duration_ms(self) -> float:
        """Length in milliseconds."""
        return 1000 * len(self.pcm) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What makes a prompt: the words, who says them, at which rate; or a recorded file of those words."""

    text: str
    voice: Voice
    sample_rate_hz: int
    recording: Path | None = None


class PromptCache:
    """Prompts by what makes them. Use from one event loop; rendering runs in an executor.

    Args:
        synthesizer: the engine; must bear calls from the executor's threads.
        max_bytes: bound on the PCM kept, pinned prompts included.
        executor: where engines run; None makes one thread of its own, which is right for espeak-ng.
        timeout_s: longest wait of one `get`.
        max_pending: prompts being rendered or waiting for it; one more is refused.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        *,
        max_bytes: int,
        executor: Executor | None = None,
        timeout_s: float,
        max_pending: int = DEFAULT_MAX_PENDING,
    ) -> None:
        self._synthesizer = synthesizer
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_pending = max_pending
        self._owns_executor = executor is None
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="tts")
        self._recent: OrderedDict[PromptSpec, Prompt] = OrderedDict()
        self._pinned: dict[PromptSpec, Prompt] = {}
        self._rendering: dict[PromptSpec, asyncio.Task[Prompt]] = {}
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """PCM bytes held now."""
        return self._bytes

    def ready(self, text: str, voice: Voice, sample_rate_hz: int, recording: Path | None = None) -> Prompt | None:
        """The prompt if it is in memory; never waits, never starts a rendering."""
        return self._lookup(PromptSpec(text, voice, sample_rate_hz, recording))

    async def get(self, text: str, voice: Voice, sample_rate_hz: int, recording: Path | None = None) -> Prompt:
        """The prompt, rendered if need be; callers that ask for the same one share one rendering.

        Raises:
            PromptTimeoutError: not ready within `timeout_s`, or `max_pending` others are waiting.
            SynthesisError: it cannot be made; see the subclasses.
        """
        spec = PromptSpec(text, voice, sample_rate_hz, recording)
        if (prompt := self._lookup(spec)) is not None:
            return prompt
        task = self._start(spec)
        try:
            # Shielded: the rendering belongs to the cache, not to whoever asked first.
            return await asyncio.wait_for(asyncio.shield(task), self._timeout_s)
        except TimeoutError:
            raise PromptTimeoutError(
                f"a prompt of {len(text)} characters (voice {voice.name}) was not ready in "
                f"{self._timeout_s:g} s; the speech engine is slow or overloaded"
            ) from None

    async def render_all(self, prompts: Iterable[PromptSpec]) -> None:
        """Render fixed prompts at start and keep them for good.

        Raises:
            SynthesisError: of the first prompt that cannot be made, or where they do not fit `max_bytes`.
                Prompts rendered before it stay.
        """
        for spec in dict.fromkeys(prompts):
            if spec in self._pinned:
                continue
            prompt = await self.get(spec.text, spec.voice, spec.sample_rate_hz, spec.recording)
            if self._recent.pop(spec, None) is not None:
                self._bytes -= prompt.pcm.nbytes
            pinned_bytes = sum(p.pcm.nbytes for p in self._pinned.values())
            if pinned_bytes + prompt.pcm.nbytes > self._max_bytes:
                raise SynthesisError(
                    f"the fixed prompts do not fit the prompt cache of {self._max_bytes} bytes; "
                    "raise its limit or shorten them"
                )
            self._pinned[spec] = prompt
            self._bytes += prompt.pcm.nbytes
            self._evict()

    async def aclose(self) -> None:
        """Drop what is being rendered and end the thread; a rendering that runs is waited for."""
        tasks = list(self._rendering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._owns_executor:
            await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    def _lookup(self, spec: PromptSpec) -> Prompt | None:
        if (prompt := self._pinned.get(spec)) is not None:
            return prompt
        if (prompt := self._recent.get(spec)) is not None:
            self._recent.move_to_end(spec)
        return prompt

    def _start(self, spec: PromptSpec) -> asyncio.Task[Prompt]:
        """The rendering of `spec`, started unless it runs already."""
        if (task := self._rendering.get(spec)) is not None:
            return task
        if len(self._rendering) >= self._max_pending:
            raise PromptTimeoutError(
                f"{len(self._rendering)} prompts are being rendered already; the speech engine is overloaded"
            )
        task = asyncio.create_task(self._render(spec), name="render-prompt")
        self._rendering[spec] = task
        task.add_done_callback(lambda done: self._finished(spec, done))
        return task

    def _finished(self, spec: PromptSpec, task: asyncio.Task[Prompt]) -> None:
        """Runs before any waiter resumes: what `get` returns is already what `ready` gives."""
        del self._rendering[spec]
        # Reading the exception marks it as seen: waiters may all have gone.
        if task.cancelled() or task.exception() is not None:
            return
        prompt = task.result()
        if spec not in self._pinned:
            self._recent[spec] = prompt
            self._bytes += prompt.pcm.nbytes
            self._evict()

    def _evict(self) -> None:
        while self._bytes > self._max_bytes and self._recent:
            _, dropped = self._recent.popitem(last=False)
            self._bytes -= dropped.pcm.nbytes

    async def _render(self, spec: PromptSpec) -> Prompt:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._make, spec)

    def _make(self, spec: PromptSpec) -> Prompt:
        """Blocking part, on the executor's thread."""
        if spec.recording is not None:
            pcm = _read_recording(spec.recording, spec.sample_rate_hz)
        else:
            pcm = self._synthesizer.synthesize(spec.text, spec.voice, spec.sample_rate_hz)
        shaped = shape_prompt(pcm, spec.sample_rate_hz)
        if shaped is None:
            where = f"recording {spec.recording}" if spec.recording else f"voice {spec.voice.name}"
            raise SynthesisError(f"a prompt of {len(spec.text)} characters ({where}) has no sound in it")
        samples, onset = shaped
        samples.setflags(write=False)
        return Prompt(samples, spec.sample_rate_hz, onset)


def _read_recording(path: Path, sample_rate_hz: int) -> Pcm16:
    try:
        return read_audio(path, sample_rate_hz)
    except (AudioError, OSError) as error:
        raise RecordingError(f"recorded prompt {path}: {error}") from error
