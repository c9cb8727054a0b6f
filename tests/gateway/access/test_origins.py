"""Which web pages may drive a gateway that asks their visitor for no token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.auth import Scope, mint
from gateway.access.origins import OriginPolicy, host_of, is_origin
from gateway.settings import SettingsError, load
from tests.gateway.harness import rig
from tests.gateway.raw_peer import dial

pytestmark = pytest.mark.unit

SECRET = "x" * 40


async def status(
    port: int, *headers: str, path: str = "/v1/call", host: str = "127.0.0.1:8765", browser: bool = True
) -> int:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *(["User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"] if browser else []),
        *headers,
    ]
    async with dial(port) as peer:
        peer.send("\r\n".join([*lines, "", ""]).encode())
        return (await peer.answer()).status


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8765", True),
        ("http://localhost:8080", "localhost:8765", True),
        ("http://LOCALHOST:8080", "localhost:8765", True),
        ("http://bot.localhost", "bot.localhost:8765", True),
        ("http://[::1]:8080", "[::1]:8765", True),
        ("http://127.0.0.1", "127.0.0.1:8765", True),  # mod_audio_fork, websocket-client
        ("https://desk.example.com", "127.0.0.1:8765", True),
        ("HTTPS://Desk.Example.com", "127.0.0.1:8765", True),
        ("https://desk.example.com:444", "127.0.0.1:8765", False),
        ("https://evil.example.com", "127.0.0.1:8765", False),
        ("http://127.0.0.1.evil.example.com", "127.0.0.1:8765", False),
        ("http://localhost:8080", "127.0.0.1:8765", False),
        ("null", "127.0.0.1:8765", False),
        ("file://", "127.0.0.1:8765", False),
        ("", "127.0.0.1:8765", False),
        ("http://[", "127.0.0.1:8765", False),
        ("http://evil.example.com:8765", "evil.example.com:8765", False),  # DNS rebinding
    ],
)
def test_a_page_needs_no_token_where_it_is_ours_or_named(origin: str, host: str, admitted: bool) -> None:
    assert OriginPolicy(["https://desk.example.com"], secure=False).admits([origin], [host]) is admitted


def test_over_tls_a_name_proves_itself() -> None:
    page, host = ["https://gateway.lan:8080"], ["gateway.lan:8765"]
    assert OriginPolicy([], secure=True).admits(page, host)
    assert not OriginPolicy([], secure=False).admits(page, host)


def test_no_origin_is_no_browser_and_two_are_none_to_believe() -> None:
    policy = OriginPolicy(["https://desk.example.com"], secure=False)
    assert policy.admits([], ["127.0.0.1"])
    assert not policy.admits(["https://desk.example.com"] * 2, ["127.0.0.1"])
    assert not policy.admits(["http://127.0.0.1"], ["127.0.0.1", "127.0.0.1"])
    assert not policy.admits(["http://127.0.0.1"], [])


@given(st.text(max_size=60), st.text(max_size=60))
def test_strange_headers_raise_nothing(origin: str, host: str) -> None:
    OriginPolicy([], secure=True).admits([origin], [host])
    is_origin(origin)
    host_of(origin)


async def test_without_authentication_a_strangers_page_cannot_call_from_its_visitors_machine(tmp_path: Path) -> None:
    async with rig(tmp_path) as running:
        assert await status(running.port) == 101
        assert await status(running.port, "Origin: http://127.0.0.1:8080") == 101
        for path in ("/v1/call", "/asterisk", "/vosk", "/"):
            assert await status(running.port, "Origin: https://evil.example.com", path=path) == 403
        rebound = await status(running.port, "Origin: http://evil.example.com:8765", host="evil.example.com:8765")
        assert rebound == 403
        assert running.metric("voicegate_refused_total", reason="unauthorized") == 5


async def test_an_origin_without_a_browser_is_no_page(tmp_path: Path) -> None:
    """FreeSWITCH's modules send one, with the name that they call."""
    async with rig(tmp_path) as running:
        asked = {"path": "/freeswitch", "host": "gateway:8765"}
        assert await status(running.port, "Origin: http://gateway:8765", browser=False, **asked) == 101
        assert await status(running.port, "Origin: http://gateway:8765", **asked) == 403


async def test_nor_from_a_trusted_network_unless_it_has_a_token(tmp_path: Path) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_AUTH_TRUSTED_NETWORKS": "127.0.0.0/8"}
    token = mint(SECRET, "desk", [Scope.CALL], 60)
    async with rig(tmp_path, environ=environ) as running:
        assert await status(running.port) == 101
        assert await status(running.port, "Origin: https://evil.example.com") == 401
        assert await status(running.port, "Origin: https://any.example.com", path=f"/v1/call?token={token}") == 101


async def test_a_page_that_the_operator_names_may_call(tmp_path: Path) -> None:
    named = {"VOICEGATE_AUTH_ORIGINS": "https://desk.example.com,https://other.example.com:444"}
    async with rig(tmp_path, environ=named) as running:
        assert await status(running.port, "Origin: https://desk.example.com") == 101
        assert await status(running.port, "Origin: https://other.example.com:444") == 101
        assert await status(running.port, "Origin: https://third.example.com") == 403


@pytest.mark.parametrize(
    "text", ["desk.example.com", "https://desk.example.com/", "https://a.b/c", "ws://a.b", "*", "null", "https://a:x"]
)
def test_what_no_browser_sends_is_a_fault_of_the_settings(text: str) -> None:
    with pytest.raises(SettingsError, match="auth.origins"):
        load(environ={"VOICEGATE_AUTH_ORIGINS": text})
