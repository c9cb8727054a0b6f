"""Calls written down: both sides as a stereo WAV, and beside it what happened, event by event.

    CallWatch --events, redacted--.
                                   >-- Recording --once a second--> the writer's thread --> NAME.wav, NAME.jsonl
    StereoLine --both sides-------'

Off until a bot is named in the settings. A file is whole at every moment: the WAV's sizes are set with each second, so
a worker that dies leaves what was said until then. The loop never touches a disk; a disk that is too slow costs
seconds of a recording, which are counted, and no call. So does a folder that cannot be written to, which the log names.

`NAME.jsonl`: the first line says what the recording is (`RecordingInfo`), each other line is an event as watchers get
it. The sound cannot be redacted: who may hear it needs a scope of its own, and is audited.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

from audio.formats import AudioFormat
from dialogue.bots import Bot
from gateway import background, logs
from gateway.metrics import Metrics
from gateway.monitoring.call_watch import CallWatch
from gateway.monitoring.events import SCHEMA_VERSION, Published, Redact, to_json
from gateway.monitoring.stereo import Stereo16, StereoLine
from gateway.outage_log import OutageLog
from gateway.settings import RecordingSettings

__all__ = ["CONSENT_KEY", "Recorder", "Recording", "RecordingInfo", "recording_name", "wav_header"]

log = logging.getLogger(__name__)

CONSENT_KEY: Final = "recording_consent"
"""The key of a call's metadata that says whether its caller agreed: yes, true or 1."""

_EVERY_S: Final = 1.0
_DELAY_S: Final = 0.4
"""How far behind the present a piece ends: late frames still find their place."""
_QUEUE: Final = 2_000
_HEADER_BYTES: Final = 44
_STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingInfo:
    """What a recording is: the first line beside the sound."""

    name: str
    call_id: str
    bot: str
    bot_version: str
    language: str
    started_at: float
    """Seconds since the epoch; where the sound begins."""
    sample_rate: int
    consent: str
    """"given" in the call's metadata, or "announced" by the bot."""
    v: int = SCHEMA_VERSION


def recording_name(call_id: str, started_at: float) -> str:
    """A file's name without its ending: a call id may hold what no file's name may, and a call may be resumed."""
    return f"{hashlib.sha256(call_id.encode()).hexdigest()[:24]}-{round(started_at * 1000):013d}"


