"""Twilio's REST API against a local double: what is asked for, when, and what happens where it does not answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed

from audio.formats import AudioFormat
from gateway.outside.carriers import CarrierError, TwilioCalls, transfer_twiml
from gateway.protocols.seam import CallStart, EndCall, TransferCall
from gateway.settings import TwilioSettings
from tests.gateway.harness import FLOW, rig, silence, speech
from tests.gateway.protocols.peers import MULAW, TwilioPeer

pytestmark = pytest.mark.unit

ACCOUNT, TOKEN, CALL = "AC" + "3" * 32, "t" * 32, "CA" + "2" * 32


@dataclass
class Double:
    """Twilio's call resource. `status` is what it answers, after `delay_s`."""

    url: str = ""
    status: int = 200
    delay_s: float = 0.0
    requests: list[tuple[str, dict[str, list[str]], str]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)


@contextmanager
def twilio() -> Iterator[Double]:
    double = Double()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            double.requests.append((self.path, parse_qs(body), self.headers["Authorization"]))
            double.asked.set()
            time.sleep(double.delay_s)
            self.send_response(double.status)
            if double.status == 302:
                self.send_header("Location", f"{double.url}/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def calls(double: Double, *, timeout_s: float = 2.0) -> TwilioCalls:
    return TwilioCalls(
        TwilioSettings(account_sid=ACCOUNT, auth_token=SecretStr(TOKEN), api_url=double.url, timeout_s=timeout_s)  # type: ignore[call-arg]
    )


def start(call_id: str | None = CALL) -> CallStart:
    return CallStart(format=AudioFormat(), call_id=call_id)


async def test_a_call_is_ended_by_its_status() -> None:
    with twilio() as double:
        await calls(double).carry_out(start(), EndCall("done"))
        ((path, fields, authorization),) = double.requests
    assert path == f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"
    assert fields == {"Status": ["completed"]}
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"{ACCOUNT}:{TOKEN}"


async def test_a_call_is_transferred_by_its_twiml() -> None:
    with twilio() as double:
        await calls(double).carry_out(start(), TransferCall(target="+15551234567", context={}))
        ((_, fields, _),) = double.requests
    assert fields == {"Twiml": ["<Response><Dial>+15551234567</Dial></Response>"]}


@pytest.mark.parametrize(
    ("target", "twiml"),
    [
        ("sip:desk@pbx.example.com", "<Response><Dial><Sip>sip:desk@pbx.example.com</Sip></Dial></Response>"),
        ("</Dial><Hangup/>", "<Response><Dial>&lt;/Dial&gt;&lt;Hangup/&gt;</Dial></Response>"),
    ],
)
def test_a_target_cannot_write_twiml(target: str, twiml: str) -> None:
    assert transfer_twiml(target) == twiml


@pytest.mark.parametrize("call_id", [None, "", "CA1", "../Messages", CALL + "/x", "c1"])
async def test_nothing_but_a_call_sid_becomes_part_of_an_address(call_id: str | None) -> None:
    with twilio() as double:
        with pytest.raises(CarrierError, match="callSid"):
            await calls(double).carry_out(start(call_id), EndCall("done"))
        assert double.requests == []


@pytest.mark.parametrize(("status", "named"), [(401, "401"), (404, "404"), (500, "500"), (302, "302")])
async def test_a_refusal_is_told_without_secrets(status: int, named: str) -> None:
    with twilio() as double:
        double.status = status
        with pytest.raises(CarrierError, match=named) as caught:
            await calls(double).carry_out(start(), EndCall("done"))
        assert len(double.requests) == 1, "no redirect is followed"
    assert TOKEN not in str(caught.value) and ACCOUNT not in str(caught.value)


async def test_a_slow_answer_is_not_waited_for() -> None:
    with twilio() as double:
        double.delay_s = 1.0
        began = time.monotonic()
        with pytest.raises(CarrierError, match=r"within 0\.2 s"):
            await calls(double, timeout_s=0.2).carry_out(start(), EndCall("done"))
        assert time.monotonic() - began < 0.8


async def test_nobody_there() -> None:
    with twilio() as double:
        pass
    with pytest.raises(CarrierError, match="cannot be reached"):
        await calls(double).carry_out(start(), EndCall("done"))


# In a call.

TRANSFER = FLOW.replace("hang_up: done", 'transfer: "+15557654321"')


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("way", ["hang up", "transfer"])
async def test_the_bots_decision_reaches_twilio_before_the_socket_closes(tmp_path: Path, way: str, status: int) -> None:
    with twilio() as double:
        double.status = status
        environ = {
            "VOICEGATE_TWILIO_ACCOUNT_SID": ACCOUNT,
            "VOICEGATE_TWILIO_AUTH_TOKEN": TOKEN,
            "VOICEGATE_TWILIO_API_URL": double.url,
            "VOICEGATE_AUTH_TRUSTED_NETWORKS": "127.0.0.0/8",
        }
        flow = FLOW if way == "hang up" else TRANSFER
        async with rig(tmp_path, hear="yes", flow=flow, environ=environ) as running:
            peer = TwilioPeer("/twilio", fmt=MULAW)
            await peer.dial(running.port)
            await peer.until(lambda: peer.marks, "greeting")
            await peer.speak(speech())
            await peer.speak(silence(1000))
            await asyncio.to_thread(double.asked.wait, 20)
            with contextlib.suppress(ConnectionClosed):  # after a refusal the gateway may have closed by now
                # What Twilio says when its call is over.
                await peer.send(peer.event("stop", stop={"callSid": peer.call}))
            assert await peer.closed() == 1000
            await running.no_calls()
            by = "bot" if way == "hang up" else "transfer"
            assert running.metric("voicegate_calls_ended_total", ended_by=by) == 1
        ((path, fields, _),) = double.requests
        assert CALL in path and set(fields) == ({"Status"} if way == "hang up" else {"Twiml"})
