"""Every inference process has a GPU of its own, as far as there are enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.processes.gpus import seen_gpus, share_of

pytestmark = pytest.mark.unit


def machine(folder: Path, *names: str) -> Path:
    """Device files."""
    for name in names:
        (folder / name).touch()
    return folder


def test_a_driver_has_a_file_for_each_gpu_and_some_more(tmp_path: Path) -> None:
    devices = machine(tmp_path, "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null")
    assert seen_gpus({}, devices) == ("0", "1")


def test_a_container_may_have_the_hosts_third_gpu_alone(tmp_path: Path) -> None:
    assert seen_gpus({}, machine(tmp_path, "nvidia2")) == ("0",)


@pytest.mark.parametrize(
    ("named", "gpus"),
    [("2,5", ("2", "5")), ("GPU-8932f937, GPU-1a2b3c4d", ("GPU-8932f937", "GPU-1a2b3c4d")), ("", ())],
)
def test_what_the_operator_lets_be_seen_is_all_there_is(tmp_path: Path, named: str, gpus: tuple[str, ...]) -> None:
    assert seen_gpus({"CUDA_VISIBLE_DEVICES": named}, machine(tmp_path, "nvidia0", "nvidia1")) == gpus


def test_processes_take_turns(tmp_path: Path) -> None:
    assert [share_of(index, ("0", "1"))["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["0", "1", "0"]


def test_where_there_is_no_choice_nothing_is_said(tmp_path: Path) -> None:
    assert share_of(1, ("0",)) == share_of(0, seen_gpus({}, tmp_path)) == {}
