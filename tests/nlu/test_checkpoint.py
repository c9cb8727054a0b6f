from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlu.checkpoint import Checkpoint, CheckpointError, CheckpointFile, fingerprint
from tests.nlu.conftest import full_disk

pytestmark = pytest.mark.unit


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "new" / "m")
    assert file.read("f") is None
    state = {"weights": {"a": torch.arange(3.0)}, "best": (0.5, 1.0), "chance": (3, (1, 2), None)}
    file.write(Checkpoint(epoch=2, fingerprint="f", state=state))
    found = file.read("f")
    assert found is not None
    assert (found.epoch, found.state["best"], found.state["chance"]) == (2, (0.5, 1.0), (3, (1, 2), None))
    assert [path.name for path in (tmp_path / "new" / "m").iterdir()] == ["training.pt"]
    file.remove()
    assert not file.exists()
    file.remove()


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    file.write(Checkpoint(epoch=1, fingerprint="f", state={}))
    with pytest.raises(CheckpointError, match="other settings or other data; .*--overwrite"):
        file.read("g")


def test_a_full_disk_is_told_and_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path)
    file.write(Checkpoint(epoch=1, fingerprint="f", state={}))
    with full_disk(), pytest.raises(CheckpointError, match=r"cannot be written \(is the disk full\?\); name a folder"):
        file.write(Checkpoint(epoch=2, fingerprint="f", state={"weights": torch.zeros(10_000)}))
    found = file.read("f")
    assert found is not None and found.epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04half a file"])
def test_a_broken_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="broken; delete it"):
        CheckpointFile(tmp_path).read("f")


def test_fingerprints_tell_runs_apart() -> None:
    assert fingerprint([1, "a"]) == fingerprint([1, "a"]) != fingerprint([1, "b"])
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    with pytest.raises(TypeError):
        fingerprint([torch.ones(1)])
