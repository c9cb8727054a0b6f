"""What does the monitor look like with calls to watch, and how smooth is it with hundreds?

    python -m bench.monitor_page [--out out/monitor] [--calls 300] [--events-per-s 400] [--only light-1440]

Starts a gateway with the bundled models, and has one real call (recordings, in real time) and a crowd of scripted ones
(`bench.crowd`) to watch. Counts pictures a second in headless Chromium, then takes screenshots of each view at 360, 768
and 1440 px in light and dark: the list, one call, being listened to and taken over, health, outcomes. Pictures are to
be looked at; the JSON on stdout has the pictures a second. Needs Playwright and Chromium (`apt-get install chromium`).
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
from gateway import background
from gateway.client import CallClient, Recording
from gateway.embedded_redis import EmbeddedRedis
from gateway.settings import load
from gateway.supervisor import Gateway

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

DEMO = Path(__file__).parent.parent / "gateway" / "demo"
SIZES = {360: 740, 768: 1024, 1440: 900, 1920: 1080}
WAIT_MS = 60_000
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


async def chosen(page: Page) -> None:
    """Open the real call, at its second turn or later."""
    await page.fill("#query", "lobby-")
    await page.wait_for_selector("#counted >> text=/^[1-9] of/")
    address = await page.get_attribute(".rows .row:not([data-over=true]) a", "href")
    await page.fill("#query", "")
    await page.evaluate("(fragment) => { location.hash = fragment }", address)
    await page.wait_for_selector("#story .line[data-side=caller][data-state=said] >> nth=1")


async def tour(page: Page, name: str, out: Path) -> None:
    """Each view in one size and theme."""

    async def picture(view: str, *, whole: bool = False) -> None:
        await page.screenshot(path=out / f"{name}-{view}.png", full_page=whole)

    async def go(fragment: str) -> None:
        await page.evaluate("(fragment) => { location.hash = fragment }", fragment)
        await page.wait_for_timeout(1500)

    await picture("1-calls")
    await chosen(page)
    await page.click("#listen")
    await page.wait_for_selector("#desk >> text=You hear both sides")
    await page.wait_for_timeout(6000)
    await picture("2-call")
    await page.click("#take")
    await page.wait_for_timeout(2500)
    await picture("3-taken-over", whole=True)
    await go("#/health")
    await picture("4-health", whole=True)
    await go("#/outcomes")
    await picture("5-outcomes", whole=True)


async def opened(browser: Browser, port: int, width: int, scheme: str) -> Page:
    """The page, with its calls."""
    context = await browser.new_context(
        viewport={"width": width, "height": SIZES[width]},
        device_scale_factor=2 if width < 400 else 1,
        color_scheme=scheme,  # type: ignore[arg-type]
        permissions=["microphone"],
    )
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
        flags = {"port": 0, "control_port": 0, "bot": "bill-reminder", "asr.partials": True, "redis.url": redis_url}
        gateway = await stack.enter_async_context(Gateway(load(environ={}, flags=flags)))
        await gateway.ready(told=lambda part: print(f"waiting for {part} ...", file=sys.stderr))
        browser = await stack.enter_async_context(chromium(path))
        caller = asyncio.create_task(calling(gateway.port))
        stack.push_async_callback(background.stop, [caller])

        page = await opened(browser, gateway.control_port, 1440, "light")
        crowd = asyncio.create_task(Crowd(args.calls).run(redis_url, events_per_s=args.events_per_s))
        await page.wait_for_selector(f"#counted >> text=/{args.calls}|{args.calls + 1}/")
        frames = await page.evaluate(FRAMES, 10)
        await page.context.close()
        await background.stop([crowd])
        for scheme in ("light", "dark"):
            for width in SIZES:
                if args.only not in (None, f"{scheme}-{width}"):
                    continue
                crowd = asyncio.create_task(Crowd(48).run(redis_url, events_per_s=60))
                await asyncio.sleep(1.0)
                page = await opened(browser, gateway.control_port, width, scheme)
                await page.wait_for_timeout(12_000)
                await tour(page, f"{scheme}-{width}", out)
                await page.context.close()
                await background.stop([crowd])
    return {"calls": args.calls, "events_per_s": args.events_per_s, "frames": frames}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/monitor"), help="folder of the pictures")
    parser.add_argument("--calls", type=int, default=300, help="while pictures a second are counted")
    parser.add_argument("--events-per-s", type=float, default=400.0, help="of all those calls together")
    parser.add_argument("--only", help="one size and theme, as light-1440")
    args = parser.parse_args()
    path = binary()
    if path is None:
        sys.exit("no Chromium here; apt-get install chromium")
    args.out.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asyncio.run(measure(args.out, path, args)), indent=2))


if __name__ == "__main__":
    main()
