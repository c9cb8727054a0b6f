"""What the inference worker makes of its settings."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.inference.batching import BatcherSettings
from gateway.inference.job_queue import Errand, JobQueue, QueuedJob
from gateway.inference.worker import asr_batches, nlu_batches
from gateway.settings import AsrSettings, NluSettings, load

pytestmark = pytest.mark.unit


def settings(**chosen: object) -> NluSettings:
    return NluSettings.model_validate(chosen)


def asr_settings(**chosen: object) -> AsrSettings:
    return AsrSettings.model_validate(chosen)


def test_on_a_cpu_a_batch_waits_for_nobody_and_is_short() -> None:
    batches = nlu_batches(settings(), cuda=False)
    assert (batches.max_batch, batches.max_wait_ms, batches.max_cost, batches.engines) == (32, 0.0, 512, 1)
    assert (batches.max_padding, batches.batch_cost, batches.max_ride_cost) == (0.1, 28, 28)


def test_on_a_gpu_it_waits_a_little_and_is_long() -> None:
    batches = nlu_batches(settings(), cuda=True)
    assert 0 < batches.max_wait_ms <= 5
    assert batches.max_cost >= 32 * 128, "a full batch of the longest lines"
    assert batches.batch_cost > 28


@pytest.mark.parametrize("cuda", [False, True])
def test_what_is_set_holds_on_both(cuda: bool) -> None:
    chosen = settings(max_batch=8, max_wait_ms=0, max_padded_tokens=100, engines=3)
    batches = nlu_batches(chosen, cuda=cuda)
    assert (batches.max_batch, batches.max_wait_ms, batches.max_cost, batches.engines) == (8, 0.0, 100, 3)


def together(batches: BatcherSettings, cost: int) -> int:
    """How many jobs of this cost one batch takes."""
    queue: JobQueue[None, None] = JobQueue(
        max_batch=batches.max_batch, max_cost=batches.max_cost, max_padding=batches.max_padding
    )
    for _ in range(100):
        queue.push(QueuedJob(None, None, cost, Errand(), 0.0, 1.0))
    return len(queue.take(0.0)[0])


def test_utterances_are_recognised_one_by_one_on_a_cpu_and_together_on_a_gpu() -> None:
    on_cpu, on_gpu = (asr_batches(asr_settings(), device=device) for device in ("cpu", "cuda"))
    assert (on_cpu.max_batch, on_cpu.max_wait_ms, on_cpu.max_padding) == (1, 0.0, 0.0)
    assert (on_gpu.max_batch, on_gpu.max_wait_ms, on_gpu.max_padding) == (16, 0.0, 0.0)
    assert together(on_cpu, 3000) == 1 and together(on_gpu, 3000) == 16


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("max_batch", [2, 16, 32, 64])
def test_as_many_utterances_as_are_set_share_a_batch_in_whole_windows_too(device: str, max_batch: int) -> None:
    batches = asr_batches(asr_settings(max_batch=max_batch, max_wait_ms=5), device=device)
    assert batches.max_wait_ms == 5
    assert together(batches, 3000) == max_batch  # stock Whisper hears 30 s, whatever was said
    assert together(batches, 200) == max_batch


def test_a_batch_of_utterances_of_many_windows_is_smaller() -> None:
    assert together(asr_batches(asr_settings(max_batch=32), device="cuda"), 4 * 3000) == 8


def test_folders_of_models_come_from_the_environment_too() -> None:
    found = load(environ={"VOICEGATE_NLU_MODEL_DIRS": "/srv/models,/srv/more", "VOICEGATE_NLU_ENGINES": "2"}).nlu
    assert [str(folder) for folder in found.model_dirs] == ["/srv/models", "/srv/more"]
    assert found.engines == 2


def test_a_worker_told_to_stop_while_it_loads_stops_at_once(tmp_path: Path) -> None:
    bot = tmp_path / "bot"
    bot.mkdir()
    (bot / "bot.yaml").write_text("name: bot\nlanguage: en\nflow: flow.yaml\n")
    os.mkfifo(bot / "flow.yaml")  # who reads it waits, as for a model on a slow disk
    (tmp_path / "settings.json").write_text(load(environ={"VOICEGATE_BOT": str(bot)}).dump_json())
    ours, theirs = socket.socketpair()
    arguments = {
        "--settings": tmp_path / "settings.json",
        "--parent": os.getpid(),
        "--lifeline": theirs.fileno(),
        "--socket": tmp_path / "inference.sock",
    }
    command = [
        sys.executable,
        "-m",
        "gateway.inference.worker",
        *(str(part) for pair in arguments.items() for part in pair),
    ]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as worker:
        try:
            writer = _opened_by_a_reader(bot / "flow.yaml", worker)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=20) == -signal.SIGTERM
            os.close(writer)
        finally:
            worker.kill()


def _opened_by_a_reader(fifo: Path, reader: subprocess.Popen[bytes]) -> int:
    """The writing end, as soon as the process reads."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as exc:
            assert exc.errno == errno.ENXIO and reader.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
