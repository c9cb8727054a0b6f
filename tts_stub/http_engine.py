"""Production voices behind an HTTP endpoint, on the same seam as the stub.

The contract asked of the endpoint, small enough to put in front of any engine:

    POST <url>   Content-Type: application/json
    {"text": str, "voice": str, "rate": words per minute, "sample_rate": 8000 or 16000}

    200 audio/wav (any rate, any channels)  or  audio/pcm, application/octet-stream: int16 little-endian
    mono at the `sample_rate` that was asked for; anything else is an error.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import soundfile

from audio.formats import Pcm16
from audio.resampling import resample
from tts_stub.synthesis import EngineUnavailableError, SynthesisError, Voice

__all__ = ["HttpSynthesizer"]

RAW_PCM: Final = ("audio/pcm", "application/octet-stream")
WAV: Final = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
READ_BYTES: Final = 65536


class HttpSynthesizer:
    """A `Synthesizer` that asks an HTTP endpoint; a connection per prompt, safe from any number of threads.

    Args:
        url: `http://` or `https://` address of the endpoint.
        timeout_s: limit of one prompt from connecting to the last byte, each wait on the socket included.
        max_bytes: limit on the answer's body.
        headers: sent with every request, for instance `Authorization`; never logged nor shown.

    Raises:
        SynthesisError: at construction, for an address that is not HTTP.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        max_bytes: int = 8 * 1024 * 1024,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SynthesisError(f"speech engine address: {error}; use http://host:port/path or https://...") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SynthesisError(
                f"speech engine address with scheme {parts.scheme!r} and host {parts.hostname!r}; "
                "use http://host:port/path or https://..."
            )
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._name = f"speech engine at {parts.hostname}:{port or (443 if self._secure else 80)}"
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._headers = {**(headers or {}), "Content-Type": "application/json", "Accept": ", ".join(WAV)}

    def synthesize(self, text: str, voice: Voice, sample_rate_hz: int) -> Pcm16:
        """See `Synthesizer.synthesize`. `Voice.pitch` is not sent: few engines have it.

        Raises:
            EngineUnavailableError: no connection, no answer in time, a status other than 200, or a body
                that is too large or not the audio it claims to be.
        """
        body = json.dumps(
            {"text": text, "voice": voice.name, "rate": voice.rate_wpm, "sample_rate": sample_rate_hz}
        ).encode()
        kind, audio = self._post(body)
        if kind in WAV or audio.startswith(b"RIFF"):
            return self._decode_wav(audio, sample_rate_hz)
        if kind in RAW_PCM:
            return self._decode_raw(audio)
        raise EngineUnavailableError(f"{self._name} answered with {kind!r:.60}; it must send audio/wav or audio/pcm")

    def _post(self, body: bytes) -> tuple[str, bytes]:
        """Content type (lower case, without parameters) and body of a 200 answer."""
        deadline = time.monotonic() + self._timeout_s
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.connect()
            wire = connection.sock  # http.client forgets it where the answer ends with the connection
            connection.request("POST", self._target, body, self._headers)
            with connection.getresponse() as response:
                if response.status != 200:
                    raise EngineUnavailableError(
                        f"{self._name} answered {response.status} {response.reason}; see its own log"
                    )
                return response.headers.get_content_type(), self._read(response, wire, deadline)
        except TimeoutError:
            raise self._too_slow() from None
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(
                f"{self._name} cannot be reached ({type(error).__name__}: {error}); is it running?"
            ) from error
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, wire: socket.socket, deadline: float) -> bytes:
        """The body in pieces: a socket's timeout alone lets a slow drip hold the thread for ever."""
        body = bytearray()
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._too_slow()
            wire.settimeout(left_s)
            piece = response.read1(READ_BYTES)
            if not piece:
                break
            body += piece
            if len(body) > self._max_bytes:
                raise EngineUnavailableError(
                    f"{self._name} sent more than {self._max_bytes} bytes for one prompt; "
                    "shorten the prompt or raise the limit"
                )
        if response.length:
            raise EngineUnavailableError(f"{self._name} broke off {response.length} bytes before the end")
        return bytes(body)

    def _too_slow(self) -> EngineUnavailableError:
        return EngineUnavailableError(
            f"{self._name} gave no whole answer in {self._timeout_s:g} s; it is slow or overloaded"
        )

    def _decode_wav(self, audio: bytes, sample_rate_hz: int) -> Pcm16:
        try:
            frames, rate_hz = soundfile.read(io.BytesIO(audio), dtype="int16", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise EngineUnavailableError(f"{self._name} sent a broken WAV: {error}") from error
        mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1).astype(np.int16)
        return resample(np.ascontiguousarray(mono), rate_hz, sample_rate_hz)

    def _decode_raw(self, audio: bytes) -> Pcm16:
        if len(audio) % 2:
            raise EngineUnavailableError(
                f"{self._name} sent {len(audio)} bytes of raw PCM; int16 samples need an even number"
            )
        return np.frombuffer(audio, "<i2").astype(np.int16)
