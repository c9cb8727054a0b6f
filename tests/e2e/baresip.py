"""A softphone for tests: baresip, told what to do over its control socket, recording what it hears.

Every phone is a process of its own with a folder of its own. Its microphone is a file; what comes back is written by
baresip's `sndfile` module while the call lasts, and read here as it grows.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from audio.files import write_wav
from audio.formats import Pcm16

__all__ = ["Baresip", "free_port", "modules"]

RATE_HZ = 8000
WAV_HEADER_BYTES = 44
ABSENT = "baresip is not installed; `make e2e` installs it (Debian: apt-get install baresip)"


def modules() -> Path | None:
    """Where baresip's modules are; None: it is not installed."""
    program = shutil.which("baresip")
    if program is None:
        return None
    for folder in (Path("/usr/lib/baresip/modules"), *Path("/usr/lib").glob("*/baresip/modules")):
        if (folder / "aufile.so").exists():
            return folder
    return None


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Baresip:
    """One phone. As a context: runs while it lasts."""

    def __init__(self, folder: Path, *, codec: str = "pcmu") -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._control_port = free_port(socket.SOCK_STREAM)
        self._heard_from = 0
        self.events: list[dict[str, Any]] = []
        sip_port = free_port()
        self._say(np.zeros(0, np.int16), "quiet.wav")
        (folder / "heard").mkdir()
        (folder / "contacts").touch()
        (folder / "accounts").write_text(f"<sip:+15551234@127.0.0.1:{sip_port}>;regint=0;audio_codecs={codec}\n")
        names = ["stdio", "g711", "aufile", "aubridge", "sndfile"]
        lines = [
            f"sip_listen 127.0.0.1:{sip_port}",
            f"audio_source aufile,{folder}/quiet.wav",
            "audio_player aubridge,nowhere",
            "audio_alert aubridge,nowhere",
            f"ausrc_srate {RATE_HZ}",
            f"auplay_srate {RATE_HZ}",
            f"snd_path {folder}/heard",
            f"module_path {modules()}",
            *(f"module {name}.so" for name in names),
            "module_tmp account.so",
            "module_app menu.so",
            "module_app ctrl_tcp.so",
            f"ctrl_tcp_listen 127.0.0.1:{self._control_port}",
        ]
        (folder / "config").write_text("\n".join(lines) + "\n")

    def __enter__(self) -> Baresip:
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                ["baresip", "-f", str(self._folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._unread = b""
        self._control = self._connected()
        self._control.settimeout(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._control.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._control_port), timeout=1)
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log
                time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    # What a person does with a phone.

    def dial(self, uri: str) -> None:
        """Call, and wait until it is answered."""
        self._command("dial", uri)
        self.until(lambda: self.told("CALL_ESTABLISHED"), "answer")

    def speak(self, pcm: Pcm16) -> None:
        """Say this now, then be silent for a minute (at the end of its file baresip hangs up)."""
        name = f"say-{time.monotonic_ns()}.wav"
        self._say(pcm, name)
        self._heard_from = len(self.heard)
        self._command("ausrc", f"aufile,{self._folder}/{name}")

    def press(self, keys: str) -> None:
        """Keys, as RFC 4733 events."""
        self._heard_from = len(self.heard)
        for key in keys:
            self._command("sndcode", key)
            time.sleep(0.3)

    def hold(self) -> None:
        self._command("hold")

    def resume(self) -> None:
        self._command("resume")

    def hang_up(self) -> None:
        self._command("hangup")

    # What it hears.

    @property
    def heard(self) -> Pcm16:
        """Everything of the newest call so far, at 8 kHz."""
        files = sorted((self._folder / "heard").glob("*-dec.wav"))
        if not files:
            return np.zeros(0, np.int16)
        data = files[-1].read_bytes()[WAV_HEADER_BYTES:]
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2")

    def bot_has_spoken(self, quiet_ms: int = 900) -> bool:
        """Whether something came since the last `speak`, and nothing for a while now."""
        fresh = self.heard[self._heard_from :]
        loud = np.flatnonzero(np.abs(fresh.astype(np.int32)) > 300)
        return bool(len(loud)) and len(fresh) - loud[-1] > RATE_HZ * quiet_ms // 1000

    def listen(self) -> None:
        """Until the bot has spoken and is silent."""
        self.until(self.bot_has_spoken, "the bot's words")

    def told(self, event: str) -> bool:
        """Whether baresip told of this."""
        return any(one.get("type") == event for one in self.events)

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._read()
            assert time.monotonic() < deadline, f"no {what}; {[e.get('type') for e in self.events]}\n{self.log[-3000:]}"

    def _say(self, pcm: Pcm16, name: str) -> None:
        write_wav(self._folder / name, np.concatenate([pcm, np.zeros(60 * RATE_HZ, np.int16)]), RATE_HZ)

    # Its control socket: JSON in netstrings.

    def _command(self, command: str, params: str = "") -> None:
        body = json.dumps({"command": command, "params": params}).encode()
        self._control.sendall(b"%d:%s," % (len(body), body))
        self._read()

    def _read(self) -> None:
        try:
            self._unread += self._control.recv(65536)
        except TimeoutError:
            return
        while b":" in self._unread:
            size, _, rest = self._unread.partition(b":")
            if len(rest) <= int(size):
                return
            self.events.append(json.loads(rest[: int(size)]))
            self._unread = rest[int(size) + 1 :]
