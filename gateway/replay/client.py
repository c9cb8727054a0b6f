"""Places one call of voicegate.v1 with recordings: what `voicegate call` and the tests call with.

The waiting part: `gateway.replay.recorded_caller` says what is sent and when, `gateway.replay.call_ear` what was heard.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from audio.formats import AudioFormat
from gateway import background
from gateway.replay.call_ear import CallResult, Ear, Recording, TurnResult
from gateway.replay.outcome import outcome_of
from gateway.replay.recorded_caller import Microphone, RecordedCaller, as_said
from gateway.replay.tape import Tape, TapedCaller, TapeRecorder
from gateway.sip.line import CallFacts, Messages
from gateway.sip.lines import NativeLine

__all__ = ["CONNECT_S", "CallClient", "CallError", "CallResult", "Recording", "TurnResult", "why_no_connection"]

CONNECT_S: Final = 5.0
_CLOSE_S: Final = 3.0


class CallError(Exception):
    """A call that could not be placed; the message says why and what to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """`status`: HTTP's, where the gateway refused."""
        super().__init__(message)
        self.status = status


class _Line(NativeLine):
    """A line that says in its address, or in a start message, what its call is."""

    def __init__(self, fmt: AudioFormat, keys: dict[str, str], metadata: dict[str, str], token: str | None) -> None:
        super().__init__(CallFacts(call_id="", caller="", dialled="", format=fmt, token=token))
        self._keys = keys
        self._metadata = metadata

    def query(self) -> dict[str, str]:
        # A start message may come too late on a slow line or from a busy machine (50 ms), the query cannot; but
        # metadata fit into the message alone.
        return {} if self._metadata else {**self._keys, **self._format()}

    def hello(self) -> Messages:
        if not self._metadata:
            return ()
        start = {"type": "start", **self._keys, **self._format(), "metadata": self._metadata}
        return (json.dumps(start),)

    def _format(self) -> dict[str, str]:
        fmt = self.format
        known = {"encoding": fmt.encoding.value, "sample_rate": fmt.sample_rate_hz, "channels": fmt.channels}
        return {key: str(value) for key, value in known.items()}


