"""The HTTP engine against a real local server that answers well and badly."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from tts_stub.http_engine import HttpSynthesizer
from tts_stub.synthesis import EngineUnavailableError, SynthesisError, Voice

pytestmark = pytest.mark.unit

TONE = np.rint(8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16)


def wav(rate_hz: int, channels: int) -> bytes:
    file = io.BytesIO()
    seconds = np.arange(rate_hz) / rate_hz
    frames = np.stack([0.25 * np.sin(2 * np.pi * 440 * seconds)] * channels, axis=1)
    soundfile.write(file, frames, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


class SpeechServer(BaseHTTPRequestHandler):
    """Answers by path; remembers what it was asked."""

    asked: ClassVar[list[tuple[dict[str, object], str | None]]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((body, self.headers["Authorization"]))
        self.close_connection = True
        answers: dict[str, Callable[[], None]] = {
            "/pcm": lambda: self.answer("audio/pcm", TONE.astype("<i2").tobytes()),
            "/wav": lambda: self.answer("audio/wav", wav(8000, 1)),
            "/wav48": lambda: self.answer("audio/x-wav; charset=none", wav(48000, 2)),
            "/unnamed": lambda: self.answer("application/octet-stream", wav(16000, 1)),
            "/broken": lambda: self.answer("audio/wav", b"RIFF and then nothing of use"),
            "/odd": lambda: self.answer("audio/pcm", b"123"),
            "/text": lambda: self.answer("text/html", b"<h1>hello</h1>"),
            "/large": lambda: self.answer("audio/pcm", bytes(200_000)),
            "/fault": lambda: self.send_error(503, "Busy"),
            "/chunked": self.chunked,
            "/short": self.short,
            "/drip": self.drip,
            "/hang": lambda: time.sleep(1),
        }
        answers[self.path.partition("?")[0]]()

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self) -> None:
        """Engines that stream do not know the length beforehand."""
        self.send_response(200)
        self.send_header("Content-Type", "audio/pcm")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (TONE[:1001].tobytes(), TONE[1001:].tobytes(), b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "audio/pcm")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(100))

    def drip(self) -> None:
        """Never silent for long, never done."""
        self.send_response(200)
        self.send_header("Content-Type", "audio/pcm")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(40):
                self.wfile.write(b"\0")
                time.sleep(0.05)
        except OSError:
            pass  # the client gave up, as it should

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SpeechServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/pcm", "/chunked", "/wav", "/wav48", "/unnamed"])
def test_audio_in_any_agreed_form_is_one_second_of_the_tone(address: str, path: str) -> None:
    pcm = HttpSynthesizer(address + path).synthesize("hello", Voice(), 8000)
    assert pcm.dtype == np.int16
    assert len(pcm) == pytest.approx(8000, abs=2)
    spectrum = np.abs(np.fft.rfft(pcm[1000:7000].astype(float)))
    assert int(spectrum.argmax()) * 8000 / 6000 == pytest.approx(440, abs=2)
    assert np.abs(pcm.astype(int)).max() == pytest.approx(8000, rel=0.05)


def test_what_is_asked_of_the_engine(address: str) -> None:
    engine = HttpSynthesizer(address + "/pcm?tenant=7", headers={"Authorization": "Bearer s3cret"})
    SpeechServer.asked.clear()
    engine.synthesize("您好", Voice("mia", 180), 16000)
    assert SpeechServer.asked == [
        ({"text": "您好", "voice": "mia", "rate": 180, "sample_rate": 16000}, "Bearer s3cret")
    ]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/broken", "broken WAV"),
        ("/odd", "even number"),
        ("/text", "text/html"),
        ("/large", "more than 100000 bytes"),
        ("/fault", "503 Busy"),
        ("/short", "broke off"),
        ("/drip", "no whole answer in 0.3 s"),
        ("/hang", "no whole answer in 0.3 s"),
    ],
)
def test_a_bad_answer_is_named_in_time(address: str, path: str, fault: str) -> None:
    engine = HttpSynthesizer(address + path + "?key=s3cret", timeout_s=0.3, max_bytes=100_000)
    started = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=fault) as caught:
        engine.synthesize("personal words", Voice(), 8000)
    assert time.monotonic() - started < 1.0
    assert "s3cret" not in str(caught.value) and "personal" not in str(caught.value)


def test_nobody_listens_there() -> None:
    with pytest.raises(EngineUnavailableError, match="cannot be reached"):
        HttpSynthesizer("http://127.0.0.1:1").synthesize("hello", Voice(), 8000)


@pytest.mark.parametrize("url", ["ftp://host/x", "host:80", "", "http://", "http://host:99999", "http://[::1"])
def test_an_address_that_is_not_http_is_refused_at_construction(url: str) -> None:
    with pytest.raises(SynthesisError, match="use http://"):
        HttpSynthesizer(url)
