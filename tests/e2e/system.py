"""What real calls need around them: bridges, what the gateway wrote down of a call, what the bot should sound like."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis

from audio.files import write_wav
from audio.formats import AudioFormat, Encoding, Pcm16
from dialogue.codec import decode_state
from dialogue.state import DialogueState
from dialogue.store import state_keys
from gateway.replay.client import CallClient

__all__ = ["Book", "Bridge", "bridge", "recognised", "share_heard", "spoken"]

SOUND = 300
PIECE = 2000
VOICEGATE = [sys.executable, "-c", "from gateway.cli import main; main()"]


class Book:
    """What the gateway keeps of its calls."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True)

    def state(self, call_id: str) -> DialogueState:
        """Where a call stands."""
        body = self._redis.hget(state_keys(call_id)[0], "body")
        return decode_state(body) if isinstance(body, str) else DialogueState()

    def close(self) -> None:
        self._redis.close()


@dataclass(frozen=True, slots=True)
class Bridge:
    """A running `voicegate sip`."""

    uri: str
    """To dial."""
    _log: Path

    def has_logged(self, text: str) -> bool:
        """Whether it told this of any call."""
        return text in self._log.read_text()

    def call_ids(self) -> list[str]:
        """Its calls so far, in order."""
        return re.findall(r"\[(sip-[0-9a-f-]{36})\] \S+: call from", self._log.read_text())


@contextmanager
def bridge(gateway: str, folder: Path, *options: str) -> Iterator[Bridge]:
    """A bridge to this gateway on a free port, with a log that must hold no traceback at its end."""
    log_file = folder / f"bridge-{time.monotonic_ns()}.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*VOICEGATE, "sip", "--listen", "127.0.0.1:0", "--gateway", gateway, *options],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not (dial := re.search(r"dial +(sip:\S+)", log_file.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.05)
        yield Bridge(dial[1], log_file)
        assert "Traceback" not in log_file.read_text(), log_file.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def recognised(folder: Path, sounds: Mapping[str, Pcm16]) -> dict[str, str]:
    """What the bundled recogniser hears in recordings, by their names."""
    for name, pcm in sounds.items():
        write_wav(folder / f"{name}.wav", pcm, 8000)
    done = subprocess.run(
        [*VOICEGATE, "asr", "transcribe", "--json", *(str(folder / f"{name}.wav") for name in sounds)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {Path(one["audio"]).stem: one["text"] for one in json.loads(done.stdout)["results"]}


def spoken(url: str) -> Pcm16:
    """What a native client hears of the bot until it has to answer: the greeting, from the gateway's own cache.

    Not made here once more: espeak-ng never says a sentence twice in the same way.
    """
    mulaw = AudioFormat(encoding=Encoding.MULAW)
    result = asyncio.run(CallClient(url, fmt=mulaw).run([]))
    loud = np.flatnonzero(np.abs(result.bot_audio.astype(int)) > SOUND)
    return result.bot_audio[loud[0] : loud[-1]]


def share_heard(heard: Pcm16, expected: Pcm16) -> float:
    """How much of `expected` is in `heard`, 0 to 1: in pieces of 250 ms, each found with a correlation above 0.98."""
    pieces = [expected[at : at + PIECE] for at in range(0, len(expected) - PIECE + 1, PIECE)]
    loud = [piece for piece in pieces if np.abs(piece.astype(int)).max() > SOUND]
    return sum(_likeness(heard, piece) > 0.98 for piece in loud) / len(loud)


def _likeness(heard: Pcm16, piece: Pcm16) -> float:
    """The best normalised correlation of `piece` with any stretch of `heard`: 1 is the same but for loudness."""
    lags = len(heard) - len(piece) + 1
    if lags < 1:
        return 0.0
    size = 1 << (len(heard) + len(piece)).bit_length()
    one, other = heard.astype(np.float64), piece.astype(np.float64)
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)[:lags]
    energy = np.concatenate([[0.0], np.cumsum(one * one)])
    window = energy[len(piece) :][:lags] - energy[:lags]
    return float(np.max(product / np.sqrt(np.maximum(window, 1.0) * np.sum(other * other))))
