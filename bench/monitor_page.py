"""What does the monitor look like with calls to watch, and how smooth is it with hundreds?

    python -m bench.monitor_page [--screenshots out/monitor] [--calls 300] [--events-per-s 400] [--only light-1440]

Starts a gateway with the bundled models that records its calls, and has one real call (recordings, in real time), a
crowd of scripted ones (`bench.crowd`) and what came of others (`bench.ended_crowd`) to watch. Counts pictures a second
in headless Chromium, unless `--calls` is 0, then takes screenshots of each view at 360, 768 and 1440 px in light and
dark: nobody on the line, the list, one call, being listened to and taken over, after its end with its recording,
health, outcomes. Pictures are to be looked at; the JSON on stdout has the pictures a second, and what a script can see
that is wrong: beyond the screen, cut off, not drawn, hard to read or to hit, without a name. Needs Playwright and
Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio.files import read_audio
from audio.formats import AudioFormat
from bench.chromium import binary, chromium
from bench.crowd import Crowd
from bench.ended_crowd import publish_ended
from gateway import background
from gateway.processes.embedded_redis import EmbeddedRedis
from gateway.processes.supervisor import Gateway
from gateway.replay.client import CallClient, Recording
from gateway.settings import load

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

DEMO = Path(__file__).parent.parent / "gateway" / "demo"
SIZES = {360: 740, 768: 1024, 1440: 900}
SCHEMES = ("light", "dark")
WAIT_MS = 120_000
ENDED = 140
FRAMES = """(seconds) => new Promise((done) => {
    const begun = performance.now();
    const gaps = [];
    let last = begun;
    const count = (now) => {
        gaps.push(now - last);
        last = now;
        if (now - begun < 1000 * seconds) requestAnimationFrame(count);
        else done({per_s: 1000 * gaps.length / (now - begun), longest_ms: Math.max(...gaps)});
    };
    requestAnimationFrame(count);
})"""

FAULTS = """() => {
    const seen = (one) => one.checkVisibility() && one.clientWidth > 0 && !one.closest(".visually-hidden");
    const all = (what) => [...document.querySelectorAll(what)].filter(seen);
    const wide = document.documentElement.scrollWidth > innerWidth ? ["the page is wider than the screen"] : [];
    const blank = all("canvas").filter((one) => {
        const {data} = one.getContext("2d").getImageData(0, 0, one.width, one.height);
        return !data.some((value, at) => at % 4 === 3 && value > 0);
    });
    const cut = all("button, select, .button, h1, h2, h3, .tile dd, nav a")
        .filter((one) => one.scrollWidth > one.clientWidth + 1);
    const small = all("button, select, input, .button").filter((one) => one.getBoundingClientRect().height < 24);
    const nameless = all("button, input, select, a, section, [tabindex], [role=slider], [role=img]").filter((one) =>
        !(one.ariaLabel || one.getAttribute("aria-labelledby") || one.labels?.length || one.textContent.trim()));
    const ids = [...document.querySelectorAll("[id]")].map(({id}) => id);
    const twice = ids.filter((id, at) => ids.indexOf(id) !== at);

    const pixel = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const ground = (one) => [...(one ? [...ground(one.parentElement), getComputedStyle(one).backgroundColor] : [])];
    const painted = (colours) => {
        pixel.clearRect(0, 0, 1, 1);
        for (const colour of colours) {
            pixel.fillStyle = colour;
            pixel.fillRect(0, 0, 1, 1);
        }
        return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
            .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    };
    const faint = all("body *").filter((one) => {
        const says = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
        if (!says || one.closest(":disabled, option, svg")) return false;
        const {color, fontSize, fontWeight} = getComputedStyle(one);
        const lights = [painted([...ground(one), color]), painted(ground(one))].sort((x, y) => y - x);
        const isLarge = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && fontWeight >= 700);
        return (lights[0] + 0.05) / (lights[1] + 0.05) < (isLarge ? 3 : 4.5);
    });
    const named = (what, ones) => ones.map((one) => `${what}: ${one.id || one.className || one.textContent || one}`);
    return [...wide, ...named("blank", blank), ...named("cut off", cut), ...named("hard to hit", small),
        ...named("without a name", nameless), ...named("twice", twice), ...named("hard to read", faint)];
}"""
"""What a script can see that is wrong with a view. Contrast: WCAG 2.2, 1.4.3."""


async def calling(port: int) -> None:
    """One real caller, who calls again whenever the call is over."""
    said = [Recording(path.name, read_audio(path, 16_000)) for path in sorted(DEMO.glob("*.wav"))]
    number = 0
    while True:
        number += 1
        client = CallClient(
            f"ws://127.0.0.1:{port}/v1/call",
            fmt=AudioFormat(sample_rate_hz=16_000),
            call_id=f"lobby-{number}",
            caller="lobby desk",
            bot="bill-reminder",
        )
        await client.run(said)


class Tour:
    """Goes through the views of one page, and keeps a picture of each in every size and theme."""

    def __init__(self, page: Page, out: Path, only: str | None) -> None:
        self._page = page
        self._out = out
        self._looks = [(scheme, width) for scheme in SCHEMES for width in SIZES if only in (None, f"{scheme}-{width}")]
        self.faults: list[str] = []

    async def go(self, fragment: str) -> None:
        """Another view."""
        await self._page.evaluate("(fragment) => { location.hash = fragment }", fragment)

    async def pictures(self, view: str, *, whole: bool = False) -> None:
        """The view as it is, in all sizes and themes; `whole`: what one scrolls to as well."""
        for scheme, width in self._looks:
            await self._page.set_viewport_size({"width": width, "height": SIZES[width]})
            await self._page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            await self._page.evaluate("() => scrollTo(0, 0)")
            await self._page.wait_for_timeout(700)
            await self._page.screenshot(path=self._out / f"{view}-{width}-{scheme}.png", full_page=whole)
            self.faults += [f"{view} {width} {scheme}: {fault}" for fault in await self._page.evaluate(FAULTS)]


async def kept(page: Page, call_id: str) -> None:
    """Until a call has ended and has its record."""
    await page.evaluate(
        """async (id) => {
            const found = async () => (await (await fetch(`v1/outcomes?call=${id}`)).json()).outcomes.length;
            while (!(await found())) await new Promise((done) => setTimeout(done, 1000));
        }""",
        call_id,
    )


async def tour(page: Page, out: Path, only: str | None) -> list[str]:
    """All views with somebody on the line. What is wrong in them, as far as a script sees it."""
    made = Tour(page, out, only)
    await made.pictures("calls")
    await page.fill("#query", "lobby-")
    await page.wait_for_selector("#counted >> text=/^[1-9] of/")
    live = await page.get_attribute(".rows .row:not([data-over=true]) a", "href")
    await page.fill("#query", "")
    await made.go(str(live))
    await page.wait_for_selector("#story .line[data-side=caller][data-state=said]")
    await page.click("#listen")
    await page.wait_for_selector("#desk >> text=You hear both sides")
    await page.wait_for_selector("#story .line[data-side=caller][data-state=said] >> nth=1")
    await page.wait_for_timeout(4000)
    await made.pictures("call", whole=True)
    await page.click("#take")
    await page.wait_for_selector("#desk >> text=You speak to the caller")
    await page.wait_for_timeout(1500)
    await made.pictures("taken-over")
    await made.go("#lobby-1")
    await page.wait_for_selector("#open-recording")
    await made.pictures("after-closed")
    await page.click("#open-recording")
    await page.wait_for_selector("#player")
    await page.click("#story .line[data-side=caller] .seek >> nth=1")
    await made.pictures("after", whole=True)
    await made.go("#desk-007")
    await page.wait_for_selector("#after-words >> text=Not recorded")
    await made.pictures("after-unrecorded")
    await made.go("#/health")
    await page.wait_for_selector("#panels >> text=Redis")
    await made.pictures("health", whole=True)
    await made.go("#/outcomes")
    await page.wait_for_selector("#ended-rows a")
    await made.pictures("outcomes", whole=True)
    return made.faults


async def opened(browser: Browser, port: int) -> Page:
    """The page, with its calls."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, permissions=["microphone"])
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    await page.goto(f"http://127.0.0.1:{port}/monitor")
    await page.wait_for_selector("#stream[data-state=good]")
    return page


