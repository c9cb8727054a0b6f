"""A softphone for the LAN, as docs/softphone.md has it set up: certificate, serve, page and call over TLS."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from websockets.asyncio.client import connect

from gateway.access.own_certificate import AUTHORITY
from gateway.cli import certificate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

VOICEGATE = [sys.executable, "-c", "from gateway.cli import main; main()"]


async def addresses(process: asyncio.subprocess.Process) -> dict[str, str]:
    """What `serve` prints once it is ready, by name."""
    assert process.stderr is not None
    found: dict[str, str] = {}
    log = ""
    async with asyncio.timeout(120):
        while "try it" not in found:
            line = (await process.stderr.readline()).decode()
            assert line, log
            log += line
            if shown := re.match(r"  (\w[\w ]*?)  +(\S.*)", line):
                found[shown[1]] = shown[2].strip()
    return found


async def test_two_commands_and_the_page_and_its_calls_are_over_tls(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    app = typer.Typer()
    certificate.register(app)
    assert CliRunner().invoke(app, ["--out", str(folder), "--host", "gateway.lan"]).exit_code == 0
    settings = tmp_path / "voicegate.toml"
    settings.write_text('bot = "load"\nbots = []\nport = 0\ncontrol_port = 0\n')
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("VOICEGATE_", "REDIS_URL"))}
    process = await asyncio.create_subprocess_exec(
        *(*VOICEGATE, "serve", "--config", str(settings), "--tls", str(folder)),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**environ, "VOICEGATE_LIMITS_DRAIN_S": "1"},
    )
    try:
        told = await addresses(process)
        assert told["softphone"] == told["control"] + "/softphone"
        assert told["calls"].startswith("wss://127.0.0.1:") and told["control"].startswith("https://127.0.0.1:")
        assert all(path in told["PBXs"] for path in ("/asterisk", "/freeswitch", "/twilio"))

        trusting = ssl.create_default_context(cafile=folder / AUTHORITY)

        def page() -> str:
            with urllib.request.urlopen(told["softphone"], timeout=10, context=trusting) as answer:
                return str(answer.headers["Content-Security-Policy"])

        policy = await asyncio.to_thread(page)
        media = told["calls"].removesuffix("/v1/call")
        assert f"connect-src 'self' {media};" in policy
        async with connect(told["calls"], ssl=trusting, origin=told["control"], proxy=None) as call:  # type: ignore[arg-type]
            await call.send('{"type": "start"}')
            assert '"ready"' in str(await asyncio.wait_for(call.recv(), 10))
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
