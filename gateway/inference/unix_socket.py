"""The inference seam over a Unix socket: msgpack maps, each behind a 4-byte big-endian length.

    request   {"id": n, "urgency", ...a request of gateway.inference.messages}
              {"id": 0, "op": "cancel", "target": m}       no answer
              {"id": 0, "op": "promote", "target": m, "urgency": 0}       no answer
    answer    {"id": n, ...an answer}
              {"id": 0, "wait_s": x}       unasked, four times a second while it is not 0: how long an utterance waits

Requests of all calls of a gateway worker share one connection and are answered out of order. When the inference
worker dies, the client reconnects with backoff and asks again what is still waited for, until its time is up; but for
commands about models, which may have been carried out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import struct
import time
from pathlib import Path

import msgpack

from audio.asr import AsrJob
from gateway import background
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.messages import (
    ATTEMPTS,
    Answering,
    Body,
    administration,
    content,
    heard_in,
    transcription,
    understanding,
    understood_in,
    versions_in,
)
from gateway.inference.model_commands import ModelAdministration, ModelCommand
from gateway.inference.seam import Heard, Inference, InferenceError, TurnId, Understood
from nlu.pool import VersionStatus

__all__ = ["InferenceServer", "SocketInference"]

log = logging.getLogger(__name__)

_LENGTH = struct.Struct(">I")
_MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""What may wait for a worker that does not read: a hundred utterances of 30 s."""
_RECONNECT_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_TELL_WAIT_S = 0.25

_WORKER_LOST: Body = {}


def _pack(body: Body) -> bytes:
    data: bytes = msgpack.packb(body)
    return _LENGTH.pack(len(data)) + data


async def _read(reader: asyncio.StreamReader) -> Body:
    """Raises IncompleteReadError at the end of the stream, ValueError on a message that is no map."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {length} bytes")
    body = msgpack.unpackb(await reader.readexactly(length))
    if not isinstance(body, dict):
        raise ValueError("message is not a map")
    return body


class SocketInference:
    """Client side: the seam for a gateway worker. Use as an async context."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Body]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._idle_at = 0.0
        """When the models will have worked off what waits for them, as last told; monotonic seconds."""

    async def __aenter__(self) -> SocketInference:
        self._task = asyncio.create_task(self._stay_connected(), name="inference connection")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        await background.stop([self._task])

    @property
    def connected(self) -> bool:
        """Whether an inference worker is at the other end."""
        return self._connected.is_set()

    async def wait_connected(self) -> None:
        """Until a worker is there."""
        await self._connected.wait()

    async def ping(self, *, timeout_s: float = 2.0) -> None:
        """Raises InferenceError unless a worker with loaded models answers."""
        await self._ask({"op": "ping"}, timeout_s)

    def expected_wait_s(self, urgency: Urgency) -> float:
        """See `Inference.expected_wait_s`: an endpoint's, whatever the urgency; the worker sheds by itself."""
        return max(0.0, self._idle_at - time.monotonic())

    async def transcribe(self, job: AsrJob, *, timeout_s: float = 30.0, errand: Errand | None = None) -> Heard:
        """See `Inference.transcribe`."""
        return heard_in(await self._ask(transcription(job, timeout_s), timeout_s, errand))

    async def understand(
        self,
        model: str,
        text: str,
        *,
        timeout_s: float = 30.0,
        errand: Errand | None = None,
        turn: TurnId | None = None,
    ) -> Understood:
        """See `Inference.understand`."""
        return understood_in(await self._ask(understanding(model, text, turn, timeout_s), timeout_s, errand))

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        """See `gateway.inference.model_commands.ModelAdministration.administer`."""
        return versions_in(await self._ask(administration(command, timeout_s), timeout_s, attempts=1))

    async def _ask(
        self, body: Body, timeout_s: float, errand: Errand | None = None, *, attempts: int = ATTEMPTS
    ) -> Body:
        """One answer. A worker that dies under a request is waited for and asked again."""
        answer = _WORKER_LOST
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(attempts):
                    await self._connected.wait()
                    answer = await self._exchange(body, errand or Errand())
                    if answer is not _WORKER_LOST:
                        break
        except TimeoutError:
            why = "" if self.connected else ": no inference worker is connected"
            raise InferenceError(f"no answer to {body['op']} within {timeout_s:g} s{why}") from None
        if answer is _WORKER_LOST:
            times = "" if attempts == 1 else f" {attempts} times"
            raise InferenceError(f"{body['op']}: the inference worker died{times} under this request")
        return content(answer)

    async def _exchange(self, body: Body, errand: Errand) -> Body:
        """Send one request on the present connection; `_WORKER_LOST` where it breaks before the answer."""
        if self._writer is None:
            return _WORKER_LOST
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            raise InferenceError("the inference worker does not read; is it stuck?")
        ident = next(self._ids)
        try:
            request = _pack({"id": ident, "urgency": int(errand.urgency), **body})
        except (ValueError, TypeError) as exc:
            raise InferenceError(f"{body['op']}: a request that cannot be sent: {type(exc).__name__}") from exc
        if len(request) > _MAX_MESSAGE_BYTES:  # the worker would end the connection that all calls share
            raise InferenceError(f"{body['op']}: a request of {len(request)} bytes; at most {_MAX_MESSAGE_BYTES}")
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = future
        errand.on_promotion(lambda urgency: self._tell("promote", ident, urgency=int(urgency)))
        try:
            self._writer.write(request)
            return await future
        except asyncio.CancelledError:  # the caller went away, or the time is up
            self._tell("cancel", ident)  # so that the job costs nothing
            raise
        finally:
            errand.on_promotion(None)
            del self._waiting[ident]

    def _tell(self, op: str, target: int, **more: int) -> None:
        """A word about a request that is under way; no answer comes."""
        if self._writer is not None:
            self._writer.write(_pack({"id": 0, "op": op, "target": target, **more}))

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(_RECONNECT_S[min(attempt, len(_RECONNECT_S) - 1)])
                attempt += 1
                continue
            attempt = 0
            self._connected.set()
            try:
                while True:
                    answer = await _read(reader)
                    if "wait_s" in answer:
                        self._idle_at = time.monotonic() + answer["wait_s"]
                        continue
                    waiting = self._waiting.get(answer.get("id", 0))
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
            except (OSError, EOFError, ValueError) as exc:
                log.warning("lost the inference worker: %s; reconnecting", type(exc).__name__)
            finally:
                self._connected.clear()
                self._writer.close()
                self._writer = None
                for future in self._waiting.values():
                    if not future.done():
                        future.set_result(_WORKER_LOST)


