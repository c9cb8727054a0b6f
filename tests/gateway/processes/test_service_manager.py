"""What systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gateway.processes.service_manager import ServiceManager

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("abstract", [False, True])
async def test_states_reach_the_manager_and_so_does_that_we_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@voicegate-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(f"\0{name[1:]}" if abstract else name)
        async with ServiceManager() as told, asyncio.timeout(20):
            told.tell("READY=1")
            heard = [await loop.sock_recv(manager, 100) for _ in range(4)]
    assert heard[0] in (b"READY=1", b"WATCHDOG=1") and heard.count(b"READY=1") == 1
    assert heard.count(b"WATCHDOG=1") == 3


async def test_nobody_is_told_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with ServiceManager() as manager:
        manager.tell("READY=1")


async def test_a_manager_that_went_away_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    async with ServiceManager() as manager:
        manager.tell("READY=1")
