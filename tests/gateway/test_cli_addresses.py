"""Commands that ask a running gateway, told a wrong address or a folder that is not there: one line that says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import call, drain, models, watch

pytestmark = pytest.mark.unit

WAV = str(Path(__file__).parents[2] / "gateway" / "demo" / "01-yes-speaking.wav")

runner = CliRunner()
app = typer.Typer()
for command in (call, drain, models, watch):
    command.register(app)


class _NoSuchPath(BaseHTTPRequestHandler):
    """What the media port answers to a path that is no dialect's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def other_port() -> Iterator[str]:
    """A port that speaks HTTP and is no control port: its HOST:PORT."""
    with HTTPServer(("127.0.0.1", 0), _NoSuchPath) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("arguments", [["processes"], ["drain", "0"], ["reload"], ["models", "list"], ["watch"]])
def test_what_is_no_address_is_told_with_one_that_is(arguments: list[str]) -> None:
    done = runner.invoke(app, [*arguments, "--url", "nonsense"])
    assert done.exit_code == 1
    assert done.stderr == "--url is no address; it looks like http://127.0.0.1:8080\n"


@pytest.mark.parametrize("arguments", [["processes"], ["models", "list"], ["watch"]])
def test_a_port_that_is_no_control_port_is_told(arguments: list[str], other_port: str) -> None:
    done = runner.invoke(app, [*arguments, "--url", f"http://{other_port}"])
    assert done.exit_code == 1 and "404" in done.stderr and "control port" in done.stderr


def test_a_call_to_what_is_no_address() -> None:
    done = runner.invoke(app, ["call", WAV, "--url", "nonsense"])
    assert done.exit_code == 1 and "it looks like ws://127.0.0.1:8765/v1/call" in done.stderr


def test_a_call_is_not_placed_where_its_sound_could_not_be_kept(tmp_path: Path) -> None:
    heard = tmp_path / "nowhere" / "heard.wav"
    for arguments in (["call", WAV], ["demo"]):
        done = runner.invoke(app, [*arguments, "--save-audio", str(heard)])
        assert done.exit_code == 2 and f"--save-audio {heard}: its folder does not exist" in done.stderr
