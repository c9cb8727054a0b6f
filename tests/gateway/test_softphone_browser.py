"""The softphone in a real browser, against a real worker and control plane; only models and voice are scripted."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from audio.files import read_audio
from audio.formats import Pcm16
from bench.chromium import spoken_after
from gateway.access.auth import Scope, mint
from gateway.calls.session import CallSession
from tests.gateway.chromium import WAIT_MS, browser
from tests.gateway.harness import DEMO, Rig, rig, write_bot
from tests.gateway.http_harness import api

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

SPEECH = DEMO / "01-yes-speaking.wav"
SECRET = "x" * 40


@dataclass
class Desk:
    """A browser, and the gateway that its pages call."""

    browser: Browser
    gateway: Rig
    port: int
    faults: list[str]

    async def page(self, query: str = "", *, host: str = "127.0.0.1", **options: Any) -> Page:
        """The softphone, loaded. What its scripts or the policy complain of becomes a fault."""
        context = await self.browser.new_context(permissions=["microphone"], **options)
        page = await context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if "Content Security" in said.text else None)
        await page.goto(f"http://{host}:{self.port}/softphone{query}")
        await page.wait_for_selector("#gateway[data-state]")
        return page


@asynccontextmanager
async def desk(
    folder: Path, redis_url: str, *options: str, environ: dict[str, str] | None = None, **rigged: Any
) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        microphone = spoken_after(2.0, SPEECH, folder / "mic.wav")
        running_browser = await stack.enter_async_context(browser(*options, microphone=microphone))
        running = await stack.enter_async_context(rig(folder, environ=environ, **rigged))
        known = {"VOICEGATE_PORT": str(running.port), **(environ or {})}
        control = await stack.enter_async_context(api(redis_url, write_bot(folder / "tester"), environ=known))
        made = Desk(running_browser, running, control.port, [])
        yield made
        assert made.faults == []


async def talking(page: Page) -> None:
    await page.click("#dial")
    await page.wait_for_selector("body[data-phase=talking]")


async def text(page: Page, selector: str) -> str:
    return " ".join((await page.inner_text(selector)).split())


async def until(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait for what has no event of its own. (Playwright's own way would need a policy that lets pages use eval.)"""
    async with asyncio.timeout(WAIT_MS / 1000):
        while not (await found if inspect.isawaitable(found := holds()) else found):
            await asyncio.sleep(0.02)


async def louder(page: Page, meter: str, than_db: int) -> bool:
    return int(await page.get_attribute(meter, "aria-valuenow") or -60) > than_db


