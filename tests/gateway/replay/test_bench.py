"""The replay bench: who calls, how late the client is, and whole runs against a worker in this process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from audio.files import AudioFileError, write_wav
from gateway.replay.bench import Caller, Lateness, Load, Progress, read_callers, replay
from gateway.replay.client import Recording
from gateway.replay.page import page
from gateway.replay.report import Verdict, report
from tests.gateway.harness import rig, speech


@pytest.mark.unit
def test_a_folder_is_one_caller_and_files_together_are_another(tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    folder.mkdir()
    for path in (folder / "2.wav", folder / "1.wav", tmp_path / "b.wav", tmp_path / "a.wav"):
        write_wav(path, np.full(80, 9, np.int16), 8000)
    (folder / "README.md").write_text("not a recording")
    files, anna = read_callers([tmp_path / "b.wav", folder, tmp_path / "a.wav"])
    assert (files.name, [said.name for said in files.recordings]) == ("files", ["b.wav", "a.wav"])
    assert (anna.name, [said.name for said in anna.recordings]) == (str(folder), ["1.wav", "2.wav"])
    assert len(anna.recordings[0].pcm) == 80


@pytest.mark.unit
def test_a_folder_without_recordings_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="holds no recording"):
        read_callers([tmp_path])
    with pytest.raises(AudioFileError, match="gone.wav: no such file"):
        read_callers([tmp_path / "gone.wav"])


@pytest.mark.unit
def test_lateness_is_binned_and_its_worst_taken_once() -> None:
    late = Lateness()
    assert late.percentile_ms(0.99) == 0
    for ms in [-3.0, *[0.1] * 97, 7.2, 900.0]:
        late.count(ms / 1000)
    assert late.messages == 100
    assert late.percentile_ms(0.5) == 0.5  # upper end of its half-millisecond bin
    assert late.percentile_ms(0.99) == 7.5
    assert late.percentile_ms(1.0) == 900
    assert (late.take_worst_s(), late.take_worst_s()) == (0.9, 0)
    late.count(0.02)
    assert (late.take_worst_s(), late.longest_s) == (0.02, 0.9)


def load(url: str, **changes: object) -> Load:
    caller = Caller("anna", (Recording("yes.wav", speech()),))
    return Load(url=url, callers=[caller], bot="tester", **{"calls": 3, **changes})  # type: ignore[arg-type]


@pytest.mark.e2e
async def test_three_calls_at_once_are_heard_as_one_alone_and_no_frame_is_lost(tmp_path: Path) -> None:
    told: list[Progress] = []
    async with rig(tmp_path, hear="yes") as running:
        measured = await replay(
            load(running.url(), ramp_s=0.2, read_metrics=lambda: generate_latest(running.registry).decode()),
            told.append,
        )
    result = report(measured, machine={"cores": "2"}, date="today")
    assert (result.placed, result.ok, result.failed, result.cut) == (3, 3, 0, 0)
    assert result.ended_by == {"bot": 3}
    assert (result.turns_compared, result.turns_differing) == (3, 0)
    assert (result.endings_compared, result.endings_differing) == (3, 0)
    assert {record.disposition for record in measured.records} == {"done"}
    verdicts = {(line.name, line.under): line for line in result.budgets}
    assert verdicts["first_utterance_ms", "load"].n == 3
    assert verdicts["first_utterance_ms", "alone"].n == 1
    replies, heard = verdicts["endpoint_to_reply_ms", "load"], verdicts["speech_end_to_reply_ms", "tail 800 ms"]
    assert (replies.n, heard.n) == (3, 3)
    assert 0 < replies.figures["max"] < heard.figures["max"]
    frames = verdicts["frames_lost", "load"]
    assert frames.verdict is Verdict.MET and frames.n == measured.client.messages > 300
    assert verdicts["frame_delay_ms", "load"].n > 20
    assert measured.client.cpu_share > 0
    assert {now.phase for now in told} == {"alone", "load"} and max(now.live for now in told) == 3
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert len(document["latencies"]["endpoint_to_reply_ms"]) == 3 and document["samples"][0]["calls"] == 3
    assert page(result).count("<svg") == 9


@pytest.mark.e2e
async def test_lines_call_again_until_the_time_is_over_and_are_then_cut(tmp_path: Path) -> None:
    async with rig(tmp_path, hear="yes") as running:
        measured = await replay(load(running.url(), calls=2, duration_s=6.0, solo=False))
        await running.no_calls()
    ended = [record.ended_by for record in measured.records]
    assert ended.count("caller") == 2 and ended.count("bot") >= 2
    assert all(not record.faults for record in measured.records)
    assert 5.9 < measured.wall_s < 8
    assert "--control-url" in measured.frames.problem


@pytest.mark.e2e
async def test_calls_that_nobody_takes_fail_with_their_reason() -> None:
    async with asyncio.timeout(10):
        measured = await replay(load("ws://127.0.0.1:1/v1/call", duration_s=1.5))
    result = report(measured, machine={}, date="today")
    assert result.failed == result.placed >= 3 and result.verdict is Verdict.MISSED
    (reason,) = result.failures
    assert "nothing listens at ws://127.0.0.1:1/v1/call" in reason
    assert "failed alone" in result.warnings[0]
