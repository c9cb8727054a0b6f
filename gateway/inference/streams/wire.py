"""What travels in the inference streams, as values and bytes. Pure.

    {inference:POOL:SHARD}:asr:0 .. :2      jobs by urgency; a consumer group of inference workers
    {inference:POOL:SHARD}:nlu:0 .. :2      the same for texts
    ...:words                               withdrawn and promoted jobs, and commands: every inference worker reads all
    ...:answers:ASKER                       what was answered to one gateway worker
    ...:beats                               hash: each asker's and each inference worker's count of heartbeats

    entry of jobs      [asker, [[id, budget_ms, request], ...]]
    entry of words     [asker, [[word, id, request | nil], ...]]
    entry of answers   [[id, worker, answer], ...]

An entry has one field, `b`, with msgpack. `request` and `answer` are the maps of `gateway.inference.messages`, the
request packed once more: it is made once, however often it is sent. What an asker and its shard have in common carries
one hash tag, so that a script reaches all of it in a cluster too.

Audio that came from a telephone line is what G.711 can say: then one byte a sample does, and nothing is lost. All else
travels as it is, two bytes a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgpack
import numpy as np

from audio.g711 import alaw_decode, alaw_encode, mulaw_decode, mulaw_encode
from gateway.inference.job_queue import Urgency
from gateway.inference.messages import Body

__all__ = [
    "ENTRY_BYTES",
    "ENTRY_JOBS",
    "FIELD",
    "Answered",
    "JobEntry",
    "Kind",
    "ShardKeys",
    "Spoken",
    "WireJob",
    "Word",
    "pack_answers",
    "pack_jobs",
    "pack_request",
    "pack_words",
    "shard_of",
    "together",
    "unpack_answers",
    "unpack_jobs",
    "unpack_request",
    "unpack_words",
]

FIELD: Final = "b"
ENTRY_JOBS: Final = 8
"""Jobs that may share an entry: one worker gets them all, and nobody else can help it."""
ENTRY_BYTES: Final = 1024 * 1024
"""Size up to which jobs share an entry; a larger job has one of its own."""

_LAWS: Final = {"mulaw": (mulaw_encode, mulaw_decode), "alaw": (alaw_encode, alaw_decode)}
_PROBE_SAMPLES: Final = 256


class Kind(StrEnum):
    """Which engine a job is for: a queue of utterances must not keep texts waiting."""

    ASR = "asr"
    NLU = "nlu"


class Word(StrEnum):
    """What is said about a job that is under way, or of no job."""

    WITHDRAW = "withdraw"
    """Nobody waits for it any more."""
    PROMOTE = "promote"
    """Now a caller waits for it."""
    COMMAND = "command"
    """For every worker to carry out and answer: about models."""


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """Names of one shard's keys."""

    pool: str
    shard: int

    @property
    def _prefix(self) -> str:
        return f"vg:{{inference:{self.pool}:{self.shard}}}"

    def jobs(self, kind: Kind, urgency: Urgency) -> str:
        """The stream of one kind's jobs of one urgency."""
        return f"{self._prefix}:{kind.value}:{int(urgency)}"

    @property
    def all_jobs(self) -> list[str]:
        """The streams of all jobs."""
        return [self.jobs(kind, urgency) for kind in Kind for urgency in Urgency]

    def answers(self, asker: str) -> str:
        """The stream of answers to one asker."""
        return f"{self._prefix}:answers:{asker}"

    @property
    def words(self) -> str:
        """The stream of words about jobs."""
        return f"{self._prefix}:words"

    @property
    def beats(self) -> str:
        """The hash of heartbeats."""
        return f"{self._prefix}:beats"


def shard_of(asker: str, shards: int) -> int:
    """The shard that an asker's jobs and answers are in."""
    return zlib.crc32(asker.encode()) % shards


@dataclass(frozen=True, slots=True)
class WireJob:
    """One job."""

    ident: int
    budget_ms: int
    """How long its asker would wait for it, from when the entry was added."""
    request: bytes
    """Packed."""


@dataclass(frozen=True, slots=True)
class JobEntry:
    """Jobs of one asker."""

    asker: str
    jobs: tuple[WireJob, ...]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word of an asker about one of its jobs. `request` is a command's."""

    word: Word
    ident: int
    request: Body | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """One job's answer, and who gave it."""

    ident: int
    worker: str
    answer: Body