class CallClient:
    """Places one call and returns its `CallResult`."""

    def __init__(
        self,
        url: str,
        *,
        fmt: AudioFormat | None = None,
        call_id: str | None = None,
        bot: str | None = None,
        caller: str | None = None,
        language: str | None = None,
        metadata: dict[str, str] | None = None,
        token: str | None = None,
        reply_timeout_s: float = 12.0,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        recorder: TapeRecorder | None = None,
        keep_audio: bool = True,
    ) -> None:
        """
        Args:
            url: ws:// address of a native media path.
            fmt: the call's format; 8 kHz PCM16 unless given.
            reply_timeout_s: longest wait for a prompt after a recording was spoken; then the next one is spoken.
            on_event: told every JSON message of the gateway as it comes.
            recorder: keeps what the caller sends, to be replayed.
            keep_audio: whether the result holds what the caller heard, 16 kB a second.
        """
        keys = {"call_id": call_id, "bot": bot, "caller": caller, "language": language}
        known = {key: value for key, value in keys.items() if value is not None}
        self._line = _Line(fmt or AudioFormat(), known, metadata or {}, token)
        self._url = url
        self._ear = Ear(self._line, keep_audio=keep_audio, on_event=on_event)
        self._reply_timeout_s = reply_timeout_s
        self._recorder = recorder
        self._hanging_up = False

    async def run(self, recordings: Sequence[Recording]) -> CallResult:
        """Place the call and speak the recordings, one after each prompt.

        Raises:
            CallError: no connection.
        """
        said = as_said(recordings, self._line.format)

        def caller(now: float) -> Microphone:
            return RecordedCaller(
                self._line, self._ear, said, now=now, reply_timeout_s=self._reply_timeout_s, recorder=self._recorder
            )

        result = await self._call(caller)
        if self._recorder is not None:
            self._recorder.heard(outcome_of(result))
        return result

    async def run_tape(self, tape: Tape, *, speed: float = 1.0) -> CallResult:
        """Place the call and send what the tape holds, when it was sent.

        Raises:
            CallError: no connection.
        """
        return await self._call(lambda now: TapedCaller(self._line, self._ear, tape, now=now, speed=speed))

    @property
    def result(self) -> CallResult:
        """What is known so far."""
        return self._ear.result

    def hang_up(self) -> None:
        """The caller has had enough: the call ends at its next message, and `run` returns."""
        self._hanging_up = True

    async def _call(self, make_caller: Callable[[float], Microphone]) -> CallResult:
        result = self._ear.result
        try:
            async with asyncio.timeout(CONNECT_S):
                ws = await connect(
                    self._line.url(self._url),
                    compression=None,
                    additional_headers=self._line.headers(),
                    max_size=None,
                    close_timeout=_CLOSE_S,
                    proxy=None,
                )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as exc:
            raise why_no_connection(self._url, exc) from exc
        began = time.monotonic()
        self._ear.open(began)
        if self._recorder is not None:
            self._recorder.begin(began)
        async with ws:
            listener = asyncio.create_task(self._listen(ws))
            speaker = asyncio.create_task(self._speak(ws, make_caller(began)))
            try:
                await asyncio.wait([listener, speaker], return_when=asyncio.FIRST_COMPLETED)
                if speaker.done() and not speaker.cancelled() and speaker.exception() is None:
                    result.ended_by = result.ended_by or "out_of_audio"
                    await self._hang_up(ws)
                    await asyncio.wait([listener], timeout=_CLOSE_S)
            except asyncio.CancelledError:
                result.ended_by = result.ended_by or "caller"
                await self._hang_up(ws)
                raise
            finally:
                await background.stop((listener, speaker))
        if not result.ended_by:
            result.ended_by = "error"
            result.errors.append(f"connection closed: {ws.close_code} {ws.close_reason or ''}".strip())
        result.bot_audio = self._ear.recording(began)
        return result

    async def _hang_up(self, ws: ClientConnection) -> None:
        try:
            for message in self._line.hang_up():
                await ws.send(message)
        except ConnectionClosed:
            pass

    async def _speak(self, ws: ClientConnection, caller: Microphone) -> None:
        """The caller's microphone, 50 messages a second."""
        for message in self._line.hello():
            await ws.send(message)
        while True:
            if (wait_s := caller.due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if self._hanging_up:
                self.result.ended_by = self.result.ended_by or "caller"
                return
            now = time.monotonic()
            messages = caller.tick(now)
            if messages is None:
                return
            for message in messages:
                await ws.send(message)

    async def _listen(self, ws: ClientConnection) -> None:
        try:
            async for message in ws:
                self._ear.receive(message, time.monotonic())
        except ConnectionClosed:
            pass


def why_no_connection(url: str, exc: Exception) -> CallError:
    """What kept a call from being placed at `url`, and the mend."""
    url = url.partition("?")[0]
    status = getattr(getattr(exc, "response", None), "status_code", None)
    match status:
        case 401:
            why = f"{url} wants a token: --token, or VOICEGATE_TOKEN; make one with `voicegate token`"
        case 403:
            why = (
                f"{url} does not let us place calls: a token needs the scope `call`, and without authentication only "
                "the gateway's own machine may. If that is the control port, calls come to the other one"
            )
        case 404:
            why = f"{url} has no such path; calls come to /v1/call"
        case 503:
            why = f"{url} is full or shutting down; try again later, or let it take more: limits.calls_per_worker"
        case _ if isinstance(exc, ConnectionRefusedError):
            why = f"nothing listens at {url}; start a gateway with `voicegate serve`"
        case _ if isinstance(exc, TimeoutError):
            why = f"no answer from {url} within {CONNECT_S:g} s"
        case _ if isinstance(exc, InvalidURI):
            why = f"{url} is no gateway's address; it looks like ws://127.0.0.1:8765/v1/call"
        case _:
            why = f"no call to {url}: {exc}"
    return CallError(why, status)