def envelope(pcm: Pcm16, rate: int) -> np.ndarray:
    """Loudness of each 20 ms."""
    frames = pcm[: len(pcm) // (rate // 50) * (rate // 50)].reshape(-1, rate // 50).astype(np.float64)
    return np.sqrt((frames**2).mean(axis=1))


def likeness(heard: Pcm16, said: Pcm16, rate: int) -> float:
    """How alike the rise and fall of two recordings is, wherever one lies in the other: 1 is the same."""
    one, other = envelope(heard, rate), envelope(said, rate)
    one, other = (x - x.mean() for x in (one, other))
    return float(np.correlate(one, other, "full").max() / np.sqrt((one**2).sum() * (other**2).sum()))


async def test_a_call_from_the_first_words_to_hanging_up(tmp_path: Path, redis_url: str) -> None:
    async with desk(tmp_path, redis_url, hear="tell me more") as here:
        page = await here.page()
        await talking(page)

        # The bot is heard: its words are shown, its level moves, and its prompt is played to the end.
        greeting = page.locator(".line[data-side=bot]").first
        await greeting.wait_for()
        assert "test bot speaking" in await greeting.inner_text()
        await until(lambda: louder(page, ".meter[data-side=bot]", -40))
        await page.wait_for_selector(".line[data-side=bot][data-state=said], .line[data-side=bot][data-state=cut]")

        # The caller is heard: as the file has it, and the words and their meaning are shown.
        await page.wait_for_selector(".line[data-side=caller][data-state=said] .about >> text=more")
        assert "tell me more" in await text(page, ".line[data-side=caller]")
        heard = max(here.gateway.asr.jobs, key=lambda job: len(job.pcm))
        recordings = {path: read_audio(path, heard.sample_rate_hz) for path in DEMO.glob("*.wav")}
        assert SPEECH == max(recordings, key=lambda path: likeness(heard.pcm, recordings[path], heard.sample_rate_hz))
        await page.wait_for_selector(".line[data-side=bot] >> text=Tell me more about that")
        assert re.match("(You|Bot): ", await page.inner_text("#announcer"))

        # Timings.
        await page.wait_for_selector("#stages >> text=Recognition")
        assert await text(page, "#first") != "–" and await text(page, "#reply") != "–"

        # The dial pad, by the keyboard and by the mouse.
        await page.keyboard.press("4")
        await page.click("#pad button >> text=2")
        await page.wait_for_selector(".line[data-side=note] >> text=You pressed 42")

        # Muted, silence goes on.
        await page.click("#mute")
        assert await page.get_attribute("#mute", "aria-pressed") == "true"
        before = here.gateway.worker.frames_seen
        await until(lambda: here.gateway.worker.frames_seen > before + 10)

        await page.click("#dial")
        await page.wait_for_selector("#status >> text=You hung up")
        await here.gateway.no_calls(WAIT_MS / 1000)
        assert here.gateway.metric("voicegate_calls_ended_total", ended_by="caller") == 1
        assert here.gateway.metric("voicegate_peer_faults_total", code="bad_dtmf") == 0


def cut_every_call(gateway: Rig) -> None:
    """The network fails: no close frame, a reset."""
    for call in list(gateway.worker._calls.open):
        assert isinstance(call, CallSession) and call._connection is not None
        call._connection._abort()


async def test_a_lost_call_is_taken_up_again_and_goes_on(tmp_path: Path, redis_url: str) -> None:
    async with desk(tmp_path, redis_url, hear="tell me more") as here:
        page = await here.page("?call_id=desk-7&rate=8000")
        await talking(page)
        await page.wait_for_selector(".line[data-side=bot]")
        cut_every_call(here.gateway)
        await page.wait_for_selector(".line[data-side=note] >> text=The call goes on where it was")
        await page.wait_for_selector("body[data-phase=talking]")
        assert await text(page, "#call-name") == "Call desk-7"
        await until(lambda: list(here.gateway.worker._calls.by_id) == ["desk-7"])

        # The second connection is a whole one: the caller is heard on it.
        before = here.gateway.worker.frames_seen
        await until(lambda: here.gateway.worker.frames_seen > before + 10)

        # Another desk takes the call over; this one says so and does not fight for it.
        other = await here.gateway.peer("?call_id=desk-7")
        await other.event("ready")
        await page.wait_for_selector("#problem >> text=Another connection has taken this call over")
        assert await page.is_hidden("#again")

        # The gateway goes away for good: the page keeps trying, and the caller may stop it.
        await page.fill("#call-id", "desk-8")
        await talking(page)
        await here.gateway.worker.drain(0)
        await page.wait_for_selector("#status >> text=Connection lost")
        await page.click("#again")
        await page.wait_for_selector("#detail >> text=/([2-9]|10) of 10/")
        await page.click("#dial")
        await page.wait_for_selector("#status >> text=You hung up")


async def test_what_stands_in_the_way_is_said_in_words(tmp_path: Path, redis_url: str) -> None:
    resolver = "--host-resolver-rules=MAP gateway.lan 127.0.0.1"
    environ = {"VOICEGATE_AUTH_SECRET": SECRET}
    async with desk(tmp_path, redis_url, resolver, environ=environ) as here:
        page = await here.page()
        await page.click("#dial")
        await page.wait_for_selector("#problem >> text=The gateway wants a token")
        assert await page.inner_text("#problem-commands") == "voicegate token"

        await page.fill("#token", mint(SECRET, "desk", [Scope.CALL], 60))
        await page.keyboard.press("Tab")
        await page.wait_for_selector("#token-known >> text=This token opens the gateway")
        await page.select_option("#bot", "tester")  # offered now that the token is good
        await talking(page)
        await page.click("#dial")
        assert SECRET not in page.url and "token" not in page.url

        wrong = await here.page("?bot=nobody")
        assert await wrong.input_value("#token") == ""
        await wrong.fill("#token", mint(SECRET, "desk", [Scope.CALL], 60))
        await wrong.click("#dial")
        await wrong.wait_for_selector("#problem-title >> text=cannot start such a call")
        assert "tester" in await wrong.inner_text("#problem-advice")

        # A browser gives the microphone to this machine and over TLS alone.
        insecure = await here.page(host="gateway.lan")
        await insecure.wait_for_selector("#problem >> text=may not use the microphone here")
        commands = await insecure.inner_text("#problem-commands")
        assert "voicegate certificate --out tls --host gateway.lan" in commands
        await insecure.click("#dial")
        await insecure.wait_for_selector("#status >> text=No call")


_NAMELESS = """() => [...document.querySelectorAll("button, input, select, a, [role=meter], section, [tabindex]")]
    .filter((one) => !one.closest("[hidden]") && !(one.ariaLabel || one.getAttribute("aria-labelledby")
        || one.labels?.length || one.textContent.trim())).map((one) => one.outerHTML)"""


async def test_it_fits_every_screen_and_needs_no_mouse(tmp_path: Path, redis_url: str) -> None:
    async with desk(tmp_path, redis_url) as here:
        for width, scheme in ((1440, "light"), (768, "dark"), (360, "light")):
            page = await here.page(viewport={"width": width, "height": 740}, color_scheme=scheme)
            assert await page.evaluate("() => document.documentElement.scrollWidth") <= width
            assert await page.evaluate(_NAMELESS) == []

        # The last of them, by keys alone.
        await page.focus("#dial")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".line[data-side=bot]")
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
        assert await page.evaluate(_NAMELESS) == []
        box = await page.locator("#dial").bounding_box()
        assert box is not None and box["height"] >= 44 and box["y"] + box["height"] <= 740, "hang-up is in reach"
        for name, pressed in (("mute", "aria-pressed"), ("keys", "aria-expanded")):
            await page.keyboard.press("Tab")
            assert await page.evaluate("() => document.activeElement.id") == name
            await page.keyboard.press("Space")
            await page.wait_for_selector(f"#{name}[{pressed}=true]")
        await page.wait_for_selector("#status >> text=Muted")
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.activeElement.ariaLabel") == "1"
        await page.keyboard.press("Enter")
        await page.keyboard.press("#")
        await page.wait_for_selector(".line[data-side=note] >> text=You pressed 1#")
