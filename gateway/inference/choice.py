"""Which transport the settings name for the inference seam: at the asking end, and at the answering end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from gateway.inference.job_queue import Urgency
from gateway.inference.local import LocalInference
from gateway.inference.model_commands import ModelAdministration
from gateway.inference.seam import Inference
from gateway.inference.streams.client import StreamInference
from gateway.inference.streams.server import StreamServer
from gateway.inference.streams.wire import Kind
from gateway.inference.unix_socket import InferenceServer, SocketInference
from gateway.settings import Settings

__all__ = ["AnsweringServer", "InferenceClient", "answer_asks", "inference_client"]


class InferenceClient(Inference, ModelAdministration, Protocol):
    """The asking end of a transport. Used as an async context."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def wait_connected(self) -> None:
        """Until an inference worker is there."""
        ...

    async def ping(self, *, timeout_s: float = ...) -> None:
        """Raises InferenceError unless an inference worker with loaded models is there."""
        ...


class AnsweringServer(Protocol):
    """The answering end of a transport."""

    async def stop(self) -> None:
        """Answer no more."""
        ...


def inference_client(
    settings: Settings,
    path: Path,
    *,
    on_shed: Callable[[str, Urgency], None] = lambda kind, urgency: None,
) -> InferenceClient:
    """What a process asks by.

    Args:
        path: the socket of this gateway's inference worker, if that is the seam.
        on_shed: told of jobs that are refused before they are sent.
    """
    if settings.inference.seam == "socket":
        return SocketInference(path)
    assert settings.redis.url is not None  # the supervisor wrote where its own server is
    return StreamInference(settings.redis.url, settings.inference, on_shed=on_shed)


async def answer_asks(
    settings: Settings, path: Path, inference: LocalInference, *, asr_batch: int, nlu_batch: int
) -> AnsweringServer:
    """Begin to answer from the models of this process.

    Args:
        path: where the socket shall be, if that is the seam.
        asr_batch, nlu_batch: jobs that the engines work on at once.
    """
    if settings.inference.seam == "socket":
        server = InferenceServer(inference, inference)
        await server.start(path)
        return server
    assert settings.redis.url is not None
    batches = {Kind.ASR: asr_batch, Kind.NLU: nlu_batch}
    streams = StreamServer(settings.redis.url, settings.inference, inference, inference, batches=batches)
    await streams.start()
    return streams
