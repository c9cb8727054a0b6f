"""A browser with the monitor open, the calls that it watches, and what their callers do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np

from audio.formats import Pcm16
from bench.chromium import spoken_after
from tests.gateway.chromium import WAIT_MS, browser
from tests.gateway.harness import Peer, silence, speech
from tests.gateway.monitoring.floor import Floor, floor
from tests.gateway.test_softphone_browser import SPEECH

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = ["Watch", "heard", "keeping", "over", "streaming", "turn", "watch"]

_KEEP_SOUND = """
    window.heard = [];
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
        constructor(...how) {
            super(...how);
            sockets.push(this);
            this.addEventListener("message", ({data}) => {
                if (data instanceof ArrayBuffer) heard.push(String.fromCharCode(...new Uint8Array(data)));
            });
        }
    };
"""


@dataclass
class Watch:
    """A browser, and the floor that its pages watch."""

    browser: Browser
    floor: Floor
    faults: list[str]

    async def page(self, fragment: str = "", **options: Any) -> Page:
        """The monitor, loaded. What its scripts or the policy complain of becomes a fault."""
        context = await self.browser.new_context(permissions=["microphone"], **options)
        page = await context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if "Content Security" in said.text else None)
        await page.add_init_script(_KEEP_SOUND)
        await page.goto(f"http://127.0.0.1:{self.floor.api.port}/monitor{fragment}")
        return page

    async def call(
        self, call_id: str, *, metadata: dict[str, str] | None = None, token: str | None = None, **keys: str
    ) -> Peer:
        """A call whose greeting is being heard.

        Its start is in the address, where it cannot come too late. Metadata cannot be there: where this machine was
        so busy that the 50 ms for a start message were over, it is another call, and this one is placed again.
        """
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        query = "" if metadata is not None else "?" + urlencode({"call_id": call_id, **keys})
        start = None if metadata is None else {"call_id": call_id, "metadata": metadata, **keys}
        while True:
            peer = await self.floor.calls.peer(query, start=start, additional_headers=headers)
            if (await peer.event("ready"))["call_id"] == call_id:
                await peer.event("prompt")
                return peer
            peer.abort()


@asynccontextmanager
async def watch(
    folder: Path,
    redis_url: str,
    *,
    hear: str = "tell me more",
    environ: dict[str, str] | None = None,
    keeps: bool = False,
) -> AsyncIterator[Watch]:
    """A browser and a floor, whose options the others are. No page may have complained in the end."""
    async with AsyncExitStack() as stack:
        microphone = spoken_after(0.5, SPEECH, folder / "mic.wav")
        running = await stack.enter_async_context(browser(microphone=microphone))
        watched = await stack.enter_async_context(floor(redis_url, folder, hear=hear, environ=environ, keeps=keeps))
        made = Watch(running, watched, [])
        yield made
        assert made.faults == []


async def turn(peer: Peer) -> None:
    """The caller speaks, and is silent for a tail."""
    await peer.send(np.concatenate([silence(100), speech(), silence(2000)]))


async def streaming(peer: Peer, pcm: Pcm16) -> None:
    """As a telephone does, over and over: 20 ms every 20 ms."""
    begun = asyncio.get_running_loop().time()
    at = 0
    while True:
        first = at % (len(pcm) // 160) * 160
        await peer.ws.send(pcm[first : first + 160].tobytes())
        at += 1
        await asyncio.sleep(max(0.0, begun + at * 0.02 - asyncio.get_running_loop().time()))


async def heard(page: Page) -> np.ndarray[Any, Any]:
    """Both sides as the page got them, shape (samples, 2)."""
    chunks = [chunk.encode("latin-1") for chunk in await page.evaluate("() => heard")]
    following = None
    for chunk in chunks:
        (first,) = struct.unpack_from("<I", chunk)
        assert following in (None, first)
        following = first + (len(chunk) - 4) // 4
    return np.frombuffer(b"".join(chunk[4:] for chunk in chunks), "<i2").reshape(-1, 2)


def keeping(folder: Path, **more: str) -> dict[str, str]:
    """Settings of a gateway that records the calls of those who agreed, with a stream of records of the test's own."""
    return {
        "VOICEGATE_RECORDING_BOTS": "tester",
        "VOICEGATE_RECORDING_DIRECTORY": str(folder / "recordings"),
        "VOICEGATE_RESULTS_STREAM": f"vg:{{results}}:{folder.name}",
        **more,
    }


async def over(here: Watch, peer: Peer) -> None:
    """The caller hangs up, and everything of the call is written."""
    await peer.say(type="stop")
    await here.floor.calls.no_calls()
