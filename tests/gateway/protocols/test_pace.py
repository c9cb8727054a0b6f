"""Playout in every dialect: 50.0 frames a second, from the first second on.

    python -m tests.gateway.protocols.test_pace --seconds 60

measures a whole minute; the test has a few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import pytest

from tests.gateway.harness import rig
from tests.gateway.protocols.hostile import NEIGHBOURS_FLOW
from tests.gateway.protocols.peers import MAKERS, JambonzPeer, LinePeer, dialled

pytestmark = pytest.mark.unit

FRAMED = [name for name in MAKERS if "files" not in name and not name.startswith("freeswitch-json")]
"""Dialects that send 20 ms a message; the others send 320."""


def frames(peer: LinePeer) -> float:
    """Frames of 20 ms that came; the silence behind jambonz' prompts is none of them."""
    sizes = peer.sizes
    if isinstance(peer, JambonzPeer) and not peer.files:
        sizes = [size for size in sizes if size <= peer.fmt.bytes_per_ms * 20]
    return sum(sizes) / (peer.fmt.bytes_per_ms * 20)


async def frames_per_s(peer: LinePeer, seconds: float) -> float:
    """Frames a second between the end of the first second and the end of the last."""
    await peer.until(lambda: peer.audio, "first words")
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1)
    at, before = loop.time(), frames(peer)
    await asyncio.sleep(seconds - 1)
    return (frames(peer) - before) / (loop.time() - at)


async def measure(folder: Path, seconds: float) -> dict[str, float]:
    """All dialects at once, one call each."""
    async with rig(folder, flow=NEIGHBOURS_FLOW, environ={"VOICEGATE_LIMITS_NO_AUDIO_S": "120"}) as running:
        peers = [await dialled(name, running.port) for name in MAKERS]
        rates = await asyncio.gather(*(frames_per_s(peer, seconds) for peer in peers))
        for peer in peers:
            peer.ws.transport.abort()
            await peer.reader
    return dict(zip(MAKERS, rates, strict=True))


async def test_fifty_frames_a_second_in_every_dialect(tmp_path: Path) -> None:
    rates = await measure(tmp_path, 6)
    # A frame or two of jitter within five seconds; messages of 320 ms are 16 frames each.
    assert {name: rate for name, rate in rates.items() if abs(rate - 50) > (0.6 if name in FRAMED else 3.4)} == {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    with tempfile.TemporaryDirectory() as temporary:
        for name, rate in asyncio.run(measure(Path(temporary), parser.parse_args().seconds)).items():
            print(f"{name:24}{rate:8.3f} frames/s")  # noqa: T201