def wav_header(sample_rate_hz: int, data_bytes: int) -> bytes:
    """The 44 bytes before 16-bit stereo samples (Multimedia Programming Interface and Data Specifications 1.0)."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + data_bytes, b"WAVE"),
        *(b"fmt ", 16, 1, 2, sample_rate_hz, sample_rate_hz * 4, 4, 16),
        *(b"data", data_bytes),
    )


_Job: TypeAlias = Callable[[], None]


class _Writer:
    """A thread that does what it is given, in order; what does not fit into its queue is not done."""

    def __init__(self, outage: OutageLog, failed: Callable[[], None]) -> None:
        """`failed` is called, in the thread, for each job that the disk refused."""
        self._outage = outage
        self._failed = failed
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="recordings", daemon=True)
        self._thread.start()

    def put(self, job: _Job) -> bool:
        """Queue a piece of work; False: there is no room."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def stop(self) -> None:
        """Do what waits, for five seconds at most, then end."""
        try:
            self._jobs.put(None, timeout=_STOP_S)
        except queue.Full:
            log.error("recordings were not finished: the disk does not take them")
            return
        self._thread.join(_STOP_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
                self._outage.over()
            except OSError as error:
                self._outage.failed(error)
                self._failed()
            except Exception as error:  # the other calls' recordings go on; its text may hold what somebody said
                log.error("a fault of ours at a recording: %s", logs.where(error))


class Recording:
    """One call's, from `Recorder.begin` to `finish`. Methods are for the loop's thread."""

    def __init__(
        self, info: RecordingInfo, folder: Path, watch: CallWatch, line: StereoLine, recorder: Recorder
    ) -> None:
        self.info = info
        self._folder = folder
        self._sound = folder / f"{info.name}.wav"
        self._story = folder / f"{info.name}.jsonl"
        self._watch = watch
        self._line = line
        self._recorder = recorder
        self._events: list[str] = []
        self._is_begun = False  # for the writer's thread

    def note(self, published: Published) -> None:
        """An event of the call."""
        self._events.append(to_json(published, self._recorder.redact))

    def write(self, until: float) -> None:
        """Hand what came since the last time to the writer; `until` in monotonic seconds."""
        self._hand_over(self._line.take(until))

    def finish(self) -> None:
        """The call is over."""
        self._hand_over(self._line.rest(time.monotonic()))
        self._watch.close_line(self._line)
        self._recorder.forget(self)

    def _hand_over(self, stretch: Stereo16) -> None:
        events, self._events = self._events, []
        self._recorder.write(lambda: self._append(stretch, events))

    # In the writer's thread.

    def _append(self, stretch: Stereo16, events: list[str]) -> None:
        is_new = not self._is_begun
        if is_new:  # with the first piece that is written: those before it may have found no room
            events = [json.dumps(asdict(self.info), ensure_ascii=False), *events]
            _make(self._folder)
        try:
            self._write(stretch, events, create=is_new)
        except FileNotFoundError:
            if is_new:
                raise
            return  # erased during the call: what follows would be sound that nobody finds
        self._is_begun = True

    def _write(self, stretch: Stereo16, events: list[str], *, create: bool) -> None:
        with _opened(self._sound, create=create) as sound:
            end = max(_HEADER_BYTES, os.lseek(sound, 0, os.SEEK_END))
            data = stretch.astype("<i2", copy=False).tobytes()
            os.pwrite(sound, data, end)
            os.pwrite(sound, wav_header(self.info.sample_rate, end - _HEADER_BYTES + len(data)), 0)
        if events:
            with _opened(self._story, create=create) as story:
                text = "".join(f"{line}\n" for line in events)
                os.pwrite(story, text.encode(), os.lseek(story, 0, os.SEEK_END))


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _opened(path: Path, *, create: bool) -> Iterator[int]:
    """A descriptor of a file that only we may read."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Recorder:
    """One per worker; an async context."""

    def __init__(self, settings: RecordingSettings, metrics: Metrics, redact: Redact) -> None:
        self.redact = redact
        self._settings = settings
        self._metrics = metrics
        self._running: set[Recording] = set()
        self._writer: _Writer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Recorder:
        folder = self._settings.directory
        if self._settings.bots and folder is not None:
            mend = "is recording.directory a folder with room, to which this user may write?"
            outage = OutageLog(log, f"recording to {folder}", mend=mend)
            try:
                await asyncio.to_thread(_make, folder)
            except OSError as error:
                # What can be seen before the start was refused then (gateway.processes.preflight).
                outage.failed(error)
            self._writer = _Writer(outage, self._metrics.dropped.labels("recording").inc)
            self._tasks = [asyncio.create_task(self._write_for_ever(), name="recordings")]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await background.stop(self._tasks)
        for recording in list(self._running):
            recording.finish()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.stop)

    def begin(self, watch: CallWatch, fmt: AudioFormat, bot: Bot, call_id: str, metadata: Mapping[str, str]) -> None:
        """Record a call from now on, if its bot's calls are recorded and its caller agreed."""
        settings = self._settings
        if self._writer is None or settings.directory is None or bot.name not in settings.bots:
            return
        consent = "announced" if settings.consent == "announced" else "given"
        if consent == "given" and metadata.get(CONSENT_KEY, "").strip().lower() not in ("yes", "true", "1"):
            return
        started_at = watch.clock()
        info = RecordingInfo(
            name=recording_name(call_id, started_at),
            call_id=call_id,
            bot=bot.name,
            bot_version=bot.version,
            language=bot.language,
            started_at=round(started_at, 3),
            sample_rate=fmt.sample_rate_hz,
            consent=consent,
        )
        recording = Recording(info, settings.directory, watch, watch.open_line(fmt), self)
        watch.recording = recording
        self._running.add(recording)
        log.info("recording, consent %s", consent)

    def write(self, job: _Job) -> None:
        """Have the thread do this."""
        if self._writer is None or not self._writer.put(job):
            self._metrics.dropped.labels("recording").inc()

    def forget(self, recording: Recording) -> None:
        """It is finished."""
        self._running.discard(recording)

    async def _write_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            until = time.monotonic() - _DELAY_S
            for recording in tuple(self._running):
                recording.write(until)
