"""The prompt cache: one rendering per prompt, bounds, failures, recordings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.formats import Pcm16
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.prompts import PromptCache, PromptSpec
from tts_stub.synthesis import (
    EngineUnavailableError,
    PromptTimeoutError,
    RecordingError,
    SynthesisError,
    Voice,
)

pytestmark = pytest.mark.unit

VOICE = Voice()
RATE = 8000
PROMPT_BYTES = 2 * RATE  # what ToneSynthesizer gives, ends included: one second


class ToneSynthesizer:
    """A `Synthesizer` of one-second tones that counts its work; it waits while `gate` is closed."""

    def __init__(self) -> None:
        self.spoken: list[str] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: SynthesisError | None = None

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        assert self.gate.wait(10)
        self.spoken.append(text)
        self.threads.add(threading.current_thread().name)
        if self.failure is not None:
            raise self.failure
        t = np.arange(sample_rate_hz) / sample_rate_hz
        return np.rint(3000 * np.cos(2 * np.pi * 440 * t)).astype(np.int16)


def run(
    body: Callable[[PromptCache, ToneSynthesizer], Awaitable[None]],
    *,
    max_prompts: float = 10,
    timeout_s: float = 10.0,
    max_pending: int = 64,
) -> None:
    """Run `body` with a cache over a `ToneSynthesizer`, on a loop of its own."""

    async def main() -> None:
        engine = ToneSynthesizer()
        cache = PromptCache(
            engine, max_bytes=int(max_prompts * PROMPT_BYTES), timeout_s=timeout_s, max_pending=max_pending
        )
        try:
            await body(cache, engine)
        finally:
            engine.gate.set()
            await cache.aclose()

    asyncio.run(main(), debug=True)


def test_a_prompt_is_rendered_once_and_shared() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        assert cache.ready("hello", VOICE, RATE) is None
        prompts = await asyncio.gather(*(cache.get("hello", VOICE, RATE) for _ in range(20)))
        assert engine.spoken == ["hello"]
        assert all(prompt is prompts[0] for prompt in prompts)
        assert cache.ready("hello", VOICE, RATE) is prompts[0]
        assert not prompts[0].pcm.flags.writeable
        assert prompts[0].first_sound < RATE // 100
        assert prompts[0].duration_ms == pytest.approx(1000, abs=5)
        assert threading.current_thread().name not in engine.threads

    run(body)


def test_voice_rate_and_recording_make_different_prompts() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        await cache.get("hello", VOICE, 8000)
        await cache.get("hello", VOICE, 16000)
        await cache.get("hello", Voice("en"), 8000)
        assert len(engine.spoken) == 3
        assert cache.ready("hello", VOICE, 8000, Path("hello.wav")) is None

    run(body)


def test_the_least_recently_used_prompt_goes_first() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        for text in ("one", "two", "three"):
            await cache.get(text, VOICE, RATE)
        assert cache.ready("one", VOICE, RATE) is not None
        await cache.get("four", VOICE, RATE)
        kept = [text for text in ("one", "two", "three", "four") if cache.ready(text, VOICE, RATE)]
        assert kept == ["one", "three", "four"]
        assert cache.nbytes <= 3 * PROMPT_BYTES

    run(body, max_prompts=3)


def test_a_prompt_larger_than_the_cache_is_given_and_not_kept() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        assert len((await cache.get("long", VOICE, RATE)).pcm) > 0
        assert cache.ready("long", VOICE, RATE) is None
        assert cache.nbytes == 0

    run(body, max_prompts=0.5)


def test_fixed_prompts_are_never_evicted() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        greeting = PromptSpec("greeting", VOICE, RATE)
        await cache.get("greeting", VOICE, RATE)
        await cache.render_all([greeting, greeting, PromptSpec("goodbye", VOICE, RATE)])
        assert engine.spoken == ["greeting", "goodbye"]
        assert cache.nbytes == pytest.approx(2 * PROMPT_BYTES, rel=0.01)
        for n in range(10):
            await cache.get(f"amount {n}", VOICE, RATE)
        assert cache.ready("greeting", VOICE, RATE) and cache.ready("goodbye", VOICE, RATE)
        assert cache.nbytes <= 3 * PROMPT_BYTES

    run(body, max_prompts=3)


def test_fixed_prompts_that_do_not_fit_are_an_error_at_start() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        with pytest.raises(SynthesisError, match="do not fit"):
            await cache.render_all(PromptSpec(f"prompt {n}", VOICE, RATE) for n in range(4))

    run(body, max_prompts=3)


def test_a_failure_reaches_every_waiter_and_is_not_kept() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        engine.failure = EngineUnavailableError("no engine")
        results = await asyncio.gather(*(cache.get("hello", VOICE, RATE) for _ in range(3)), return_exceptions=True)
        assert results == [engine.failure] * 3
        assert engine.spoken == ["hello"]
        engine.failure = None
        assert (await cache.get("hello", VOICE, RATE)).first_sound < 80

    run(body)


def test_a_waiter_that_leaves_does_not_stop_the_others() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        engine.gate.clear()
        first = asyncio.create_task(cache.get("hello", VOICE, RATE))
        second = asyncio.create_task(cache.get("hello", VOICE, RATE))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        engine.gate.set()
        assert await second is cache.ready("hello", VOICE, RATE)
        assert engine.spoken == ["hello"]

    run(body)


def test_a_failure_that_nobody_awaits_is_no_news() -> None:
    """The event loop would report an exception that was never retrieved."""

    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        reports: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        engine.failure = EngineUnavailableError("no engine")
        engine.gate.clear()
        waiter = asyncio.create_task(cache.get("hello", VOICE, RATE))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        engine.gate.set()
        with pytest.raises(EngineUnavailableError):
            await cache.get("again", VOICE, RATE)
        assert reports == []

    run(body)


def test_a_slow_engine_is_a_timeout_that_does_not_quote_the_prompt_and_the_prompt_still_arrives() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        engine.gate.clear()
        with pytest.raises(PromptTimeoutError, match="not ready in 0.05 s") as caught:
            await cache.get("account 1234", VOICE, RATE)
        assert "1234" not in str(caught.value)
        engine.gate.set()
        # One engine thread, first come first served: the next prompt done means that this one is too.
        await cache.get("next", VOICE, RATE)
        assert cache.ready("account 1234", VOICE, RATE) is not None
        assert engine.spoken == ["account 1234", "next"]

    run(body, timeout_s=0.05)


def test_too_many_prompts_at_once_are_refused() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        engine.gate.clear()
        waiting = [asyncio.create_task(cache.get(f"prompt {n}", VOICE, RATE)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(PromptTimeoutError, match="overloaded"):
            await cache.get("one more", VOICE, RATE)
        engine.gate.set()
        await asyncio.gather(*waiting)
        assert (await cache.get("one more", VOICE, RATE)).duration_ms > 900

    run(body, max_pending=2)


@pytest.mark.parametrize(("file_rate", "channels"), [(8000, 1), (44100, 2)])
def test_a_recording_replaces_the_engine(tmp_path: Path, file_rate: int, channels: int) -> None:
    path = tmp_path / "greeting.wav"
    t = np.arange(file_rate) / file_rate
    tone = np.pad(0.05 * np.sin(2 * np.pi * 500 * t), file_rate // 2)
    soundfile.write(path, np.stack([tone] * channels, axis=1), file_rate)

    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        prompt = await cache.get("what the recording says", VOICE, RATE, path)
        assert engine.spoken == []
        assert prompt.sample_rate_hz == RATE
        assert prompt.duration_ms == pytest.approx(1000, abs=60)
        assert prompt.first_sound < 80

    run(body)


def test_a_recording_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no audio")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000, np.int16), 8000)

    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        for name in ("text.wav", "missing.wav"):
            with pytest.raises(RecordingError, match=name):
                await cache.get("hello", VOICE, RATE, tmp_path / name)
        with pytest.raises(SynthesisError, match=r"silent\.wav"):
            await cache.get("hello", VOICE, RATE, tmp_path / "silent.wav")

    run(body)


def test_closing_with_a_rendering_under_way_ends_the_waiter_and_the_thread() -> None:
    async def body(cache: PromptCache, engine: ToneSynthesizer) -> None:
        engine.gate.clear()
        waiter = asyncio.create_task(cache.get("hello", VOICE, RATE))
        await asyncio.sleep(0)
        closing = asyncio.create_task(cache.aclose())
        await asyncio.sleep(0)
        engine.gate.set()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("tts")]

    run(body)


def test_the_loop_runs_on_while_espeak_speaks() -> None:
    """The longest prompts together, a ticker beside them: ctypes gives up the interpreter lock meanwhile."""

    async def main() -> float:
        cache = PromptCache(EspeakSynthesizer(), max_bytes=64 << 20, timeout_s=30)
        done = asyncio.gather(*(cache.get(f"{n} hello " * 200, VOICE, RATE) for n in range(4)))
        longest_gap_s, last = 0.0, time.perf_counter()
        while not done.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest_gap_s, last = max(longest_gap_s, now - last), now
        assert len(await done) == 4
        await cache.aclose()
        return longest_gap_s

    gaps_s = [asyncio.run(main())]
    while gaps_s[-1] >= 0.1 and len(gaps_s) < 5:  # the machine may have been busy; five times in a row it is our doing
        gaps_s.append(asyncio.run(main()))
    assert gaps_s[-1] < 0.1, gaps_s
