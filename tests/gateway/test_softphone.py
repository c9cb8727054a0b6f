"""The softphone page as it is served: headers, what it must know, its files; and its pure scripts, by node."""

from __future__ import annotations

import asyncio
import datetime
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from dialogue.bots import load_bot
from gateway.access.auth import Authenticator, Scope, mint
from gateway.access.own_certificate import AUTHORITY, CERTIFICATE, KEY, host_name, issue
from gateway.access.tls import ServerCertificate
from gateway.http.errors import add_error_handlers
from gateway.http.pages_api import load_pages, media_url, pages_router, security_policy
from gateway.protocols.seam import CloseCode
from gateway.settings import SettingsError, load
from tests.gateway.harness import write_bot

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "gateway" / "pages"
SECRET = "x" * 40


@asynccontextmanager
async def pages(
    folder: Path, environ: dict[str, str] | None = None, *, peer: str = "127.0.0.1", host: str = "127.0.0.1:8080"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the pages alone, as seen from `peer` under the name `host`."""
    settings = load(environ=environ or {})
    app = FastAPI()
    add_error_handlers(app)
    app.include_router(pages_router(settings, [load_bot(write_bot(folder / "tester"))], Authenticator(settings.auth)))
    transport = httpx.ASGITransport(app=app, client=(peer, 5))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


async def test_the_page_is_served_with_headers_that_keep_it_ours(tmp_path: Path) -> None:
    async with pages(tmp_path) as client:
        answer = await client.get("/softphone")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://127.0.0.1:8765"
    assert answer.headers["permissions-policy"].startswith("microphone=(self)")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


async def test_everything_that_the_page_names_is_there_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    async with pages(tmp_path) as client:
        todo, seen = ["/softphone", "/monitor"], set[str]()
        while todo:
            path = todo.pop()
            if path in seen:
                continue
            seen.add(path)
            answer = await client.get(path)
            assert answer.status_code == 200, path
            named = re.findall(
                r'(?:src|href)="([^"#]+)"|from "([^"]+)"|here\("([^"]+)"\)|@import|url\(([^)]+)\)', answer.text
            )
            todo += [urljoin(path, next(filter(None, groups))) for groups in named if any(groups)]
    assert {f"/pages/{name}" for name in load_pages()} - seen == {
        "/pages/softphone.html",
        "/pages/monitor.html",
    }, "nothing is served for nothing"


@pytest.mark.parametrize("name", sorted(load_pages()))
def test_no_file_holds_what_the_policy_forbids(name: str) -> None:
    text = (PAGES / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "nothing from a CDN"
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=\"|javascript:", text), "nothing in line"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


async def test_a_file_is_asked_for_again_and_sent_only_when_it_changed(tmp_path: Path) -> None:
    async with pages(tmp_path) as client:
        first = await client.get("/pages/softphone/page.js")
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        assert first.headers["cache-control"] == "no-cache"
        again = await client.get("/pages/softphone/page.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "", "../pages_api.py", "..%2fpages_api.py", "%2e%2e/settings.py", "softphone/", "/etc/passwd"],
)
async def test_only_the_pages_files_are_served(tmp_path: Path, path: str) -> None:
    async with pages(tmp_path) as client:
        assert (await client.get(f"/pages/{path}")).status_code == 404


# What the page must know.


async def setup(client: httpx.AsyncClient, token: str | None = None) -> dict[str, object]:
    answer = await client.get(
        "/softphone/setup.json", headers={"Authorization": f"Bearer {token}"} if token is not None else {}
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body: dict[str, object] = answer.json()
    return body


BOTS = [{"name": "tester", "language": "en"}]


async def test_without_authentication_this_machine_may_call_and_nobody_else(tmp_path: Path) -> None:
    async with pages(tmp_path) as client:
        here = {"media_url": "ws://127.0.0.1:8765", "needs_token": False, "authorized": True, "bots": BOTS}
        assert await setup(client) == here
    async with pages(tmp_path, peer="10.0.0.7") as client:
        assert (await setup(client))["authorized"] is False


async def test_with_authentication_bots_are_for_those_who_may_call(tmp_path: Path) -> None:
    async with pages(tmp_path, {"VOICEGATE_AUTH_SECRET": SECRET}) as client:
        nobody = {"media_url": "ws://127.0.0.1:8765", "needs_token": True, "authorized": False, "bots": []}
        assert await setup(client) == nobody
        assert await setup(client, "wrong") == nobody
        assert await setup(client, mint(SECRET, "m", [Scope.MONITOR], 60)) == nobody
        good = await setup(client, mint(SECRET, "c", [Scope.CALL], 60))
        assert (good["authorized"], good["bots"]) == (True, BOTS)


async def test_a_trusted_network_needs_no_token(tmp_path: Path) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_AUTH_TRUSTED_NETWORKS": "10.0.0.0/8"}
    async with pages(tmp_path, environ, peer="10.0.0.7") as client:
        body = await setup(client)
    assert (body["needs_token"], body["authorized"], body["bots"]) == (False, True, BOTS)


@pytest.mark.parametrize(
    ("host", "media", "source"),
    [
        ("127.0.0.1:8080", "ws://127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("localhost:8080", "ws://localhost:8765", "ws://localhost:8765"),
        ("gateway.lan", "ws://gateway.lan:8765", "ws://gateway.lan:8765"),
        ("192.168.1.5:8080", "ws://192.168.1.5:8765", "ws:"),  # a policy may name no address but 127.0.0.1
        ("[::1]:8080", "ws://[::1]:8765", "ws:"),
        ("evil; script-src *", "ws://127.0.0.1:8765", "ws://127.0.0.1:8765"),
        ("", "ws://127.0.0.1:8765", "ws://127.0.0.1:8765"),
    ],
)
def test_the_media_port_is_where_the_page_is(host: str, media: str, source: str) -> None:
    assert media_url(load(environ={}), host) == media
    assert f"connect-src 'self' {source};" in security_policy(media)


def test_behind_a_proxy_the_operator_says_where_it_is() -> None:
    settings = load(environ={"VOICEGATE_CONTROL_MEDIA_URL": "wss://bot.example.com/media/"})
    assert media_url(settings, "internal:8080") == "wss://bot.example.com/media"
    assert "connect-src 'self' wss://bot.example.com;" in security_policy("wss://bot.example.com/media")
    for wrong in ("https://bot.example.com", "bot.example.com", "wss://a b", "wss://a;script-src *"):
        with pytest.raises(SettingsError, match="control.media_url"):
            load(environ={"VOICEGATE_CONTROL_MEDIA_URL": wrong})


def test_one_file_of_the_control_ports_certificate_is_a_fault() -> None:
    with pytest.raises(SettingsError, match=r"control\.tls_certificate, control\.tls_key: one without the other"):
        load(environ={"VOICEGATE_CONTROL_TLS_KEY": "/tmp/key.pem"})


async def test_over_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    made = issue([host_name("localhost")], days=1, now=datetime.datetime.now(datetime.UTC))
    for name, data in ((KEY, made.key), (CERTIFICATE, made.certificate), (AUTHORITY, made.authority)):
        (tmp_path / name).write_bytes(data)
    settings = load(environ={})
    app = FastAPI()
    app.include_router(pages_router(settings, [], Authenticator(settings.auth)))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    config.ssl = ServerCertificate(tmp_path / CERTIFICATE, tmp_path / KEY, area="control.tls_").context
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=tmp_path / AUTHORITY)
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.get(f"https://localhost:{port}/softphone")).status_code == 200
    finally:
        server.should_exit = True
        await serving


# Its scripts.


def test_every_close_code_of_the_gateway_has_words_on_the_page() -> None:
    table = (PAGES / "softphone" / "endings.js").read_text(encoding="utf-8").split("CLOSE_CODES")[1].split("};")[0]
    documented = set(
        re.findall(r"^\| (\d{4}) \| ", (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8"), flags=re.M)
    )
    explained = set(re.findall(r"^ +(\d{4}): ", table, flags=re.M))
    assert explained == documented | {"1006"}
    assert {str(code.value) for code in CloseCode} <= explained


@pytest.mark.parametrize("page", ["softphone", "monitor_page"])
def test_the_pure_scripts(page: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine; the browser's tests cover less of these scripts")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip().lstrip("v").split("."))) < (20, 19):
        pytest.skip(f"node {version.strip()} does not take .js files for modules; 20.19 and later do")
    tests = sorted(map(str, (Path(__file__).parent / page).glob("*.test.mjs")))
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert tests and re.search(r"^\S+ pass [1-9]", done.stdout, flags=re.M)


# Its colours.

_READ_ON = {  # text: the grounds it stands on
    "ink": ("paper", "surface", "sunken", "bot-tint", "caller-tint"),
    "soft": ("paper", "surface", "sunken", "bot-tint", "caller-tint"),
    "bot": ("bot-tint",),
    "caller": ("caller-tint", "surface"),
    "warn": ("warn-tint",),
    "bad-ink": ("bad-tint",),
    "stop": ("sunken", "surface"),
    "on-colour": ("go", "stop"),
}


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb. Source: WCAG 2.2."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(theme: str) -> None:
    light, dark = (PAGES / "shared" / "style.css").read_text(encoding="utf-8").split("prefers-color-scheme: dark", 1)
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", light))
    if theme == "dark":
        colours |= dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", dark))
    poor = {}
    for text, grounds in _READ_ON.items():
        for ground in grounds:
            bright, dim = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            if (contrast := (bright + 0.05) / (dim + 0.05)) < 4.5:
                poor[f"{text} on {ground}"] = round(contrast, 2)
    assert poor == {}
