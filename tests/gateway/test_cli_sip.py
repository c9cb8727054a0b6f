"""`voicegate sip`: what it refuses before it listens, and what it says on start."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.sip import _address, _welcome, register
from gateway.sip.bridge import BridgeSettings
from gateway.sip.fields import Address

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--listen", "0.0.0.0:5060"], "--public"),
        (["--listen", "8.8.8.8:5060"], "--public"),
        (["--listen", "[::]:5060"], "--public"),
        (["--listen", "5060"], "HOST:PORT"),
        (["--listen", "localhost:99999"], "HOST:PORT"),
        (["--listen", "pbx.example.com:5060"], "not an IP address"),
        (["--dialect", "skype"], "asterisk-json"),
        (["--gateway", "http://127.0.0.1"], "ws://"),
        (["--rtp-ports", "40000"], "FIRST-LAST"),
        (["--rtp-ports", "500-600"], "1024"),
        (["--rtp-ports", "40100-40000"], "first below the last"),
        (["--log-level", "loud"], "warning"),
        (["--max-calls", "0"], "--max-calls"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(options: list[str], told: str) -> None:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2
    assert told in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "public", "address"),
    [
        ("localhost:5060", False, Address("127.0.0.1", 5060)),
        ("192.168.1.20:5062", False, Address("192.168.1.20", 5062)),
        ("[::1]:0", False, Address("::1", 0)),
        ("0.0.0.0:5060", True, Address("0.0.0.0", 5060)),
        ("8.8.8.8:5060", True, Address("8.8.8.8", 5060)),
    ],
)
def test_private_addresses_are_listened_on_and_public_ones_if_told(text: str, public: bool, address: Address) -> None:
    assert _address(text, public=public) == address


def test_the_start_says_what_to_type_into_a_phone() -> None:
    told = _welcome(BridgeSettings(dialect="twilio"), Address("192.168.1.20", 5060))
    assert "sip:bot@192.168.1.20\n" in told and "twilio" in told and "40000 to 40199" in told
    assert "sip:bot@[::1]:5070\n" in _welcome(BridgeSettings(), Address("::1", 5070))
    assert "sip:bot@0.0.0.0" not in _welcome(BridgeSettings(), Address("0.0.0.0", 5060))
