"""Who is let in by each dialect's own means, seen from a bare socket; and what is refused before a word is said."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path

import pytest

from gateway.access.auth import Scope, mint
from gateway.access.dialect_auth import in_networks, twilio_signature, twilio_urls
from gateway.settings import SettingsError, load
from tests.gateway.harness import rig
from tests.gateway.protocols.peers import MULAW, TwilioPeer
from tests.gateway.raw_peer import dial, upgrade

pytestmark = pytest.mark.unit

SECRET = "x" * 40
TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
SECURED = {"VOICEGATE_AUTH_SECRET": SECRET}


def token(scope: Scope = Scope.CALL) -> str:
    return mint(SECRET, "pbx", [scope], 60)


def basic(password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"asterisk:{password}".encode()).decode()


async def status(port: int, path: str, *headers: str) -> int:
    async with dial(port) as peer:
        peer.send(upgrade(path, *headers))
        return (await peer.answer()).status


@pytest.mark.parametrize("path", ["/asterisk", "/freeswitch", "/jambonz", "/vosk", "/auto"])
async def test_bearer_basic_query_and_path(tmp_path: Path, path: str) -> None:
    good, wrong, other = token(), mint("y" * 40, "x", [Scope.CALL], 60), token(Scope.MONITOR)
    async with rig(tmp_path, environ=SECURED) as running:
        port = running.port
        for attempt in (
            [path, f"Authorization: Bearer {good}"],
            [path, basic(good)],
            [f"{path}?token={good}"],
            [f"{path}/{good}"],
            [f"{path}/{good}/"],
        ):
            assert await status(port, *attempt) == 101, attempt[0]
        for attempt in (
            [path],
            [path, f"Authorization: Bearer {wrong}"],
            [path, basic(wrong)],
            [f"{path}?token={wrong}"],
            [f"{path}/{wrong}"],
            [f"{path}/%00%ff"],
            [f"{path}/{good}", f"Authorization: Bearer {wrong}"],  # the first one found decides
            [f"{path}/{good}?token={wrong}"],
        ):
            assert await status(port, *attempt) == 401, attempt[0]
        assert await status(port, f"{path}/{other}") == 403


async def test_a_trusted_network_needs_no_token(tmp_path: Path) -> None:
    trusting = {**SECURED, "VOICEGATE_AUTH_TRUSTED_NETWORKS": "127.0.0.0/30,10.0.0.0/8"}
    async with rig(tmp_path, environ=trusting) as running:
        assert await status(running.port, "/asterisk") == 101
    async with rig(tmp_path / "2", environ={**SECURED, "VOICEGATE_AUTH_TRUSTED_NETWORKS": "10.0.0.0/8"}) as running:
        assert await status(running.port, "/asterisk") == 401


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("11.0.0.1", False),
        ("::1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_networks(address: str, inside: bool) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fe80::/10")]
    assert in_networks(address, networks) is inside


def test_settings_that_would_not_protect_are_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            environ={
                "VOICEGATE_AUTH_TRUSTED_NETWORKS": "10.0.0.0/33",
                "VOICEGATE_TWILIO_ACCOUNT_SID": "AC1",
                "VOICEGATE_TWILIO_PUBLIC_URL": "https://x",
                "VOICEGATE_TWILIO_API_URL": "http://api.example.com",
            }
        )
    for named in ("10.0.0.0/33", "twilio.account_sid", "twilio.public_url", "twilio.api_url"):
        assert named in str(caught.value)
    assert load(environ={"VOICEGATE_HOST": "0.0.0.0", "VOICEGATE_AUTH_TRUSTED_NETWORKS": "10.0.0.0/8"}).host


# Twilio.


def test_the_signature_is_that_of_twilios_own_library() -> None:
    # The vector of twilio-python's tests: there the parameters of a POST are appended to the address, here are none.
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    parameters = "CallSidCA1234567890ABCDECaller+14158675309Digits1234From+14158675309To+18005551212"
    assert twilio_signature("12345", url + parameters) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


@pytest.mark.parametrize(
    ("public_url", "host", "expected"),
    [
        (None, "bot.example.com", ["wss://bot.example.com/twilio", "wss://bot.example.com:443/twilio"]),
        (None, "bot.example.com:443", ["wss://bot.example.com:443/twilio", "wss://bot.example.com/twilio"]),
        (None, "bot.example.com:8765", ["wss://bot.example.com:8765/twilio"]),
        ("wss://public.example.com", "inside:1", ["wss://public.example.com/twilio"]),
        ("wss://public.example.com/voice/", "inside:1", ["wss://public.example.com/voice/twilio"]),
        (None, "[::1]:8765", ["wss://[::1]:8765/twilio"]),
        (None, "[", ["wss://[/twilio"]),
        (None, "x:99999999", ["wss://x:99999999/twilio"]),
    ],
)
def test_the_addresses_that_twilio_may_have_signed(public_url: str | None, host: str, expected: list[str]) -> None:
    assert set(expected) <= set(twilio_urls(public_url, host, "/twilio"))


async def test_twilios_signature_opens_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    environ = {"VOICEGATE_TWILIO_AUTH_TOKEN": TWILIO_TOKEN, "VOICEGATE_TWILIO_PUBLIC_URL": "wss://bot.example.com"}
    async with rig(tmp_path, environ=environ) as running:
        port = running.port

        def signed(path: str, auth_token: str = TWILIO_TOKEN, scheme: str = "wss") -> str:
            return f"X-Twilio-Signature: {twilio_signature(auth_token, f'{scheme}://bot.example.com{path}')}"

        assert await status(port, "/twilio", signed("/twilio")) == 101
        assert await status(port, "/twilio/x", signed("/twilio/x")) == 101
        assert await status(port, "/twilio", signed("/twilio", "f" * 32)) == 401
        assert await status(port, "/twilio", signed("/other")) == 401
        assert await status(port, "/twilio", signed("/twilio", scheme="https")) == 401
        assert await status(port, "/twilio", "X-Twilio-Signature: ü") == 401
        assert await status(port, "/twilio", signed("/twilio"), signed("/twilio")) == 401, "twice means nothing"
        assert await status(port, "/twilio") == 401, "loopback alone is no proof: a proxy's calls come from there"
        assert await status(port, "/asterisk") == 101


async def test_a_token_may_stand_in_twilios_start_and_nothing_is_said_before(tmp_path: Path) -> None:
    async with rig(tmp_path, environ=SECURED) as running:
        peer = TwilioPeer("/twilio", fmt=MULAW, parameters={"token": token()})
        await peer.dial(running.port)
        await peer.until(lambda: peer.audio, "greeting")
        await peer.hang_up()
        assert await peer.closed() == 1000
        for parameters in ({"token": "wrong"}, {}, {"token": token(Scope.MONITOR)}):
            stranger = TwilioPeer("/twilio", fmt=MULAW, parameters=parameters)
            await stranger.dial(running.port)
            assert await stranger.closed() == 4401
            assert not stranger.audio and not stranger.texts
        assert running.metric("voicegate_refused_total", reason="unauthorized") == 3
        await running.no_calls()


async def test_a_start_that_never_comes_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.calls.session._START_S", 0.2)
    async with rig(tmp_path, environ=SECURED) as running:
        peer = TwilioPeer("/twilio", fmt=MULAW)
        peer.hello = lambda: ['{"event":"connected"}']  # type: ignore[method-assign]
        await peer.dial(running.port)
        assert await peer.closed() == 4408
        assert not peer.audio
        await running.no_calls()


async def test_no_token_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with rig(tmp_path, environ=SECURED) as running:
        await status(running.port, "/asterisk/hunter2")
        peer = TwilioPeer("/twilio", fmt=MULAW, parameters={"token": "hunter2"})
        await peer.dial(running.port)
        assert await peer.closed() == 4401
        await running.no_calls()
    assert "refused a connection" in caplog.text
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("gateway")]
    assert not any("hunter2" in line for line in ours)
