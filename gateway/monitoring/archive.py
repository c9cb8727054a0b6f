"""The recordings on disk: found, read, erased, and expired when their time is over.

Read by the control plane, written by workers (`gateway.monitoring.recording`). Everything here touches the disk, so it
belongs into a thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.monitoring.believed_clock import BelievedClock
from gateway.monitoring.recording import RecordingInfo, recording_name

__all__ = ["Archive", "ArchivedCall"]

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[0-9a-f]{24}-\d{13}")
_SWEEP_S: Final = 600.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedCall:
    """A recording: what it is, how much of it there is, and when it goes (seconds since the epoch)."""

    info: RecordingInfo
    sound_bytes: int
    expires_at: float


class Archive:
    """A folder of recordings. `keep_days` is how long each is kept."""

    def __init__(self, folder: Path, *, keep_days: float) -> None:
        self._folder = folder
        self._keep_s = keep_days * _DAY_S

    def find(self, *, call_id: str = "", bot: str = "", count: int = 100) -> list[ArchivedCall]:
        """The newest recordings, newest first: all, one call's, or one bot's."""
        pattern = recording_name(call_id, 0.0).partition("-")[0] if call_id else ""
        names = [name for name in self._names() if name.startswith(pattern)]
        found: list[ArchivedCall] = []
        for name in sorted(names, key=_started_ms, reverse=True):
            if len(found) >= count:
                break
            archived = self.get(name)
            if archived is not None and bot in ("", archived.info.bot):
                found.append(archived)
        return found

    def get(self, name: str) -> ArchivedCall | None:
        """One recording; None where there is none of this name."""
        story, sound = self.story(name), self.sound(name)
        if story is None or sound is None:
            return None
        try:
            with story.open(encoding="utf-8") as lines:
                info = RecordingInfo(**json.loads(lines.readline()))
            size = sound.stat().st_size
        except (OSError, ValueError, TypeError) as error:
            log.warning("recording %s cannot be read: %s", name, type(error).__name__)
            return None
        return ArchivedCall(info=info, sound_bytes=size, expires_at=_started_ms(name) / 1000 + self._keep_s)

    def events(self, name: str) -> list[dict[str, Any]] | None:
        """What happened in it, in order; None where there is none of this name. A line that was not written to its end,
        for want of room on the disk or since it is being written, is left out."""
        story = self.story(name)
        if story is None:
            return None
        try:
            _, *lines = story.read_bytes().split(b"\n")
        except FileNotFoundError:  # erased since
            return None
        return [event for line in lines if (event := _event(line)) is not None]

    def sound(self, name: str) -> Path | None:
        """The WAV of a recording."""
        return self._file(name, ".wav")

    def story(self, name: str) -> Path | None:
        """The events of a recording."""
        return self._file(name, ".jsonl")

    def erase(self, name: str) -> bool:
        """Remove one for good; False: there is none of this name."""
        files = [path for path in (self.sound(name), self.story(name)) if path is not None]
        for path in files:
            path.unlink(missing_ok=True)
        return bool(files)

    def expire(self, now: float) -> int:
        """Remove those whose time is over at `now` (seconds since the epoch). How many."""
        over = [name for name in self._names() if _started_ms(name) / 1000 + self._keep_s <= now]
        return sum(self.erase(name) for name in over)

    async def expire_for_ever(self) -> None:
        """Remove what is over, at once and then every ten minutes; a clock that was set ahead is doubted for a day."""
        clock = BelievedClock(time.time(), time.monotonic())
        while True:
            try:
                if gone := await asyncio.to_thread(self.expire, clock.time(time.time(), time.monotonic())):
                    log.info("%d recordings were kept long enough and are gone", gone)
            except OSError as error:
                log.error("recordings that are over were not removed: %s", error.strerror)
            await asyncio.sleep(_SWEEP_S)

    def _names(self) -> Iterator[str]:
        if self._folder.is_dir():
            for name in {path.stem for path in self._folder.iterdir()}:
                if _NAME.fullmatch(name):
                    yield name

    def _file(self, name: str, ending: str) -> Path | None:
        """A file of the folder; a name that is none of ours never becomes a path."""
        path = self._folder / f"{name}{ending}"
        return path if _NAME.fullmatch(name) and path.is_file() else None


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


def _started_ms(name: str) -> int:
    return int(name.rpartition("-")[2])