class InferenceServer:
    """Server side: answers gateway workers from an `Inference` of this process."""

    def __init__(self, inference: Inference, models: ModelAdministration | None = None) -> None:
        """`models` None: commands about models are no requests here."""
        self._inference = inference
        self._answering = Answering(inference, models)
        self._server: asyncio.Server | None = None
        self._telling: asyncio.Task[None] | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def start(self, path: Path) -> None:
        """Listen at `path`, replacing a dead worker's socket file."""
        listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # at start, before anyone is served
        listener.bind(str(path))
        path.chmod(0o600)  # noqa: ASYNC240  # before it listens
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        self._telling = asyncio.create_task(self._tell_wait(), name="tell the wait")

    async def stop(self) -> None:
        """Close the listening socket and every connection; requests in progress are cancelled."""
        if self._telling is not None:
            await background.stop([self._telling])
        if self._server is not None:
            self._server.close()
        ended = list(self._connections.values())
        for writer in self._connections:
            writer.close()  # the handler sees the end of its stream, and needs no cancelling
        await asyncio.gather(*(event.wait() for event in ended))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: dict[int, asyncio.Task[None]] = {}
        errands: dict[int, Errand] = {}
        ended = self._connections[writer] = asyncio.Event()
        try:
            while True:
                body = await _read(reader)
                if body.get("op") == "cancel":
                    if (task := tasks.get(body.get("target", 0))) is not None:
                        task.cancel()
                    continue
                if body.get("op") == "promote":
                    if (errand := errands.get(body.get("target", 0))) is not None:
                        errand.promote(Urgency(body["urgency"]))
                    continue
                ident = int(body["id"])
                errand = errands[ident] = Errand(Urgency(body.get("urgency", Urgency.ENDPOINT)))
                task = asyncio.create_task(self._answer(ident, body, errand, writer))
                tasks[ident] = task

                def ended_task(_: object, ident: int = ident) -> None:
                    tasks.pop(ident, None)
                    errands.pop(ident, None)

                task.add_done_callback(ended_task)
        except (EOFError, OSError):
            pass  # the gateway worker is gone
        except (ValueError, KeyError, TypeError) as exc:
            log.error("a gateway worker sent what is no request: %s", exc)
        finally:
            for task in list(tasks.values()):
                task.cancel()
            writer.close()
            del self._connections[writer]
            ended.set()

    async def _answer(self, ident: int, body: Body, errand: Errand, writer: asyncio.StreamWriter) -> None:
        answer = await self._answering.answer(body, errand)
        if not writer.is_closing():
            writer.write(_pack({"id": ident, **answer}))

    async def _tell_wait(self) -> None:
        """Have every gateway worker know how long an utterance would wait, while it would."""
        while True:
            await asyncio.sleep(_TELL_WAIT_S)
            if (wait_s := self._inference.expected_wait_s(Urgency.ENDPOINT)) > 0:
                told = _pack({"id": 0, "wait_s": wait_s})
                for writer in self._connections:
                    if not writer.is_closing():
                        writer.write(told)