async def measure(out: Path, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Frames first, then pictures."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vg-")))
        redis_url = stack.enter_context(EmbeddedRedis(None, folder)).url
        flags = {
            "port": 0,
            "control_port": 0,
            "bot": "bill-reminder",
            "asr.partials": True,
            "redis.url": redis_url,
            "recording.bots": ("bill-reminder",),
            "recording.directory": str(folder / "recordings"),
            "recording.consent": "announced",
        }
        settings = load(environ={}, flags=flags)
        gateway = await stack.enter_async_context(Gateway(settings))
        await gateway.ready(told=lambda part: print(f"waiting for {part} ...", file=sys.stderr))
        browser = await stack.enter_async_context(chromium(path))
        page = await opened(browser, gateway.control_port)
        await page.wait_for_selector("#nobody")
        nobody = Tour(page, out, args.only)
        await nobody.pictures("nobody")
        await publish_ended(redis_url, settings.results.stream, ENDED)
        caller = asyncio.create_task(calling(gateway.port))
        stack.push_async_callback(background.stop, [caller])

        frames = await smoothness(browser, gateway.control_port, redis_url, args) if args.calls else None
        crowd = asyncio.create_task(Crowd(48).run(redis_url, events_per_s=60))
        stack.push_async_callback(background.stop, [crowd])
        await kept(page, "lobby-1")
        faults = nobody.faults + await tour(page, out, args.only)
    return {"calls": args.calls, "events_per_s": args.events_per_s, "frames": frames, "faults": faults}


async def smoothness(browser: Browser, port: int, redis_url: str, args: argparse.Namespace) -> dict[str, float]:
    """Pictures a second with a crowd, and the longest that one took."""
    page = await opened(browser, port)
    crowd = asyncio.create_task(Crowd(args.calls).run(redis_url, events_per_s=args.events_per_s))
    await page.wait_for_selector(f"#counted >> text=/{args.calls}|{args.calls + 1}/")
    frames: dict[str, float] = await page.evaluate(FRAMES, 10)
    await page.context.close()
    await background.stop([crowd])
    return frames


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", type=Path, default=Path("out/monitor"), help="their folder")
    parser.add_argument("--calls", type=int, default=300, help="while pictures a second are counted; 0: they are not")
    parser.add_argument("--events-per-s", type=float, default=400.0, help="of all those calls together")
    parser.add_argument("--only", help="one size and theme, as light-1440")
    args = parser.parse_args()
    path = binary()
    if path is None:
        sys.exit("no Chromium here; apt-get install chromium")
    args.screenshots.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asyncio.run(measure(args.screenshots, path, args)), indent=2))


if __name__ == "__main__":
    main()
