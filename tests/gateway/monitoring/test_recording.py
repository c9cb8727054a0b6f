"""Recordings: both sides and what happened, with consent alone, whole at every moment, gone when their time is over."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.access.auth import Scope, mint
from gateway.metrics import Metrics
from gateway.monitoring.archive import Archive
from gateway.monitoring.audit import AuditLog
from gateway.monitoring.recording import Recorder, RecordingInfo, recording_name, wav_header
from gateway.monitoring.redaction import Redactor
from gateway.settings import SettingsError, load
from tests.gateway.harness import rig, silence, speech, write_bot
from tests.gateway.http_harness import api

pytestmark = pytest.mark.redis

SECRET = "x" * 40
DAY_S = 86_400.0
AGREED = {"recording_consent": "yes"}


def recorder(folder: Path, **flags: Any) -> Recorder:
    """Of the bot "tester", into a folder."""
    settings = load(environ={}, flags={"recording.bots": ("tester",), "recording.directory": folder, **flags})
    return Recorder(settings.recording, Metrics(CollectorRegistry()), Redactor())


def lost(recording: Recorder) -> float:
    """Pieces that were counted as lost."""
    return float(recording._metrics.dropped.labels("recording")._value.get())


def stereo(path: Path) -> np.ndarray[Any, Any]:
    """A WAV's samples, shape (samples, 2)."""
    with wave.open(str(path)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (2, 2, 8000)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, 2)


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not wanted():
            await asyncio.sleep(0.02)


