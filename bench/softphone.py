"""What does the softphone look like in a real call, and what does that call measure?

    python -m bench.softphone [--out out/softphone] [--bot bill-reminder] [--only light-1440]

Starts a gateway with the bundled models and TLS by a certificate of its own, calls it from headless Chromium whose
microphone is a recording, and takes pictures of each view at 360, 768 and 1440 px in light and dark: before, in and
after the call, and one that cannot be made. Pictures are to be looked at; the JSON on
stdout has what was heard and how fast, by picture. Needs Playwright and Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.chromium import binary, chromium, spoken_after
from gateway.access.own_certificate import CERTIFICATE, KEY, host_name, issue
from gateway.processes.supervisor import Gateway
from gateway.settings import Settings, load

if TYPE_CHECKING:
    from playwright.async_api import Page

DEMO = Path(__file__).parent.parent / "gateway" / "demo"
WIDTHS = {360: 740, 768: 1024, 1440: 900}
WAIT_MS = 60_000
GREETING_S = 7.0  # the bundled bot's, so that the recording does not speak over it


def tls_settings(folder: Path, bot: str, **environ: str) -> Settings:
    """Settings of a gateway on free ports, with a certificate made for it in `folder`."""
    made = issue([host_name("localhost")], days=1, now=datetime.now(UTC))
    (folder / KEY).write_bytes(made.key)
    (folder / CERTIFICATE).write_bytes(made.certificate)
    pair = {"certificate": str(folder / CERTIFICATE), "key": str(folder / KEY)}
    flags = {f"{area}{name}": path for area in ("tls.", "control.tls_") for name, path in pair.items()}
    return load(environ=environ, flags={"port": 0, "control_port": 0, "bot": bot, "asr.partials": True, **flags})


async def tour(page: Page, name: str, out: Path) -> dict[str, Any]:
    """One call in one size and theme: its pictures, and what the page shows of it."""

    async def picture(view: str, *, whole: bool = False) -> None:
        await page.screenshot(path=out / f"{name}-{view}.png", full_page=whole)

    await picture("1-idle", whole=True)
    await page.click("#dial")
    await page.wait_for_selector(".line[data-side=caller][data-state=said] .about span")
    await page.wait_for_selector(".line[data-side=caller] ~ .line[data-side=bot]")
    await page.wait_for_timeout(1500)
    await picture("2-call")
    felt = await page.inner_text("#felt")
    for key in "4417#":
        await page.keyboard.press(key)
    await page.wait_for_selector(".line[data-side=note] ~ .line[data-side=bot]")
    if await page.is_visible("#keys"):
        await page.click("#keys")
    await page.click("#mute")
    await page.wait_for_timeout(1500)
    await picture("3-muted")
    await page.click("#dial")
    await page.wait_for_selector("body[data-phase=ended]")
    await picture("4-over", whole=True)
    lines = page.locator(".line")
    return {
        "picture": name,
        "lines": [" ".join((await lines.nth(n).inner_text()).split()) for n in range(await lines.count())],
        "first_utterance": await page.inner_text("#first"),
        "reply": await page.inner_text("#reply"),
        "slowest_reply": await page.inner_text("#worst"),
        "felt": felt,
        "buffer": await page.inner_text("#buffer"),
    }


async def fault(page: Page, name: str, out: Path) -> None:
    """A call that cannot be made."""
    await page.goto(f"{page.url}?bot=no-such-bot")
    await page.click("#dial")
    await page.wait_for_selector("#problem:not([hidden])")
    await page.screenshot(path=out / f"{name}-5-fault.png", full_page=True)


async def measure(out: Path, bot: str, path: str, only: str | None) -> list[dict[str, Any]]:
    """All sizes and themes, one call after the other."""
    results = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vg-")))
        gateway = await stack.enter_async_context(Gateway(tls_settings(folder, bot)))
        await gateway.ready(told=lambda part: print(f"waiting for {part} ...", file=sys.stderr))
        recording = spoken_after(GREETING_S, DEMO / "01-yes-speaking.wav", folder / "microphone.wav")
        browser = await stack.enter_async_context(chromium(path, microphone=recording))
        for scheme in ("light", "dark"):
            for width, height in WIDTHS.items():
                if only not in (None, f"{scheme}-{width}"):
                    continue
                context = await browser.new_context(
                    viewport={"width": width, "height": height},
                    device_scale_factor=2 if width < 400 else 1,
                    color_scheme=scheme,
                    ignore_https_errors=True,
                    permissions=["microphone"],
                )
                page = await context.new_page()
                page.set_default_timeout(WAIT_MS)
                await page.goto(f"https://localhost:{gateway.control_port}/softphone")
                await page.wait_for_selector("#gateway[data-state=good]")
                results.append(await tour(page, f"{scheme}-{width}", out))
                await fault(page, f"{scheme}-{width}", out)
                await context.close()
    return results


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/softphone"), help="folder of the pictures")
    parser.add_argument("--bot", default="bill-reminder")
    parser.add_argument("--only", help="one size and theme, as light-1440")
    args = parser.parse_args()
    path = binary()
    if path is None:
        sys.exit("no Chromium here; apt-get install chromium")
    args.out.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asyncio.run(measure(args.out, args.bot, path, args.only)), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