def pack_request(request: Body) -> bytes:
    """A request as bytes, its audio as small as it gets without loss.

    Raises:
        ValueError, TypeError: it cannot be packed.
    """
    if isinstance(pcm := request.get("pcm"), bytes):
        law, data = _companded(pcm)
        request = {**request, "pcm": data, "law": law}
    packed: bytes = msgpack.packb(request)
    return packed


def unpack_request(data: bytes) -> Body:
    """The inverse of `pack_request`.

    Raises:
        ValueError: it is none.
    """
    request = _unpacked(data)
    if not isinstance(request, dict):
        raise ValueError("a request that is no map")
    law = request.pop("law", None)
    if law is not None:
        if law not in _LAWS or not isinstance(request.get("pcm"), bytes):
            raise ValueError("audio in an unknown form")
        request["pcm"] = _LAWS[law][1](request["pcm"]).astype("<i2", copy=False).tobytes()
    return request


def pack_jobs(entry: JobEntry) -> bytes:
    """An entry of jobs as bytes."""
    data: bytes = msgpack.packb([entry.asker, [[job.ident, job.budget_ms, job.request] for job in entry.jobs]])
    return data


def unpack_jobs(data: bytes) -> JobEntry:
    """The inverse of `pack_jobs`. Raises ValueError on what is none."""
    asker, jobs = _fields(data, str, list)
    return JobEntry(asker, tuple(WireJob(*_typed(job, int, int, bytes)) for job in jobs))


def pack_words(asker: str, words: Sequence[Spoken]) -> bytes:
    """An entry of words as bytes."""
    data: bytes = msgpack.packb([asker, [[spoken.word.value, spoken.ident, spoken.request] for spoken in words]])
    return data


def unpack_words(data: bytes) -> tuple[str, list[Spoken]]:
    """The inverse of `pack_words`. Raises ValueError on what is none."""
    asker, words = _fields(data, str, list)
    typed = (_typed(spoken, str, int, dict | None) for spoken in words)
    return asker, [Spoken(Word(word), ident, request) for word, ident, request in typed]


def pack_answers(answers: Sequence[Answered]) -> bytes:
    """An entry of answers as bytes."""
    data: bytes = msgpack.packb([[answered.ident, answered.worker, answered.answer] for answered in answers])
    return data


def unpack_answers(data: bytes) -> list[Answered]:
    """The inverse of `pack_answers`. Raises ValueError on what is none."""
    answers = _unpacked(data)
    if not isinstance(answers, list):
        raise ValueError("answers that are no list")
    return [Answered(*_typed(answer, int, str, dict)) for answer in answers]


def together(jobs: Iterable[WireJob]) -> Iterator[tuple[WireJob, ...]]:
    """Jobs of one stream as entries, in order: `ENTRY_JOBS` of them and `ENTRY_BYTES` at most, but one at least."""
    entry: list[WireJob] = []
    size = 0
    for job in jobs:
        if entry and (len(entry) == ENTRY_JOBS or size + len(job.request) > ENTRY_BYTES):
            yield tuple(entry)
            entry, size = [], 0
        entry.append(job)
        size += len(job.request)
    if entry:
        yield tuple(entry)


def _companded(pcm: bytes) -> tuple[str | None, bytes]:
    """The law that says these samples without loss, and the samples in it; None: as they are."""
    if len(pcm) % 2:
        return None, pcm  # no samples: told by who hears them
    samples = np.frombuffer(pcm, "<i2")
    for law, (encode, decode) in _LAWS.items():
        if np.array_equal(decode(encode(samples[:_PROBE_SAMPLES])), samples[:_PROBE_SAMPLES]):
            data = encode(samples)
            if np.array_equal(decode(data), samples):
                return law, data
    return None, pcm


def _unpacked(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data)
    except Exception as exc:  # msgpack's exceptions have no base of their own
        raise ValueError(f"no msgpack: {type(exc).__name__}") from exc


def _fields(data: bytes, *kinds: Any) -> list[Any]:
    return _typed(_unpacked(data), *kinds)


def _typed(values: Any, *kinds: Any) -> list[Any]:
    """Values of these types, in this order. Raises ValueError on others."""
    if not isinstance(values, list) or len(values) != len(kinds):
        raise ValueError("an entry of another form")
    if not all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise ValueError("an entry with a value of another type")
    return values