async def test_a_call_is_written_down_with_both_sides_and_its_events_redacted(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    spoken = speech()
    async with (
        recorder(folder) as recording,
        rig(tmp_path, hear="my card is 4111 1111 1111 1111", recorder=recording) as at,
    ):
        peer = await at.peer(start={"call_id": "taped@pbx:1", "metadata": AGREED})
        await peer.event("prompt", timeout_s=15)
        await peer.send(np.concatenate([silence(200), spoken, silence(1500)]))
        await peer.event("prompt", count=2, timeout_s=15)
        await asyncio.sleep(0.3)
        sent = np.frombuffer(bytes(peer.audio[: len(peer.audio) // 2 * 2]), "<i2")
        await peer.say(type="stop")
        await at.no_calls()
    (sound,), (story,) = folder.glob("*.wav"), folder.glob("*.jsonl")
    assert sound.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
    heard = stereo(sound)
    assert spoken.tobytes() in heard[:, 0].tobytes()
    loud = np.flatnonzero(heard[:, 1])
    assert heard[loud[-1] - 400 : loud[-1], 1].tobytes() in sent.tobytes()
    info, *events = map(json.loads, story.read_text().splitlines())
    assert (info["call_id"], info["bot"], info["consent"]) == ("taped@pbx:1", "tester", "given")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[0]["recorded"], events[-1]["type"]) == ("call_started", True, "call_ended")
    assert "my card is [card]" in {event.get("text") for event in events}
    assert "4111" not in story.read_text()
    archive = Archive(folder, keep_days=30)
    assert [one.info.call_id for one in archive.find(call_id="taped@pbx:1")] == ["taped@pbx:1"]


@pytest.mark.parametrize(
    ("flags", "metadata", "recorded"),
    [
        ({}, AGREED, True),
        ({}, {"recording_consent": "no"}, False),
        ({}, {}, False),
        ({"recording.consent": "announced"}, {}, True),
        ({"recording.bots": ("another",)}, AGREED, False),
    ],
)
async def test_a_call_is_recorded_with_consent_alone(
    tmp_path: Path, flags: dict[str, Any], metadata: dict[str, str], recorded: bool
) -> None:
    folder = tmp_path / "recordings"
    async with recorder(folder, **flags) as recording, rig(tmp_path, recorder=recording) as at:
        peer = await at.peer(start={"call_id": "c", "metadata": metadata})
        await peer.event("ready", timeout_s=15)
        (session,) = at.worker.sessions
        assert (session.watch.tap is not None) == recorded
        await peer.say(type="stop")
        await at.no_calls()
        assert session.watch.tap is None
    assert bool(list(folder.glob("*.wav"))) == recorded


async def test_nothing_is_recorded_and_no_thread_runs_unless_a_bot_is_named(tmp_path: Path) -> None:
    silent = Recorder(load(environ={}).recording, Metrics(CollectorRegistry()), Redactor())
    async with silent, rig(tmp_path, recorder=silent) as at:
        await (await at.peer(start={"metadata": AGREED})).event("ready", timeout_s=15)
        (session,) = at.worker.sessions
        assert session.watch.tap is None and not session.watch.active
        assert silent._writer is None


async def test_a_worker_that_dies_leaves_what_was_said_until_then(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    async with recorder(folder) as recording, rig(tmp_path, recorder=recording) as at:
        peer = await at.peer(start={"call_id": "cut", "metadata": AGREED})
        await peer.event("prompt", timeout_s=15)
        await until(lambda: any(path.stat().st_size > 8000 for path in folder.glob("*.wav")))
        (sound,) = folder.glob("*.wav")
        at_death = tmp_path / "at-death.wav"
        at_death.write_bytes(sound.read_bytes())
        assert len(stereo(at_death)) * 4 + 44 == at_death.stat().st_size


async def test_what_is_erased_during_its_call_stays_erased(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    async with recorder(folder) as recording, rig(tmp_path, recorder=recording) as at:
        peer = await at.peer(start={"call_id": "regretted", "metadata": AGREED})
        await peer.event("prompt", timeout_s=15)
        await until(lambda: bool(list(folder.glob("*.jsonl"))))
        archive = Archive(folder, keep_days=30)
        (one,) = archive.find()
        assert archive.erase(one.info.name)
        await peer.say(type="stop")
        await at.no_calls()
    assert not list(folder.iterdir())


async def test_a_recording_whose_first_piece_found_no_room_is_one_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "recordings"
    folder.touch()  # a file in its place: nothing can be made there
    async with recorder(folder) as recording, rig(tmp_path, recorder=recording) as at:
        peer = await at.peer(start={"call_id": "late", "metadata": AGREED})
        await peer.event("prompt", timeout_s=15)
        (running,) = recording._running
        running.write(time.monotonic())
        done = threading.Event()
        recording.write(done.set)
        assert await asyncio.to_thread(done.wait, 15)
        assert lost(recording) >= 1
        folder.unlink()
        await peer.say(type="stop")
        await at.no_calls()
    told = [line for line in caplog.messages if line.startswith("recording to")]
    assert len(told) == 1 and f"{folder}: FileExistsError" in told[0]
    assert "to which this user may write?" in told[0]
    assert [one.info.call_id for one in Archive(folder, keep_days=30).find()] == ["late"]


async def test_a_piece_that_cannot_be_written_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def too_long() -> None:
        wav_header(8000, 1 << 32)  # more than the format can count

    done = threading.Event()
    async with recorder(tmp_path) as recording:
        recording.write(too_long)
        recording.write(done.set)
        assert await asyncio.to_thread(done.wait, 15)
    assert "a fault of ours at a recording" in caplog.text


def test_a_bot_without_a_folder_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"recording\.bots: records only with recording\.directory"):
        load(environ={"VOICEGATE_RECORDING_BOTS": "bill-reminder"})


def planted(folder: Path, call_id: str, started_at: float, *, bot: str = "tester") -> str:
    """A recording of one second, as a worker leaves it."""
    folder.mkdir(exist_ok=True)
    name = recording_name(call_id, started_at)
    info = RecordingInfo(
        name=name,
        call_id=call_id,
        bot=bot,
        bot_version="1",
        language="en",
        started_at=started_at,
        sample_rate=8000,
        consent="given",
    )
    event = {"type": "turn_heard", "text": "yes"}
    lines = [json.dumps({field: getattr(info, field) for field in info.__slots__}), json.dumps(event)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.wav").write_bytes(wav_header(8000, 32_000) + bytes(32_000))
    return name


def test_the_archive_finds_the_newest_and_forgets_what_is_over(tmp_path: Path) -> None:
    names = [planted(tmp_path, f"c{day}", day * DAY_S, bot="a" if day % 2 else "b") for day in range(1, 6)]
    again = planted(tmp_path, "c1", 6 * DAY_S, bot="a")
    (tmp_path / "notes.txt").write_text("not ours")
    archive = Archive(tmp_path, keep_days=3)
    assert [one.info.name for one in archive.find(count=3)] == [again, names[4], names[3]]
    assert [one.info.name for one in archive.find(call_id="c1")] == [again, names[0]]
    assert [one.info.call_id for one in archive.find(bot="b")] == ["c4", "c2"]
    assert archive.expire(6 * DAY_S) == 3
    assert {one.info.name for one in archive.find()} == {again, names[4], names[3]}
    assert (tmp_path / "notes.txt").exists() and len(list(tmp_path.iterdir())) == 7
    assert archive.erase(again) and not archive.erase(again)


@pytest.mark.parametrize("torn", ['{"type": "turn_he', '{"type": "turn_heard", "text": "\u4f60'])
def test_a_line_that_was_not_written_to_its_end_costs_itself_alone(tmp_path: Path, torn: str) -> None:
    name = planted(tmp_path, "full", 1.0)
    with (tmp_path / f"{name}.jsonl").open("ab") as story:
        story.write(torn.encode()[:-1] + b'\n{"type": "call_ended"}\n' + torn.encode()[:-1])
    events = Archive(tmp_path, keep_days=1).events(name)
    assert events is not None and [event["type"] for event in events] == ["turn_heard", "call_ended"]


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "x" * 38, "0" * 24 + "-" + "1" * 13 + "\n"])
def test_a_name_that_is_none_of_ours_is_no_path(tmp_path: Path, name: str) -> None:
    archive = Archive(tmp_path, keep_days=1)
    assert archive.get(name) is None and archive.sound(name) is None and not archive.erase(name)


async def test_recordings_are_fetched_by_those_who_may_and_that_is_audited(redis_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    name = planted(folder, "fetched", time.time())
    old = planted(folder, "old", time.time() - 40 * DAY_S)
    environ = {"VOICEGATE_AUTH_SECRET": SECRET, "VOICEGATE_RECORDING_DIRECTORY": str(folder)}
    async with api(redis_url, write_bot(tmp_path / "tester"), environ=environ) as at:

        async def get(path: str, scope: Scope, **headers: str) -> Any:
            bearer = {"Authorization": f"Bearer {mint(SECRET, f'of-{scope}', [scope], 60)}"}
            return await at.client.get(f"/v1/recordings{path}", headers={**bearer, **headers})

        await until(lambda: not (folder / f"{old}.wav").exists())  # its thirty days were over
        assert (await get("", Scope.SUPERVISE)).status_code == 403
        (one,) = (await get("?call=fetched", Scope.RECORDINGS)).json()["recordings"]
        assert (one["name"], one["duration_s"], one["consent"]) == (name, 1.0, "given")
        sound = await get(f"/{name}/sound", Scope.RECORDINGS)
        assert (sound.status_code, sound.headers["content-type"], len(sound.content)) == (200, "audio/wav", 32_044)
        part = await get(f"/{name}/sound", Scope.RECORDINGS, Range="bytes=0-43")
        assert (part.status_code, part.content) == (206, wav_header(8000, 32_000))
        timeline = (await get(f"/{name}/timeline", Scope.RECORDINGS)).json()
        assert timeline["events"] == [{"type": "turn_heard", "text": "yes"}]
        assert (await get("/nothing/sound", Scope.RECORDINGS)).json()["code"] == "unknown_recording"
        admin = {"Authorization": f"Bearer {mint(SECRET, 'admin', [Scope.ADMIN], 60)}"}
        assert (await at.client.delete(f"/v1/recordings/{name}", headers=admin)).status_code == 204
        assert not list(folder.iterdir())
        entries = (await at.client.get("/v1/audit?count=4", headers=admin)).json()["entries"]
        assert [(entry["who"], entry["act"]) for entry in reversed(entries)] == [
            ("of-recordings", "recording"),
            ("of-recordings", "recording"),
            ("of-recordings", "timeline"),
            ("admin", "erase_recording"),
        ]


async def test_a_recording_whose_time_is_over_as_it_is_fetched_is_unknown(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recordings"
    name = planted(folder, "fetched", time.time())

    async def slow(*entry: str, **more: str) -> None:
        Archive(folder, keep_days=1).erase(name)

    monkeypatch.setattr(AuditLog, "write", slow)
    environ = {"VOICEGATE_RECORDING_DIRECTORY": str(folder)}
    async with api(redis_url, write_bot(tmp_path / "tester"), environ=environ) as at:
        answer = await at.client.get(f"/v1/recordings/{name}/sound")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_recording")
